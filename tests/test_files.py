import os
import stat
import subprocess
import sys

import pytest

from dltlab.errors import Unavailable
from dltlab.files import (
    atomic_folder,
    is_writable,
    lock_folder,
    remove_unfinished,
    sha256_of,
    write_atomically,
)

DIE_IN_A_FOLDER = """
import os, sys
from pathlib import Path

from dltlab.files import atomic_folder

with atomic_folder(Path(sys.argv[1])) as folder:
    (folder / "file").write_text("new")
    os._exit(1)
"""


@pytest.fixture
def umask():
    """The usual umask, whatever the machine's."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture
def full_disk(monkeypatch):
    """Flushing a file to the disk fails."""

    def fail(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)


@pytest.fixture
def folder(tmp_path):
    """A folder with an old file."""
    path = tmp_path / "folder"
    path.mkdir()
    (path / "file").write_text("old")
    return path


def contents(path):
    return {file.name: file.read_text() for file in path.iterdir()}


@pytest.mark.parametrize("content", ["", "ä × –\n", b"\x00\xff", "line\r\nline\n"])
def test_a_file_has_exactly_the_written_content(tmp_path, content):
    path = tmp_path / "new" / "folder" / "file"

    write_atomically(path, content)

    assert path.read_bytes() == (content if isinstance(content, bytes) else content.encode())
    assert [file.name for file in path.parent.iterdir()] == ["file"]


def test_a_new_file_has_the_default_permissions(tmp_path, umask):
    path = tmp_path / "file"

    write_atomically(path, "x")

    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_an_existing_file_keeps_its_permissions(tmp_path):
    path = tmp_path / "file"
    path.touch()
    path.chmod(0o640)

    write_atomically(path, "x")

    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_full_disk_is_an_error_and_leaves_the_old_content(tmp_path, full_disk):
    path = tmp_path / "file"
    path.write_text("old")

    with pytest.raises(Unavailable) as caught:
        write_atomically(path, "new")

    assert str(caught.value) == (
        f"{path} cannot be written (No space left on device); nothing was changed. "
        "Free some space or choose a folder you may write to, then run the command again."
    )
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_ctrl_c_leaves_the_old_content_and_no_temporary_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_text("old")

    def stop(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", stop)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, "new")

    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("blocked", ["file/below", "folder"])
def test_a_path_that_cannot_be_a_file_is_an_error(tmp_path, blocked):
    (tmp_path / "file").write_text("old")
    (tmp_path / "folder" / "full").mkdir(parents=True)
    before = set(tmp_path.rglob("*"))

    with pytest.raises(Unavailable, match=f"{blocked} cannot be written"):
        write_atomically(tmp_path / blocked, "new")
    assert set(tmp_path.rglob("*")) == before


def test_a_folder_appears_when_the_block_has_succeeded(tmp_path):
    path = tmp_path / "parent" / "folder"

    with atomic_folder(path) as new:
        (new / "file").write_text("new")
        assert not path.exists()

    assert contents(path) == {"file": "new"}
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_is_replaced_as_a_whole(folder):
    with atomic_folder(folder) as new:
        (new / "other").write_text("new")
        assert contents(folder) == {"file": "old"}

    assert contents(folder) == {"other": "new"}
    assert list(folder.parent.iterdir()) == [folder]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_in_the_block_leaves_the_old_folder(folder, error):
    def fail():
        with atomic_folder(folder) as new:
            (new / "file").write_text("new")
            raise error

    with pytest.raises(error):
        fail()

    assert contents(folder) == {"file": "old"}
    assert list(folder.parent.iterdir()) == [folder]


def test_a_block_that_removes_the_new_folder_leaves_the_old_one(folder):
    with atomic_folder(folder) as new:
        new.rmdir()

    assert contents(folder) == {"file": "old"}
    assert list(folder.parent.iterdir()) == [folder]


def test_a_full_disk_in_the_block_names_the_folder_and_leaves_the_old_one(folder):
    with (
        pytest.raises(Unavailable, match=r"folder cannot be written \(No space left on device\)"),
        atomic_folder(folder),
    ):
        raise OSError(28, "No space left on device")

    assert contents(folder) == {"file": "old"}


def test_a_file_in_the_place_of_the_parent_folder_is_an_error(tmp_path):
    (tmp_path / "file").write_text("mine")

    with (
        pytest.raises(Unavailable, match="There is a file where a folder must be"),
        atomic_folder(tmp_path / "file" / "folder"),
    ):
        pass
    assert (tmp_path / "file").read_text() == "mine"


def test_remove_unfinished_removes_what_a_killed_process_left(folder):
    subprocess.run([sys.executable, "-c", DIE_IN_A_FOLDER, folder])
    assert len(list(folder.parent.iterdir())) == 2

    remove_unfinished(folder)

    assert list(folder.parent.iterdir()) == [folder]
    assert contents(folder) == {"file": "old"}


def test_remove_unfinished_restores_a_folder_that_was_not_replaced_yet(folder):
    unfinished = folder.with_name(".folder.abc")
    unfinished.mkdir()
    folder.replace(unfinished / "old")

    remove_unfinished(folder)

    assert list(folder.parent.iterdir()) == [folder]
    assert contents(folder) == {"file": "old"}


def test_remove_unfinished_leaves_other_files_alone(tmp_path):
    (tmp_path / ".folder.txt").write_text("mine")
    (tmp_path / ".folder2.abc").mkdir()
    before = set(tmp_path.iterdir())

    remove_unfinished(tmp_path / "folder")

    assert set(tmp_path.iterdir()) == before


def test_a_locked_folder_is_created_and_locked_again_after_an_error(tmp_path):
    path = tmp_path / "new" / "folder"

    with pytest.raises(ValueError, match="inside"), lock_folder(path):
        raise ValueError("inside")
    with lock_folder(path):
        assert (path / ".lock").exists()


def test_sha256_of_is_the_hash_of_the_content(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"abc")

    # The first example of FIPS 180-2, appendix B.
    assert sha256_of(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_folder_is_writable_where_it_or_the_folder_above_it_is(tmp_path):
    (tmp_path / "file").touch()

    assert is_writable(tmp_path)
    assert is_writable(tmp_path / "new" / "folder")
    assert not is_writable(tmp_path / "file")
    assert not is_writable(tmp_path / "file" / "folder")
