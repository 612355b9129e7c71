"""Images in an .npz file: arrays of a card's names, and what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dltlab import data
from dltlab.errors import Damaged, Invalid
from tests.course_cards import write_card

KEYS = """
shape = {shape}
dtype = "float32"
class_names = ["no", "yes"]
[splits.train]
size = 4
images = "x_train"
labels = "y_train"
[splits.test]
size = 2
images = "x_test"
labels = "y_test"
"""


def write_npz(folder: Path, shape: tuple[int, ...] = (3, 5), **changes: Any) -> dict[str, Any]:
    """Write the data set `marks`; return its arrays."""
    arrays = {
        "x_train": np.arange(4 * np.prod(shape), dtype=np.uint8).reshape(4, *shape),
        "y_train": np.array([0, 1, 1, 0]),
        "x_test": np.full((2, *shape), 255, np.uint8),
        "y_test": np.array([1, 0], np.uint8),
    } | changes
    file = folder / "marks.npz"
    np.savez_compressed(file, **arrays)
    shape_of_card = [*shape, 1] if len(shape) == 2 else list(shape)
    write_card("marks", "npz", file, KEYS.format(shape=shape_of_card))
    return arrays


@pytest.mark.parametrize("shape", [(3, 5), (3, 5, 3)])
def test_images_and_labels_are_the_arrays_of_the_card(
    own_cards: Path, shape: tuple[int, ...]
) -> None:
    arrays = write_npz(own_cards, shape)
    for split in ("train", "test"):
        images, labels = data.arrays("marks", split)
        expected = arrays[f"x_{split}"].reshape(images.shape) / np.float32(255)
        assert np.array_equal(images, expected)
        assert np.array_equal(labels, arrays[f"y_{split}"])
    assert len(data.arrays("marks")[1]) == 6
    image, label = next(iter(data.load("marks", "test", batch_size=2)))
    assert image.shape[1:] == tuple(data.info("marks").shape)
    assert label.numpy().tolist() == [1, 0]


def test_labels_may_be_a_column(own_cards: Path) -> None:
    write_npz(own_cards, y_train=np.array([[0], [1], [1], [0]]))
    assert data.arrays("marks", "train")[1].tolist() == [0, 1, 1, 0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x_train": np.zeros((4, 3, 5))}, "holds images of float64 and labels of int64; images"),
        ({"y_train": np.zeros(4)}, "holds images of uint8 and labels of float64"),
        ({"y_train": np.array([0, 1, 2, 0])}, "has an image with the label 2"),
        ({"y_train": np.array([0, 1])}, r"labels \(2,\); its card says .* correct the card"),
    ],
)
def test_other_arrays_are_refused(own_cards: Path, changes: dict[str, Any], message: str) -> None:
    write_npz(own_cards, **changes)
    with pytest.raises(Invalid, match=message):
        data.arrays("marks", "train")


def test_a_missing_array_is_named_with_those_of_the_file(own_cards: Path) -> None:
    write_npz(own_cards)
    card = own_cards / "marks.toml"
    card.write_text(card.read_text().replace('"x_train"', '"images"'))
    with pytest.raises(Invalid, match=r"no array 'images'; it has: x_train, y_train, x_test"):
        data.arrays("marks", "train")


def test_objects_are_not_unpickled(own_cards: Path) -> None:
    write_npz(own_cards, y_train=np.array([0, 1, None, 0], object))
    with pytest.raises(Damaged, match=r"marks\.npz is not an \.npz file of plain arrays"):
        data.arrays("marks", "train")


def test_another_file_is_damaged(own_cards: Path) -> None:
    write_npz(own_cards)
    (own_cards / "marks.npz").write_bytes(b"PK\x03\x04 no archive")
    write_card("marks", "npz", own_cards / "marks.npz", KEYS.format(shape=[3, 5, 1]))
    with pytest.raises(Damaged, match=r"marks\.npz is not an \.npz file of plain arrays"):
        data.arrays("marks", "train")
