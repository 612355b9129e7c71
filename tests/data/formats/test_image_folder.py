"""Image files in an archive: the splits of its folders, or images held out."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dltlab import data
from dltlab.errors import Damaged, Invalid
from tests.archives import write_tar, write_zip
from tests.course_cards import write_card
from tests.image_sources import Files, image_files, pixels_of

KEYS = """
shape = [8, 8, 3]
dtype = "float32"
class_names = ["cat", "dog"]
{more}
[splits.train]
size = {train}
[splits.test]
size = {test}
"""
HOLD_OUT = "hold_out = { every = 5, seed = 1 }"
SPLITS = ("train/cat", "train/dog", "test/cat", "test/dog")


def write_pets(folder: Path, files: Files, more: str = "", train: int = 20, test: int = 20) -> None:
    """Write the data set `photos`."""
    write_zip(folder / "photos.zip", files)
    keys = KEYS.format(more=more, train=train, test=test)
    write_card("photos", "image_folder", folder / "photos.zip", keys)


@pytest.mark.parametrize("write", [write_tar, write_zip])
def test_folders_define_classes_and_splits(
    own_cards: Path, write: Callable[[Path, Files], Path]
) -> None:
    files = dict(reversed(image_files(*SPLITS).items()))
    archive = write(own_cards / "photos.archive", files)
    write_card("photos", "image_folder", archive, KEYS.format(more="", train=20, test=20))
    for split in ("train", "test"):
        images, labels = data.arrays("photos", split)
        names = sorted(name for name in files if name.startswith(split))
        assert np.array_equal((images * 255).round(), [pixels_of(name) for name in names])
        assert labels.tolist() == [0] * 10 + [1] * 10
    assert len(data.load("photos", "all")) == 40


def test_without_folders_of_splits_images_are_held_out(own_cards: Path) -> None:
    write_pets(own_cards, image_files("cat", "dog"), HOLD_OUT, train=16, test=4)
    assert np.bincount(data.arrays("photos", "train")[1]).tolist() == [8, 8]
    assert np.bincount(data.arrays("photos", "test")[1]).tolist() == [2, 2]
    assert len(data.arrays("photos")[1]) == 20


@pytest.mark.parametrize(
    ("folders", "more", "message"),
    [
        (("cat", "dog"), "", r"has no folders of splits, such as train and test: add \[hold_out\]"),
        (("cat", "dog"), HOLD_OUT, "holds 20 images; its card says 40: correct the sizes"),
        (("train/cat", "test/cat"), "", r"hold images \(10, 8, 8, 3\) .* correct the card"),
        ((*SPLITS, "train/emu"), "", "has folders of the classes 'emu', which are not in 'class"),
        (SPLITS, "shape_ = 1", "unknown key 'shape_'"),
        (SPLITS, 'resize = "zoom"', "'resize'"),
        (SPLITS, 'layout = "tree"', "'layout'"),
    ],
)
def test_an_archive_that_is_not_as_its_card_says_is_refused(
    own_cards: Path, folders: tuple[str, ...], more: str, message: str
) -> None:
    write_pets(own_cards, image_files(*folders), more)
    with pytest.raises(Invalid, match=message):
        data.arrays("photos", "train")


def test_the_shape_must_be_square_and_in_color(own_cards: Path) -> None:
    write_pets(own_cards, image_files(*SPLITS))
    card = own_cards / "photos.toml"
    card.write_text(card.read_text().replace("[8, 8, 3]", "[8, 9, 3]"))
    with pytest.raises(Invalid, match="'shape' must be that of a square color image"):
        data.info("photos")


def test_a_damaged_image_is_named(own_cards: Path) -> None:
    write_pets(own_cards, image_files(*SPLITS) | {"train/cat/000.png": b"broken"})
    with pytest.raises(Damaged, match=r"train/cat/000\.png in .* is damaged or not an image"):
        data.arrays("photos", "train")
