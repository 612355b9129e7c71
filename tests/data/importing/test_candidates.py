"""The candidates in folders: their classes and splits, and what is left out."""

from collections import Counter

import pytest

from dltlab.data.importing.candidates import Candidate, in_unicode, listing_of, why_unsafe
from dltlab.data.importing.layout import Layout
from dltlab.errors import Invalid


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


KAGGLE = [  # how splits are named in downloads
    ("train", "valid", "test", "samples"),
    ("seg_train/seg_train", "seg_dev", "seg_test/seg_test", "seg_pred/seg_pred"),
    ("train", "dev", "test", "readme"),
    ("train_images", "val_images", "test_images", "sample_submission"),
    ("training_set/training_set", "validation_set", "test_set/test_set", "docs"),
    ("Train Data", "evalData", "TestData", "others"),
    ("train2017", "val2017", "test2017", "unlabeled2017"),
]


@pytest.mark.parametrize("folders", KAGGLE)
def test_splits_are_recognized_beside_other_folders(folders: tuple[str, ...]) -> None:
    class_folders = [f"{folder}/{label}" for folder in folders[:3] for label in ("cat", "dog")]
    listing = listing_of(names(*class_folders, f"{folders[3]}"), [])
    counts = Counter((image.split, image.label) for image in listing.candidates)
    assert set(counts) == {
        (split, label) for split in ("train", "validation", "test") for label in ("cat", "dog")
    }
    assert {reason for _, reason in listing.left_out} == {
        "is not in the folder of a split and a class"
    }
    (note,) = listing.notes
    assert note.startswith("The folders are read as splits/classes, with the splits ")
    assert f"{folders[0].partition('/')[0]} (train)" in note


def test_unlabeled_test_images_are_left_out() -> None:
    listing = listing_of(names("train/cat", "train/dog", "test", "sample"), [])
    assert classes(listing.candidates) == {"cat": 10, "dog": 10}
    assert {image.split for image in listing.candidates} == {"train"}
    assert len(listing.left_out) == 20


def test_splits_inside_the_folders_of_the_classes_are_recognized() -> None:
    folders = [f"{label}/{split}" for label in ("cat", "dog") for split in ("Train", "test")]
    listing = listing_of(names(*folders), [])
    counts = Counter((image.split, image.label) for image in listing.candidates)
    assert counts == {(split, label): 10 for split in ("train", "test") for label in ("cat", "dog")}
    assert "classes/splits, with the splits Train (train), test (test)" in listing.notes[0]


@pytest.mark.parametrize(
    "folders",
    [
        ("bus", "car", "train"),
        ("invalid", "valid"),
        ("driving_test", "train_station"),
        ("test", "control"),
        ("bus/train", "bus/tram", "car/van"),
        ("cat/indoor", "cat/outdoor", "dog/outdoor", "dog/show"),
        ("cat/old", "cat/new", "cat", "dog/old", "dog/new"),
        ("class1/a", "class1/b", "class2/c", "class2/d"),
    ],
)
def test_classes_may_have_the_names_of_splits(folders: tuple[str, ...]) -> None:
    listing = listing_of(names(*folders), [])
    assert {image.split for image in listing.candidates} == {None}
    assert {image.label for image in listing.candidates} == {f.split("/")[0] for f in folders}
    assert listing.notes == []


@pytest.mark.parametrize(
    ("folders", "layouts"),
    [
        (("train/cat", "train/dog", "extra"), ("classes", "splits/classes")),
        (("train/freight", "train/passenger", "bus"), ("classes", "splits/classes")),
        (("train_station/day", "train_station/night", "stop"), ("classes", "splits/classes")),
        (("train", "test", "bus"), ("classes", "splits/classes")),
        (("cat/train", "cat/test", "dog"), ("classes", "classes/splits")),
        (("data/train/cat", "data/val/cat", "masks/train/cat"), ("classes", "classes/splits")),
        (("fold1/cat", "fold1/dog", "fold2/cat", "fold2/dog"), ("classes", "parts/classes")),
        (("2019/cat", "2019/dog", "2020/cat", "2020/dog"), ("classes", "parts/classes")),
        (("left/cat", "left/dog", "right/cat", "right/dog"), ("classes", "parts/classes")),
        (
            ("batch_1/cat", "batch_1/dog", "batch_2/cat", "batch_2/dog", "batch_3/dog"),
            ("classes", "parts/classes"),
        ),
    ],
)
def test_folders_that_can_be_read_in_two_ways_are_refused_with_both(
    folders: tuple[str, ...], layouts: tuple[Layout, ...]
) -> None:
    with pytest.raises(Invalid, match="can be read in two ways") as caught:
        listing_of(names(*folders), [])
    assert all(f"'{layout}'" in str(caught.value) for layout in layouts)
    assert {folder.partition("/")[0] for folder in folders} == {
        image.label for image in listing_of(names(*folders), [], "classes").candidates
    }
    others = listing_of(names(*folders), [], layouts[1]).candidates
    if layouts[1] == "parts/classes":
        assert {image.label for image in others} == {"cat", "dog"}
    assert (None in {image.split for image in others}) is (layouts[1] == "parts/classes")


def test_a_folder_that_is_the_same_in_every_split_is_ignored() -> None:
    folders = [f"{split}/images/{label}" for split in ("train", "test") for label in ("cat", "dog")]
    listing = listing_of(names(*folders), [])
    assert classes(listing.candidates) == {"cat": 20, "dog": 20}
    assert {image.split for image in listing.candidates} == {"train", "test"}


def test_a_layout_that_the_folders_do_not_have_is_refused() -> None:
    with pytest.raises(Invalid, match=r"No folder is named as a split .* 'cat', 'dog'"):
        listing_of(names("cat", "dog"), [], "splits/classes")


def test_an_image_beside_the_outer_folder_is_left_out() -> None:
    listing = listing_of([*names("photos/cat", "photos/dog"), "logo.png"], [])
    assert classes(listing.candidates) == {"cat": 10, "dog": 10}
    assert listing.left_out == [("logo.png", "is not in the folder of a class")]


def test_hidden_files_are_ignored_and_other_files_are_left_out() -> None:
    hidden = ["cat/._1.png", ".git/a.png", "__MACOSX/cat/1.png", "cat/Thumbs.db", ".DS_Store"]
    others = ["cat/notes.md", "dog/clip.gif", "logo.png"]
    listing = listing_of([*names("cat", "dog"), *hidden, *others], [("x", "is broken")])
    assert listing.left_out == [
        ("cat/notes.md", "is not a JPEG, PNG, TIFF, BMP or WebP file"),
        ("dog/clip.gif", "is not a JPEG, PNG, TIFF, BMP or WebP file"),
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
