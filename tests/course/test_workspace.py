import json
import re
from pathlib import Path

import pytest
from jupyter_server.services.contents.largefilemanager import LargeFileManager

from dltlab.authoring import new_lab
from dltlab.course import Workspace
from dltlab.errors import NotFound, Unavailable

LAB = "01_my_topic"


@pytest.fixture
def workspace(built, tmp_path, monkeypatch):
    """A workspace with every lab of the built course, in the working folder."""
    monkeypatch.chdir(tmp_path)
    workspace = Workspace(tmp_path / "workspace", built)
    assert workspace.update() == []
    return workspace


@pytest.fixture
def course_copy(built):
    return built.labs / f"{LAB}.ipynb"


@pytest.fixture
def change():
    """Return a function that changes the notebook in a file and returns the file's new content."""

    def apply(path, edit):
        notebook = json.loads(path.read_text())
        edit(notebook)
        path.write_text(json.dumps(notebook))
        return path.read_bytes()

    return apply


def write_source(notebook):
    notebook["cells"][1]["source"] = "Mine."


def file_names(workspace):
    return {
        str(path.relative_to(workspace.folder))
        for path in workspace.folder.rglob("*")
        if path.is_file()
    }


def test_a_learner_gets_a_copy_of_every_lab(workspace, course_copy):
    assert workspace.copy(LAB).read_bytes() == course_copy.read_bytes()
    assert file_names(workspace) == {f"{LAB}.ipynb", ".dltlab.json"}


def test_an_update_without_changes_writes_nothing(workspace):
    before = {path: path.stat().st_mtime_ns for path in workspace.folder.rglob("*")}

    assert workspace.update() == []
    assert {path: path.stat().st_mtime_ns for path in workspace.folder.rglob("*")} == before


def test_an_unedited_copy_is_updated(workspace, course_copy, change):
    change(course_copy, write_source)

    assert workspace.update() == [f"workspace/{LAB}.ipynb is updated; you had not edited it."]
    assert workspace.copy(LAB).read_bytes() == course_copy.read_bytes()
    assert workspace.update() == []


def test_a_copy_that_jupyterlab_only_saved_counts_as_unedited(workspace, course_copy, change):
    server = LargeFileManager(root_dir=str(workspace.folder))
    model = server.get(f"{LAB}.ipynb")
    model["content"]["metadata"]["language_info"]["version"] = "3.13.1"
    server.save(model, f"{LAB}.ipynb")
    assert workspace.copy(LAB).read_bytes() != course_copy.read_bytes()
    change(course_copy, write_source)

    assert "you had not edited it" in workspace.update()[0]
    assert workspace.copy(LAB).read_bytes() == course_copy.read_bytes()


@pytest.mark.parametrize(
    "edit",
    [
        write_source,
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
def test_an_edited_copy_is_kept_and_the_new_version_written_next_to_it(
    workspace, course_copy, change, edit
):
    edited = change(workspace.copy(LAB), edit)
    change(course_copy, lambda notebook: notebook["cells"][1].update(source="Theirs."))

    (message,) = workspace.update()

    assert message == (
        f"The course has a new version of {LAB}: workspace/{LAB}-new.ipynb. "
        f"Your edited copy workspace/{LAB}.ipynb is unchanged."
    )
    assert workspace.copy(LAB).read_bytes() == edited
    new = workspace.folder / f"{LAB}-new.ipynb"
    assert new.read_bytes() == course_copy.read_bytes()


def test_a_new_version_is_reported_once(workspace, course_copy, change):
    change(workspace.copy(LAB), write_source)
    assert workspace.update() == []

    change(course_copy, lambda notebook: notebook["cells"].pop())
    assert len(workspace.update()) == 1
    assert workspace.update() == []


def test_each_new_version_gets_its_own_name(workspace, course_copy, change):
    edited = change(workspace.copy(LAB), write_source)
    for name in (f"{LAB}-new.ipynb", f"{LAB}-new-2.ipynb"):
        new = change(course_copy, lambda notebook: notebook["cells"].pop())
        assert f"workspace/{name}." in workspace.update()[0]
        assert (workspace.folder / name).read_bytes() == new
    assert workspace.copy(LAB).read_bytes() == edited


@pytest.mark.parametrize("hashes", [None, "", '{"01_my', "[]"])
def test_without_the_hashes_every_copy_counts_as_edited(workspace, course_copy, change, hashes):
    path = workspace.folder / ".dltlab.json"
    path.unlink() if hashes is None else path.write_text(hashes)
    before = workspace.copy(LAB).read_bytes()
    change(course_copy, write_source)

    assert "is unchanged" in workspace.update()[0]
    assert workspace.copy(LAB).read_bytes() == before


def test_an_update_that_was_stopped_before_the_hashes_writes_no_version_twice(
    workspace, course_copy, change
):
    change(workspace.copy(LAB), write_source)
    change(course_copy, lambda notebook: notebook["cells"].pop())
    hashes = (workspace.folder / ".dltlab.json").read_bytes()
    workspace.update()
    (workspace.folder / ".dltlab.json").write_bytes(hashes)

    assert f"workspace/{LAB}-new.ipynb." in workspace.update()[0]
    assert file_names(workspace) == {f"{LAB}.ipynb", f"{LAB}-new.ipynb", ".dltlab.json"}


def test_a_deleted_copy_is_replaced_and_reported(workspace, course_copy):
    workspace.copy(LAB).unlink()

    assert workspace.update() == [f"workspace/{LAB}.ipynb was missing; it is copied again."]
    assert workspace.copy(LAB).read_bytes() == course_copy.read_bytes()


@pytest.mark.parametrize("length", [0, 1, 100, 1000])
def test_a_truncated_copy_is_left_as_it_is_and_reported(workspace, length):
    truncated = workspace.copy(LAB).read_bytes()[:length]
    workspace.copy(LAB).write_bytes(truncated)

    assert workspace.update() == [
        f"workspace/{LAB}.ipynb cannot be read as a notebook; it is left as it is. "
        f"To start the lab over and keep the file, run: {workspace.course.command('reset', LAB)}"
    ]
    assert workspace.copy(LAB).read_bytes() == truncated
    backup = workspace.reset(LAB)
    assert backup is not None
    assert backup.read_bytes() == truncated
    assert workspace.update() == []


def test_a_new_lab_of_the_course_is_added(workspace, built, course_copy):
    new_lab("second", built.root)
    (built.labs / "02_second.ipynb").write_bytes(course_copy.read_bytes())

    assert workspace.update() == []
    assert workspace.copy("02_second").exists()


def test_a_lab_that_was_removed_from_the_course_is_kept(workspace, source):
    source.unlink()

    assert workspace.update() == []
    assert workspace.copy(LAB).exists()


def test_a_lab_that_was_not_built_is_left_out_with_the_command(workspace, built):
    new_lab("second", built.root)

    (message,) = workspace.update()

    assert message.startswith("02_second is left out: ")
    assert message.endswith(f"make it with: {built.command('build', '02_second')}")
    assert workspace.copy(LAB).exists()


def test_a_copy_has_a_link_to_another_lab_once_that_is_built(workspace, built, course_copy, change):
    def link(notebook):
        notebook["cells"][0]["source"] = "[02_late](02_late.ipynb) and [this](01_my_topic.ipynb)"

    content = change(course_copy, link)
    workspace.update()
    text = workspace.copy(LAB).read_text()
    assert '"02_late and [this](01_my_topic.ipynb)"' in text
    assert workspace.update() == []

    new_lab("late", built.root)
    (built.labs / "02_late.ipynb").write_text("{}")
    workspace.update()
    assert workspace.copy(LAB).read_bytes() == content


def test_a_lab_that_is_required_and_was_not_built_is_an_error(workspace, built):
    new_lab("second", built.root)

    with pytest.raises(Unavailable, match=r"02_second\.ipynb cannot be read .*dltlab build"):
        workspace.update("02_second")


def test_reset_starts_a_lab_over_and_keeps_the_old_copy(workspace, course_copy, change):
    edited = change(workspace.copy(LAB), write_source)

    backup = workspace.reset(LAB)

    assert backup is not None
    assert backup.read_bytes() == edited
    assert backup.parent == workspace.folder / "old"
    assert re.fullmatch(rf"{LAB} \d{{4}}-\d\d-\d\d \d\d\.\d\d\.\d\d\.ipynb", backup.name)
    assert workspace.copy(LAB).read_bytes() == course_copy.read_bytes()


def test_every_reset_keeps_its_own_backup(workspace, change):
    contents = {}
    for text in ("one", "two", "three"):
        edited = change(
            workspace.copy(LAB), lambda nb, text=text: nb["cells"][1].update(source=text)
        )
        contents[workspace.reset(LAB)] = edited

    assert len(contents) == 3
    assert all(path.read_bytes() == content for path, content in contents.items())


def test_a_lab_is_updated_again_after_a_reset(workspace, course_copy, change):
    change(workspace.copy(LAB), write_source)
    workspace.reset(LAB)
    change(course_copy, lambda notebook: notebook["cells"].pop())

    assert "is updated" in workspace.update()[0]


def test_reset_of_a_deleted_copy_has_no_backup(workspace, course_copy):
    workspace.copy(LAB).unlink()

    assert workspace.reset(LAB) is None
    assert workspace.copy(LAB).read_bytes() == course_copy.read_bytes()


def test_reset_in_a_folder_that_is_no_workspace_is_an_error(built, tmp_path):
    workspace = Workspace(tmp_path / "new", built)

    with pytest.raises(NotFound, match=r"new is not a workspace: .* --dir"):
        workspace.reset(LAB)
    assert not workspace.folder.exists()


def test_reset_needs_only_a_copy_where_the_hashes_are_lost(workspace):
    (workspace.folder / ".dltlab.json").unlink()

    assert workspace.reset(LAB) is not None


def test_a_workspace_is_found_in_the_working_folder_or_in_its_folder_workspace(
    workspace, monkeypatch
):
    course = workspace.course

    assert Workspace.find(None, course).folder.resolve() == workspace.folder
    monkeypatch.chdir(workspace.folder)
    assert Workspace.find(None, course).folder == workspace.folder
    assert Workspace.find(Path("mine"), course).folder == Path("mine")


def test_a_file_in_the_place_of_the_workspace_is_an_error(built, tmp_path):
    (tmp_path / "workspace").write_text("mine")

    with pytest.raises(Unavailable, match="There is a file where a folder must be"):
        Workspace(tmp_path / "workspace", built).update()
    assert (tmp_path / "workspace").read_text() == "mine"


def test_a_folder_in_the_place_of_a_copy_is_an_error(workspace):
    workspace.copy(LAB).unlink()
    workspace.copy(LAB).mkdir()

    with pytest.raises(Unavailable, match=r"01_my_topic\.ipynb cannot be read \(Is a directory\)"):
        workspace.update()
