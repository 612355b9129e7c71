"""The layers of a Transformer that predicts the next symbol: attention, and the block around it.

A. Vaswani and others, Attention is all you need, 2017, arXiv:1706.03762. The layer normalization
comes before each part, as in GPT-2, and positions are a linear penalty of the distance (O. Press,
N. Smith and M. Lewis, Train short, test long, 2021, arXiv:2108.12409), here with steeper slopes,
since contexts of tens of symbols are shorter than those of the paper.
"""

from typing import Any

import keras
import numpy as np
from keras import layers, ops

EPSILON = 1e-5  # of the layer normalizations
_HIDDEN = 4  # the width of the hidden layer, in widths of the block
_STEEPEST = 4  # the slope of the last head
_EXCLUDED = -1e9  # the score of what may not be seen; the softmax makes it 0

Shape = tuple[int | None, ...]


@keras.saving.register_keras_serializable("dltlab")
class CausalAttention(layers.Layer):  # type: ignore[misc]
    """Scaled dot-product attention of several heads to the present and earlier positions.

    The layer has no weights. The queries are those of the last positions of the keys. Each head
    reads its part of the features and subtracts from a score its slope times the distance. The
    slopes are in equal ratios from 1 / context to 4: the last head looks at what is near. Farther
    than `context` positions, nothing is seen.

    Args:
        heads: The number of heads; it divides the number of features.
        context: The number of positions that are seen, with the present one.
    """

    def __init__(self, heads: int, context: int, **options: Any) -> None:
        super().__init__(**options)
        self.heads, self.context = heads, context

    def call(self, query: Any, key: Any, value: Any, filled: Any = None) -> Any:
        """Return the weighted values.

        Args:
            query: `(b, t, features)`.
            key: `(b, s, features)`, s ≥ t.
            value: `(b, s, features)`.
            filled: 1 for the keys that exist, 0 for the others, `(b, s)`; None: all exist.
        """
        weights = self.attention_weights(query, key, filled)
        mixed = ops.transpose(ops.matmul(weights, self._split(value)), (0, 2, 1, 3))
        return ops.reshape(mixed, (-1, ops.shape(query)[1], query.shape[-1]))

    def attention_weights(self, query: Any, key: Any, filled: Any = None) -> Any:
        """Return the weight of each key for each query, `(b, heads, t, s)`; see `call`."""
        num_queries, num_keys = ops.shape(query)[1], ops.shape(key)[1]
        size = query.shape[-1] // self.heads
        products = ops.matmul(self._split(query), ops.transpose(self._split(key), (0, 1, 3, 2)))
        scores = ops.cast(products, "float32") * size**-0.5 + self._bias(num_queries, num_keys)
        if filled is not None:
            missing = 1.0 - ops.cast(filled, "float32")
            scores += _EXCLUDED * ops.reshape(missing, (-1, 1, 1, num_keys))
        # Keras warns of the softmax of a single number.
        weights = ops.ones_like(scores) if scores.shape[-1] == 1 else ops.softmax(scores)
        return ops.cast(weights, self.compute_dtype)

    def compute_output_shape(self, query_shape: Shape) -> Shape:
        """Return the shape of the query."""
        return query_shape

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the layer."""
        return {**super().get_config(), "heads": self.heads, "context": self.context}

    def _split(self, features: Any) -> Any:
        """Divide features among the heads: `(b, n, features)` to `(b, heads, n, size)`."""
        size = features.shape[-1] // self.heads
        parts = ops.reshape(features, (-1, ops.shape(features)[1], self.heads, size))
        return ops.transpose(parts, (0, 2, 1, 3))

    def _bias(self, num_queries: Any, num_keys: Any) -> Any:
        """Return what is added to the scores, float32 `(heads, num_queries, num_keys)`."""
        queries = ops.arange(num_queries) + (num_keys - num_queries)
        distance = ops.expand_dims(queries, 1) - ops.expand_dims(ops.arange(num_keys), 0)
        is_seen = ops.logical_and(distance >= 0, distance < self.context)
        slopes = np.geomspace(1 / self.context, _STEEPEST, self.heads).reshape(-1, 1, 1)
        penalties = -ops.convert_to_tensor(slopes, "float32") * ops.cast(distance, "float32")
        return ops.where(is_seen, penalties, _EXCLUDED)


class _Block(layers.Layer):  # type: ignore[misc]
    """What a block is made of, for texts and for single symbols."""

    def __init__(self, heads: int, context: int, dropout: float = 0.0, **options: Any) -> None:
        super().__init__(**options)
        self.heads, self.context, self.dropout = heads, context, dropout

    def build(self, x_shape: Shape) -> None:
        """Create the layers, in the order in which they compute."""
        width: Any = x_shape[-1]
        options = {"dtype": self.dtype_policy}
        self.attention_norm = layers.LayerNormalization(epsilon=EPSILON, name="norm_1", **options)
        self.projections = layers.Dense(3 * width, name="projections", **options)
        self.attention = CausalAttention(self.heads, self.context, name="attention", **options)
        self.merging = layers.Dense(width, name="merging", **options)
        self.hidden_norm = layers.LayerNormalization(epsilon=EPSILON, name="norm_2", **options)
        hidden = _HIDDEN * width
        self.hidden = layers.Dense(hidden, activation="relu", name="hidden", **options)
        self.contraction = layers.Dense(width, name="contraction", **options)
        self.dropping = layers.Dropout(self.dropout, name="dropout", **options)
        for layer in (self.attention_norm, self.projections, self.merging, self.hidden_norm):
            layer.build(x_shape)
        self.hidden.build(x_shape)
        self.contraction.build((*x_shape[:-1], hidden))

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the layer."""
        own = {"heads": self.heads, "context": self.context, "dropout": self.dropout}
        return {**super().get_config(), **own}

    def _projected(self, x: Any) -> Any:
        """Return queries, keys and values, each with the shape of x."""
        return ops.split(self.projections(self.attention_norm(x)), 3, axis=-1)

    def _completed(self, x: Any, mixed: Any) -> Any:
        """Add the attention's result to x, then that of the hidden layer."""
        x = x + self.dropping(self.merging(mixed))
        return x + self.dropping(self.contraction(self.hidden(self.hidden_norm(x))))


@keras.saving.register_keras_serializable("dltlab")
class TransformerBlock(_Block):
    """Attention, then a layer that acts on each position alone; each is added to its input.

    Inputs and outputs have the shape `(b, n, features)`. A position is computed from itself and
    those before it.

    Args:
        heads: The number of heads; it divides the number of features.
        context: The number of positions that attention sees, with the present one.
        dropout: The fraction of values that training sets to 0, of what is added.
    """

    def call(self, x: Any) -> Any:
        """Compute all positions."""
        return self._completed(x, self.attention(*self._projected(x)))

    def attention_weights(self, x: Any) -> Any:
        """Return where each position looks, `(b, heads, n, n)`; the block must have been called."""
        query, key, _ = self._projected(x)
        return self.attention.attention_weights(query, key)

    def compute_output_shape(self, x_shape: Shape) -> Shape:
        """Return the shape of x."""
        return x_shape


@keras.saving.register_keras_serializable("dltlab")
class CachedTransformerBlock(_Block):
    """A `TransformerBlock` that computes one position, and keeps keys and values of those before.

    The cache holds the last `context` positions, the newest last. In the beginning, all of it is 0.
    The arguments and the weights are those of `TransformerBlock`.
    """

    def call(self, x: Any, keys: Any, values: Any, filled: Any) -> tuple[Any, Any, Any, Any]:
        """Compute one position.

        Args:
            x: `(b, 1, features)`.
            keys: `(b, context, features)`.
            values: `(b, context, features)`.
            filled: 1 where the cache holds a position, else 0, `(b, context)`.

        Returns:
            The result, with the shape of x, and the new cache.
        """
        query, key, value = self._projected(x)
        keys = ops.concatenate([keys[:, 1:], key], axis=1)
        values = ops.concatenate([values[:, 1:], value], axis=1)
        filled = ops.concatenate([filled[:, 1:], ops.ones_like(filled[:, :1])], axis=1)
        mixed = self.attention(query, keys, values, filled)
        return self._completed(x, mixed), keys, values, filled

    def cache_shapes(self, width: int) -> list[Shape]:
        """Return the shapes of keys, values and `filled`, without the batch."""
        return [(self.context, width), (self.context, width), (self.context,)]

    def compute_output_shape(
        self, x_shape: Shape, keys_shape: Shape, values_shape: Shape, filled_shape: Shape
    ) -> tuple[Shape, Shape, Shape, Shape]:
        """Return the shapes of the arguments."""
        return x_shape, keys_shape, values_shape, filled_shape
