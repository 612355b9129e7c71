"""Turn the data that `keras.Model.fit` takes into a `tf.data.Dataset`: `Batches`."""

import collections
import itertools
import os
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from dltlab.errors import Invalid

if TYPE_CHECKING:
    import tensorflow as tf

_BATCH_SIZE = 32  # of arrays, as in Keras
_PEEK = 2  # batches, to see which dimensions vary
_AUTOTUNED_CALLS = 16  # at most, that AUTOTUNE stands for without autotuning

Data = Iterable[Any]  # what `Batches.of` takes; tf.data.Dataset and PyDataset are not typed


@dataclass(frozen=True)
class Batches:
    """The data of a training, or of its validation.

    Attributes:
        name: What messages call the data.
        dataset: Batches of inputs, targets and weights, of which the last two may be missing. Each
            iterator reads one epoch, in a new order if the data are shuffled.
        start: The first batches of data that can be read only once.
    """

    name: str
    dataset: "tf.data.Dataset"
    start: Sequence[Any] = ()

    @classmethod
    def of(
        cls, data: Data, name: str, *, batch_size: int | None = None, shuffle: bool = False
    ) -> "Batches":
        """Convert data.

        Args:
            data: A `tf.data.Dataset`, or a `keras.utils.PyDataset`, whose workers run as threads,
                or another iterable of batches, or arrays: `x`, `(x, y)` or `(x, y, weights)`, each
                of which may be a tuple or dict of arrays.
            name: What messages call the data.
            batch_size: The number of examples in a batch of arrays.
            shuffle: Whether to shuffle arrays, and the batches of a `PyDataset`, in each epoch.

        Raises:
            Invalid: The data are empty, or of another kind.
        """
        import tensorflow as tf

        start: list[Any] = []
        if isinstance(data, tf.data.Dataset):
            dataset = data
        elif isinstance(data, keras.utils.PyDataset):
            dataset = _from_py_dataset(data, name, shuffle)
        elif isinstance(data, tuple | dict) or hasattr(data, "shape"):
            dataset = _from_arrays(data, name, batch_size or _BATCH_SIZE, shuffle)
        elif isinstance(data, str | list) or not isinstance(data, Iterable):
            raise Invalid(
                f"The {name} data are a {type(data).__name__}: pass a tf.data.Dataset, a pair of "
                "arrays (x, y), a keras.utils.PyDataset or a generator of batches."
            )
        elif iter(data) is data:
            start = list(itertools.islice(data, _PEEK))
            dataset = _from_generator(lambda: itertools.chain(start, data), start, name)
        else:
            dataset = _from_iterable(data, name)
        return cls(name, _without_autotuning(dataset), start)

    @property
    def is_generator(self) -> bool:
        """Whether the data can be read only once."""
        return bool(self.start)

    @property
    def num_steps(self) -> int | None:
        """The number of batches in an epoch; None if it is not known before the first epoch."""
        return max(int(self.dataset.cardinality()), 0) or None

    def first(self) -> Any:
        """Read the first batch.

        Raises:
            Invalid: There is none.
        """
        import tensorflow as tf

        if self.is_generator:  # a further iterator would consume some of its batches
            return tf.nest.map_structure(tf.convert_to_tensor, _as_batch(self.start[0]))
        batch = next(iter(self.dataset), None)
        if batch is None:
            raise Invalid(f"The {self.name} data are empty.")
        return batch

    def endless(self) -> "tf.data.Dataset":
        """Return epoch after epoch; batches of a generator go on until it ends."""
        import tensorflow as tf

        is_generator = self.is_generator
        return self.dataset.prefetch(tf.data.AUTOTUNE) if is_generator else self.dataset.repeat()

    def require_end(self, fix: str) -> None:
        """Check that the data are known to end.

        Raises:
            Invalid: They have no end, or come from a generator.
        """
        import tensorflow as tf

        if self.is_generator:
            raise Invalid(
                f"The {self.name} data come from a generator, which does not say where an epoch "
                f"ends: {fix}."
            )
        if self.dataset.cardinality() == tf.data.INFINITE_CARDINALITY:
            raise Invalid(f"The {self.name} data have no end: {fix}.")


def with_class_weight(
    dataset: "tf.data.Dataset", class_weight: Mapping[int, float], *, are_class_numbers: bool
) -> "tf.data.Dataset":
    """Give each example the weight of its class; classes that are not named have a weight of 1.

    Args:
        dataset: Batches of inputs and labels.
        class_weight: The weight of each class number.
        are_class_numbers: Whether labels are class numbers, not a value for each class.

    Raises:
        Invalid: A key is no class number, or the batches have weights or several targets.
    """
    import tensorflow as tf

    if not isinstance(class_weight, Mapping):
        raise Invalid(
            f"class_weight is {class_weight!r}; it must be a dict of class numbers and weights."
        )
    for key in class_weight:
        if not isinstance(key, int | np.integer) or key < 0:
            raise Invalid(f"class_weight has the key {key!r}; its keys must be class numbers.")
    spec = dataset.element_spec
    if not (isinstance(spec, tuple) and len(spec) == 2 and isinstance(spec[1], tf.TensorSpec)):
        raise Invalid(
            "class_weight needs batches (x, y) of inputs and one tensor of labels: leave it out, "
            "and give each example a weight, as in (x, y, weights)."
        )
    last = max(class_weight, default=0) + 1  # of all classes that are not named
    weights = tf.constant([class_weight.get(number, 1.0) for number in range(last + 1)], tf.float32)

    def add(inputs: Any, labels: "tf.Tensor") -> Any:
        rank = labels.shape.rank or 1  # None if it is not known
        if rank > 1 and labels.shape[-1] == 1:
            classes = labels[..., 0]
        else:
            is_number = are_class_numbers or rank == 1
            classes = labels if is_number else tf.argmax(labels, axis=-1)
        classes = tf.minimum(tf.cast(classes, tf.int64), last)
        return inputs, labels, tf.gather(weights, classes)

    return dataset.map(add)


def _from_arrays(arrays: Any, name: str, batch_size: int, shuffle: bool) -> "tf.data.Dataset":
    import tensorflow as tf

    if isinstance(arrays, tuple):
        arrays = tuple(part for part in arrays if part is not None)
        if not 0 < len(arrays) <= 3:
            raise Invalid(
                f"The {name} data are a tuple of {len(arrays)}: pass (x, y) or (x, y, weights); "
                "several inputs are one tuple or dict, as in ((a, b), y)."
            )
    with tf.device("CPU:0"):
        tensors = keras.tree.map_structure(
            lambda array: _as_tensor(array, name), keras.tree.lists_to_tuples(arrays)
        )
    lengths = [int(tensor.shape[0]) for tensor in keras.tree.flatten(tensors)]
    if len(set(lengths)) > 1:
        raise Invalid(
            f"The arrays of the {name} data have {', '.join(map(str, lengths))} examples: give "
            "each input a target."
        )
    rows = tf.data.Dataset.range(lengths[0])
    if shuffle and lengths[0]:
        rows = rows.shuffle(lengths[0])
    batches = rows.batch(batch_size).map(
        lambda batch: tf.nest.map_structure(lambda tensor: tf.gather(tensor, batch), tensors),
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    return batches.prefetch(tf.data.AUTOTUNE)


def _without_autotuning(dataset: "tf.data.Dataset") -> "tf.data.Dataset":
    """Return the dataset without autotuning, unless it says otherwise in its options.

    To end an iterator, TensorFlow 2.21 wakes its autotuning thread before it sets the cancellation
    that the thread looks for. On a busy machine, the thread then often sleeps again, as long as the
    iterator has existed, up to a minute (`Model::OptimizeLoop` in core/framework/model.cc). Where
    there are more threads than AUTOTUNE stands for without autotuning, a dataset is not changed.
    """
    import tensorflow as tf

    is_chosen = dataset.options().autotune.enabled is not None
    if is_chosen or (os.cpu_count() or 1) > _AUTOTUNED_CALLS:
        return dataset
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)


def _as_tensor(array: Any, name: str) -> "tf.Tensor | tf.RaggedTensor":
    import tensorflow as tf

    if isinstance(array, tf.RaggedTensor):
        return array
    values = np.asarray(array)
    if values.ndim == 0:
        raise Invalid(
            f"The {name} data contain a {type(array).__name__} where an array is needed: convert "
            "a list with numpy.array, and a sparse matrix to a dense array."
        )
    return tf.convert_to_tensor(values)


def _from_py_dataset(batches: keras.utils.PyDataset, name: str, shuffle: bool) -> "tf.data.Dataset":
    import tensorflow as tf

    num_batches = batches.num_batches
    first = [
        batches[step] for step in range(_PEEK if num_batches is None else min(_PEEK, num_batches))
    ]
    dataset = _from_generator(lambda: _epoch(batches, shuffle), first, name)
    cardinality = tf.data.INFINITE_CARDINALITY if num_batches is None else num_batches
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(cardinality))
    return dataset.prefetch(tf.data.AUTOTUNE)


def _epoch(batches: keras.utils.PyDataset, shuffle: bool) -> Iterator[Any]:
    """Read an epoch of a PyDataset as Keras does: ahead, in random order."""
    batches.on_epoch_begin()
    numbers: Iterable[int] = itertools.count()
    if batches.num_batches is not None:
        numbers = range(batches.num_batches)
        numbers = random.sample(numbers, len(numbers)) if shuffle else numbers
    queue: collections.deque[Future[Any]] = collections.deque()
    with ThreadPoolExecutor(max(1, batches.workers)) as pool:
        for number in numbers:
            queue.append(pool.submit(batches.__getitem__, number))
            if len(queue) > batches.workers:
                yield queue.popleft().result()
        for batch in queue:
            yield batch.result()
    batches.on_epoch_end()


def _from_iterable(batches: Iterable[Any], name: str) -> "tf.data.Dataset":
    import tensorflow as tf

    first = list(itertools.islice(batches, _PEEK))
    dataset = _from_generator(lambda: iter(batches), first, name)
    if isinstance(batches, Sized):
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(len(batches)))
    return dataset.prefetch(tf.data.AUTOTUNE)


def _from_generator(
    read: Callable[[], Iterator[Any]], first: list[Any], name: str
) -> "tf.data.Dataset":
    """Return what the iterators of `read` yield; `first` is how they begin."""
    import tensorflow as tf

    if not first:
        raise Invalid(f"The {name} data are empty.")
    first = [*map(_as_batch, first)]
    if any(len(values.shape) == 0 for values in keras.tree.flatten(first)):
        raise Invalid(
            f"A batch of the {name} data contains single numbers: each input and target of a batch "
            "must be an array; convert lists with numpy.array."
        )
    signature = tf.nest.map_structure(_spec, *first)
    return tf.data.Dataset.from_generator(
        lambda: map(_as_batch, read()), output_signature=signature
    )


def _as_batch(batch: Any) -> Any:
    import tensorflow as tf

    return keras.tree.map_structure(
        lambda values: values if tf.is_tensor(values) else np.asarray(values),
        keras.tree.lists_to_tuples(batch),
    )


def _spec(*values: Any) -> Any:
    """Return the shape and dtype that arrays of several batches share."""
    import tensorflow as tf

    shapes = [tuple(value.shape) for value in values]
    shape = [sizes[0] if len(set(sizes)) == 1 else None for sizes in zip(*shapes, strict=True)]
    shape[:1] = [None] * len(shape[:1])  # the last batch may be smaller
    if isinstance(values[0], tf.RaggedTensor):
        return tf.RaggedTensorSpec(shape, values[0].dtype, values[0].ragged_rank)
    return tf.TensorSpec(shape, values[0].dtype)
