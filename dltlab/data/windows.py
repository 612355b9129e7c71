"""Windows of a text, as a network reads it: symbols, and the symbols that follow them."""

from typing import TYPE_CHECKING, Any

import numpy as np

from dltlab.data import pipeline
from dltlab.errors import Invalid

if TYPE_CHECKING:
    import tensorflow as tf

_ONE_WORKER = (0, 1)


def windows(
    ids: np.ndarray, length: int, batch_size: int, *, shuffle: bool, seed: int | None = None
) -> "tf.data.Dataset":
    """Cut a text into windows; the targets are the same windows one symbol later.

    With `shuffle`, the text is cut into as many equal stretches as there are windows in an epoch,
    and a window begins at a random place in each stretch, drawn again in every epoch: so an epoch
    sees every symbol about once, and no two epochs see the same windows. All batches are full; a
    text with fewer windows than `batch_size` gives one batch of all windows.

    Without it, windows follow each other in their order; the last batch may be smaller, and less
    than a window at the end is left out.

    Args:
        ids: The ids of the symbols, integers `(n,)`.
        length: The number of symbols in a window.
        batch_size: The number of windows in a batch.
        shuffle: True for training, False for validation.
        seed: Seed of the places and the order: equal seeds give equal batches, epoch by epoch.
            As everywhere in tf.data, TensorFlow's global seed counts, too, if one is set.

    Returns:
        Pairs of inputs and targets, int32 `(batch_size, length)`.

    Raises:
        Invalid: The text is shorter than a window and the symbol after it, or an argument has a
            value that is not allowed.
    """
    import tensorflow as tf

    symbols = np.asarray(ids, np.int32)
    if length < 1:
        raise Invalid(f"length is {length}; a window must have 1 symbol or more.")
    if len(symbols) <= length:
        raise Invalid(
            f"The text has {len(symbols):,} characters, but a window of {length} and the one "
            f"after it need {length + 1:,}: use a longer text or shorter windows."
        )
    num_windows = (len(symbols) - 1) // length
    pipeline.check_arguments(num_windows, batch_size, seed, _ONE_WORKER)
    batch_size = min(batch_size, num_windows)
    text = tf.constant(symbols)

    def read(starts: "tf.Tensor") -> tuple["tf.Tensor", "tf.Tensor"]:
        window = tf.gather(text, starts[:, tf.newaxis] + tf.range(length + 1, dtype=tf.int64))
        return window[:, :-1], window[:, 1:]

    if not shuffle:
        starts = np.arange(num_windows) * length
        return pipeline.batches(read, starts, batch_size, False, seed, _ONE_WORKER, None)

    num_windows -= num_windows % batch_size
    last_start = len(symbols) - length
    bounds = tf.constant(np.linspace(0, last_start, num_windows + 1).astype(np.int64))

    def draw(stretches: "tf.Tensor", key: "tf.Tensor") -> tuple[Any, Any]:
        low, high = tf.gather(bounds, stretches), tf.gather(bounds, stretches + 1)
        fraction = tf.random.stateless_uniform(tf.shape(stretches), key, dtype=tf.float64)
        offset = tf.cast(fraction * tf.cast(high - low, tf.float64), tf.int64)
        shape = (batch_size, length)
        inputs, targets = read(low + offset)
        return tf.ensure_shape(inputs, shape), tf.ensure_shape(targets, shape)

    return pipeline.batches(
        lambda stretches: (stretches,),
        np.arange(num_windows),
        batch_size,
        True,
        seed,
        _ONE_WORKER,
        draw,
    )
