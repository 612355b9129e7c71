"""Images of shapes: reproducible, balanced, and not to be told by color or by single pixels."""

import hashlib
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import RidgeClassifier
from sklearn.neighbors import NearestCentroid

from dltlab.data.shapes import _OUTLINES, CLASSES, shapes

Images = tuple[np.ndarray, np.ndarray]


@pytest.fixture(scope="module")
def images() -> Images:
    return shapes(1000, seed=0)


def fingerprint(images: Images) -> str:
    images, labels = images
    return hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()


def score(model: Any, features: np.ndarray, labels: np.ndarray) -> float:
    """The accuracy on the last quarter of a model that learnt from the others."""
    cut = len(labels) * 3 // 4
    return float(model.fit(features[:cut], labels[:cut]).score(features[cut:], labels[cut:]))


def area_within(name: str, size: int = 64) -> np.ndarray:
    """Which points of the square from -1 to 1 lie in a shape, the highest row first."""
    axis = (np.arange(size, dtype=np.float32) + 0.5) * 2 / size - 1
    return _OUTLINES[name](axis[np.newaxis, :], -axis[:, np.newaxis]) < 0


def test_images_are_bytes_in_three_channels_and_labels_are_integers(images: Images) -> None:
    images, labels = images
    assert (images.shape, labels.shape) == ((1000, 32, 32, 3), (1000,))
    assert (images.dtype, labels.dtype) == (np.uint8, np.int64)
    assert (images.min(), images.max()) == (0, 255)


def test_every_class_has_its_share_and_the_order_is_random(images: Images) -> None:
    _, labels = images
    assert np.bincount(labels).tolist() == [100] * len(CLASSES)
    assert np.ptp(np.bincount(shapes(57, seed=0)[1], minlength=len(CLASSES))) == 1
    assert np.bincount(labels[:500]).min() > 30
    assert np.mean(labels[1:] == labels[:-1]) == pytest.approx(0.1, abs=0.03)


def test_the_same_seed_gives_the_same_images_in_another_process() -> None:
    code = (
        "import hashlib; from dltlab.data.shapes import shapes; images, labels = shapes(300, 3);"
        "print(hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest())"
    )
    elsewhere = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert elsewhere.stdout.strip() == fingerprint(shapes(300, 3))


def test_no_image_depends_on_how_many_are_drawn_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = fingerprint(shapes(300, 3))
    monkeypatch.setattr(sys.modules["dltlab.data.shapes"], "_CHUNK", 7)
    assert fingerprint(shapes(300, 3)) == usual


def test_another_seed_gives_other_images_and_another_order(images: Images) -> None:
    new_images, labels = shapes(500, seed=1)
    assert not np.array_equal(labels, shapes(500, seed=0)[1])
    assert not {image.tobytes() for image in new_images} & {image.tobytes() for image in images[0]}


def test_no_two_images_are_alike(images: Images) -> None:
    thumbnails = images[0].reshape(1000, 8, 4, 8, 4, 3).mean(axis=(2, 4)).reshape(1000, -1)
    squares = (thumbnails**2).sum(axis=1)
    distances = squares[:, np.newaxis] + squares - 2 * thumbnails @ thumbnails.T
    np.fill_diagonal(distances, np.inf)
    assert np.sqrt(distances.min() / thumbnails.shape[1]) > 5  # of 255


@pytest.mark.parametrize("size", [16, 31, 64])
def test_the_size_is_free(size: int) -> None:
    images, labels = shapes(20, seed=0, size=size)
    assert images.shape == (20, size, size, 3)
    assert sorted(labels) == sorted([*range(10)] * 2)


def test_no_images_are_no_error() -> None:
    images, labels = shapes(0, seed=0)
    assert (images.shape, labels.shape) == ((0, 32, 32, 3), (0,))


def test_color_alone_tells_nothing(images: Images) -> None:
    images, labels = images
    colors = np.concatenate([images.mean(axis=(1, 2)), images.std(axis=(1, 2))], axis=1)
    assert score(NearestCentroid(), colors, labels) < 0.2


@pytest.mark.parametrize("model", [NearestCentroid(), RidgeClassifier(alpha=1e3)])
def test_single_pixels_tell_next_to_nothing(model: Any, images: Images) -> None:
    images, labels = images
    assert score(model, images.reshape(1000, -1) / 255, labels) < 0.2


@pytest.mark.parametrize("name", CLASSES)
def test_a_shape_fits_its_circle_and_is_its_own_mirror_image(name: str) -> None:
    inside = area_within(name)
    rows, columns = np.nonzero(inside)
    assert np.hypot(rows - 31.5, columns - 31.5).max() < 32.5
    assert 0.2 < inside.mean() < 0.6
    # Rounding alone may put a point on an edge to one side of it.
    assert np.mean(inside != inside[:, ::-1]) < 0.005


def test_shapes_that_point_point_upwards() -> None:
    for name, wide_below in {"triangle": True, "heart": False, "arrow": False}.items():
        upper, lower = np.split(area_within(name), 2)
        assert (lower.sum() > upper.sum()) == wide_below
    middle = area_within("crescent")[:, 31]
    assert middle[-20:].any()
    assert not middle[:32].any()


def test_any_two_shapes_differ_on_a_good_part_of_their_area() -> None:
    areas = [area_within(name) for name in CLASSES]
    for i, one in enumerate(areas):
        for other in areas[:i]:
            assert (one ^ other).sum() > 0.1 * (one | other).sum()
