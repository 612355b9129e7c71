"""A Keras model as a file that other tools read: SavedModel and ONNX."""

import logging
import math
import re
import warnings
from collections.abc import Container, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from dltlab.errors import LabError
from dltlab.models import model_hash

if TYPE_CHECKING:
    import keras

_LARGE = 1_000_000  # numbers in a matrix
_LONGEST = 200  # characters of what an exporter says
_IN_ONNX: "WeakKeyDictionary[keras.Model, tuple[str, bytes]]" = WeakKeyDictionary()


def write_saved_model(model: "keras.Model", folder: Path) -> None:
    """Write TensorFlow's SavedModel, with an endpoint `serve` for batches of any size.

    Raises:
        LabError: The model does not become a graph.
    """
    with exporting(model, "a TensorFlow graph"):
        model.export(str(folder), format="tf_saved_model", verbose=False)


def to_onnx(model: "keras.Model") -> bytes:
    """The model in ONNX, with a batch of any size.

    It is kept as long as the model lives and does not change: several engines of one model need it.

    Raises:
        LabError: A layer does something for which ONNX has no operation; it is named.
    """
    now = model_hash(model)
    known, content = _IN_ONNX.get(model, ("", b""))
    if known != now:
        content = _exported_to_onnx(model)
        _IN_ONNX[model] = now, content
    return content


def _exported_to_onnx(model: "keras.Model") -> bytes:
    import keras
    import onnx
    import tensorflow as tf
    import tf2onnx

    outside = {
        f"dltlab_matrix_{number}": each for number, each in enumerate(_large_matrices(model))
    }

    def call(inputs: list[Any], matrices: list[Any]) -> Any:
        with keras.StatelessScope(list(zip(outside.values(), matrices, strict=True))):
            return model(inputs[0] if len(inputs) == 1 else inputs, training=False)

    signature = (
        [tf.TensorSpec((None, *each.shape[1:]), each.dtype, each.name) for each in model.inputs],
        [tf.TensorSpec(each.shape, each.dtype, name) for name, each in outside.items()],
    )
    with exporting(model, "ONNX"):
        exported, _ = tf2onnx.convert.from_function(tf.function(call), signature)
        graph = exported.graph
        inputs = [each for each in graph.input if each.name not in outside]
        del graph.input[:]
        graph.input.extend(inputs)
        graph.initializer.extend(
            onnx.numpy_helper.from_array(keras.ops.convert_to_numpy(each), name)
            for name, each in outside.items()
        )
        content: bytes = exported.SerializeToString()
    strange = [node for node in graph.node if not onnx.defs.has(node.op_type, node.domain)]
    if strange:
        where = layers_named(model, [node.name for node in strange])
        raise LabError(
            f"{_layers(where) or model.name} uses {', '.join({each.op_type for each in strange})}, "
            "which ONNX does not know: replace the layer, or choose the backend tf.function."
        )
    return content


def _large_matrices(model: "keras.Model") -> "list[keras.Variable]":
    """The weights to keep out of tf2onnx, which copies a graph and its constants thirty times.

    The graph takes them as inputs meanwhile. That is done only where nothing but a multiplication
    or a lookup reads the weights: others it must know, to fold them into their neighbors.
    """
    import keras

    readers = keras.layers.Dense, keras.layers.Embedding
    weights = [
        each
        for layer in model._flatten_layers(include_self=False)
        if isinstance(layer, readers)
        for each in layer.weights
    ]
    return [each for each in weights if math.prod(each.shape) >= _LARGE]


def layers_named(model: "keras.Model", names: Iterable[str]) -> list[str]:
    """The layers of a model that the names of operations speak of, each once, in order."""
    known = {layer.name for layer in model._flatten_layers(include_self=False)}
    found = [owner(name, known) for name in names]
    return list(dict.fromkeys(each for each in found if each))


def owner(name: str, layers: Container[str]) -> str:
    """The layer that an operation of an exported graph belongs to; empty where it is none.

    An operation is called as in `model_1/block1_conv_1/convolution`, where Keras and TensorFlow may
    have added a number to each part.
    """
    for part in reversed(name.split("/")):
        if part in layers:
            # Keras adds `_1` within a graph: of `conv_1` and `conv` it is `conv` that is meant.
            shorter = part.rpartition("_")[0]
            return shorter if part.endswith("_1") and shorter in layers else part
        shorter = part.rpartition("_")[0]
        if shorter in layers:
            return shorter
    return ""


def _layers(names: list[str]) -> str:
    if not names:
        return ""
    return f"The layer {names[0]}" if len(names) == 1 else f"The layers {', '.join(names)}"


@contextmanager
def exporting(model: "keras.Model", what: str) -> Iterator[None]:
    """Silence an exporter, and turn what it raises into a sentence that names the layer.

    Raises:
        LabError: The model cannot be exported to `what`.
    """
    try:
        with quiet():
            yield
    except (LabError, OSError):
        raise
    except Exception as error:  # as many as there are ways to write a layer
        where = layers_named(model, re.split(r"[^\w/.-]+", str(error)))
        lines = str(error).strip().splitlines()
        raise LabError(
            f"{_layers(where[:1]) or model.name} cannot be exported to {what} "
            f"({lines[0][:_LONGEST] if lines else type(error).__name__}): replace it, or choose "
            "the backend tf.function."
        ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Without the exporters' logs and warnings, which are about their own code."""
    names = ("tf2onnx", "absl", "tensorflow", "nncf")
    before = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)
