"""A recurrent network that predicts the next symbol of a text: `char_rnn`."""

from typing import Literal

import keras
from keras import layers

from dltlab.errors import Invalid

_CELLS = {"lstm": layers.LSTM, "gru": layers.GRU}


def char_rnn(
    num_symbols: int,
    *,
    cell: Literal["lstm", "gru"] = "lstm",
    units: int = 512,
    embedding: int = 128,
    num_layers: int = 1,
    dropout: float = 0.0,
) -> keras.Model:
    """Build a recurrent network over symbols (A. Karpathy, char-rnn, 2015).

    An embedding, recurrent layers, and a dense layer. The input is int32 `(b, t)` for any t, the
    output float32 `(b, t, num_symbols)`: at each position the logits of the next symbol. Every
    window begins with states of zeros. On a GPU the recurrent layers run on cuDNN.

    Args:
        num_symbols: The size of the vocabulary.
        cell: The kind of recurrent layer, "lstm" or "gru".
        units: The size of each recurrent layer.
        embedding: The size of a symbol's vector.
        num_layers: The number of recurrent layers.
        dropout: The fraction of values that training sets to 0, before and after each recurrent
            layer.

    Raises:
        Invalid: An argument is out of its range.
    """
    _check(num_symbols, cell, units, embedding, num_layers, dropout)
    inputs = keras.Input((None,), dtype="int32")
    x = _with_dropout(layers.Embedding(num_symbols, embedding)(inputs), dropout)
    for _ in range(num_layers):
        x = _with_dropout(_CELLS[cell](units, return_sequences=True)(x), dropout)
    return keras.Model(inputs, layers.Dense(num_symbols, dtype="float32")(x), name="char_rnn")


def _with_dropout(x: keras.KerasTensor, dropout: float) -> keras.KerasTensor:
    return layers.Dropout(dropout)(x) if dropout else x


def _check(
    num_symbols: int, cell: str, units: int, embedding: int, num_layers: int, dropout: float
) -> None:
    """Raise Invalid for the first argument that is out of its range."""
    sizes = {
        "num_symbols": num_symbols,
        "units": units,
        "embedding": embedding,
        "num_layers": num_layers,
    }
    for name, value in sizes.items():
        if value < 1:
            raise Invalid(f"{name} is {value}; it must be 1 or more.")
    if cell not in _CELLS:
        raise Invalid(f"cell is '{cell}'; it must be one of {', '.join(_CELLS)}.")
    if not 0 <= dropout < 1:
        raise Invalid(f"dropout is {dropout}; it must be at least 0 and below 1.")
