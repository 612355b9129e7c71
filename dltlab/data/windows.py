"""Windows of a text as a network reads it: symbols, and the symbols that follow them."""

from typing import TYPE_CHECKING, Any

import numpy as np

from dltlab.data import pipeline
from dltlab.errors import LabError

if TYPE_CHECKING:
    import tensorflow as tf

_WHOLE = (0, 1)  # one worker has it all


def windows(
    ids: np.ndarray, length: int, batch_size: int, *, shuffle: bool, seed: int | None = None
) -> "tf.data.Dataset":
    """Windows of a text, each with itself one symbol further on as what is to be predicted.

    Shuffled, a text is cut into as many equal stretches as there are windows to an epoch, and in
    each a window begins, at a place that every epoch draws anew: so an epoch sees every symbol
    about once, and no two epochs see the same windows. All batches are full; of a text with fewer
    windows than `batch_size`, one batch has them all.

    Otherwise windows stand in their order, side by side; the last batch has what is left, and less
    than a window at the end is left out.

    Args:
        ids: The numbers of the symbols, integers `(n,)`.
        length: Symbols in a window.
        batch_size: Windows in a batch.
        shuffle: As for training, or in order, as for validation.
        seed: Of the places and the order: equal seeds give equal batches, epoch by epoch. By
            default TensorFlow's own seed decides.

    Returns:
        Pairs of inputs and targets, int32 `(batch_size, length)`.

    Raises:
        LabError: The text is shorter than a window and the symbol after it, or an argument makes no
            sense.
    """
    import tensorflow as tf

    numbers = np.asarray(ids, np.int32)
    if length < 1:
        raise LabError(f"length is {length}; a window must have 1 symbol or more.")
    if len(numbers) <= length:
        raise LabError(
            f"The text has {len(numbers):,} characters, and a window of {length} with the one "
            f"after it needs {length + 1:,}: take a longer text or shorter windows."
        )
    num = (len(numbers) - 1) // length
    pipeline.check(num, batch_size, seed, _WHOLE)
    batch_size = min(batch_size, num)
    text = tf.constant(numbers)

    def read(firsts: "tf.Tensor") -> tuple["tf.Tensor", "tf.Tensor"]:
        found = tf.gather(text, firsts[:, tf.newaxis] + tf.range(length + 1, dtype=tf.int64))
        return found[:, :-1], found[:, 1:]

    if not shuffle:
        firsts = np.arange(num) * length
        return pipeline.batches(read, firsts, batch_size, False, seed, _WHOLE, None)

    num -= num % batch_size
    bounds = tf.constant(np.linspace(0, len(numbers) - length, num + 1).astype(np.int64))

    def draw(stretches: "tf.Tensor", key: "tf.Tensor") -> tuple[Any, Any]:
        low, high = tf.gather(bounds, stretches), tf.gather(bounds, stretches + 1)
        share = tf.random.stateless_uniform(tf.shape(stretches), key, dtype=tf.float64)
        place = tf.cast(share * tf.cast(high - low, tf.float64), tf.int64)
        found = read(low + place)
        return tuple(tf.ensure_shape(each, (batch_size, length)) for each in found)

    return pipeline.batches(
        lambda stretches: (stretches,), np.arange(num), batch_size, True, seed, _WHOLE, draw
    )
