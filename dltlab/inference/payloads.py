"""The bodies of requests and answers: JSON, NumPy's `.npy` format, and image files."""

import io
import json
import math
import tokenize
import warnings
from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any

import numpy as np
from PIL import Image

from dltlab.errors import Invalid
from dltlab.inference.backends.base import Arrays
from dltlab.inference.manifest import EngineManifest, TensorSpec

_NPY_ERRORS = (
    ValueError, TypeError, OverflowError, RecursionError, MemoryError,
    SyntaxError, tokenize.TokenError,
)  # fmt: skip
_no_warnings = partial(warnings.catch_warnings, action="ignore")  # about files of Python 2


def read_json(body: bytes, specs: Sequence[TensorSpec]) -> Arrays:
    """Return the arrays of `{"inputs": ...}`, in the dtypes of the network's inputs.

    It is an array; for several inputs a list of arrays, or an object with an array for each name.

    Raises:
        Invalid: The body is not of that form, or a number changes by more than rounding.
    """
    try:
        inputs = json.loads(body)["inputs"]
    except (ValueError, RecursionError):
        raise Invalid("The body is not valid JSON.") from None
    except (KeyError, TypeError):
        raise Invalid('The body has no "inputs": send {"inputs": [...]}, an array.') from None
    names = [spec.name for spec in specs]
    if isinstance(inputs, dict):
        if set(inputs) != set(names):
            raise Invalid(f'"inputs" must have an array for each of {", ".join(names)}.')
        inputs = [inputs[name] for name in names]
    elif len(specs) == 1:
        return [_array(inputs, specs[0])]
    if not isinstance(inputs, list) or len(inputs) != len(specs):
        raise Invalid(f'"inputs" must be a list of {len(specs)} arrays, one for each input.')
    return [_array(values, spec) for values, spec in zip(inputs, specs, strict=True)]


def read_npy(body: bytes) -> np.ndarray:
    """Return the array of a `.npy` body, without running code in it.

    Raises:
        Invalid: The body is something else, or is longer than its array.
    """
    array = _plain_array(body)
    if array is not None:
        return array
    stream = io.BytesIO(body)
    try:
        with _no_warnings():
            array = np.lib.format.read_array(stream, allow_pickle=False)
    except _NPY_ERRORS:
        raise Invalid("The body is not a .npy array as numpy.save writes it.") from None
    if stream.read(1):
        raise Invalid("The body continues after its array: send one array.")
    return array


def _plain_array(body: bytes) -> np.ndarray | None:
    """Return the array of a `.npy` body of version 1 in C order, without a copy, else None."""
    end = 10 + int.from_bytes(body[8:10], "little")
    header = _plain_header(body[:end])
    if not header:
        return None
    shape, dtype = header
    count = math.prod(shape)
    if len(body) != end + count * dtype.itemsize:
        return None
    return np.frombuffer(body, dtype, count, offset=end).reshape(shape)


@lru_cache(256)
def _plain_header(header: bytes) -> tuple[tuple[int, ...], np.dtype] | None:
    """Return the shape and dtype in a header; clients send the same one again and again."""
    stream = io.BytesIO(header)
    try:
        with _no_warnings():
            if np.lib.format.read_magic(stream) != (1, 0):
                return None
            shape, in_fortran_order, dtype = np.lib.format.read_array_header_1_0(stream)
    except _NPY_ERRORS:
        return None
    is_plain = (
        not in_fortran_order and dtype.kind in "biuf" and all(length >= 0 for length in shape)
    )
    return (shape, dtype) if is_plain else None


def read_image_file(body: bytes, manifest: EngineManifest) -> np.ndarray:
    """Return an image as a batch of one, prepared as `dltlab.data.load` prepares images.

    It becomes an upright square of the network's size, of which the middle is kept, in color or
    gray, with pixels in the range of those that the engine was checked on.

    Raises:
        Invalid: It is not an image that can be used, or the network takes no images.
    """
    from dltlab.data import UnusableImage, read_image

    if manifest.image_shape is None:
        raise Invalid("The network does not take square images of one size: send JSON or .npy.")
    side, channels = manifest.image_shape
    try:
        pixels = read_image(body, side, "crop")
    except UnusableImage as error:
        raise Invalid(f"The image {error}: send a JPEG, PNG, TIFF, BMP or WebP file.") from None
    if channels == 1:
        pixels = np.asarray(Image.fromarray(pixels).convert("L"))[..., np.newaxis]
    dtype = np.dtype(manifest.inputs[0].dtype)
    if np.issubdtype(dtype, np.floating) and manifest.pixel_max == 1:
        pixels = pixels / 255
    return pixels[np.newaxis].astype(dtype)


def to_json(outputs: Arrays, manifest: EngineManifest) -> dict[str, Any]:
    """Return `{"outputs": ...}`, in the structure in which the model returns them.

    It is an array, a list of arrays, or an object with an array for each name. Where the names of
    the classes are known, `"predictions"` has the most probable class of each example, its
    probability, and those of all classes.

    Raises:
        Invalid: An output contains NaN or infinity, which JSON does not have.
    """
    if not all(np.isfinite(output).all() for output in outputs):
        raise Invalid(
            "The answer contains NaN or infinity, which JSON does not have: accept "
            "application/x-npy instead."
        )
    values = [output.tolist() for output in outputs]
    if manifest.outputs:
        return {"outputs": dict(zip(manifest.outputs, values, strict=True))}
    if not manifest.class_names:
        return {"outputs": values[0] if len(values) == 1 else values}
    return {"outputs": values[0], "predictions": _predictions(outputs[0], manifest)}


def _predictions(outputs: np.ndarray, manifest: EngineManifest) -> list[dict[str, Any]]:
    """Return the class and the probabilities of each example."""
    names, scores = manifest.class_names, outputs.astype(np.float64)
    if scores.shape[-1] == 1:  # the probability of the second of two classes
        scores = 0.5 + 0.5 * np.tanh(scores / 2) if manifest.logits else scores  # the sigmoid
        scores = np.concatenate([1 - scores, scores], axis=-1)
    elif manifest.logits:
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        scores /= scores.sum(axis=-1, keepdims=True)
    return [
        {
            "class": names[row.argmax()],
            "probability": row.max(),
            "probabilities": dict(zip(names, row.tolist(), strict=True)),
        }
        for row in scores
    ]


def to_npy(outputs: Arrays) -> bytes:
    """Return the output as a `.npy` file.

    Raises:
        Invalid: There are several outputs.
    """
    if len(outputs) > 1:
        raise Invalid(
            f"The network has {len(outputs)} outputs, and .npy holds one array: accept JSON."
        )
    (output,) = outputs
    return _npy_header(output.shape, output.dtype) + output.tobytes()


@lru_cache(256)
def _npy_header(shape: tuple[int, ...], dtype: np.dtype) -> bytes:
    """Return what precedes the numbers of an array in C order."""
    stream = io.BytesIO()
    header = {"shape": shape, "fortran_order": False, "descr": np.lib.format.dtype_to_descr(dtype)}
    np.lib.format.write_array_header_1_0(stream, header)
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
