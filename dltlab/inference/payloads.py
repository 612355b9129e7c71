"""The bodies of requests and answers, in JSON and in NumPy's `.npy` format."""

import io
import json
import tokenize
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from dltlab.errors import Invalid
from dltlab.inference.backends.base import Arrays
from dltlab.inference.manifest import TensorSpec


def read_json(body: bytes, specs: Sequence[TensorSpec]) -> Arrays:
    """Return the arrays of `{"inputs": [...]}`, in the dtypes of the network's inputs.

    Raises:
        Invalid: The body is not of that form, or a number changes by more than rounding.
    """
    try:
        inputs = json.loads(body)["inputs"]
    except (ValueError, RecursionError):
        raise Invalid("The body is not valid JSON.") from None
    except (KeyError, TypeError):
        raise Invalid('The body has no "inputs": send {"inputs": [...]}, an array.') from None
    if len(specs) == 1:
        return [_array(inputs, specs[0])]
    if not isinstance(inputs, list) or len(inputs) != len(specs):
        raise Invalid(f'"inputs" must be a list of {len(specs)} arrays, one for each input.')
    return [_array(values, spec) for values, spec in zip(inputs, specs, strict=True)]


def read_npy(body: bytes) -> np.ndarray:
    """Return the array of a `.npy` body, without running code in it.

    Raises:
        Invalid: The body is something else, or is longer than its array.
    """
    stream = io.BytesIO(body)
    try:
        with warnings.catch_warnings(action="ignore"):  # about files of Python 2
            array = np.lib.format.read_array(stream, allow_pickle=False)
    except (
        ValueError, TypeError, OverflowError, RecursionError, MemoryError,
        SyntaxError, tokenize.TokenError,
    ):  # fmt: skip
        raise Invalid("The body is not a .npy array as numpy.save writes it.") from None
    if stream.read(1):
        raise Invalid("The body continues after its array: send one array.")
    return array


def to_json(outputs: Arrays) -> dict[str, Any]:
    """Return `{"outputs": [...]}`: an array, or a list of them for several outputs.

    Raises:
        Invalid: An output contains NaN or infinity, which JSON does not have.
    """
    if not all(np.isfinite(output).all() for output in outputs):
        raise Invalid(
            "The answer contains NaN or infinity, which JSON does not have: accept "
            "application/x-npy instead."
        )
    values = [output.tolist() for output in outputs]
    return {"outputs": values[0] if len(values) == 1 else values}


def to_npy(outputs: Arrays) -> bytes:
    """Return the output as a `.npy` file.

    Raises:
        Invalid: There are several outputs.
    """
    if len(outputs) > 1:
        raise Invalid(
            f"The network has {len(outputs)} outputs, and .npy holds one array: accept JSON."
        )
    stream = io.BytesIO()
    np.save(stream, outputs[0])
    return stream.getvalue()


def _array(values: Any, spec: TensorSpec) -> np.ndarray:
    """Return JSON numbers in the dtype of an input; only rounding may change them."""
    try:
        with np.errstate(all="ignore"):
            numbers = np.asarray(values)
            if numbers.dtype.kind not in "biuf":
                raise Invalid('"inputs" is not an array of numbers.')
            array = numbers.astype(spec.dtype)
    except (ValueError, OverflowError):
        raise Invalid('"inputs" is not an array: its rows differ in length.') from None
    if array.dtype.kind in "biu" and not np.array_equal(array, numbers):
        raise Invalid(f'"inputs" contains numbers that are not valid as {spec.dtype}.')
    return array
