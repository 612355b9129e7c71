"""Captions: their words, and what each of them says."""

import numpy as np
import pytest

from dltlab.data import CAPTION_ATTRIBUTES, CAPTIONS, attributes_of, caption_vectors, read_caption
from dltlab.errors import Invalid


def test_a_label_gives_the_words_of_its_caption():
    for caption, numbers in zip(CAPTIONS, attributes_of(range(len(CAPTIONS))), strict=True):
        words = [
            words[number]
            for words, number in zip(CAPTION_ATTRIBUTES.values(), numbers, strict=True)
        ]
        assert list(read_caption(caption).values()) == words


def test_captions_are_different():
    assert len(set(CAPTIONS)) == len(CAPTIONS) == 240
    assert len(np.unique(caption_vectors(CAPTIONS), axis=0)) == 240


def test_order_capitals_and_punctuation_make_no_difference():
    expected = {"size": "small", "color": "red", "shape": "circle", "place": "left"}
    assert read_caption("At the LEFT: Circle, red; small!") == expected
    assert list(read_caption("left circle red small")) == list(CAPTION_ATTRIBUTES)


def test_attributes_may_be_missing():
    assert read_caption("a circle") == {"shape": "circle"}
    assert read_caption("") == {}
    assert not caption_vectors([""]).any()


def test_a_vector_has_one_entry_for_each_word():
    (vector,) = caption_vectors(["a large cyan cross at the bottom"])
    assert vector.dtype == np.float32
    np.testing.assert_array_equal(np.flatnonzero(vector), [1, 7, 11, 16])


def test_unknown_words_are_named_with_the_known_ones():
    with pytest.raises(Invalid, match=r"'purple', 'dog'.*color red, green.*place center"):
        read_caption("a purple dog at the left, a purple one")


def test_an_attribute_is_given_once():
    with pytest.raises(Invalid, match="'red' and 'blue': give one color"):
        read_caption("a red blue circle")
    assert read_caption("a red red circle")["color"] == "red"
