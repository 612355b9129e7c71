"""Which folders are named as splits, and what the folders of images mean."""

import pytest

from dltlab.data.importing.layout import FolderMeaning, Folders, meaning_of, split_of


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train", "train"),
        ("Training Set", "train"),
        ("trainImages", "train"),
        ("seg_train", "train"),
        ("TRAIN2017", "train"),
        ("val", "validation"),
        ("dev-images", "validation"),
        ("evaluation", None),
        ("testset", "test"),
        ("XTest", "test"),
        ("contest", None),
        ("trains", None),
        ("latest", None),
        ("train_test", None),
        ("images", None),
        ("", None),
    ],
)
def test_a_name_mentions_a_split_as_a_word(name: str, split: str | None) -> None:
    assert split_of(name) == split


def test_the_folders_of_splits_are_around_those_of_classes_or_inside() -> None:
    outside = meaning_of([("train", "cat"), ("test", "cat"), ("more",)], None)
    assert outside == FolderMeaning("splits/classes", {"test": "test", "train": "train"})
    assert outside.of(("train", "cat", "old")) == ("cat", "train")
    assert outside.of(("more", "cat")) == outside.of(("train",)) == outside.of(()) == (None, None)
    inside = meaning_of([("cat", "train"), ("cat", "test")], None)
    assert inside == FolderMeaning("classes/splits", {"test": "test", "train": "train"})
    assert inside.of(("cat", "train", "old")) == ("cat", "train")
    assert inside.of(("cat", "other")) == (None, None)


def test_other_folders_are_classes() -> None:
    folders: list[Folders] = [("cat",), ("dog", "old"), ()]
    meaning = meaning_of(folders, None)
    assert [meaning.of(path) for path in folders] == [("cat", None), ("dog", None), (None, None)]


@pytest.mark.parametrize(
    ("folders", "is_obvious"), [(("train", "Test"), True), (("seg_train", "seg_test"), False)]
)
def test_the_names_of_the_splits_themselves_are_obvious(
    folders: tuple[str, ...], is_obvious: bool
) -> None:
    assert meaning_of([(folder, "cat") for folder in folders], None).is_obvious is is_obvious
