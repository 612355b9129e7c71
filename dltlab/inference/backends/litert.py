"""LiteRT, formerly TensorFlow Lite: a small runtime for phones and processors."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from dltlab.inference.backends.base import Arrays, Backend, Precision, Runner, Session, Settings
from dltlab.inference.export import exporting, write_saved_model

if TYPE_CHECKING:
    import keras
    import numpy as np

_FILE = "model.tflite"


class LiteRt(Backend):
    """Runs a LiteRT file on the processor."""

    name = "litert"
    packages = ("ai-edge-litert", "tensorflow")

    def auto_rank(self) -> int | None:
        """Return its place among those that "auto" tries."""
        return 4

    def precisions(self) -> tuple[Precision, ...]:
        """Return those that it computes in on a processor."""
        return ("float32", "int8")

    def build(
        self,
        model: "keras.Model",
        precision: Precision,
        calibration: Sequence[Arrays],
        folder: Path,
    ) -> None:
        """Convert the model; for int8 with LiteRT's post-training quantization."""
        import tensorflow as tf

        def examples() -> "Iterator[dict[str, np.ndarray]]":
            return map(_by_name, calibration)

        with TemporaryDirectory() as temporary, exporting(model, "converted to LiteRT"):
            write_saved_model(model, Path(temporary, "model"))
            converter = tf.lite.TFLiteConverter.from_saved_model(str(Path(temporary, "model")))
            if precision == "int8":
                converter.optimizations = [tf.lite.Optimize.DEFAULT]
                converter.representative_dataset = examples
            (folder / _FILE).write_bytes(converter.convert())

    def open(self, folder: Path, precision: Precision, settings: Settings) -> Session:
        """Read the file; each runner compiles it for itself."""
        return _LiteRtSession(folder, settings)


class _LiteRtSession(Session):
    def __init__(self, folder: Path, settings: Settings) -> None:
        self._content, self._settings = (folder / _FILE).read_bytes(), settings

    def runner(self) -> Runner:
        """Return a function with an interpreter of its own: interpreters are not thread-safe."""
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(
            model_content=self._content, num_threads=self._settings.threads_per_stream
        )
        signature = interpreter.get_signature_runner("serving_default")

        def run(inputs: Arrays) -> Arrays:
            outputs = signature(**_by_name(inputs))
            return [outputs[f"output_{index}"] for index in range(len(outputs))]

        return run


def _by_name(inputs: Arrays) -> "dict[str, np.ndarray]":
    """Return the inputs as `write_saved_model` names them."""
    return {f"input_{index}": array for index, array in enumerate(inputs)}
