"""Data sets as arrays."""

from functools import cache

import numpy as np

from dltlab.data.card import Card, HoldOut, info
from dltlab.data.fetch import content, is_near, mirror
from dltlab.data.idx import read_idx
from dltlab.errors import LabError

Arrays = tuple[np.ndarray, np.ndarray]


def arrays(name: str, split: str = "all") -> Arrays:
    """The images and labels of a data set.

    `digits` comes with scikit-learn. `mnist` is fetched when it is first asked for, and verified;
    where the mirror folder holds only its test pictures, these are divided and that is said.

    Args:
        name: A data set that has a card.
        split: "train", "test", or "all": both, in their original order.

    Returns:
        float32 images `(n, height, width, 1)` in [0, 1], and int64 labels `(n,)`.

    Raises:
        LabError: There is no such data set or split, or its files cannot be had or are damaged.
    """
    card = info(name)
    if split not in (*card.splits, "all"):
        known = ", ".join([*card.splits, "all"])
        raise LabError(f"The data set '{name}' has no split '{split}'. Its splits are: {known}.")
    if card.format == "sklearn_digits":
        return _divided(_sklearn_digits(), card.hold_out, split)
    if _only_test_is_near(card):
        pictures = _idx(card, "test")
        train, test = (len(_divided(pictures, card.hold_out, part)[1]) for part in card.splits)
        _say_once(
            f"{card.name}: the mirror folder holds only the {train + test:,} test pictures, so "
            f"{train:,} of them train and {test:,} test."
        )
        return _divided(pictures, card.hold_out, split)
    parts = [_idx(card, part) for part in (card.splits if split == "all" else [split])]
    images, labels = zip(*parts, strict=True)
    return np.concatenate(images), np.concatenate(labels)


def _sklearn_digits() -> Arrays:
    from sklearn.datasets import load_digits

    images, labels = load_digits().images, load_digits().target
    return images[..., np.newaxis].astype("float32") / 16, labels.astype("int64")


def _idx(card: Card, name: str) -> Arrays:
    """The pictures of the split `name`, from its two files."""
    split = card.splits[name]  # type: ignore[index]
    images, labels = (
        read_idx(content(card, card.file(file)), f"{file} of the data set '{card.name}'")
        for file in (split.images, split.labels)
    )
    height, width, _ = card.shape
    if images.shape != (split.size, height, width) or labels.shape != (split.size,):
        raise LabError(
            f"The files of '{card.name}' hold images {images.shape} and labels {labels.shape}; its "
            f"card says {(split.size, height, width)} and {(split.size,)}: correct the card."
        )
    return images[..., np.newaxis].astype("float32") / 255, labels.astype("int64")


def _only_test_is_near(card: Card) -> bool:
    """Whether a mirror is to serve, and neither it nor the user's store has the training files."""
    train, test = (
        all(is_near(card, card.file(file)) for file in (split.images, split.labels))
        for split in (card.splits["train"], card.splits["test"])
    )
    return mirror() is not None and test and not train


def _divided(pictures: Arrays, rule: HoldOut, split: str) -> Arrays:
    """The part `split` of `pictures`, stratified by label, each part in its original order."""
    images, labels = pictures
    if split == "all":
        return pictures
    # RandomState's stream is frozen for good; that of newer generators may change between versions.
    shuffled = np.random.RandomState(rule.seed).permutation(len(labels))
    by_label = shuffled[np.argsort(labels[shuffled], kind="stable")]
    test = np.zeros(len(labels), bool)
    test[by_label[:: rule.every]] = True
    chosen = test if split == "test" else ~test
    return images[chosen], labels[chosen]


@cache
def _say_once(sentence: str) -> None:
    print(sentence)  # noqa: T201
