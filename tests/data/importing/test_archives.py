"""Archives as sources of images; damaged and hostile ones are in tests/faults."""

import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.archives import write_tar, write_zip
from tests.image_sources import image_files, import_pets, labels_of, splits_of, write_files


@pytest.mark.parametrize("suffix", [".tar", ".gz", ".bz2", ".xz", ".zip"])
def test_an_archive_gives_the_same_version_as_its_folder(source: Path, suffix: str) -> None:
    files = image_files("cat", "dog") | {"cat/empty.png": b"", "dog/notes.md": b"x"}
    files |= {"dog/copy.png": files["dog/003.png"]}
    first = import_pets(write_files(source, files))
    write_archive = write_zip if suffix == ".zip" else write_tar
    reversed_files = dict(reversed(files.items()))
    again = import_pets(write_archive(source.with_suffix(suffix), reversed_files))
    assert (again.is_new, again.dataset) == (False, first.dataset)
    assert again.left_out == first.left_out


def test_an_archive_is_recognized_by_its_content_not_by_its_suffix(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "images.zip", image_files("cat", "dog"))
    assert len(labels_of(import_pets(archive.rename(tmp_path / "images")))) == 20


def test_a_test_image_in_an_archive_stays_in_the_test_split(tmp_path: Path) -> None:
    train = image_files("train/cat", "train/dog")
    test = image_files("test/cat", "test/dog") | {"test/cat/same.png": train["train/cat/004.png"]}
    splits = splits_of(import_pets(write_tar(tmp_path / "images.tar", train | test)))
    assert splits["test/cat/same.png"] == "test"
    assert "train/cat/004.png" not in splits


def test_entries_of_folders_are_ignored(tmp_path: Path) -> None:
    tar = write_tar(tmp_path / "images.tar", image_files("cat", "dog"))
    with tarfile.open(tar, "a") as archive:
        folder = tarfile.TarInfo("cat.png")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
    zip_ = write_zip(tmp_path / "images.zip", image_files("cat", "dog"))
    with zipfile.ZipFile(zip_, "a") as archive:
        archive.mkdir("cat.png")
    assert import_pets(tar).left_out == import_pets(zip_).left_out == []
