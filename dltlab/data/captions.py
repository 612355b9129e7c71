"""Captions such as "a small red circle at the left": their words, and what each of them says."""

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from dltlab.errors import Invalid

# The words of a caption, by what they describe.
CAPTION_ATTRIBUTES: Mapping[str, tuple[str, ...]] = {
    "size": ("small", "large"),
    "color": ("red", "green", "blue", "yellow", "magenta", "cyan"),
    "shape": ("circle", "square", "triangle", "cross"),
    "place": ("center", "left", "right", "top", "bottom"),
}

# All captions: a label of the data set `captioned_shapes` is an index into this tuple.
CAPTIONS: tuple[str, ...] = tuple(
    f"a {size} {color} {shape} {'in' if place == 'center' else 'at'} the {place}"
    for size, color, shape, place in itertools.product(*CAPTION_ATTRIBUTES.values())
)

_COUNTS = tuple(map(len, CAPTION_ATTRIBUTES.values()))
_WORDS = {
    word: (attribute, number)
    for number, (attribute, word) in enumerate(
        (attribute, word) for attribute, words in CAPTION_ATTRIBUTES.items() for word in words
    )
}
_WITHOUT_MEANING = {"a", "an", "and", "at", "in", "of", "on", "please", "the", "to"}


def attributes_of(labels: Sequence[int] | np.ndarray) -> np.ndarray:
    """Return what captions say, as numbers.

    Args:
        labels: Indices into `CAPTIONS`, `(n,)`.

    Returns:
        int64 `(n, 4)`: for each caption the place of its size, color, shape and place in
        `CAPTION_ATTRIBUTES`.
    """
    return np.stack(np.unravel_index(np.asarray(labels, np.int64), _COUNTS), axis=1)


def read_caption(text: str) -> dict[str, str]:
    """Return the attributes that a caption gives, in the order of `CAPTION_ATTRIBUTES`.

    The order of the words, capitals and punctuation make no difference, and words such as "a", "at"
    and "the" are ignored. Attributes may be missing.

    Args:
        text: As in "A small red circle, at the left".

    Returns:
        The word for each attribute that is given.

    Raises:
        Invalid: A word is unknown, or an attribute is given twice.
    """
    words = [word for word in re.findall(r"[^\W_]+", text.lower()) if word not in _WITHOUT_MEANING]
    unknown = list(dict.fromkeys(word for word in words if word not in _WORDS))
    if unknown:
        raise Invalid(f"Unknown: {_listed(unknown)}. These words are known: {known_words()}.")
    given: dict[str, str] = {}
    for word in words:
        attribute = _WORDS[word][0]
        if given.setdefault(attribute, word) != word:
            raise Invalid(f"'{given[attribute]}' and '{word}': give one {attribute}.")
    return {attribute: given[attribute] for attribute in CAPTION_ATTRIBUTES if attribute in given}


def caption_vectors(captions: Iterable[str]) -> np.ndarray:
    """Return captions as vectors of zeros and ones, one entry for each known word.

    A caption without known words is all zeros.

    Returns:
        float32 `(n, 17)`; the words are in the order of `CAPTION_ATTRIBUTES`.

    Raises:
        Invalid: A word is unknown, or an attribute is given twice.
    """
    rows = [[_WORDS[word][1] for word in read_caption(text).values()] for text in captions]
    vectors = np.zeros((len(rows), len(_WORDS)), np.float32)
    for vector, numbers in zip(vectors, rows, strict=True):
        vector[numbers] = 1
    return vectors


def known_words() -> str:
    """Return the words that a caption may have, by attribute, in one line."""
    return "; ".join(
        f"{attribute} {', '.join(words)}" for attribute, words in CAPTION_ATTRIBUTES.items()
    )


def _listed(words: Sequence[str]) -> str:
    return ", ".join(f"'{word}'" for word in words)
