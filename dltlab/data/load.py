"""Data sets as `tf.data` pipelines, as arrays, and as text."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from dltlab.data import pipeline, read
from dltlab.data.augment import Augmentation
from dltlab.data.provenance import used
from dltlab.data.read import ALL
from dltlab.data.store import Manifest, info
from dltlab.errors import LabError

if TYPE_CHECKING:
    import tensorflow as tf

Cache = Literal["auto", "memory", "disk"]


def load(
    name: str,
    split: str = "train",
    *,
    batch_size: int | None = None,
    shuffle: bool | None = None,
    augment: pipeline.Augment | None = None,
    cache: Cache = "auto",
    seed: int | None = None,
    shard: tuple[int, int] = (0, 1),
) -> "tf.data.Dataset":
    """A data set as a `tf.data.Dataset`.

    An element is an image, float32 `(height, width, channels)` in [0, 1], with its int64 label; or
    a text, a scalar string; or a value of a series, a float32 scalar.

    Args:
        name: As in "mnist"; "pets" for the newest version of one's own, "pets@1" for another.
        split: One of the data set's splits, or "all".
        batch_size: How many elements are in a batch, the last one having what is left; None: no
            batches.
        shuffle: Whether every epoch has an order of its own; by default for training images.
        augment: What `augmentation` returns, or a function of a batch of images and labels that
            returns such a batch.
        cache: Where decoded images wait: "memory"; "disk", a file mapped into memory, which
            processes share; "auto" for disk where they lie there already, as imported ones do.
        seed: Of the order and the augmentation: equal seeds give equal batches, epoch by epoch.
            By default TensorFlow's own seed decides.
        shard: The number of this worker and the number of workers. Each gets a share of equal
            size, disjoint from the others'; up to `count - 1` elements are in none. The workers'
            batches of a step together are the batch that one worker would have.

    Raises:
        LabError: There is no such data set or split, its files cannot be had or are damaged, or an
            argument is wrong.
    """
    about = info(name)
    if about.kind != "images":
        return _plain(name, split, batch_size, bool(shuffle), augment, seed, shard)
    if cache not in get_args(Cache):
        raise LabError(f"cache is '{cache}'; it must be one of {', '.join(get_args(Cache))}.")
    found = read.mapped(name, split) if cache == "disk" else read.images(name, split)
    pipeline.check(len(found.labels), batch_size, seed, shard)
    used(about)
    if cache == "memory" and isinstance(about, Manifest):
        found = found.in_memory()
    return pipeline.batches(
        pipeline.gather(found),
        found.rows,
        batch_size,
        split == "train" if shuffle is None else shuffle,
        seed,
        shard,
        _change(augment, about.shape, len(about.classes)),  # type: ignore[union-attr]
    )


def _change(
    augment: pipeline.Augment | None, shape: list[int], num_classes: int
) -> Callable[..., Any] | None:
    """The function of images, labels and a key that `augment` stands for."""
    if augment is None:
        return None
    if isinstance(augment, Augmentation):
        return augment.change(shape, num_classes)
    return lambda images, labels, key: augment(images, labels)


def _plain(
    name: str,
    split: str,
    batch_size: int | None,
    shuffle: bool,
    augment: object,
    seed: int | None,
    shard: tuple[int, int],
) -> "tf.data.Dataset":
    """Texts or values."""
    import tensorflow as tf

    if augment:
        raise LabError(f"augment changes images, and '{name}' holds none: leave it out.")
    about = info(name)
    found = read.texts(name, split) if about.kind == "text" else read.values(name, split)
    pipeline.check(len(found), batch_size, seed, shard)
    used(about)
    column = tf.constant(found)
    return pipeline.batches(
        lambda places: tf.gather(column, places),
        np.arange(len(found)), batch_size, shuffle, seed, shard, None,
    )  # fmt: skip


def arrays(name: str, split: str = ALL) -> tuple[np.ndarray, np.ndarray]:
    """The images and labels of a data set.

    `digits` comes with scikit-learn. `mnist` is fetched when it is first asked for, and verified;
    where the mirror folder holds only its test images, these are divided and that is said.

    Args:
        name: A data set of images.
        split: One of its splits, or "all": one after the other, in their original order.

    Returns:
        float32 images `(n, height, width, channels)` in [0, 1], and int64 labels `(n,)`.

    Raises:
        LabError: There is no such data set or split, or its files cannot be had or are damaged.
    """
    found = read.images(name, split)
    used(info(name))
    return found.pixels().astype(np.float32) / found.white, found.labels


def text(name: str, split: str = ALL) -> str:
    """The text of a data set, its documents one after the other.

    Raises:
        LabError: There is no such data set or split, or its file cannot be had or is damaged.
    """
    found = read.texts(name, split)
    used(info(name))
    return "\n\n".join(found)


def series(name: str, split: str = ALL) -> np.ndarray:
    """The values of a series, float32 `(n,)`.

    Raises:
        LabError: There is no such data set or split.
    """
    found = read.values(name, split)
    used(info(name))
    return found
