import json
import os

import pytest
import yaml

from dltlab.authoring import new_lab
from dltlab.exercises import Outcome
from dltlab.exercises.progress import record_outcome

LAB, NAME = "01_my_topic", "mean_squared_error"


def test_list_shows_title_time_and_needs_of_each_lab(dltlab, course):
    new_lab("second", course.root)

    result = dltlab("list", "--course", course.root)

    head, *rows = result.out.splitlines()
    assert head.split() == ["lab", "title", "minutes", "memory", "GPU"]
    assert [row.split()[0] for row in rows] == [LAB, "02_second"]
    assert result.code == 0


def test_a_lab_that_needs_more_packages_is_named(dltlab, built, tmp_path, source, started):
    source.write_text(source.read_text() + "\n# %%\nimport no_such_module\n")
    sentence = f"{LAB} needs packages that are not installed: no_such_module. Install "

    listed = dltlab("list", "--course", built.root)
    opened = dltlab("lab", "--no-browser", "--dir", tmp_path / "mine", "--course", built.root)

    assert listed.err.startswith(sentence)
    assert sentence in opened.out
    assert (listed.code, opened.code, len(started)) == (0, 0, 1)


def test_progress_is_one_bar_for_each_lab_within_80_columns(dltlab, course, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    new_lab("second", course.root)
    record_outcome(LAB, NAME, Outcome.PASSED)

    lines = dltlab("progress", "--course", course.root).out.splitlines()

    assert lines[0].split() == ["lab", "progress", "passed"]
    assert lines[1].split() == ["01", "My", "topic", 20 * "━", "1", "of", "1"]
    assert lines[2].split() == ["02", "Second", 20 * "─", "0", "of", "1"]
    assert lines[-1] == f"Next: {NAME} in lab 02"
    assert max(map(len, lines)) <= 80


def test_progress_shows_each_exercise_on_request(dltlab, course):
    record_outcome(LAB, NAME, Outcome.NOT_YET)
    assert NAME not in dltlab("progress", "--course", course.root).out.partition("Next:")[0]

    lines = dltlab("progress", "--details", "--course", course.root).out.splitlines()

    assert [NAME, "not", "yet"] in [line.split() for line in lines]


def test_progress_is_json_on_request(dltlab, course):
    record_outcome(LAB, NAME, Outcome.PASSED)

    (lab,) = json.loads(dltlab("progress", "--json", "--course", course.root).out)

    assert (lab["lab"], lab["passed"]) == (LAB, 1)


def test_progress_names_no_next_exercise_where_all_are_passed(dltlab, course):
    record_outcome(LAB, NAME, Outcome.PASSED)

    assert "Next" not in dltlab("progress", "--course", course.root).out


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


def test_reset_starts_the_lab_and_its_progress_over(dltlab, workspace):
    record_outcome(LAB, NAME, Outcome.PASSED)
    options = ("--course", workspace.course.root)

    result = dltlab("reset", "1", "--dir", workspace.folder, *options)

    assert f"{LAB}.ipynb is new, and nothing in it counts as passed." in result.out
    (backup,) = (workspace.folder / "old").iterdir()
    assert f"Your old copy: {backup}" in result.out
    assert "0 of 1" in dltlab("progress", *options).out


@pytest.mark.parametrize("folder", [".", "workspace"])
def test_reset_finds_the_workspace_from_inside_and_from_its_parent(
    dltlab, workspace, monkeypatch, folder
):
    monkeypatch.chdir(workspace.folder.parent / folder)

    assert dltlab("reset", "1", "--course", workspace.course.root).code == 0
    assert len(list((workspace.folder / "old").iterdir())) == 1
    assert not (workspace.folder / "workspace").exists()


def test_reset_elsewhere_is_an_error_and_changes_nothing(dltlab, built, tmp_path, monkeypatch):
    record_outcome(LAB, NAME, Outcome.PASSED)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")

    result = dltlab("reset", "1", "--course", built.root)

    assert (result.code, result.err) == (
        2,
        f"dltlab: {tmp_path}/elsewhere/workspace is not a workspace: name yours with --dir, or "
        f"make one with: {built.command('lab')}\n",
    )
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert "1 of 1" in dltlab("progress", "--course", built.root).out


def test_profile_prints_all_parameters_as_yaml(dltlab, course, source, edit):
    edit(source, "smoke: {SAMPLES: 10}", "smoke: {SAMPLES: 3}")

    result = dltlab("profile", "1", "smoke", "--course", course.root)

    assert yaml.safe_load(result.out) == course.read()[0].parameters | {"SAMPLES": 3}


def test_an_unknown_profile_is_a_usage_error(dltlab, course):
    result = dltlab("profile", "1", "huge", "--course", course.root)

    assert result.code == 2
    assert "huge" in result.err
