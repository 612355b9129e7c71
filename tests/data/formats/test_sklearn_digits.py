"""The digits that come with scikit-learn, and the images that are held out."""

from typing import Literal

import numpy as np
import pytest
from sklearn.datasets import load_digits

from dltlab.data import arrays, info


def rows(images: np.ndarray) -> set[bytes]:
    return {image.tobytes() for image in images}


def test_digits_are_those_of_scikit_learn_in_their_original_order() -> None:
    images, labels = arrays("digits")
    original = load_digits()
    assert images.shape == (1797, 8, 8, 1)
    assert (images.dtype, labels.dtype) == (np.float32, np.int64)
    assert np.array_equal(images[..., 0] * 16, original.images)
    assert np.array_equal(labels, original.target)


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_arrays_have_the_sizes_of_the_card(split: Literal["train", "test"]) -> None:
    card = info("digits")
    images, labels = arrays("digits", split)
    assert len(images) == len(labels) == card.splits[split].size
    assert (list(images.shape[1:]), str(images.dtype)) == (card.shape, card.dtype)
    assert (images.min(), images.max()) == (0, 1)
    assert sorted(set(labels)) == list(range(len(card.class_names)))


def test_train_and_test_are_disjoint_and_together_all() -> None:
    all_images, train, test = (arrays("digits", split)[0] for split in ("all", "train", "test"))
    assert len(train) + len(test) == len(all_images)
    assert rows(train) | rows(test) == rows(all_images)
    assert not rows(train) & rows(test)


def test_the_held_out_images_never_change_and_are_stratified() -> None:
    images, labels = arrays("digits", "test")
    assert np.bincount(labels).tolist() == [45, 45, 45, 45, 46, 45, 45, 45, 44, 45]
    assert labels[:12].tolist() == [2, 5, 9, 2, 0, 1, 5, 6, 9, 5, 0, 9]
    assert rows(images) < rows(arrays("digits")[0])
