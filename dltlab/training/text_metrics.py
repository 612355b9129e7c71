"""Measure how well a network predicts a text: `bits_per_character`."""

import math

import keras
import numpy as np

from dltlab.errors import Invalid
from dltlab.training.probabilities import ends_in_probabilities

_SYMBOLS_PER_CALL = 2**14


def bits_per_character(model: keras.Model, ids: np.ndarray, *, length: int = 256) -> float:
    """Compute the mean of -log2 of the probability that a network gives to each character.

    This is the cross-entropy in bits: the size of the text per character after ideal compression
    with the network. One bit is 0.6931 nats, the unit of Keras' cross-entropy. The text is read in
    consecutive windows, each with an initial state of zeros, so longer windows give slightly better
    values. Every character counts once, except the first, which nothing predicts.

    Args:
        model: A model from int `(b, length)` to logits or probabilities `(b, length, num_symbols)`.
        ids: The symbol numbers of the text, integers `(n,)`.
        length: The number of symbols in a window.

    Raises:
        Invalid: The text has fewer than two characters, or the length is below 1.
    """
    symbols = np.asarray(ids, np.int32)
    if len(symbols) < 2:
        raise Invalid(f"The text has {len(symbols)} characters; it must have 2 or more.")
    if length < 1:
        raise Invalid(f"length is {length}; it must be 1 or more.")
    num_targets = len(symbols) - 1
    num_windows = math.ceil(num_targets / length)
    # Padding at the end of the last window does not change the outputs before it.
    padded = np.zeros((2, num_windows * length), np.int32)
    padded[0, :num_targets], padded[1, :num_targets] = symbols[:-1], symbols[1:]
    inputs, targets = padded.reshape(2, num_windows, length)
    batch_size = max(1, _SYMBOLS_PER_CALL // length)
    are_probabilities = ends_in_probabilities(model)
    nats: list[np.ndarray] = []
    for first in range(0, num_windows, batch_size):
        outputs = model.predict_on_batch(inputs[first : first + batch_size])
        nats.append(_nats(outputs, targets[first : first + batch_size], are_probabilities))
    return float(np.concatenate(nats)[:num_targets].mean() / math.log(2))


def _nats(outputs: np.ndarray, targets: np.ndarray, are_probabilities: bool) -> np.ndarray:
    """Return -log of the probability of each target, float64 `(n,)`."""
    loss = keras.ops.sparse_categorical_crossentropy(
        targets, outputs.astype(np.float32), from_logits=not are_probabilities
    )
    nats: np.ndarray = keras.ops.convert_to_numpy(loss).astype(np.float64).reshape(-1)
    return nats
