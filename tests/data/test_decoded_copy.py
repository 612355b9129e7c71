"""A decoded copy on disk: made once, equal to what it copies, complete or not there."""

import os
from pathlib import Path

import numpy as np
import pytest

from dltlab.data import info
from dltlab.data.card import ImageCard
from dltlab.data.decoded_copy import decoded_copy
from dltlab.errors import Unavailable


def digits_card() -> ImageCard:
    card = info("digits")
    assert isinstance(card, ImageCard)
    return card


def copies(store: Path) -> list[str]:
    return [path.name for path in store.glob("digits/[!.]*")]


def test_a_copy_equals_the_images_and_is_mapped(own_store: Path) -> None:
    card = digits_card()
    expected = card.read("test")
    copy = decoded_copy(card, "test")
    assert isinstance(copy.shards[0], np.memmap)
    assert np.array_equal(copy.pixels(), expected.pixels())
    assert np.array_equal(copy.labels, expected.labels)
    assert copy.max_value == 16


def test_a_copy_is_made_once(own_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = digits_card()
    decoded_copy(card, "test")
    monkeypatch.setattr(type(card), "read", None)
    assert len(decoded_copy(card, "test").labels) == 450
    assert len(copies(own_store)) == 1


def test_another_card_has_another_copy(own_store: Path) -> None:
    card = digits_card()
    decoded_copy(card, "test")
    decoded_copy(card.model_copy(update={"version": "2"}), "test")
    assert len(copies(own_store)) == 2


def test_what_a_killed_process_has_left_is_removed(own_store: Path) -> None:
    card = digits_card()
    decoded_copy(card, "test")
    (copy,) = (own_store / "digits").glob("decoded-*")
    unfinished = copy.with_name(f".{copy.name}.abc")
    unfinished.mkdir()
    copy.rename(unfinished / "new")
    decoded_copy(card, "test")
    assert (copies(own_store), unfinished.exists()) == ([copy.name], False)


def test_a_full_disk_is_one_sentence_and_leaves_no_copy(
    own_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(np, "save", fail)
    with pytest.raises(Unavailable, match=r"cannot be written \(No space left on device\)"):
        decoded_copy(digits_card(), "test")
    assert copies(own_store) == []
