"""A folder as a source of images: links, hidden files, and what is passed on."""

import os
from pathlib import Path

import pytest

from dltlab.data.importing.folder import FolderSource
from tests.image_sources import image_files, import_pets, labels_of, pixels_of, png, write_files


def test_a_linked_image_is_imported_and_a_linked_folder_is_left_out(source: Path) -> None:
    write_files(source, image_files("cat", "dog"))
    (source.parent / "else.png").write_bytes(png(pixels_of("else")))
    (source / "cat" / "linked.png").symlink_to(source.parent / "else.png")
    (source / "dog" / "dangling.png").symlink_to(source.parent / "dangling.png")
    (source / "emu").symlink_to(source / "dog")
    (source / "dog" / "cycle").symlink_to(source)
    result = import_pets(source)
    assert labels_of(result)["cat/linked.png"] == "cat"
    assert result.left_out == [
        ("dog/cycle", "is a link to a folder"),
        ("dog/dangling.png", "does not exist"),
        ("emu", "is a link to a folder"),
    ]


def test_hidden_folders_are_not_entered(source: Path) -> None:
    write_files(source, {".git/a.png": b"", "cat/1.png": b"", "cat/.old/2.png": b""})
    assert [image.name for image in FolderSource(source).listing().candidates] == ["cat/1.png"]


def test_a_folder_that_cannot_be_entered_is_left_out(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_files(source, {"cat/1.png": b"", "dog/1.png": b""})
    scandir = os.scandir

    def refuse_dogs(path: str) -> object:
        if os.path.basename(path) == "dog":
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse_dogs)
    listing = FolderSource(source).listing()
    assert [candidate.label for candidate in listing.candidates] == ["cat"]
    assert listing.left_out == [(f"{source}/dog", "cannot be read (Permission denied)")]


def test_contents_are_paths(source: Path) -> None:
    write_files(source, {"cat/1.png": b"", "dog/1.png": b""})
    folder = FolderSource(source)
    candidates = folder.listing().candidates
    assert list(folder.contents(candidates[::-1])) == [
        (candidates[1], source / "dog/1.png"),
        (candidates[0], source / "cat/1.png"),
    ]
