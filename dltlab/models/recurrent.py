"""A network that reads a text symbol by symbol and says which one comes next."""

from typing import Literal

import keras
from keras import layers

from dltlab.errors import LabError

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
    """A recurrent network over symbols (A. Karpathy, char-rnn, 2015).

    A vector for each symbol; recurrent layers; logits, float32 under any precision. It takes int32
    `(b, t)` for any t and gives `(b, t, num_symbols)`: at each place the logits of the symbol that
    follows. Each window begins with an empty state. A GPU runs the layers with cuDNN's kernels.

    Args:
        num_symbols: Of the vocabulary.
        cell: Which recurrent layer.
        units: Of each recurrent layer.
        embedding: Components of a symbol's vector.
        num_layers: Recurrent layers.
        dropout: The share of numbers that training sets to 0, before and after each recurrent
            layer.

    Raises:
        LabError: An argument makes no sense.
    """
    _check(num_symbols, cell, units, embedding, num_layers, dropout)
    inputs = keras.Input((None,), dtype="int32")
    x = _dropped(layers.Embedding(num_symbols, embedding)(inputs), dropout)
    for _ in range(num_layers):
        x = _dropped(_CELLS[cell](units, return_sequences=True)(x), dropout)
    return keras.Model(inputs, layers.Dense(num_symbols, dtype="float32")(x), name="char_rnn")


def _dropped(x: keras.KerasTensor, dropout: float) -> keras.KerasTensor:
    return layers.Dropout(dropout)(x) if dropout else x


def _check(
    num_symbols: int, cell: str, units: int, embedding: int, num_layers: int, dropout: float
) -> None:
    """Refuse what no network can be built for.

    Raises:
        LabError: Names the argument.
    """
    sizes = {
        "num_symbols": num_symbols,
        "units": units,
        "embedding": embedding,
        "num_layers": num_layers,
    }
    for name, value in sizes.items():
        if value < 1:
            raise LabError(f"{name} is {value}; it must be 1 or more.")
    if cell not in _CELLS:
        raise LabError(f"cell is '{cell}'; it must be one of {', '.join(_CELLS)}.")
    if not 0 <= dropout < 1:
        raise LabError(f"dropout is {dropout}; it must be a share from 0 to below 1.")
