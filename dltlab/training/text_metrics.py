"""How well a network foresees a text: `bits_per_character`."""

import math

import keras
import numpy as np

from dltlab.errors import LabError
from dltlab.training.probabilities import ends_in_probabilities

_SYMBOLS_AT_A_TIME = 2**14


def bits_per_character(model: keras.Model, ids: np.ndarray, *, length: int = 256) -> float:
    """The mean of -log2 of the probability that a network gives to each character of a text.

    It is what an ideal coder that asks the network would need; one bit is 0.6931 nats, the unit of
    Keras' cross-entropy. The text is read in windows side by side, each from an empty state, so
    that longer windows come out a little better. Every character counts once but the first, which
    nothing foretells.

    Args:
        model: From int `(b, length)` to logits or probabilities `(b, length, num_symbols)`.
        ids: The numbers of the symbols, integers `(n,)`.
        length: Symbols in a window.

    Raises:
        LabError: The text has fewer than two characters, or the length is below 1.
    """
    numbers = np.asarray(ids, np.int32)
    if len(numbers) < 2:
        raise LabError(f"The text has {len(numbers)} characters; to foresee one takes 2 or more.")
    if length < 1:
        raise LabError(f"length is {length}; a window must have 1 symbol or more.")
    num = len(numbers) - 1
    rows = math.ceil(num / length)
    # What the last window lacks stands at its end, where it changes nothing before it.
    padded = np.zeros((2, rows * length), np.int32)
    padded[0, :num], padded[1, :num] = numbers[:-1], numbers[1:]
    inputs, targets = padded.reshape(2, rows, length)
    at_a_time = max(1, _SYMBOLS_AT_A_TIME // length)
    nats: list[np.ndarray] = []
    for first in range(0, rows, at_a_time):
        outputs = model.predict_on_batch(inputs[first : first + at_a_time])
        nats.append(
            _nats(outputs, targets[first : first + at_a_time], ends_in_probabilities(model))
        )
    return float(np.concatenate(nats)[:num].mean() / math.log(2))


def _nats(outputs: np.ndarray, targets: np.ndarray, are_probabilities: bool) -> np.ndarray:
    """-log of the probability of each target, float64 `(n,)`."""
    loss = keras.ops.sparse_categorical_crossentropy(
        targets, outputs.astype(np.float32), from_logits=not are_probabilities
    )
    nats: np.ndarray = keras.ops.convert_to_numpy(loss).astype(np.float64).reshape(-1)
    return nats
