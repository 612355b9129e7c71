"""Keras as it is, layer after layer in Python: what all others are compared with."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dltlab.errors import LabError
from dltlab.inference.backends import Arrays, Lane, Operation, Precision, Settings, widened
from dltlab.models import in_precision
from dltlab.models.loading import load_model

if TYPE_CHECKING:
    import keras

PACKAGES = ("keras", "tensorflow")
_FILE = "model.keras"


def lacks() -> str:
    """Nothing: whoever has dltlab has Keras."""
    return ""


def precisions() -> tuple[Precision, ...]:
    """What Keras' dtype policies offer."""
    return ("float32", "bfloat16", "float16")


def build(
    model: "keras.Model", precision: Precision, calibration: Sequence[Arrays], folder: Path
) -> None:
    """Save the model, with another dtype policy where another precision is asked for.

    Raises:
        LabError: It has a Lambda, whose code is not loaded again.
    """
    import keras

    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.Lambda):
            raise LabError(
                f"The layer {layer.name} is a Lambda, Python code that the backend keras does not "
                "load from a file: replace it, or choose the backend tf.function."
            )
    in_precision(model, precision).save(folder / _FILE)


def open(folder: Path, precision: Precision, settings: Settings) -> "_Session":  # noqa: A001
    """Load the model."""
    return _Session(load_model(folder / _FILE))


class _Session:
    def __init__(self, model: "keras.Model") -> None:
        self._model = model

    def lane(self) -> Lane:
        return self._run

    def _run(self, inputs: Arrays) -> Arrays:
        import keras

        found: Any = self._model(inputs[0] if len(inputs) == 1 else inputs, training=False)
        return [widened(np.asarray(each)) for each in keras.tree.flatten(found)]

    def operations(self, inputs: Arrays) -> list[Operation]:
        return []
