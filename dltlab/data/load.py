"""Load data sets as `tf.data` pipelines, as arrays, text, series and molecules."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from dltlab.data import pipeline
from dltlab.data.augment import Augmentation
from dltlab.data.card import ALL, MoleculesCard, SeriesCard, SignalCard, TableCard, TextCard
from dltlab.data.catalog import Dataset, ImageDataset, info
from dltlab.data.decoded_copy import decoded_copy
from dltlab.data.imported import ImportedDataset
from dltlab.data.packed_images import PackedImages
from dltlab.data.padded_molecules import Molecules
from dltlab.data.provenance import set_origin
from dltlab.errors import Invalid, NotFound

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
    shard: pipeline.Shard = (0, 1),
) -> "tf.data.Dataset":
    """Load a data set as a `tf.data.Dataset`.

    An element is an image, float32 `(height, width, channels)` in [0, 1], with its int64 label; or
    the row of a table, float32 `(k,)`, with its label; or a window of a signal, float32
    `(samples,)`, with its label; or a text, a scalar string; or a value of a series, a float32
    scalar, or `(channels,)`; or a molecule: atomic numbers, uint8 `(atoms,)`, padded with 0,
    positions, float32 `(atoms, 3)`, in angstroms, and the energy, a float64 scalar, in hartree.

    Args:
        name: As in "mnist"; "pets" for the newest version of an imported data set, "pets@1" for a
            certain one.
        split: One of the data set's splits, or "all".
        batch_size: The number of elements in a batch; the last batch may be smaller. None: no
            batches.
        shuffle: Whether every epoch has an order of its own; by default only training images,
            rows, windows and molecules do.
        augment: The result of `augmentation`, or a function of a batch of images and labels that
            returns such a batch.
        cache: Where decoded images are kept: in "memory"; on "disk", in a file mapped into memory,
            which processes share; "auto": on disk if they are there already, as imported images
            are, else in memory.
        seed: Seed of the order and the augmentation: equal seeds give equal batches, epoch by
            epoch. As everywhere in tf.data, TensorFlow's global seed counts, too, if one is set.
        shard: The number of this worker and the number of workers. The workers get disjoint shares
            of equal size; up to `count - 1` elements are in no share. The workers' batches of a
            step together are the batch that one worker would have.

    Raises:
        NotFound: There is no such data set or split.
        Invalid: An argument has a value that is not allowed.
        LabError: The files of the data set are not available or damaged.
    """
    dataset = _dataset(name, split)
    if isinstance(dataset, ImageDataset):
        images = _images(dataset, split, cache)
        pipeline.check_arguments(len(images.labels), batch_size, seed, shard)
        element, rows = pipeline.gather(images), images.rows
        change = _change(augment, dataset)
    else:
        if augment:
            raise Invalid(f"augment changes images, but '{name}' holds {dataset.kind}: omit it.")
        columns = _columns(dataset, split)
        num_rows = len(columns[0])
        pipeline.check_arguments(num_rows, batch_size, seed, shard)
        element, rows, change = _take_from(columns), np.arange(num_rows), None
    if shuffle is None:
        kinds = ImageDataset | TableCard | SignalCard | MoleculesCard
        shuffle = split == "train" and isinstance(dataset, kinds)
    batches = pipeline.batches(element, rows, batch_size, shuffle, seed, shard, change)
    set_origin(batches, dataset)
    return batches


def arrays(name: str, split: str = ALL) -> tuple[np.ndarray, np.ndarray]:
    """Load the images, the rows of a table, or the windows of a signal, with their labels.

    `digits` comes with scikit-learn. `mnist` is downloaded when it is used for the first time, and
    verified. Where the mirror folder holds only its test images, these are divided into training
    and test images, and a message says so.

    Args:
        name: A data set of images, or of windows of a signal, or a table.
        split: One of its splits, or "all": one after the other, in their original order.

    Returns:
        float32 images `(n, height, width, channels)` in [0, 1], rows `(n, k)`, or windows
        `(n, samples)`; and int64 labels `(n,)`, or float32 numbers where the labels of a table are
        no classes.

    Raises:
        NotFound: There is no such data set or split.
        Invalid: It holds no images, no table and no windows of a signal.
        LabError: The files of the data set are not available or damaged.
    """
    dataset = _dataset(name, split)
    if isinstance(dataset, TableCard | SignalCard):
        return dataset.read(split)
    if not isinstance(dataset, ImageDataset):
        raise _wrong_kind(dataset, "images")
    images = dataset.read(split)
    return images.pixels().astype(np.float32) / images.max_value, images.labels


def text(name: str, split: str = ALL) -> str:
    """Load the text of a data set, its documents one after the other.

    Raises:
        NotFound: There is no such data set or split.
        Invalid: It does not hold text.
        LabError: The files of the data set are not available or damaged.
    """
    dataset = _dataset(name, split)
    if not isinstance(dataset, TextCard):
        raise _wrong_kind(dataset, "text")
    return "\n\n".join(dataset.read(split))


def series(name: str, split: str = ALL) -> np.ndarray:
    """Load the values of a series, float32 `(n,)`, or `(n, channels)`.

    Raises:
        NotFound: There is no such data set or split.
        Invalid: It does not hold a series.
        LabError: The files of the data set are not available or damaged.
    """
    dataset = _dataset(name, split)
    if not isinstance(dataset, SeriesCard):
        raise _wrong_kind(dataset, "series")
    return dataset.read(split)


def molecules(name: str, split: str = ALL) -> Molecules:
    """Load conformations of molecules with their energies.

    Raises:
        NotFound: There is no such data set or split.
        Invalid: It does not hold molecules.
        LabError: The files of the data set are not available or damaged.
    """
    dataset = _dataset(name, split)
    if not isinstance(dataset, MoleculesCard):
        raise _wrong_kind(dataset, "molecules")
    return dataset.read(split)


def _dataset(name: str, split: str) -> Dataset:
    """Return the data set `name`, which has the split `split`.

    Raises:
        NotFound: There is no such data set or split.
    """
    dataset = info(name)
    splits = [*dataset.split_names, ALL]
    if split not in splits:
        raise NotFound(
            f"The data set '{name}' has no split '{split}'. Its splits are: {', '.join(splits)}."
        )
    return dataset


def _wrong_kind(dataset: Dataset, expected: str) -> Invalid:
    return Invalid(f"The data set '{dataset.name}' holds {dataset.kind}, not {expected}.")


def _images(dataset: ImageDataset, split: str, cache: Cache) -> PackedImages:
    if cache not in get_args(Cache):
        raise Invalid(f"cache is '{cache}'; it must be one of {', '.join(get_args(Cache))}.")
    if isinstance(dataset, ImportedDataset):
        images = dataset.read(split)
        return images.in_memory() if cache == "memory" else images
    return decoded_copy(dataset, split) if cache == "disk" else dataset.read(split)


def _change(augment: pipeline.Augment | None, dataset: ImageDataset) -> Callable[..., Any] | None:
    """Return `augment` as a function of images, labels and a key."""
    if augment is None:
        return None
    if isinstance(augment, Augmentation):
        return augment.change(dataset.shape, len(dataset.class_names))
    return lambda images, labels, key: augment(images, labels)


def _columns(dataset: Dataset, split: str) -> tuple[Any, ...]:
    """Return what the elements of a data set without images consist of, one array for each."""
    if isinstance(dataset, TableCard | SignalCard):
        return dataset.read(split)
    if isinstance(dataset, MoleculesCard):
        content = dataset.read(split)
        return content.numbers, content.positions, content.energies
    assert isinstance(dataset, TextCard | SeriesCard)
    return (dataset.read(split),)


def _take_from(columns: tuple[Any, ...]) -> Callable[["tf.Tensor"], Any]:
    """Return a function that takes given rows of each column; of a single one, not as a tuple."""
    import tensorflow as tf

    tensors = tuple(map(tf.constant, columns))
    structure = tensors if len(tensors) > 1 else tensors[0]
    return lambda rows: tf.nest.map_structure(lambda tensor: tf.gather(tensor, rows), structure)
