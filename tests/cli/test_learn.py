import json
import os

import pytest

from dltlab.authoring import new_lab
from dltlab.exercises import Outcome
from dltlab.exercises.progress import record_outcome

LAB = "01_my_topic"


def test_list_shows_title_time_and_needs_of_each_lab(dltlab, course):
    new_lab("second", course.root)

    result = dltlab("list", "--course", course.root)

    head, *rows = result.out.splitlines()
    assert head.split() == ["lab", "title", "minutes", "memory", "GPU"]
    assert [row.split()[0] for row in rows] == [LAB, "02_second"]
    assert result.code == 0


def test_progress_is_a_table_or_json(dltlab, course):
    assert "0 of 1" in dltlab("progress", "--course", course.root).out

    record_outcome(LAB, "mean_squared_error", Outcome.NOT_YET)
    assert "mean_squared_error (not yet)" in dltlab("progress", "--course", course.root).out

    record_outcome(LAB, "mean_squared_error", Outcome.PASSED)
    assert "1 of 1" in dltlab("progress", "--course", course.root).out
    (lab,) = json.loads(dltlab("progress", "--json", "--course", course.root).out)
    assert (lab["lab"], lab["passed"]) == (LAB, 1)


@pytest.fixture
def started(monkeypatch):
    """The commands that `dltlab lab` would execute, with their environments."""
    calls = []
    monkeypatch.setattr("dltlab.kernels.prestart", lambda environment: None)
    monkeypatch.setattr(os, "execve", lambda path, *rest: calls.append(rest))
    return calls


def test_lab_copies_the_labs_and_starts_jupyterlab(dltlab, built, tmp_path, started):
    folder = tmp_path / "mine"

    result = dltlab("lab", "1", "--no-browser", "--dir", folder, "--course", built.root)

    assert result.code == 0
    assert "Your notebooks are in " in result.out
    ((command, environment),) = started
    assert f"--ServerApp.root_dir={folder}" in command
    assert f"--LabApp.default_url=/lab/tree/{LAB}.ipynb" in command
    assert "--no-browser" in command
    assert environment["DLTLAB_COURSE"] == str(built.root)
    assert (folder / f"{LAB}.ipynb").exists()


def test_lab_uses_warm_kernels_unless_cold_is_given(dltlab, built, tmp_path, started):
    arguments = ("lab", "--no-browser", "--dir", tmp_path / "mine", "--course", built.root)

    dltlab(*arguments)
    dltlab(*arguments, "--cold")

    (_, warm), (_, cold) = started
    assert warm["JUPYTER_DEFAULT_PROVISIONER_NAME"] == "dltlab-warm"
    assert ("DLTLAB_COLD_KERNELS" in warm, cold["DLTLAB_COLD_KERNELS"]) == (False, "1")


def test_lab_reports_a_new_version_of_an_edited_lab(dltlab, built, tmp_path, edit, started):
    options = ("--no-browser", "--dir", tmp_path / "mine", "--course", built.root)
    dltlab("lab", *options)
    copy = tmp_path / "mine" / f"{LAB}.ipynb"
    edit(copy, "My topic", "My notes")
    edited = copy.read_bytes()
    edit(built.labs / f"{LAB}.ipynb", "My topic", "Our topic")

    result = dltlab("lab", *options)

    assert f"The course has a new version of {LAB}" in result.out
    assert copy.read_bytes() == edited
    assert "Our topic" in (tmp_path / "mine" / f"{LAB}-new.ipynb").read_text()


def test_reset_names_the_backup_of_the_old_copy(dltlab, built, tmp_path):
    options = ("1", "--dir", tmp_path / "mine", "--course", built.root)

    assert "is fresh.\n" in dltlab("reset", *options).out
    assert "Your old copy: " in dltlab("reset", *options).out
    assert len(list((tmp_path / "mine" / "old").iterdir())) == 1


@pytest.fixture
def unfinished(built):
    """A course with a built lab, and one that is only begun."""
    source, *_ = new_lab("second", built.root)
    source.write_text("# an idea")
    return built


@pytest.mark.parametrize("command", ["list", "progress"])
def test_an_unfinished_lab_is_left_out_with_one_line(dltlab, unfinished, command):
    result = dltlab(command, "--course", unfinished.root)

    assert result.code == 0
    assert "My topic" in result.out
    assert result.err.startswith("02_second is left out: ")
    assert result.err.count("\n") == 1


def test_an_unfinished_lab_does_not_keep_the_course_from_opening(
    dltlab, unfinished, tmp_path, started
):
    options = ("--no-browser", "--dir", tmp_path / "mine", "--course", unfinished.root)

    result = dltlab("lab", *options)

    assert (result.code, len(started)) == (0, 1)
    assert "02_second is left out: " in result.out
    assert dltlab("lab", "2", *options).code == 2
