"""From packed data to batches: shuffled each epoch, sharded, augmented and prefetched."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from dltlab.data.augment import Augmentation
from dltlab.data.packed_images import PackedImages
from dltlab.errors import Invalid

if TYPE_CHECKING:
    import tensorflow as tf

Augment = Augmentation | Callable[[Any, Any], tuple[Any, Any]]
Shard = tuple[int, int]  # the number of a worker, and the number of workers
_READ_SIZE = 1024  # elements that are read at once where no batches are asked for
_MAX_PREFETCH, _MAX_PREFETCH_BYTES = 8, 256_000_000  # batches, and their bytes
_ALIGNMENT = 64  # bytes; TensorFlow aborts the process for an array that is not aligned


def batches(
    element: Callable[["tf.Tensor"], Any],
    rows: np.ndarray,
    batch_size: int | None,
    shuffle: bool,
    seed: int | None,
    shard: Shard,
    change: Callable[..., Any] | None,
) -> "tf.data.Dataset":
    """Make a `tf.data.Dataset` of the elements in `rows`.

    The order of an epoch is a permutation that depends on nothing but the seed, TensorFlow's global
    seed and the number of the epoch, so every worker computes the same one and takes its share, and
    a checkpoint only stores a position.

    Args:
        element: Returns the elements in given rows, int64 `(b,)`.
        rows: int64 `(n,)`, in their original order.
        batch_size: The number of elements in a batch; None: no batches.
        shuffle: Whether each epoch has an order of its own.
        seed: Seed of the orders and the augmentation.
        shard: The number of this worker, and the number of workers.
        change: Changes a batch, given its parts and a key, int64 `(2,)`, which is different for
            each batch of each epoch.
    """
    import tensorflow as tf

    size = batch_size or _READ_SIZE
    worker, num_workers = shard
    num_rows = len(rows) // num_workers  # of this worker
    all_rows = tf.constant(rows)
    num_full, rest = divmod(num_rows, size)

    def order(epoch_seed: "tf.Tensor") -> "tf.data.Dataset":
        ordered = all_rows
        if shuffle:
            seeds = tf.stack([epoch_seed, tf.zeros_like(epoch_seed)])
            ordered = tf.random.experimental.stateless_shuffle(all_rows, seeds)
        # The workers' batches of one step are adjacent: together they are the batch that a single
        # worker with a batch of that size would have.
        steps = tf.reshape(ordered[: num_full * num_workers * size], (num_full, num_workers, size))
        keys = tf.range(num_full + 1, dtype=tf.int64) * num_workers + worker
        keys = tf.stack([tf.fill([num_full + 1], epoch_seed), keys], axis=1)
        dataset = tf.data.Dataset.from_tensor_slices((steps[:, worker], keys[:num_full]))
        if rest:
            start = num_full * num_workers * size + worker * rest
            last = tf.data.Dataset.from_tensors((ordered[start : start + rest], keys[num_full]))
            dataset = dataset.concatenate(last)
        return dataset

    def read(batch_rows: "tf.Tensor", key: "tf.Tensor") -> Any:
        return element(batch_rows) if change is None else (element(batch_rows), key)

    def augment(batch: Any, key: "tf.Tensor") -> Any:
        assert change is not None
        return change(*batch, key)

    seeds = tf.data.Dataset.random(seed=seed, rerandomize_each_iteration=True).take(1)
    # Reading is not parallel: copying is limited by the memory, not by the cores.
    dataset = seeds.flat_map(order).map(read)
    if change is not None:
        dataset = dataset.map(augment, num_parallel_calls=tf.data.AUTOTUNE)
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(num_full + bool(rest)))
    if batch_size is None:
        dataset = dataset.unbatch().apply(tf.data.experimental.assert_cardinality(num_rows))
    return dataset.prefetch(_prefetch_size(dataset, size)).with_options(_options(num_workers))


def _prefetch_size(dataset: "tf.data.Dataset", batch_size: int) -> int:
    """Return how many batches to prefetch: with more, threads wait for each other less often."""
    import tensorflow as tf

    spec = tf.nest.flatten(dataset.element_spec)[0]
    num_values = batch_size * math.prod(filter(None, spec.shape.as_list()))
    batch_bytes = int(num_values * max(1, spec.dtype.size))
    return max(2, min(_MAX_PREFETCH, _MAX_PREFETCH_BYTES // batch_bytes))


def _options(num_workers: int) -> "tf.data.Options":
    import tensorflow as tf

    options = tf.data.Options()
    # Neither finds anything to improve here. Autotuning costs 20 ms per epoch, and rewriting the
    # graph a quarter of a second before the first one.
    options.autotune.enabled = False
    options.experimental_optimization.apply_default_optimizations = False
    # A checkpoint then stores positions, not batches; with prefetched batches in it, the next epoch
    # would not continue with its own seed.
    options.experimental_symbolic_checkpoint = True
    if num_workers > 1:  # or a distribution strategy would shard the worker's share again
        policy = tf.data.experimental.AutoShardPolicy.OFF
        options.experimental_distribute.auto_shard_policy = policy
    return options


def gather(images: PackedImages) -> Callable[["tf.Tensor"], tuple["tf.Tensor", "tf.Tensor"]]:
    """Return a function that reads given rows of all shards.

    It returns images, float32 in [0, 1], and int64 labels.
    """
    import tensorflow as tf

    shards = [as_tensor(shard) for shard in images.shards]
    starts = np.cumsum([0, *(len(shard) for shard in images.shards)])
    labels_by_row = np.zeros(starts[-1], np.int64)
    labels_by_row[images.rows] = images.labels
    labels = tf.constant(labels_by_row)  # an array would be copied into the graph

    def pixels(rows: "tf.Tensor") -> "tf.Tensor":
        if len(shards) == 1:
            return tf.gather(shards[0], rows)
        shard = tf.searchsorted(starts[1:], rows, side="right")
        rows_by_shard = tf.dynamic_partition(rows - tf.gather(starts, shard), shard, len(shards))
        positions = tf.dynamic_partition(tf.range(tf.size(rows)), shard, len(shards))
        parts = [
            tf.gather(shard, shard_rows)
            for shard, shard_rows in zip(shards, rows_by_shard, strict=True)
        ]
        return tf.dynamic_stitch(positions, parts)

    def read(rows: "tf.Tensor") -> tuple["tf.Tensor", "tf.Tensor"]:
        return tf.cast(pixels(rows), tf.float32) / images.max_value, tf.gather(labels, rows)

    return read


def as_tensor(array: np.ndarray) -> "tf.Tensor":
    """Return `array` as a tensor that shares its memory.

    So a mapped file is not copied, and its pages are read when they are needed. An array that is
    not aligned, or that may not be written, is copied.
    """
    import tensorflow as tf

    if array.ctypes.data % _ALIGNMENT or not array.flags.writeable:  # DLPack has no read-only flag
        return tf.constant(array)
    return tf.experimental.dlpack.from_dlpack(array.__dlpack__())


def inputs_of(dataset: "tf.data.Dataset") -> "list[tf.data.Dataset]":
    """Return the data sets that `dataset` was directly made from, by `map`, `zip` and the like."""
    return list(dataset._inputs())


def check_arguments(num: int, batch_size: int | None, seed: int | None, shard: Shard) -> None:
    """Check the arguments of a pipeline of `num` elements.

    Raises:
        Invalid: An argument has a value that is not allowed; the message names it.
    """
    if batch_size is not None and batch_size < 1:
        raise Invalid(f"batch_size is {batch_size}; it must be 1 or more, or None for no batches.")
    worker, num_workers = shard
    if not 0 <= worker < num_workers:
        raise Invalid(f"shard is {shard}; it must be (number, count) with 0 <= number < count.")
    if num_workers > num:
        raise Invalid(f"shard is {shard}, but there are only {num} elements to share.")
    if num_workers > 1 and seed is None:
        raise Invalid(
            "Workers need a common seed, or their shares would overlap: pass the same seed to each."
        )
