"""TensorFlow's graph: the same operations without Python between them."""

from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from dltlab.inference.backends import Arrays, Lane, Operation, Precision, Settings, widened
from dltlab.inference.export import write_saved_model
from dltlab.models import in_precision

if TYPE_CHECKING:
    import keras

PACKAGES = ("keras", "tensorflow")
FOLDER = "saved_model"


def lacks() -> str:
    """Nothing: whoever has dltlab has TensorFlow."""
    return ""


def precisions() -> tuple[Precision, ...]:
    """What Keras' dtype policies offer."""
    return ("float32", "bfloat16", "float16")


def build(
    model: "keras.Model", precision: Precision, calibration: Sequence[Arrays], folder: Path
) -> None:
    """Write a SavedModel, with another dtype policy where another precision is asked for."""
    write_saved_model(in_precision(model, precision), folder / FOLDER)


def open(folder: Path, precision: Precision, settings: Settings) -> "GraphSession":  # noqa: A001
    """Load the SavedModel."""
    return GraphSession(folder / FOLDER, settings, jit_compile=False)


class GraphSession:
    """A SavedModel as a function for batches of one size.

    Args:
        folder: The SavedModel.
        settings: The batch counts; TensorFlow shares its threads among all that it runs.
        jit_compile: Compile it with XLA.
    """

    def __init__(self, folder: Path, settings: Settings, *, jit_compile: bool) -> None:
        import tensorflow as tf

        self._loaded = tf.saved_model.load(str(folder))  # what it captures lives as long as it does
        self._function = tf.function(
            self._loaded.serve, jit_compile=jit_compile, autograph=False, reduce_retracing=True
        )
        self._turn = Lock()

    def lane(self) -> Lane:
        """Runs the function; lanes take turns.

        TensorFlow sums several arrays in a temporary one, whose name is the same in all calls: two
        at once fail ("already exists").
        """
        return self._run

    def _run(self, inputs: Arrays) -> Arrays:
        import tensorflow as tf

        tensors = [tf.constant(each) for each in inputs]
        with self._turn:
            found = self._function(tensors[0] if len(tensors) == 1 else tensors)
        return [widened(each.numpy()) for each in tf.nest.flatten(found)]

    def operations(self, inputs: Arrays) -> list[Operation]:
        """TensorFlow does not tell."""
        return []
