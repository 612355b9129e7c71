"""Keras itself, which runs one layer after another in Python: the reference for all others."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dltlab.errors import LabError
from dltlab.inference.backends.base import (
    Arrays,
    Backend,
    Precision,
    Runner,
    Session,
    Settings,
    widened,
)
from dltlab.inference.export import Unsupported
from dltlab.inference.signature import call
from dltlab.models import in_precision

if TYPE_CHECKING:
    import keras

_FILE = "model.keras"


class KerasEager(Backend):
    """Calls the Keras model."""

    name = "keras"
    packages = ("keras", "tensorflow")

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
        """Save the model, converted to `precision`.

        Raises:
            Unsupported: The model contains Python code that is not loaded again.
        """
        from dltlab.models import load_model

        path = folder / _FILE
        in_precision(model, precision).save(path)
        try:
            load_model(path)
        except LabError as error:
            raise Unsupported(
                f"{_own_code(model)} contains Python code, which Keras loads from a file only if "
                "its class is decorated with @keras.saving.register_keras_serializable()."
            ) from error

    def open(self, folder: Path, precision: Precision, settings: Settings) -> Session:
        """Load the model."""
        from dltlab.models import load_model

        return _KerasSession(load_model(folder / _FILE))


def _own_code(model: "keras.Model") -> str:
    """Return the first layer whose code Keras does not load, else the name of the model."""
    import keras

    for layer in model._flatten_layers():
        is_from_keras = type(layer).__module__.startswith("keras.")
        registered_name = keras.saving.get_registered_name(type(layer))
        is_known = is_from_keras or keras.saving.get_registered_object(registered_name)
        if isinstance(layer, keras.layers.Lambda) or not is_known:
            return f"The layer {layer.name}"
    return str(model.name)


class _KerasSession(Session):
    def __init__(self, model: "keras.Model") -> None:
        self._model = model

    def runner(self) -> Runner:
        return self._run

    def _run(self, inputs: Arrays) -> Arrays:
        import numpy as np

        return [widened(np.asarray(output)) for output in call(self._model, inputs)]
