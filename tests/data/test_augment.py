"""Augmentation: what each change does, and that it follows from the seed."""

import numpy as np
import pytest

from dltlab import data
from dltlab.errors import LabError


def changed(**changes: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A batch of 256 digits before and after: images, images, labels, labels."""
    plain = data.load("digits", batch_size=256, seed=1)
    other = data.load("digits", batch_size=256, seed=1, augment=data.augmentation(**changes))
    (before, labels), (after, new_labels) = next(iter(plain)), next(iter(other))
    return before.numpy(), after.numpy(), labels.numpy(), new_labels.numpy()


def test_no_change_changes_nothing() -> None:
    before, after, labels, new_labels = changed()
    assert np.array_equal(before, after)
    assert np.array_equal(labels, new_labels)


def test_about_every_other_image_is_mirrored() -> None:
    before, after, labels, new_labels = changed(flip=True)
    mirrored = (after == before[:, :, ::-1]).all((1, 2, 3))
    assert (mirrored | (after == before).all((1, 2, 3))).all()
    assert 0.3 < mirrored.mean() < 0.7
    assert np.array_equal(labels, new_labels)


def test_each_image_is_shifted_by_whole_pixels_of_its_own() -> None:
    before, after, _, _ = changed(crop=2)
    shifts = set()
    for old, new in zip(before[..., 0], after[..., 0], strict=True):
        fits = [
            (down, right)
            for down in range(-2, 3)
            for right in range(-2, 3)
            if np.array_equal(shifted(old, down, right), inside(new, down, right))
        ]
        assert fits
        shifts.update(fits[:1])
    assert len(shifts) > 20


def shifted(image: np.ndarray, down: int, right: int) -> np.ndarray:
    """The part of `image` that is still to be seen after the shift."""
    height, width = image.shape
    return image[max(0, -down) : height - max(0, down), max(0, -right) : width - max(0, right)]


def inside(image: np.ndarray, down: int, right: int) -> np.ndarray:
    """Where that part is then."""
    return shifted(image, -down, -right)


def test_a_square_of_each_image_becomes_gray() -> None:
    before, after, _, _ = changed(cutout=3)
    gray = (after != before)[..., 0]
    assert (after[..., 0][gray] == 0.5).all()
    assert (gray.sum((1, 2)) <= 16).all()
    assert (gray.sum((1, 2)) >= 4).mean() > 0.95


def test_mixup_blends_images_and_labels_alike() -> None:
    before, after, labels, shares = changed(mixup=1.0)
    assert shares.shape == (256, 10)
    assert np.allclose(shares.sum(1), 1)
    own = shares[np.arange(256), labels]
    assert own.std() > 0.1
    for image, mixed, share in zip(before[:20], after[:20], own[:20], strict=True):
        others = (mixed - share * image) / max(1 - share, 1e-9)
        if share < 0.95 and np.isclose(share, share):
            assert others.min() > -0.1


def test_a_change_follows_from_the_seed_in_every_epoch() -> None:
    augment = data.augmentation(crop=2, flip=True, cutout=2, mixup=0.3)
    one, other = (data.load("digits", batch_size=128, seed=9, augment=augment) for _ in range(2))
    for _ in range(2):
        for (x, y), (u, v) in zip(one, other, strict=True):
            assert np.array_equal(x, u)
            assert np.array_equal(y, v)


def test_no_two_batches_and_no_two_epochs_are_changed_alike() -> None:
    ones = data.load(
        "digits", batch_size=128, shuffle=False, seed=9, augment=data.augmentation(flip=True)
    )
    plain = [x.numpy() for x, _ in data.load("digits", batch_size=128, shuffle=False)]
    patterns = {
        (x.numpy()[:64] == plain[place][:64]).all((1, 2, 3)).tobytes()
        for _ in range(2)
        for place, (x, _) in enumerate(ones)
    }
    assert len(patterns) == 2 * len(plain)


def test_a_function_of_ones_own_serves() -> None:
    dataset = data.load("digits", "test", batch_size=50, augment=lambda x, y: (1 - x, y))
    images, _ = next(iter(dataset))
    assert np.allclose(images, 1 - data.arrays("digits", "test")[0][:50])


def test_the_layers_stand_at_the_head_of_a_model_as_well() -> None:
    import keras

    layers = data.augmentation(crop=1, flip=True, cutout=2).layers(8, 8)
    model = keras.Sequential([keras.Input((8, 8, 1)), *layers])
    images = data.arrays("digits", "test")[0][:32]
    assert np.array_equal(model(images, training=False), images)
    assert not np.array_equal(model(images, training=True), images)


def test_a_negative_value_is_refused() -> None:
    with pytest.raises(LabError, match="crop is -1; it must be 0 or more"):
        data.augmentation(crop=-1)
