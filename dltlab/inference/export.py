"""Write a Keras model in formats that other tools read: SavedModel and ONNX."""

import logging
import math
import re
import textwrap
import warnings
from collections.abc import Container, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from dltlab.errors import LabError, Unavailable
from dltlab.inference.signature import call
from dltlab.models import model_hash

if TYPE_CHECKING:
    import keras

_LARGE = 1_000_000  # numbers in a matrix
_MAX_QUOTED = 200  # characters of an exporter's message
_ONNX_RUNTIME_HEADING = "[ONNXRuntimeError] : "
_KERAS_HEADING = re.compile(r"Exception encountered when calling (\w+)\.call\(\)\.")
_OPENVINO_HEADING = re.compile(r"(Exception from|Check '.*' failed at) \S+:$")
_MLIR_ERROR = re.compile(r"error: loc\(.*\): (.+)")  # after the place in the code
_GRAPH_NAME = re.compile(r" __inference_\S+")  # TensorFlow's name for a traced function
_ANSI_STYLE = re.compile(r"\x1b\[\d*m")  # Keras writes parts of its messages in bold
_ONNX: "WeakKeyDictionary[keras.Model, tuple[str, bytes | Unsupported]]" = WeakKeyDictionary()


class Unsupported(Unavailable):
    """A backend cannot run a model: "auto" goes on to the next backend."""


def write_saved_model(model: "keras.Model", folder: Path) -> None:
    """Write TensorFlow's SavedModel, with an endpoint `serve` for batches of any size.

    It takes the inputs in order, named `input_0`, `input_1`, …, and returns a dict with `output_0`,
    `output_1`, …

    Raises:
        Unsupported: The model cannot be traced into a graph.
    """
    import keras
    import tensorflow as tf

    def serve(*inputs: Any) -> dict[str, Any]:
        return {f"output_{index}": output for index, output in enumerate(call(model, inputs))}

    signature = [
        tf.TensorSpec((None, *tensor.shape[1:]), tensor.dtype, f"input_{index}")
        for index, tensor in enumerate(model.inputs)
    ]
    with exporting(model, "exported to a TensorFlow graph"):
        archive = keras.export.ExportArchive()
        archive.track(model)
        archive.add_endpoint("serve", serve, signature)
        archive.write_out(str(folder), verbose=False)


def to_onnx(model: "keras.Model") -> bytes:
    """Return the model in ONNX, with a batch of any size.

    The result is cached while the model lives and does not change, because several engines of one
    model need it.

    Raises:
        Unsupported: A layer uses an operation that ONNX does not have; the message names the layer.
    """
    current_hash = model_hash(model)
    cached_hash, result = _ONNX.get(model, ("", b""))
    if cached_hash != current_hash:
        try:
            result = _export_to_onnx(model)
        except Unsupported as error:
            result = error
        _ONNX[model] = current_hash, result
    if isinstance(result, Unsupported):
        raise result
    return result


def _export_to_onnx(model: "keras.Model") -> bytes:
    import keras
    import onnx
    import tensorflow as tf
    import tf2onnx

    import dltlab.inference.onnx_operations  # noqa: F401 - tf2onnx learns them

    matrices = {
        f"dltlab_matrix_{index}": weight for index, weight in enumerate(_large_matrices(model))
    }

    def call_with(inputs: list[Any], values: list[Any]) -> list[Any]:
        with keras.StatelessScope(list(zip(matrices.values(), values, strict=True))):
            return call(model, inputs)

    signature = (
        [
            tf.TensorSpec((None, *tensor.shape[1:]), tensor.dtype, tensor.name)
            for tensor in model.inputs
        ],
        [tf.TensorSpec(weight.shape, weight.dtype, name) for name, weight in matrices.items()],
    )
    with exporting(model, "exported to ONNX"):
        function = tf.function(call_with, autograph=False)
        with _inlining_functions():
            concrete = function.get_concrete_function(*signature)
        exported, _ = tf2onnx.convert.from_function(function, signature)
        graph = exported.graph
        constants = matrices | _captured_tensors(concrete)
        inputs = [tensor for tensor in graph.input if tensor.name not in constants]
        del graph.input[:]
        graph.input.extend(inputs)
        graph.initializer.extend(
            onnx.numpy_helper.from_array(keras.ops.convert_to_numpy(value), name)
            for name, value in constants.items()
        )
        content: bytes = exported.SerializeToString()
    unknown = [node for node in graph.node if not onnx.defs.has(node.op_type, node.domain)]
    if unknown:
        layers = layers_of(model, [node.name for node in unknown])
        raise Unsupported(
            f"{_layers_text(layers) or model.name} uses "
            f"{', '.join(sorted({node.op_type for node in unknown}))}, which ONNX does not have."
        )
    return content


@contextmanager
def _inlining_functions() -> Iterator[None]:
    """Trace the functions that a traced function calls into the same graph.

    Keras compiles a convolution in groups with XLA, as a function that ONNX does not have.
    """
    import tensorflow as tf

    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(before)


def _captured_tensors(function: Any) -> dict[str, Any]:
    """Return the tensors that a traced function reads from outside, by their names in the graph.

    They are what a layer holds besides its weights, such as a table of positions: tf2onnx makes
    inputs of them.
    """
    captured = function.captured_inputs
    placeholders = function.inputs[len(function.inputs) - len(captured) :]
    return {
        placeholder.name: tensor
        for placeholder, tensor in zip(placeholders, captured, strict=True)
        if tensor.dtype != "resource"
    }


def _large_matrices(model: "keras.Model") -> "list[keras.Variable]":
    """Return the weights to keep out of tf2onnx, which copies a graph's constants thirty times.

    The graph takes them as inputs meanwhile. That is possible only where a weight is just
    multiplied or looked up: tf2onnx must know the others to fold them into their neighbors.
    """
    import keras

    readers = keras.layers.Dense, keras.layers.Embedding
    return [
        weight
        for layer in model._flatten_layers(include_self=False)
        if isinstance(layer, readers)
        for weight in layer.weights
        if math.prod(weight.shape) >= _LARGE
    ]


def layers_of(model: "keras.Model", operations: Iterable[str]) -> list[str]:
    """Return the names of the layers that operations of an exported graph belong to, each once."""
    names = {layer.name for layer in model._flatten_layers(include_self=False)}
    layers = [layer_of(operation, names) for operation in operations]
    return list(dict.fromkeys(layer for layer in layers if layer))


def layer_of(operation: str, layers: Container[str]) -> str:
    """Return the name of the layer that an operation of an exported graph belongs to, or "".

    An operation's name is such as `model_1/block1_conv_1/convolution`, where Keras and TensorFlow
    may have added a number to each part.
    """
    for part in reversed(operation.split("/")):
        shorter = part.rpartition("_")[0]
        if part in layers:
            # Keras adds `_1` inside a graph: with layers `conv` and `conv_1`, it means `conv`.
            return shorter if part.endswith("_1") and shorter in layers else part
        if shorter in layers:
            return shorter
    return ""


def _layers_text(names: list[str]) -> str:
    if not names:
        return ""
    return f"The layer {names[0]}" if len(names) == 1 else f"The layers {', '.join(names)}"


@contextmanager
def exporting(model: "keras.Model", action: str) -> Iterator[None]:
    """Hide an exporter's messages, and turn its exceptions into an error that names the layer.

    Args:
        model: The model.
        action: What is done with it, such as "exported to ONNX".

    Raises:
        Unsupported: That is not possible.
    """
    try:
        with _quiet():
            yield
    except (LabError, OSError):
        raise
    except Exception as error:  # exporters raise exceptions of any type
        raise Unsupported(
            f"{subject_of(model, error)} cannot be {action} ({reason_of(error)})."
        ) from error


def subject_of(model: "keras.Model", error: Exception) -> str:
    """Return the layer that an exception's message names, else the name of the model."""
    message = _ANSI_STYLE.sub("", str(error))
    if layers := layers_of(model, re.split(r"[^\w/.-]+", message)):
        return f"The layer {layers[0]}"
    if match := _KERAS_HEADING.match(message):  # names the class of a layer
        layers = [
            layer.name
            for layer in model._flatten_layers(include_self=False)
            if type(layer).__name__ == match[1]
        ]
    return _layers_text(layers) or str(model.name)


def reason_of(error: Exception) -> str:
    """Return what is wrong: the line of an exception's message that says it."""
    message = _GRAPH_NAME.sub("", _ANSI_STYLE.sub("", str(error)))
    message = message.rpartition(_ONNX_RUNTIME_HEADING)[2]
    if match := _MLIR_ERROR.search(message):
        return match[1]
    lines = _KERAS_HEADING.sub("", message).split("\n")
    lines = [line.strip() for line in lines]
    line = next((line for line in lines if line and not _OPENVINO_HEADING.match(line)), "")
    if " " not in line:  # a number, the key of a KeyError, or nothing
        line = f"{type(error).__name__} {line}".strip()
    return textwrap.shorten(line, _MAX_QUOTED, placeholder=" …")


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide the exporters' logs and warnings, which are about their own code."""
    names = ("tf2onnx", "absl", "tensorflow", "nncf")
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
