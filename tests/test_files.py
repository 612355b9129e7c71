import os
import stat

import pytest

from dltlab.errors import LabError
from dltlab.files import sha256_of, write_atomically


@pytest.fixture
def umask():
    """The usual mask of rights, whatever the machine's."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.mark.parametrize("content", ["", "ä × –\n", b"\x00\xff", "line\r\nline\n"])
def test_a_file_holds_just_what_was_written(tmp_path, content):
    path = tmp_path / "new" / "folder" / "file"

    write_atomically(path, content)

    assert path.read_bytes() == (content if isinstance(content, bytes) else content.encode())
    assert [each.name for each in path.parent.iterdir()] == ["file"]


def test_a_new_file_gets_the_rights_of_any_new_file(tmp_path, umask):
    path = tmp_path / "file"

    write_atomically(path, "x")

    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_an_old_file_keeps_its_rights(tmp_path):
    path = tmp_path / "file"
    path.touch()
    path.chmod(0o640)

    write_atomically(path, "x")

    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_full_disk_leaves_the_old_content_and_one_sentence(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_text("old")

    def fail(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(LabError) as caught:
        write_atomically(path, "new")

    assert str(caught.value) == (
        f"{path} cannot be written (No space left on device); nothing was changed. "
        "Free some space or choose a folder you may write to, then run the command again."
    )
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_ctrl_c_leaves_the_old_content_and_nothing_beside_it(tmp_path, monkeypatch):
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
def test_what_stands_in_the_way_is_told_by_name(tmp_path, blocked):
    (tmp_path / "file").write_text("old")
    (tmp_path / "folder" / "full").mkdir(parents=True)
    before = set(tmp_path.rglob("*"))

    with pytest.raises(LabError, match=f"{blocked} cannot be written"):
        write_atomically(tmp_path / blocked, "new")
    assert set(tmp_path.rglob("*")) == before


def test_sha256_of_is_that_of_the_content(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"abc")

    # The first example of FIPS 180-2, appendix B.
    assert sha256_of(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
