"""Record every call of a layer while a model runs: `record_layer_calls`."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras


@dataclass(frozen=True)
class LayerCall:
    """One call of a layer.

    Attributes:
        layer: The layer that was called.
        inputs: The tensors among its arguments.
        output: What it returned.
        begin: The number of calls that had ended when this one began. The calls from this place up
            to its own are calls of layers inside it.
        operations: The types of the operations that the layer itself added to TensorFlow's graph,
            without those of layers inside it; empty outside of a graph.
    """

    layer: Any
    inputs: tuple[Any, ...]
    output: Any
    begin: int
    operations: frozenset[str]


@contextmanager
def record_layer_calls() -> Iterator[list[LayerCall]]:
    """Record the calls of all layers inside a `with` block, in the order in which they end.

    Works for every kind of model: sequential, functional, nested and subclassed. Keras has no
    hooks for layers, so the block replaces `keras.layers.Layer.__call__`; do not call layers in
    other threads meanwhile.
    """
    calls: list[LayerCall] = []
    inner_operations: list[Counter[str]] = []  # one counter for each call that has not ended
    original = keras.layers.Layer.__call__

    def call(self: keras.layers.Layer, *args: Any, **kwargs: Any) -> Any:
        begin, num_before = len(calls), len(_graph_operations())
        inner_operations.append(Counter())
        try:
            output = original(self, *args, **kwargs)
        finally:
            inner = inner_operations.pop()
        added = Counter(_graph_operations()[num_before:])
        if inner_operations:
            inner_operations[-1] += added
        arguments = keras.tree.flatten((args, kwargs))
        tensors = tuple(argument for argument in arguments if hasattr(argument, "shape"))
        calls.append(LayerCall(self, tensors, output, begin, frozenset(added - inner)))
        return output

    keras.layers.Layer.__call__ = call
    try:
        yield calls
    finally:
        keras.layers.Layer.__call__ = original


def _graph_operations() -> list[str]:
    """Return the types of all operations in the graph that TensorFlow builds; none if eager."""
    if keras.config.backend() != "tensorflow":
        return []
    import tensorflow as tf

    if tf.executing_eagerly():
        return []
    graph = tf.compat.v1.get_default_graph()
    return [operation.type for operation in graph.get_operations()]
