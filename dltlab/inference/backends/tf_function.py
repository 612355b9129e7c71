"""TensorFlow's graph: the same operations as Keras runs, without Python between them."""

from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, ClassVar

from dltlab.inference.backends.base import (
    Arrays,
    Backend,
    Precision,
    Runner,
    Session,
    Settings,
    widened,
)
from dltlab.inference.export import write_saved_model
from dltlab.models import in_precision

if TYPE_CHECKING:
    import keras

_FOLDER = "saved_model"


class TfFunction(Backend):
    """Runs a SavedModel."""

    name = "tf.function"
    packages = ("keras", "tensorflow")
    jit_compile: ClassVar[bool] = False

    def auto_rank(self) -> int | None:
        """Return its place among those that "auto" tries."""
        return 5

    def precisions(self) -> tuple[Precision, ...]:
        """Return those for which Keras has a dtype policy."""
        return ("float32", "bfloat16", "float16")

    def build(
        self,
        model: "keras.Model",
        precision: Precision,
        calibration: Sequence[Arrays],
        folder: Path,
    ) -> None:
        """Write the model, converted to `precision`, as a SavedModel."""
        write_saved_model(in_precision(model, precision), folder / _FOLDER)

    def open(self, folder: Path, precision: Precision, settings: Settings) -> Session:
        """Load the SavedModel."""
        return _GraphSession(folder / _FOLDER, jit_compile=self.jit_compile)


class _GraphSession(Session):
    """A SavedModel; TensorFlow shares its threads among everything that it runs.

    Args:
        folder: The SavedModel.
        jit_compile: Compile it with XLA.
    """

    def __init__(self, folder: Path, *, jit_compile: bool) -> None:
        import tensorflow as tf

        self._loaded = tf.saved_model.load(str(folder))  # keeps the captured variables alive
        self._function = tf.function(
            self._loaded.serve, jit_compile=jit_compile, autograph=False, reduce_retracing=True
        )
        self._lock = Lock()

    def runner(self) -> Runner:
        """Return a function that runs the graph; all runners share one lock.

        TensorFlow sums several arrays in a temporary variable that has the same name in all calls:
        two calls at the same time fail ("already exists").
        """
        return self._run

    def _run(self, inputs: Arrays) -> Arrays:
        import tensorflow as tf

        tensors = [tf.constant(array) for array in inputs]
        with self._lock:
            outputs = self._function(*tensors)
        return [widened(outputs[f"output_{index}"].numpy()) for index in range(len(outputs))]
