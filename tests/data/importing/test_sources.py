"""Which kind of source a path is."""

from pathlib import Path

import pytest

from dltlab.data.importing.archives import TarSource, ZipSource
from dltlab.data.importing.folder import FolderSource
from dltlab.data.importing.image_list import ListSource
from dltlab.data.importing.sources import open_source
from dltlab.errors import Invalid, NotFound, Unavailable
from tests.archives import write_tar, write_zip


def test_folders_lists_and_archives_are_sources(tmp_path: Path) -> None:
    (tmp_path / "list.CSV").write_text("")
    assert open_source(tmp_path) == FolderSource(tmp_path)
    assert open_source(tmp_path / "list.CSV") == ListSource(tmp_path / "list.CSV")
    assert isinstance(open_source(write_tar(tmp_path / "a.gz", {"a": b""})), TarSource)
    assert isinstance(open_source(write_zip(tmp_path / "b", {"a": b""})), ZipSource)


def test_a_missing_source_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="gone does not exist"):
        open_source(tmp_path / "gone")


@pytest.mark.parametrize("content", [b"", b"text", b"\x1f\x8b\x08\0\0\0\0\0\0\xff\xff\xff"])
def test_another_file_is_not_a_source(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(Invalid, match="is not a folder of images, a tar or zip archive, or a"):
        open_source(tmp_path / "file")


def test_a_file_that_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setattr("tarfile.is_tarfile", fail)
    with pytest.raises(Unavailable, match="file cannot be read: Permission denied"):
        open_source(tmp_path / "file")
