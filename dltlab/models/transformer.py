"""A Transformer that predicts the next symbol of a text: `char_transformer`."""

from typing import Any

import keras
import numpy as np
from keras import layers

from dltlab.errors import Invalid
from dltlab.models.attention import EPSILON, TransformerBlock

_EMBEDDING_DEVIATION = 0.1


def char_transformer(
    num_symbols: int,
    *,
    width: int = 128,
    num_blocks: int = 4,
    heads: int = 4,
    context: int = 64,
    dropout: float = 0.0,
) -> keras.Model:
    """Build a Transformer over symbols, a decoder as GPT-2 is one.

    An embedding, blocks of attention and a layer on each position, a layer normalization, and a
    dense layer. The input is int32 `(b, t)` for any t, the output float32 `(b, t, num_symbols)`: at
    each position the logits of the next symbol. Positions are a linear penalty of the distance
    (arXiv:2108.12409), and each block sees the last `context` positions, so texts may be longer.

    Args:
        num_symbols: The size of the vocabulary.
        width: The number of features of a position.
        num_blocks: The number of blocks.
        heads: The number of heads of each block; it divides the width.
        context: The number of positions that a block sees, with the present one.
        dropout: The fraction of values that training sets to 0, of the embedding and of what a
            block adds.

    Raises:
        Invalid: An argument is out of its range.
    """
    _check(num_symbols, width, num_blocks, heads, context, dropout)
    inputs = keras.Input((None,), dtype="int32")
    start = keras.initializers.RandomNormal(stddev=_EMBEDDING_DEVIATION)
    x = layers.Embedding(num_symbols, width, embeddings_initializer=start)(inputs)
    x = layers.Dropout(dropout)(x) if dropout else x
    for _ in range(num_blocks):
        x = TransformerBlock(heads, context, dropout)(x)
    x = layers.LayerNormalization(epsilon=EPSILON)(x)
    outputs = layers.Dense(num_symbols, dtype="float32")(x)
    return keras.Model(inputs, outputs, name="char_transformer")


def attention_maps(model: keras.Model, ids: np.ndarray) -> np.ndarray:
    """Return where each position of a text looks, in each head of each block.

    Args:
        model: A network of `char_transformer`.
        ids: The ids of the symbols, integers `(n,)`.

    Returns:
        The weights, float32 `(num_blocks, heads, n, n)`: position i looks at position j with the
        weight `[…, i, j]`. Each row adds up to 1, and is 0 for later positions.

    Raises:
        Invalid: The model has no such blocks, the text is empty, or there is no such symbol.
    """
    if not any(isinstance(layer, TransformerBlock) for layer in model.layers):
        raise Invalid(
            f"The model {model.name} has no block of attention: build it with "
            "models.char_transformer."
        )
    symbols = np.asarray(ids)
    if symbols.ndim != 1 or not len(symbols):
        raise Invalid(f"ids has the shape {symbols.shape}; pass the ids of a text, (n,).")
    num_symbols = model.layers[1].input_dim  # of the embedding; layer 0 is the input
    if not 0 <= symbols.min() <= symbols.max() < num_symbols:
        raise Invalid(
            f"ids are from {symbols.min()} to {symbols.max()}: the network has symbols from 0 to "
            f"{num_symbols - 1}."
        )
    x: Any = symbols[np.newaxis].astype(np.int32)
    maps = []
    for layer in model.layers[1:]:
        if isinstance(layer, TransformerBlock):
            maps.append(keras.ops.convert_to_numpy(layer.attention_weights(x))[0])
        x = layer(x, training=False)
    return np.stack(maps).astype(np.float32)


def _check(
    num_symbols: int, width: int, num_blocks: int, heads: int, context: int, dropout: float
) -> None:
    """Raise Invalid for the first argument that is out of its range."""
    sizes = {
        "num_symbols": num_symbols,
        "width": width,
        "num_blocks": num_blocks,
        "heads": heads,
        "context": context,
    }
    for name, value in sizes.items():
        if value < 1:
            raise Invalid(f"{name} is {value}; it must be 1 or more.")
    if width % heads:
        raise Invalid(
            f"width is {width} and heads {heads}: the heads share the features equally, so heads "
            "must divide width."
        )
    if not 0 <= dropout < 1:
        raise Invalid(f"dropout is {dropout}; it must be at least 0 and below 1.")
