"""LiteRT, which was TensorFlow Lite: small, for phones, and quick on any processor."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from dltlab.inference.backends import Arrays, Lane, Operation, Precision, Settings
from dltlab.inference.export import exporting, write_saved_model

if TYPE_CHECKING:
    import keras

PACKAGES = ("ai-edge-litert", "tensorflow")
_FILE = "model.tflite"
_INPUTS = "inputs.json"  # their names, in the model's order


def lacks() -> str:
    """Nothing but its packages."""
    return ""


def precisions() -> tuple[Precision, ...]:
    """What it computes in on a processor."""
    return ("float32", "int8")


def build(
    model: "keras.Model", precision: Precision, calibration: Sequence[Arrays], folder: Path
) -> None:
    """Convert; for int8 with LiteRT's own post-training quantization."""
    import tensorflow as tf

    names = [each.name for each in model.inputs]

    def examples() -> Iterator[dict[str, np.ndarray]]:
        for each in calibration:
            yield dict(zip(names, each, strict=True))  # the converter sorts its inputs by name

    with TemporaryDirectory() as saved, exporting(model, "LiteRT"):
        write_saved_model(model, Path(saved, "model"))
        converter = tf.lite.TFLiteConverter.from_saved_model(str(Path(saved, "model")))
        if precision == "int8":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = examples
        (folder / _FILE).write_bytes(converter.convert())
    (folder / _INPUTS).write_text(json.dumps(names))


def open(folder: Path, precision: Precision, settings: Settings) -> "_Session":  # noqa: A001
    """Nothing is compiled before a lane is asked for."""
    return _Session(folder, settings)


class _Session:
    def __init__(self, folder: Path, settings: Settings) -> None:
        self._content, self._settings = (folder / _FILE).read_bytes(), settings
        self._names: list[str] = json.loads((folder / _INPUTS).read_text())

    def lane(self) -> Lane:
        """An interpreter of its own: they are not safe to share."""
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(
            model_content=self._content, num_threads=self._settings.threads_per_stream
        )
        runner = interpreter.get_signature_runner("serving_default")

        def run(inputs: Arrays) -> Arrays:
            found = runner(**dict(zip(self._names, inputs, strict=True)))
            return [found[f"output_{place}"] for place in range(len(found))]

        return run

    def operations(self, inputs: Arrays) -> list[Operation]:
        return []
