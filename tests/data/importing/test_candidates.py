"""The candidates in folders: their classes and splits, and what is left out."""

from collections import Counter

import pytest

from dltlab.data.importing.candidates import Candidate, in_unicode, listing_of, why_unsafe


def names(*folders: str, count: int = 10) -> list[str]:
    return [f"{folder}/{number}.png" for folder in folders for number in range(count)]


def classes(candidates: list[Candidate]) -> Counter[str]:
    return Counter(candidate.label for candidate in candidates)


def test_each_folder_is_a_class() -> None:
    listing = listing_of(["dog/2.png", "cat/1.png"], [])
    assert listing.candidates == [Candidate("cat/1.png", "cat"), Candidate("dog/2.png", "dog")]


@pytest.mark.parametrize("outer", ["", "photos/", "download/photos/", "train/"])
def test_folders_around_those_of_the_classes_are_ignored(outer: str) -> None:
    listing = listing_of([f"{outer}{name}" for name in names("cat", "dog")], [])
    assert classes(listing.candidates) == {"cat": 10, "dog": 10}
    assert {candidate.split for candidate in listing.candidates} == {None}


def test_folders_below_a_class_are_part_of_it() -> None:
    listing = listing_of(names("cat/old", "cat/new", "dog/old", "dog/new", "dog"), [])
    assert classes(listing.candidates) == {"cat": 20, "dog": 30}


@pytest.mark.parametrize("outer", ["", "data/"])
@pytest.mark.parametrize(
    ("folders", "splits"),
    [
        (("train", "validation", "test"), ["train", "validation", "test"]),
        (("Training", "VAL", "testing"), ["train", "validation", "test"]),
        (("train", "valid"), ["train", "validation"]),
    ],
)
def test_folders_with_the_name_of_a_split_define_it(
    outer: str, folders: tuple[str, ...], splits: list[str]
) -> None:
    class_folders = [f"{outer}{folder}/{label}" for folder in folders for label in ("cat", "dog")]
    listing = listing_of(names(*class_folders), [])
    assert classes(listing.candidates) == {"cat": 10 * len(folders), "dog": 10 * len(folders)}
    split_of = dict(zip(folders, splits, strict=True))
    for candidate in listing.candidates:
        folder = candidate.name.removeprefix(outer).partition("/")[0]
        assert candidate.split == split_of[folder]


def test_hidden_files_are_ignored_and_other_files_are_left_out() -> None:
    hidden = ["cat/._1.png", ".git/a.png", "__MACOSX/cat/1.png", "cat/Thumbs.db", ".DS_Store"]
    others = ["cat/notes.md", "dog/clip.gif", "logo.png"]
    listing = listing_of([*names("cat", "dog"), *hidden, *others], [("x", "is broken")])
    assert listing.left_out == [
        ("cat/notes.md", "is not an image file"),
        ("dog/clip.gif", "is not an image file"),
        ("logo.png", "is not in the folder of a class"),
        ("x", "is broken"),
    ]


@pytest.mark.parametrize("name", ["/a.png", "\\a.png", "../a.png", "cat/../../a.png", "..\\a"])
def test_names_that_lead_outside_an_archive_are_unsafe(name: str) -> None:
    assert why_unsafe(name, 1) == "leads outside the archive"


def test_huge_members_of_an_archive_are_unsafe() -> None:
    assert why_unsafe("cat/a..b.png", 200_000_000) is None
    assert why_unsafe("cat/a.png", 300_000_000) == "is too large: 300 MB"


def test_bytes_that_are_not_utf_8_are_escaped() -> None:
    assert in_unicode("caf\udce9 é") == "caf\\xe9 é"
