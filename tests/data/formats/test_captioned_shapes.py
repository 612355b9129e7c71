"""Captioned shapes: reproducible, as their captions say, with captions that are never trained."""

import numpy as np
import pytest

from dltlab import data
from dltlab.data import CAPTION_ATTRIBUTES, CAPTIONS, UNSEEN_CAPTIONS, attributes_of
from dltlab.data import captioned_shapes as draw


@pytest.fixture(scope="module")
def drawn() -> tuple[np.ndarray, np.ndarray]:
    return draw(480, seed=1)


def values(labels: np.ndarray, attribute: str) -> np.ndarray:
    return attributes_of(labels)[:, list(CAPTION_ATTRIBUTES).index(attribute)]


def ink(images: np.ndarray) -> np.ndarray:
    """Which pixels are colored: those whose channels differ."""
    return np.ptp(images.astype(int), axis=-1) > 60


def test_equal_seeds_give_equal_images(drawn):
    again, labels = draw(480, seed=1)
    np.testing.assert_array_equal(again, drawn[0])
    np.testing.assert_array_equal(labels, drawn[1])
    assert not np.array_equal(draw(480, seed=2)[0], drawn[0])


def test_all_captions_are_equally_frequent(drawn):
    images, labels = drawn
    assert images.shape == (480, 32, 32, 3)
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(np.bincount(labels), np.full(240, 2))


def test_shapes_are_where_their_captions_say(drawn):
    images, labels = drawn
    axis = np.arange(32) - 15.5
    x = [(mask.mean(axis=0) / mask.mean() * axis).mean() for mask in ink(images)]
    y = [(mask.mean(axis=1) / mask.mean() * axis).mean() for mask in ink(images)]
    directions = {"left": (-1, 0), "right": (1, 0), "top": (0, -1), "bottom": (0, 1)}
    places = CAPTION_ATTRIBUTES["place"]
    for a, b, place in zip(x, y, values(labels, "place"), strict=True):
        if places[place] == "center":
            assert max(abs(a), abs(b)) < 3
        else:
            right, down = directions[places[place]]
            assert a * right + b * down > 3.5


def test_large_shapes_cover_more(drawn):
    images, labels = drawn
    cover, sizes, shapes = (
        ink(images).sum(axis=(1, 2)),
        values(labels, "size"),
        values(labels, "shape"),
    )
    for shape in range(4):
        small, large = (cover[(shapes == shape) & (sizes == size)] for size in (0, 1))
        assert small.max() < large.min()


def test_colors_are_those_of_the_captions(drawn):
    images, labels = drawn
    for color, channels in {"red": [0], "yellow": [0, 1], "cyan": [1, 2]}.items():
        number = CAPTION_ATTRIBUTES["color"].index(color)
        of_color = images[values(labels, "color") == number]
        mean = of_color[ink(of_color)].mean(axis=0)
        np.testing.assert_array_equal(np.flatnonzero(mean > 128), channels)


def test_training_images_have_no_unseen_caption():
    _, train = data.arrays("captioned_shapes", "train")
    _, test = data.arrays("captioned_shapes", "test")
    assert len(UNSEEN_CAPTIONS) == 24
    assert not set(train.tolist()) & set(UNSEEN_CAPTIONS)
    assert set(train.tolist()) | set(UNSEEN_CAPTIONS) == set(range(240))
    assert set(test.tolist()) == set(range(240))


def test_every_value_is_in_the_training():
    seen = [label for label in range(240) if label not in UNSEEN_CAPTIONS]
    for attribute, words in CAPTION_ATTRIBUTES.items():
        assert set(values(np.array(seen), attribute).tolist()) == set(range(len(words)))


def test_labels_are_captions():
    assert data.info("captioned_shapes").class_names == list(CAPTIONS)
