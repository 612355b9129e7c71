"""Packed images: selecting, copying and joining rows of several shards."""

import numpy as np

from dltlab.data.packed_images import PackedImages


def numbered(start: int, stop: int) -> np.ndarray:
    """Return images of 1×1 pixel whose value is their number."""
    return np.arange(start, stop, dtype=np.uint8).reshape(-1, 1, 1, 1)


def values(images: PackedImages) -> list[int]:
    return images.pixels().ravel().tolist()


def test_pixels_are_copied_from_the_shard_that_holds_them() -> None:
    shards = [numbered(0, 3), numbered(3, 6), numbered(6, 7)]
    images = PackedImages(shards, np.array([6, 0, 4]), np.array([1, 0, 1]))
    assert values(images) == [6, 0, 4]


def test_a_mask_or_indices_select_images_with_their_labels() -> None:
    images = PackedImages.of(numbered(0, 4), np.array([3, 2, 1, 0]), max_value=16)
    by_mask = images.select(images.labels >= 2)
    assert (values(by_mask), by_mask.labels.tolist()) == ([0, 1], [3, 2])
    by_index = images.select(np.array([3, 0]))
    assert (values(by_index), by_index.labels.tolist()) == ([3, 0], [0, 3])
    assert by_index.max_value == 16


def test_parts_are_joined_in_their_order() -> None:
    train = PackedImages.of(numbered(0, 2), np.array([1, 1]), max_value=16)
    test = PackedImages.of(numbered(5, 8), np.array([0, 1, 0])).select(np.array([2, 0]))
    joined = PackedImages.concatenate([train, test])
    assert (values(joined), joined.labels.tolist()) == ([0, 1, 7, 5], [1, 1, 0, 0])
    assert joined.max_value == 16


def test_a_copy_in_memory_holds_only_the_selected_rows() -> None:
    images = PackedImages([numbered(0, 3), numbered(3, 6)], np.array([5, 1]), np.array([0, 1]))
    copy = images.in_memory()
    assert (values(copy), copy.labels.tolist()) == ([5, 1], [0, 1])
    assert (len(copy.shards), copy.rows.tolist()) == (1, [0, 1])
