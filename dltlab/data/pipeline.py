"""From packed data to batches: shuffled anew each epoch, shared out, augmented, ahead of need."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from dltlab.data.augment import Augmentation
from dltlab.data.read import Images
from dltlab.errors import LabError

if TYPE_CHECKING:
    import tensorflow as tf

Augment = Augmentation | Callable[[Any, Any], tuple[Any, Any]]
_AT_A_TIME = 1024  # elements that are read together where no batches are asked for
_AHEAD, _AHEAD_BYTES = 8, 256_000_000  # batches, and their bytes, that are ready before need
_ALIGNMENT = 64  # bytes; TensorFlow ends the process over an array that begins elsewhere


def batches(
    element: Callable[["tf.Tensor"], Any],
    rows: np.ndarray,
    batch_size: int | None,
    shuffle: bool,
    seed: int | None,
    shard: tuple[int, int],
    change: Callable[..., Any] | None,
) -> "tf.data.Dataset":
    """A data set of the elements in `rows`.

    The order of an epoch is a permutation that only the seed and the number of the epoch decide, so
    every worker computes the same one and takes its share; and what a checkpoint must keep of it is
    a place.

    Args:
        element: The elements in given rows, int64 `(b,)`.
        rows: int64 `(n,)`, in their own order.
        batch_size: How many are in a batch; None: no batches.
        shuffle: Whether each epoch has an order of its own.
        seed: Of the orders and the augmentation.
        shard: The worker's number and the number of workers.
        change: Changes the parts of a batch, given them and a key, int64 `(2,)`, which no other
            batch of any epoch has.
    """
    import tensorflow as tf

    size = batch_size or _AT_A_TIME
    worker, workers = shard
    share = len(rows) // workers
    all_rows = tf.constant(rows)
    full, rest = divmod(share, size)

    def order(epoch_seed: "tf.Tensor") -> "tf.data.Dataset":
        ordered = all_rows
        if shuffle:
            seeds = tf.stack([epoch_seed, tf.zeros_like(epoch_seed)])
            ordered = tf.random.experimental.stateless_shuffle(all_rows, seeds)
        # The workers' batches of one step lie side by side: together they are the batch that a
        # single worker with a batch of that size would have.
        steps = tf.reshape(ordered[: full * workers * size], (full, workers, size))
        keys = tf.range(full + 1, dtype=tf.int64) * workers + worker
        keys = tf.stack([tf.fill([full + 1], epoch_seed), keys], axis=1)
        found = tf.data.Dataset.from_tensor_slices((steps[:, worker], keys[:full]))
        if rest:
            first = full * workers * size + worker * rest
            last = tf.data.Dataset.from_tensors((ordered[first : first + rest], keys[full]))
            found = found.concatenate(last)
        return found

    def read(some: "tf.Tensor", key: "tf.Tensor") -> Any:
        return element(some) if change is None else (element(some), key)

    def augment(batch: Any, key: "tf.Tensor") -> Any:
        assert change is not None
        return change(*batch, key)

    seeds = tf.data.Dataset.random(seed=seed, rerandomize_each_iteration=True).take(1)
    dataset = seeds.flat_map(order).map(read)  # copying is the memory's work, not the cores'
    if change is not None:
        dataset = dataset.map(augment, num_parallel_calls=tf.data.AUTOTUNE)
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(full + bool(rest)))
    if batch_size is None:
        dataset = dataset.unbatch().apply(tf.data.experimental.assert_cardinality(share))
    return dataset.prefetch(_ahead(dataset, size)).with_options(_options(workers))


def _ahead(dataset: "tf.data.Dataset", batch_size: int) -> int:
    """How many batches to have ready: the more, the seldomer one thread waits for the other."""
    import tensorflow as tf

    first = tf.nest.flatten(dataset.element_spec)[0]
    elements = batch_size * math.prod(filter(None, first.shape.as_list()))
    return max(2, min(_AHEAD, _AHEAD_BYTES // int(elements * max(1, first.dtype.size))))


def _options(workers: int) -> "tf.data.Options":
    import tensorflow as tf

    options = tf.data.Options()
    # There is nothing to find out here. To look for it costs 20 ms an epoch, and to rewrite the
    # graph a quarter of a second before the first one.
    options.autotune.enabled = False
    options.experimental_optimization.apply_default_optimizations = False
    # A checkpoint holds places, no batches; with those that are ready at the end of an epoch in it,
    # the next epoch would not go on with its own seed.
    options.experimental_symbolic_checkpoint = True
    if workers > 1:  # or a distribution strategy would share out the share once more
        policy = tf.data.experimental.AutoShardPolicy.OFF
        options.experimental_distribute.auto_shard_policy = policy
    return options


def gather(found: Images) -> Callable[["tf.Tensor"], tuple["tf.Tensor", "tf.Tensor"]]:
    """Reads the images in given rows of all shards: float32 in [0, 1], and int64 labels."""
    import tensorflow as tf

    shards = [_tensor(shard) for shard in found.shards]
    firsts = np.cumsum([0, *(len(shard) for shard in found.shards)])
    by_row = np.zeros(firsts[-1], np.int64)
    by_row[found.rows] = found.labels
    labels = tf.constant(by_row)  # as an array it would be copied into the graph

    def pixels(rows: "tf.Tensor") -> "tf.Tensor":
        if len(shards) == 1:
            return tf.gather(shards[0], rows)
        shard = tf.searchsorted(firsts[1:], rows, side="right")
        parts = tf.dynamic_partition(rows - tf.gather(firsts, shard), shard, len(shards))
        where = tf.dynamic_partition(tf.range(tf.size(rows)), shard, len(shards))
        read = [tf.gather(each, part) for each, part in zip(shards, parts, strict=True)]
        return tf.dynamic_stitch(where, read)

    def read(rows: "tf.Tensor") -> tuple["tf.Tensor", "tf.Tensor"]:
        return tf.cast(pixels(rows), tf.float32) / found.white, tf.gather(labels, rows)

    return read


def _tensor(array: np.ndarray) -> "tf.Tensor":
    """`array` as a tensor: the same memory where TensorFlow can take it.

    So nothing is copied of a mapped file, and its pages are read when they are needed.
    """
    import tensorflow as tf

    if array.ctypes.data % _ALIGNMENT:
        return tf.constant(array)
    return tf.experimental.dlpack.from_dlpack(array.__dlpack__())


def check(num: int, batch_size: int | None, seed: int | None, shard: tuple[int, int]) -> None:
    """Refuse arguments that make no sense.

    Raises:
        LabError: Names the argument.
    """
    if batch_size is not None and batch_size < 1:
        raise LabError(f"batch_size is {batch_size}; it must be 1 or more, or None for no batches.")
    worker, workers = shard
    if not 0 <= worker < workers:
        raise LabError(f"shard is {shard}; it must be (number, count) with 0 <= number < count.")
    if workers > num:
        raise LabError(f"shard is {shard}, but there are only {num} elements to share.")
    if workers > 1 and seed is None:
        raise LabError(
            "Workers need a common seed, or their shares would overlap: pass the same seed to each."
        )
