import re
from pathlib import Path

import platformdirs
import pytest

from dltlab import paths

DEFAULTS = {
    paths.course_dir: ("DLTLAB_COURSE", None),
    paths.data_dir: ("DLTLAB_DATA_DIR", platformdirs.user_data_path("dltlab") / "datasets"),
    paths.room_dir: ("DLTLAB_ROOM", None),
    paths.mirror_dir: ("DLTLAB_DATA_MIRROR", None),
    paths.engine_dir: ("DLTLAB_ENGINE_DIR", platformdirs.user_cache_path("dltlab") / "engines"),
    paths.progress_file: (
        "DLTLAB_PROGRESS",
        platformdirs.user_data_path("dltlab") / "progress.jsonl",
    ),
}


@pytest.mark.parametrize(
    ("function", "variable", "default"), [(f, *d) for f, d in DEFAULTS.items()]
)
def test_a_variable_sets_a_path_and_an_empty_one_does_not(monkeypatch, function, variable, default):
    monkeypatch.setenv(variable, "some/folder")
    assert function() == Path("some/folder")

    monkeypatch.setenv(variable, "")
    assert function() == default

    monkeypatch.delenv(variable)
    assert function() == default


def test_a_path_in_a_variable_may_begin_with_a_tilde(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.setenv("DLTLAB_DATA_DIR", "~/data")

    assert paths.data_dir() == Path("/home/ada/data")


@pytest.mark.parametrize(
    ("function", "variable"),
    [(paths.cold_kernels, "DLTLAB_COLD_KERNELS"), (paths.offline, "DLTLAB_OFFLINE")],
)
@pytest.mark.parametrize(
    ("value", "is_on"),
    [(None, False), ("", False), ("0", False), ("False", False), ("off", False), ("1", True)],
)
def test_a_variable_is_a_switch(monkeypatch, function, variable, value, is_on):
    monkeypatch.delenv(variable, raising=False)
    if value is not None:
        monkeypatch.setenv(variable, value)

    assert function() is is_on


def test_every_variable_is_read_in_paths_alone(repository):
    modules = set((repository / "dltlab").rglob("*.py")) - {repository / "dltlab" / "paths.py"}
    reads = re.compile(r"""environ[^\n]*["']DLTLAB_|getenv\(["']DLTLAB_""")

    assert [str(path) for path in modules if reads.search(path.read_text())] == []


def test_the_own_course_is_in_an_installed_package_or_next_to_the_clone(
    tmp_path, monkeypatch, repository
):
    assert paths.own_course_dir() == repository

    monkeypatch.setattr(paths, "__file__", str(tmp_path / "dltlab" / "paths.py"))
    assert paths.own_course_dir() == tmp_path

    (tmp_path / "dltlab" / "_course").mkdir(parents=True)
    assert paths.own_course_dir() == tmp_path / "dltlab" / "_course"


def test_a_short_path_is_relative_to_the_working_folder_if_it_is_inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    assert paths.short_path(tmp_path / "solutions" / "01_a.py") == "solutions/01_a.py"
    assert paths.short_path(Path("solutions/01_a.py")) == "solutions/01_a.py"
    assert paths.short_path(tmp_path.parent) == str(tmp_path.parent)


def test_cards_are_in_the_folders_of_dltlab_and_of_the_course(monkeypatch):
    own = paths.own_course_dir() / "datasets"
    assert paths.card_folders() == [own]
    monkeypatch.setenv("DLTLAB_COURSE", "some/course")
    assert paths.card_folders() == [own, Path("some/course/datasets")]
