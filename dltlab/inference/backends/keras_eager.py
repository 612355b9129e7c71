"""Keras itself, which runs one layer after another in Python: the reference for all others."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dltlab.errors import Invalid
from dltlab.inference.backends.base import (
    Arrays,
    Backend,
    Precision,
    Runner,
    Session,
    Settings,
    widened,
)
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
            Invalid: The model has a Lambda layer, whose code is not loaded again.
        """
        import keras

        for layer in model._flatten_layers():
            if isinstance(layer, keras.layers.Lambda):
                raise Invalid(
                    f"The layer {layer.name} is a Lambda: the backend keras does not load Python "
                    "code from a file. Replace the layer, or choose the backend tf.function."
                )
        in_precision(model, precision).save(folder / _FILE)

    def open(self, folder: Path, precision: Precision, settings: Settings) -> Session:
        """Load the model."""
        from dltlab.models import load_model

        return _KerasSession(load_model(folder / _FILE))


class _KerasSession(Session):
    def __init__(self, model: "keras.Model") -> None:
        self._model = model

    def runner(self) -> Runner:
        return self._run

    def _run(self, inputs: Arrays) -> Arrays:
        import keras
        import numpy as np

        outputs: Any = self._model(inputs[0] if len(inputs) == 1 else inputs, training=False)
        return [widened(np.asarray(output)) for output in keras.tree.flatten(outputs)]
