"""Augmentation: what each change does, and that it depends on nothing but the seed."""

from typing import Any

import keras
import numpy as np
import pytest

from dltlab import data
from dltlab.errors import Invalid


def augmented(**changes: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return 256 digits before and after: images, images, labels, labels."""
    plain = data.load("digits", batch_size=256, seed=1)
    changed = data.load("digits", batch_size=256, seed=1, augment=data.augmentation(**changes))
    (before, labels), (after, new_labels) = next(iter(plain)), next(iter(changed))
    return before.numpy(), after.numpy(), labels.numpy(), new_labels.numpy()


def overlap(image: np.ndarray, down: int, right: int) -> np.ndarray:
    """Return the part of an image that is still inside after a shift."""
    height, width = image.shape
    return image[max(0, -down) : height - max(0, down), max(0, -right) : width - max(0, right)]


def test_no_change_keeps_images_and_labels() -> None:
    before, after, labels, new_labels = augmented()
    assert np.array_equal(before, after)
    assert np.array_equal(labels, new_labels)


def test_flip_mirrors_about_half_of_the_images() -> None:
    before, after, labels, new_labels = augmented(flip=True)
    is_mirrored = (after == before[:, :, ::-1]).all((1, 2, 3))
    assert (is_mirrored | (after == before).all((1, 2, 3))).all()
    assert 0.3 < is_mirrored.mean() < 0.7
    assert np.array_equal(labels, new_labels)


def test_crop_shifts_each_image_by_its_own_number_of_pixels() -> None:
    before, after, _, _ = augmented(crop=2)
    shifts = set()
    for old, new in zip(before[..., 0], after[..., 0], strict=True):
        possible = [
            (down, right)
            for down in range(-2, 3)
            for right in range(-2, 3)
            if np.array_equal(overlap(old, down, right), overlap(new, -down, -right))
        ]
        assert possible
        shifts.add(possible[0])
    assert len(shifts) > 20


def test_cutout_fills_a_square_of_each_image_with_gray() -> None:
    before, after, _, _ = augmented(cutout=3)
    is_changed = (after != before)[..., 0]
    assert (after[..., 0][is_changed] == 0.5).all()
    assert (is_changed.sum((1, 2)) <= 16).all()
    assert (is_changed.sum((1, 2)) >= 4).mean() > 0.95


def test_mixup_blends_images_and_labels_with_the_same_weight() -> None:
    before, after, labels, probabilities = augmented(mixup=1.0)
    assert probabilities.shape == (256, 10)
    assert np.allclose(probabilities.sum(1), 1)
    weights = probabilities[np.arange(256), labels]
    assert weights.std() > 0.1
    for image, blended, weight in zip(before[:20], after[:20], weights[:20], strict=True):
        if weight < 0.95:
            other_image = (blended - weight * image) / (1 - weight)
            assert other_image.min() > -0.1


def test_equal_seeds_give_equal_changes_in_every_epoch() -> None:
    augment = data.augmentation(crop=2, flip=True, cutout=2, mixup=0.3)
    first, second = (data.load("digits", batch_size=128, seed=9, augment=augment) for _ in "12")
    for _ in range(2):
        for (images, labels), (same_images, same_labels) in zip(first, second, strict=True):
            assert np.array_equal(images, same_images)
            assert np.array_equal(labels, same_labels)


def test_no_two_batches_and_no_two_epochs_are_changed_in_the_same_way() -> None:
    flipped = data.load(
        "digits", batch_size=128, shuffle=False, seed=9, augment=data.augmentation(flip=True)
    )
    plain = [images.numpy() for images, _ in data.load("digits", batch_size=128, shuffle=False)]
    patterns = {
        (images.numpy()[:64] == plain[index][:64]).all((1, 2, 3)).tobytes()
        for _ in range(2)
        for index, (images, _) in enumerate(flipped)
    }
    assert len(patterns) == 2 * len(plain)


def test_a_function_can_augment() -> None:
    dataset = data.load("digits", "test", batch_size=50, augment=lambda x, y: (1 - x, y))
    images, _ = next(iter(dataset))
    assert np.allclose(images, 1 - data.arrays("digits", "test")[0][:50])


def test_the_layers_can_be_the_first_layers_of_a_model() -> None:
    layers = data.augmentation(crop=1, flip=True, cutout=2).layers(8, 8)
    model = keras.Sequential([keras.Input((8, 8, 1)), *layers])
    images = data.arrays("digits", "test")[0][:32]
    assert np.array_equal(model(images, training=False), images)
    assert not np.array_equal(model(images, training=True), images)


def test_a_negative_value_is_refused() -> None:
    with pytest.raises(Invalid, match="crop is -1; it must be 0 or more"):
        data.augmentation(crop=-1)
