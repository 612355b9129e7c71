"""Read a data set into memory, or map it: the images, texts or values of a split."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

import numpy as np

from dltlab.data.card import (
    SPLITS,
    Card,
    CifarCard,
    DigitsCard,
    HoldOut,
    IdxCard,
    ImageCard,
    MackeyGlassCard,
    ShapesCard,
    TextCard,
)
from dltlab.data.cifar import read_cifar
from dltlab.data.fetch import content, is_near
from dltlab.data.idx import read_idx
from dltlab.data.store import Manifest, hidden_folder, info
from dltlab.errors import LabError
from dltlab.paths import data_dir, mirror_dir

ALL = "all"
_TRAIN_SHARE = 0.9  # of the characters of documents that no card divides
Whole = TypeVar("Whole", str, np.ndarray)


@dataclass(frozen=True)
class Images:
    """The images of a split, packed.

    Attributes:
        shards: uint8 arrays `(n, height, width, channels)`, in memory or mapped.
        rows: int64 `(m,)`: which images of all shards together belong to the split.
        labels: int64 `(m,)`: their labels.
        white: The value of the brightest pixel.
    """

    shards: Sequence[np.ndarray]
    rows: np.ndarray
    labels: np.ndarray
    white: int = 255

    @classmethod
    def of(cls, images: np.ndarray, labels: np.ndarray, white: int = 255) -> "Images":
        """All of one array."""
        return cls([images], np.arange(len(labels)), labels.astype(np.int64), white)

    def only(self, chosen: np.ndarray) -> "Images":
        """Those that `chosen` selects, a mask or places in `rows`."""
        return Images(self.shards, self.rows[chosen], self.labels[chosen], self.white)

    def pixels(self) -> np.ndarray:
        """A copy of the images, uint8 `(m, height, width, channels)`."""
        firsts = np.cumsum([0, *(len(shard) for shard in self.shards)])
        pixels = np.empty((len(self.rows), *self.shards[0].shape[1:]), np.uint8)
        for first, shard in zip(firsts, self.shards, strict=False):
            here = (self.rows >= first) & (self.rows < first + len(shard))
            pixels[here] = shard[self.rows[here] - first]
        return pixels

    def in_memory(self) -> "Images":
        """The same, with nothing left to read."""
        return Images.of(self.pixels(), self.labels, self.white)


def splits_of(about: Card | Manifest) -> list[str]:
    """The names of the splits that hold something."""
    if isinstance(about, Card):
        return list(about.splits)
    return [split for split in SPLITS if sum(about.counts[split])]


def images(name: str, split: str) -> Images:
    """The images of a split, or of "all".

    Raises:
        LabError: There are no such images, or their files cannot be had or are damaged.
    """
    about = _about(name, split, "images")
    if isinstance(about, Manifest):
        return _imported(about, split)
    assert isinstance(about, ImageCard)
    if isinstance(about, DigitsCard):
        return _divided(_sklearn_digits(), about.hold_out, split)
    if isinstance(about, IdxCard) and about.hold_out and _only_test_is_near(about):
        found = _idx(about, "test")
        train, test = (len(_divided(found, about.hold_out, part).labels) for part in about.splits)
        _say_once(
            f"{name}: the mirror folder holds only the {train + test:,} test images, so "
            f"{train:,} of them train and {test:,} test."
        )
        return _divided(found, about.hold_out, split)
    if split != ALL:
        return _read(about, split)
    parts = [_read(about, part) for part in about.splits]
    return Images.of(
        np.concatenate([part.shards[0] for part in parts]),
        np.concatenate([part.labels for part in parts]),
    )


def mapped(name: str, split: str) -> Images:
    """The same, mapped into memory from a file that several processes may share.

    Imported images lie in such files. Of others a decoded copy is made once, in the user's store.

    Raises:
        LabError: There are no such images, or the store cannot be written.
    """
    about = _about(name, split, "images")
    if isinstance(about, Manifest):
        return _imported(about, split)
    part = "-of-test" if isinstance(about, IdxCard) and _only_test_is_near(about) else ""
    folder = data_dir() / name / f"decoded-{split}{part}-{about.content_hash[:12]}"
    if not folder.is_dir():
        found = images(name, split)
        with hidden_folder(name) as hidden:
            np.save(hidden / "images.npy", found.pixels())
            np.save(hidden / "labels.npy", found.labels)
            np.save(hidden / "white.npy", found.white)
            if not folder.is_dir():  # another process may have made it meanwhile
                hidden.rename(folder)
    packed = np.load(folder / "images.npy", mmap_mode="c")
    return Images.of(packed, np.load(folder / "labels.npy"), int(np.load(folder / "white.npy")))


def texts(name: str, split: str) -> list[str]:
    """The texts of a split, or of "all", one for each document.

    Raises:
        LabError: There is no such text, or its file cannot be had or is damaged.
    """
    about = _about(name, split, "text")
    assert isinstance(about, Card)
    if isinstance(about, TextCard):
        whole = content(about, about.files[0]).decode()
        return ["".join(_cut(about, whole, split))]
    from dltlab.data.python_docs import python_docs

    documents = [f"{topic}\n\n{text}" for topic, text in python_docs()]
    if split == ALL:
        return documents
    ends = np.cumsum([len(each) for each in documents])
    first = int(np.searchsorted(ends, ends[-1] * _TRAIN_SHARE))
    return documents[:first] if split == "train" else documents[first:]


def values(name: str, split: str) -> np.ndarray:
    """The values of a series' split, or of "all", float32 `(n,)`.

    Raises:
        LabError: There is no such series.
    """
    about = _about(name, split, "series")
    assert isinstance(about, MackeyGlassCard)
    from dltlab.data.mackey_glass import mackey_glass

    total = sum(part.size or 0 for part in about.splits.values())
    return _cut(about, mackey_glass(total, about.seed), split)


def _about(name: str, split: str, kind: str) -> Card | Manifest:
    """What is known of the data set; it has the split and is of the kind.

    Raises:
        LabError: It is not.
    """
    about = info(name)
    known = [*splits_of(about), ALL]
    if split not in known:
        raise LabError(
            f"The data set '{name}' has no split '{split}'. Its splits are: {', '.join(known)}."
        )
    if about.kind != kind:
        raise LabError(f"The data set '{name}' holds {about.kind}, no {kind}.")
    return about


def _imported(found: Manifest, split: str) -> Images:
    try:
        shards = [
            np.load(found.folder / name, mmap_mode="c")
            for name in found.files
            if name.startswith("images-")
        ]
        labels, splits = (np.load(found.folder / f"{name}.npy") for name in ("labels", "splits"))
    except (OSError, ValueError, EOFError) as error:
        raise LabError(
            f"The data set '{found.tag}' is damaged ({error}). Remove it with: dltlab data remove "
            f"{found.tag}, and import the images again."
        ) from error
    images = Images(shards, np.arange(len(labels)), labels)
    return images if split == ALL else images.only(splits == SPLITS.index(split))


def _read(card: ImageCard, split: str) -> Images:
    """The images of a split of their own."""
    if isinstance(card, IdxCard):
        return _idx(card, split)
    if isinstance(card, CifarCard):
        return _as_card_says(card, split, *read_cifar(content(card, card.files[0]), split))
    assert isinstance(card, ShapesCard)
    from dltlab.data.shapes import shapes

    size = card.splits[split].size  # type: ignore[index]
    assert size is not None
    seed = card.seed + list(card.splits).index(split)  # type: ignore[arg-type]
    return _as_card_says(card, split, *shapes(size, seed, card.shape[0]))


def _sklearn_digits() -> Images:
    from sklearn.datasets import load_digits

    found = load_digits()
    return Images.of(found.images[..., np.newaxis].astype(np.uint8), found.target, white=16)


def _idx(card: IdxCard, name: str) -> Images:
    """The images of the split `name`, from its two files."""
    split = card.splits[name]  # type: ignore[index]
    images, labels = (
        read_idx(content(card, card.file(file)), f"{file} of the data set '{card.name}'")
        for file in (split.images, split.labels)
    )
    return _as_card_says(card, name, images[..., np.newaxis], labels)


def _as_card_says(card: ImageCard, name: str, images: np.ndarray, labels: np.ndarray) -> Images:
    size = card.splits[name].size  # type: ignore[index]
    if images.shape != (size, *card.shape) or labels.shape != (size,):
        raise LabError(
            f"The files of '{card.name}' hold images {images.shape} and labels {labels.shape}; its "
            f"card says {(size, *card.shape)} and {(size,)}: correct the card."
        )
    return Images.of(images, labels)


def _only_test_is_near(card: IdxCard) -> bool:
    """Whether a mirror is to serve, and neither it nor the user's store has the training files."""
    train, test = (
        all(is_near(card, card.file(file)) for file in (split.images, split.labels))
        for split in (card.splits["train"], card.splits["test"])
    )
    return mirror_dir() is not None and test and not train


def _divided(found: Images, rule: HoldOut, split: str) -> Images:
    """The part `split` of `found`, stratified by label, each part in its original order."""
    if split == ALL:
        return found
    # RandomState's stream is frozen for good; that of newer generators may change between versions.
    shuffled = np.random.RandomState(rule.seed).permutation(len(found.labels))
    by_label = shuffled[np.argsort(found.labels[shuffled], kind="stable")]
    test = np.zeros(len(found.labels), bool)
    test[by_label[:: rule.every]] = True
    return found.only(test if split == "test" else ~test)


def _cut(card: Card, whole: Whole, split: str) -> Whole:
    """The part `split` of what lies in one piece, in the order of the card's splits."""
    if split == ALL:
        return whole
    first = 0
    for name, each in card.splits.items():
        if name == split:
            return whole[first : first + (each.size or 0)]
        first += each.size or 0
    raise AssertionError(split)


@cache
def _say_once(sentence: str) -> None:
    print(sentence)  # noqa: T201
