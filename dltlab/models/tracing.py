"""Hear every call of a layer while a model runs, however the model is built."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras


@dataclass(frozen=True)
class Call:
    """That a layer ran.

    Attributes:
        layer: Which.
        inputs: The tensors it was given, flat.
        output: What came of it.
        begin: How many calls had ended when it began: those from there on up to its own are calls
            of layers within it.
        operations: The types of the operations that it added to TensorFlow's graph itself, not
            through a layer within it; empty outside of a graph.
    """

    layer: Any
    inputs: tuple[Any, ...]
    output: Any
    begin: int
    operations: frozenset[str]


@contextmanager
def recorded() -> Iterator[list[Call]]:
    """The calls of layers, in the order in which they end."""
    calls: list[Call] = []
    within: list[Counter[str]] = []  # for each call that has not ended, what inner ones have added
    original = keras.layers.Layer.__call__

    def call(self: keras.layers.Layer, *args: Any, **kwargs: Any) -> Any:
        begin, before = len(calls), len(_operations())
        within.append(Counter())
        try:
            output = original(self, *args, **kwargs)
        finally:
            inner = within.pop()
        every = Counter(_operations()[before:])
        if within:
            within[-1] += every
        inputs = [each for each in keras.tree.flatten((args, kwargs)) if hasattr(each, "shape")]
        calls.append(Call(self, tuple(inputs), output, begin, frozenset(every - inner)))
        return output

    # Only so are the layers of nested and of subclassed models heard, too.
    keras.layers.Layer.__call__ = call
    try:
        yield calls
    finally:
        keras.layers.Layer.__call__ = original


def _operations() -> list[str]:
    """The types of all operations in the graph that TensorFlow builds now; none if it does not."""
    if keras.config.backend() != "tensorflow":
        return []
    import tensorflow as tf

    if tf.executing_eagerly():
        return []
    return [each.type for each in tf.compat.v1.get_default_graph().get_operations()]
