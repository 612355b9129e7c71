import json
import re

import pytest
from jupyter_server.services.contents.largefilemanager import LargeFileManager

from dltlab.authoring.new import new_lab
from dltlab.course.workspace import Workspace
from dltlab.errors import LabError

LAB = "01_my_topic"


@pytest.fixture
def workspace(built, tmp_path, monkeypatch):
    """The built course's workspace, in the working folder and with every lab laid out."""
    monkeypatch.chdir(tmp_path)
    found = Workspace(tmp_path / "workspace", built)
    assert found.update() == []
    return found


@pytest.fixture
def course_copy(built):
    return built.labs / f"{LAB}.ipynb"


@pytest.fixture
def change():
    """Change the notebook in a file; returns what the file holds then."""

    def save(path, change):
        notebook = json.loads(path.read_text())
        change(notebook)
        path.write_text(json.dumps(notebook))
        return path.read_bytes()

    return save


def _write_source(notebook):
    notebook["cells"][1]["source"] = "Mine."


def _names(workspace):
    return {
        str(path.relative_to(workspace.folder))
        for path in workspace.folder.rglob("*")
        if path.is_file()
    }


def test_a_learner_gets_every_lab_as_the_course_has_it(workspace, course_copy):
    assert workspace.copy(LAB).read_bytes() == course_copy.read_bytes()
    assert _names(workspace) == {f"{LAB}.ipynb", ".dltlab.json"}


def test_nothing_is_said_or_written_where_nothing_has_changed(workspace):
    before = {path: path.stat().st_mtime_ns for path in workspace.folder.rglob("*")}

    assert workspace.update() == []
    assert {path: path.stat().st_mtime_ns for path in workspace.folder.rglob("*")} == before


def test_an_unedited_copy_follows_the_course(workspace, course_copy, change):
    change(course_copy, _write_source)

    assert workspace.update() == [
        f"workspace/{LAB}.ipynb is up to date again: you had not changed it."
    ]
    assert workspace.copy(LAB).read_bytes() == course_copy.read_bytes()
    assert workspace.update() == []


def test_a_copy_that_jupyterlab_only_saved_is_not_edited(workspace, course_copy, change):
    server = LargeFileManager(root_dir=str(workspace.folder))
    model = server.get(f"{LAB}.ipynb")
    model["content"]["metadata"]["language_info"]["version"] = "3.13.1"
    server.save(model, f"{LAB}.ipynb")
    assert workspace.copy(LAB).read_bytes() != course_copy.read_bytes()
    change(course_copy, _write_source)

    assert "you had not changed it" in workspace.update()[0]
    assert workspace.copy(LAB).read_bytes() == course_copy.read_bytes()


@pytest.mark.parametrize(
    "edit",
    [
        _write_source,
        lambda notebook: notebook["cells"].append(notebook["cells"][1] | {"id": "mine"}),
        lambda notebook: notebook["cells"].pop(),
        lambda notebook: notebook["cells"][1].update(id="mine"),
        lambda notebook: notebook["cells"][2].update(execution_count=1),
        lambda notebook: notebook["cells"][2].update(
            outputs=[{"output_type": "stream", "name": "stdout", "text": "1"}]
        ),
        lambda notebook: notebook.clear(),
    ],
    ids=["source", "new cell", "deleted cell", "id", "ran", "output", "emptied"],
)
def test_an_edited_copy_is_kept_and_the_new_lab_laid_beside_it(
    workspace, course_copy, change, edit
):
    mine = change(workspace.copy(LAB), edit)
    change(course_copy, lambda notebook: notebook["cells"][1].update(source="Theirs."))

    (message,) = workspace.update()

    assert message == (
        f"The course's {LAB} has changed. Your copy is untouched: workspace/{LAB}.ipynb; "
        f"the new one is beside it: workspace/{LAB}-new.ipynb."
    )
    assert workspace.copy(LAB).read_bytes() == mine
    beside = workspace.folder / f"{LAB}-new.ipynb"
    assert beside.read_bytes() == course_copy.read_bytes()


def test_an_edited_copy_is_told_of_a_change_once(workspace, course_copy, change):
    change(workspace.copy(LAB), _write_source)
    assert workspace.update() == []

    change(course_copy, lambda notebook: notebook["cells"].pop())
    assert len(workspace.update()) == 1
    assert workspace.update() == []


def test_each_change_of_the_course_is_laid_beside_under_a_name_of_its_own(
    workspace, course_copy, change
):
    mine = change(workspace.copy(LAB), _write_source)
    for name in (f"{LAB}-new.ipynb", f"{LAB}-new-2.ipynb"):
        new = change(course_copy, lambda notebook: notebook["cells"].pop())
        assert f"workspace/{name}." in workspace.update()[0]
        assert (workspace.folder / name).read_bytes() == new
    assert workspace.copy(LAB).read_bytes() == mine


@pytest.mark.parametrize("notes", [None, "", '{"01_my', "[]"])
def test_without_its_notes_every_copy_counts_as_edited(workspace, course_copy, change, notes):
    path = workspace.folder / ".dltlab.json"
    path.unlink() if notes is None else path.write_text(notes)
    mine = workspace.copy(LAB).read_bytes()
    change(course_copy, _write_source)

    assert "Your copy is untouched" in workspace.update()[0]
    assert workspace.copy(LAB).read_bytes() == mine


def test_an_update_that_was_stopped_before_its_notes_lays_nothing_beside_twice(
    workspace, course_copy, change
):
    change(workspace.copy(LAB), _write_source)
    change(course_copy, lambda notebook: notebook["cells"].pop())
    notes = (workspace.folder / ".dltlab.json").read_bytes()
    workspace.update()
    (workspace.folder / ".dltlab.json").write_bytes(notes)

    assert f"workspace/{LAB}-new.ipynb." in workspace.update()[0]
    assert _names(workspace) == {f"{LAB}.ipynb", f"{LAB}-new.ipynb", ".dltlab.json"}


def test_a_deleted_copy_comes_back_and_the_learner_is_told(workspace, course_copy):
    workspace.copy(LAB).unlink()

    assert workspace.update() == [f"workspace/{LAB}.ipynb was missing: a fresh copy is there."]
    assert workspace.copy(LAB).read_bytes() == course_copy.read_bytes()


@pytest.mark.parametrize("length", [0, 1, 100, 1000])
def test_a_truncated_copy_is_left_as_it_is_and_the_learner_told(workspace, length):
    mine = workspace.copy(LAB).read_bytes()[:length]
    workspace.copy(LAB).write_bytes(mine)

    assert workspace.update() == [
        f"workspace/{LAB}.ipynb cannot be read as a notebook; it is left as it is. "
        f"`dltlab reset {LAB}` starts the lab over and keeps the file."
    ]
    assert workspace.copy(LAB).read_bytes() == mine
    kept = workspace.reset(LAB)
    assert kept is not None
    assert kept.read_bytes() == mine
    assert workspace.update() == []


def test_a_lab_that_is_new_in_the_course_is_added(workspace, built, course_copy):
    new_lab("second", built.root)
    (built.labs / "02_second.ipynb").write_bytes(course_copy.read_bytes())

    assert workspace.update() == []
    assert workspace.copy("02_second").exists()


def test_a_lab_that_left_the_course_stays_with_the_learner(workspace, source):
    source.unlink()

    assert workspace.update() == []
    assert workspace.copy(LAB).exists()


def test_a_lab_that_was_not_built_is_told_with_the_command_that_builds_it(workspace, course_copy):
    course_copy.unlink()

    with pytest.raises(LabError, match=r"01_my_topic\.ipynb cannot be read .*dltlab build"):
        workspace.update()


def test_reset_starts_a_lab_over_and_keeps_the_old_copy(workspace, course_copy, change):
    mine = change(workspace.copy(LAB), _write_source)

    kept = workspace.reset(LAB)

    assert kept is not None
    assert kept.read_bytes() == mine
    assert kept.parent == workspace.folder / "old"
    assert re.fullmatch(rf"{LAB} \d{{4}}-\d\d-\d\d \d\d\.\d\d\.\d\d\.ipynb", kept.name)
    assert workspace.copy(LAB).read_bytes() == course_copy.read_bytes()


def test_every_reset_keeps_a_copy_of_its_own(workspace, change):
    kept = []
    for text in ("one", "two", "three"):
        mine = change(workspace.copy(LAB), lambda nb, text=text: nb["cells"][1].update(source=text))
        kept.append((workspace.reset(LAB), mine))

    assert len({path for path, _ in kept}) == 3
    assert all(path.read_bytes() == mine for path, mine in kept)


def test_a_lab_that_was_reset_follows_the_course_again(workspace, course_copy, change):
    change(workspace.copy(LAB), _write_source)
    workspace.reset(LAB)
    change(course_copy, lambda notebook: notebook["cells"].pop())

    assert "up to date again" in workspace.update()[0]


def test_reset_brings_a_deleted_copy_back_and_has_nothing_to_keep(workspace, course_copy):
    workspace.copy(LAB).unlink()

    assert workspace.reset(LAB) is None
    assert workspace.copy(LAB).read_bytes() == course_copy.read_bytes()


def test_reset_in_an_empty_folder_lays_the_lab_out(built, tmp_path):
    workspace = Workspace(tmp_path / "new", built)

    assert workspace.reset(LAB) is None
    assert workspace.update() == []


def test_a_file_where_the_workspace_should_be_is_told_in_one_sentence(built, tmp_path):
    (tmp_path / "workspace").write_text("mine")

    with pytest.raises(LabError, match=r"A file is where a folder should be"):
        Workspace(tmp_path / "workspace", built).update()
    assert (tmp_path / "workspace").read_text() == "mine"


def test_a_folder_in_the_place_of_a_copy_is_told_by_name(workspace):
    workspace.copy(LAB).unlink()
    workspace.copy(LAB).mkdir()

    with pytest.raises(LabError, match=r"01_my_topic\.ipynb cannot be read \(Is a directory\)"):
        workspace.update()
