"""Images of shapes: reproducible, balanced, and not separable by color or single pixels."""

import hashlib
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import RidgeClassifier
from sklearn.neighbors import NearestCentroid

from dltlab.data.formats import shapes as module
from dltlab.data.formats.shapes import CLASS_NAMES, OUTLINES, shapes

Images = tuple[np.ndarray, np.ndarray]


@pytest.fixture(scope="module")
def drawn() -> Images:
    return shapes(1000, seed=0)


def digest(drawn: Images) -> str:
    images, labels = drawn
    return hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()


def accuracy(model: Any, features: np.ndarray, labels: np.ndarray) -> float:
    """Train on three quarters; return the accuracy on the last quarter."""
    num_train = len(labels) * 3 // 4
    model.fit(features[:num_train], labels[:num_train])
    return float(model.score(features[num_train:], labels[num_train:]))


def inside(name: str, size: int = 64) -> np.ndarray:
    """Return which points of the square [-1, 1]² are in a shape, the highest row first."""
    axis = (np.arange(size, dtype=np.float32) + 0.5) * 2 / size - 1
    return OUTLINES[name](axis[np.newaxis, :], -axis[:, np.newaxis]) < 0


def test_images_are_uint8_rgb_and_labels_int64(drawn: Images) -> None:
    images, labels = drawn
    assert (images.shape, labels.shape) == ((1000, 32, 32, 3), (1000,))
    assert (images.dtype, labels.dtype) == (np.uint8, np.int64)
    assert (images.min(), images.max()) == (0, 255)


def test_classes_are_balanced_and_in_random_order(drawn: Images) -> None:
    _, labels = drawn
    assert np.bincount(labels).tolist() == [100] * len(CLASS_NAMES)
    assert np.ptp(np.bincount(shapes(57, seed=0)[1], minlength=len(CLASS_NAMES))) == 1
    assert np.bincount(labels[:500]).min() > 30
    assert np.mean(labels[1:] == labels[:-1]) == pytest.approx(0.1, abs=0.03)


def test_the_same_seed_gives_the_same_images_in_another_process() -> None:
    code = (
        "import hashlib; from dltlab.data.formats.shapes import shapes;"
        "images, labels = shapes(300, 3);"
        "print(hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest())"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert process.stdout.strip() == digest(shapes(300, 3))


def test_images_do_not_depend_on_the_chunk_size(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = digest(shapes(300, 3))
    monkeypatch.setattr(module, "CHUNK_IMAGES", 7)
    assert digest(shapes(300, 3)) == expected


def test_another_seed_gives_other_images_in_another_order(drawn: Images) -> None:
    images, labels = shapes(500, seed=1)
    assert not np.array_equal(labels, shapes(500, seed=0)[1])
    assert not {image.tobytes() for image in images} & {image.tobytes() for image in drawn[0]}


def test_no_two_images_are_similar(drawn: Images) -> None:
    thumbnails = drawn[0].reshape(1000, 8, 4, 8, 4, 3).mean(axis=(2, 4)).reshape(1000, -1)
    squares = (thumbnails**2).sum(axis=1)
    distances = squares[:, np.newaxis] + squares - 2 * thumbnails @ thumbnails.T
    np.fill_diagonal(distances, np.inf)
    assert np.sqrt(distances.min() / thumbnails.shape[1]) > 5  # of 255


@pytest.mark.parametrize("size", [16, 31, 64])
def test_images_may_have_any_size(size: int) -> None:
    images, labels = shapes(20, seed=0, size=size)
    assert images.shape == (20, size, size, 3)
    assert sorted(labels) == sorted([*range(10)] * 2)


def test_zero_images_are_allowed() -> None:
    images, labels = shapes(0, seed=0)
    assert (images.shape, labels.shape) == ((0, 32, 32, 3), (0,))


def test_classes_cannot_be_told_by_color(drawn: Images) -> None:
    images, labels = drawn
    colors = np.concatenate([images.mean(axis=(1, 2)), images.std(axis=(1, 2))], axis=1)
    assert accuracy(NearestCentroid(), colors, labels) < 0.2


@pytest.mark.parametrize("model", [NearestCentroid(), RidgeClassifier(alpha=1e3)])
def test_classes_can_hardly_be_told_by_single_pixels(model: Any, drawn: Images) -> None:
    images, labels = drawn
    assert accuracy(model, images.reshape(1000, -1) / 255, labels) < 0.2


@pytest.mark.parametrize("name", CLASS_NAMES)
def test_a_shape_fits_its_circle_and_is_its_own_mirror_image(name: str) -> None:
    is_inside = inside(name)
    rows, columns = np.nonzero(is_inside)
    assert np.hypot(rows - 31.5, columns - 31.5).max() < 32.5
    assert 0.2 < is_inside.mean() < 0.6
    # Rounding alone may move a point on an edge to one side of it.
    assert np.mean(is_inside != is_inside[:, ::-1]) < 0.005


def test_shapes_with_a_direction_point_upwards() -> None:
    for name, is_wide_below in {"triangle": True, "heart": False, "arrow": False}.items():
        upper, lower = np.split(inside(name), 2)
        assert (lower.sum() > upper.sum()) == is_wide_below
    middle_column = inside("crescent")[:, 31]
    assert middle_column[-20:].any()
    assert not middle_column[:32].any()


def test_any_two_shapes_differ_in_a_good_part_of_their_area() -> None:
    areas = [inside(name) for name in CLASS_NAMES]
    for index, area in enumerate(areas):
        for other in areas[:index]:
            assert (area ^ other).sum() > 0.1 * (area | other).sum()
