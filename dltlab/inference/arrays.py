"""The arrays that a network takes: check them, fill batches, and make examples."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dltlab.errors import Invalid
from dltlab.inference.backends.base import Arrays
from dltlab.inference.manifest import TensorSpec

_ANY_LENGTH = 64  # taken for an axis of any length


def check_arrays(
    values: Sequence[Any] | Mapping[str, Any], specs: Sequence[TensorSpec], name: str
) -> Arrays:
    """Return inputs as contiguous arrays, after checking that the network takes them.

    Args:
        values: An array for each input, `(n, …)`, as a list or by the names of the inputs.
        specs: The inputs of the network.
        name: The name of the values in error messages.

    Raises:
        Invalid: Their number, shape or dtype is not that of the network's inputs, or there is no
            example.
    """
    if isinstance(values, Mapping):
        values = _in_order(values, specs, name)
    if len(values) != len(specs):
        raise Invalid(
            f"{name} has {len(values)} arrays, and the network takes {len(specs)}: pass one array "
            "for each input."
        )
    arrays = [np.ascontiguousarray(value) for value in values]
    for array, spec in zip(arrays, specs, strict=True):
        _check_array(array, spec, name)
    if len({len(array) for array in arrays}) != 1:
        raise Invalid(
            f"{name} has different numbers of examples for the inputs: pass equally many of each."
        )
    return arrays


def _in_order(values: Mapping[str, Any], specs: Sequence[TensorSpec], name: str) -> list[Any]:
    names = [spec.name for spec in specs]
    if set(values) != set(names):
        raise Invalid(
            f"{name} has the keys {', '.join(map(str, values))}, and the network takes "
            f"{', '.join(names)}: pass one array for each of these."
        )
    return [values[key] for key in names]


def _check_array(array: np.ndarray, spec: TensorSpec, name: str) -> None:
    if array.ndim != len(spec.shape) + 1 or any(
        length not in (None, actual)
        for length, actual in zip(spec.shape, array.shape[1:], strict=True)
    ):
        axes = ", ".join("any" if length is None else str(length) for length in spec.shape)
        raise Invalid(
            f"{name} has the shape {array.shape}, and the network takes (n, {axes}): prepare it as "
            "for training."
        )
    if array.dtype != spec.dtype:
        raise Invalid(
            f"{name} is {array.dtype}, and the network takes {spec.dtype}: convert it with "
            f".astype('{spec.dtype}'), and scale it as for training."
        )
    if not len(array):
        raise Invalid(f"{name} holds no example: pass one or more.")


def pad_batch(array: np.ndarray, batch_size: int) -> np.ndarray:
    """Return a full batch: the examples, then the last one repeated."""
    missing = batch_size - len(array)
    return np.concatenate([array, np.repeat(array[-1:], missing, axis=0)]) if missing else array


def example_inputs(specs: Sequence[TensorSpec], count: int) -> Arrays:
    """Return inputs to time a network on: random floats in [0, 1), or zeros for integers.

    Args:
        specs: The inputs of the network; an axis of any length gets 64.
        count: The number of examples.
    """
    random = np.random.default_rng(0)
    arrays = []
    for spec in specs:
        shape = [count, *(length or _ANY_LENGTH for length in spec.shape)]
        is_float = np.issubdtype(np.dtype(spec.dtype), np.floating)
        arrays.append((random.random(shape) if is_float else np.zeros(shape)).astype(spec.dtype))
    return arrays
