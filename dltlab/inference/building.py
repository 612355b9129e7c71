"""Build engines, or find them in the cache: `EngineBuilder`."""

import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakKeyDictionary

import keras

from dltlab.errors import Damaged, Invalid, LabError, NotFound
from dltlab.files import atomic_folder
from dltlab.inference import cache
from dltlab.inference.accuracy_check import AccuracyCheck
from dltlab.inference.backends.base import Arrays, Backend, Precision, Settings
from dltlab.inference.engine import Engine
from dltlab.inference.export import Unsupported, exporting
from dltlab.inference.manifest import (
    EngineManifest,
    TensorSpec,
    read_manifest,
    this_machine,
    update_manifest,
    write_manifest,
)
from dltlab.inference.signature import input_names, output_names
from dltlab.models import cost

Layers = tuple[tuple[str, str], ...]

_LAYERS: WeakKeyDictionary[keras.Model, Layers] = WeakKeyDictionary()


@dataclass(frozen=True)
class EngineBuilder:
    """Builds engines of one model with one backend.

    Attributes:
        check: Holds the model, in float32.
        backend: The backend.
        calibration: An array for each input; empty where there is no calibration data.
        settings: The settings of the engines.
        model_hash: The hash of the model.
        class_names: What the engines are told of the classes; empty where that is nothing.
    """

    check: AccuracyCheck
    backend: Backend
    calibration: Arrays
    settings: Settings
    model_hash: str
    class_names: tuple[str, ...] = ()

    def build(self, precision: Precision, max_accuracy_drop: float | None = None) -> Engine:
        """Return an engine with its accuracy, from the cache or newly built.

        Args:
            precision: What it computes in.
            max_accuracy_drop: For int8: keep layers in float32 until no larger fraction of the
                accuracy is lost. By default all layers are in `precision`.

        Raises:
            Unsupported: The backend cannot run the model.
            Unavailable: The cache cannot be written.
            Damaged: The model returns NaN.
            Invalid: The model is random or keeps a state, or the labels do not fit.
        """
        manifest = self._manifest(precision, max_accuracy_drop)
        data = [*self.check.arrays(), *(self.calibration if precision == "int8" else [])]
        folder = cache.cached_folder(manifest, data)
        with suppress(NotFound, Damaged):
            return self._open(folder, read_manifest(folder))
        with cache.build_lock(folder):
            with suppress(NotFound, Damaged):  # another process may have built it meanwhile
                return self._open(folder, read_manifest(folder))
            _ = self.check.reference  # an error in the model or the labels is not the backend's
            with atomic_folder(folder) as new:
                start = time.perf_counter()
                try:
                    self._write(new, manifest)
                except Invalid as error:  # such as a layer that does not compute in bfloat16
                    raise Unsupported(str(error)) from error
                seconds = time.perf_counter() - start
                manifest = manifest.model_copy(update={"build_seconds": seconds})
                manifest = write_manifest(new, manifest)
            cache.remove_unused()
            return self._open(folder, manifest)

    def _open(self, folder: Path, manifest: EngineManifest) -> Engine:
        """Open an engine; compute its accuracy, unless its manifest has it."""
        try:
            with exporting(self.check.model, f"run by {self.backend.name}"):
                engine = Engine(folder, manifest, self.settings)
                if manifest.accuracy is None:
                    facts = self.check.facts() | {
                        "accuracy": self.check.compare(engine.run(self.check.inputs))
                    }
                    engine.manifest = manifest.model_copy(update=facts)
                    update_manifest(folder, engine.manifest)
        except LabError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        cache.mark_used(folder)
        engine.manifest = engine.manifest.model_copy(update={"class_names": self.class_names})
        return engine

    def _write(self, folder: Path, manifest: EngineManifest) -> None:
        check, count = self.check, len(self.calibration[0]) if self.calibration else 0
        calibration = [
            [array[index : index + 1] for array in self.calibration] for index in range(count)
        ]
        if manifest.max_accuracy_drop is None:
            self.backend.build(check.model, manifest.precision, calibration, folder)
        else:
            self.backend.build_mixed_precision(
                check.model,
                calibration,
                check.inputs,
                check.score,
                manifest.max_accuracy_drop,
                folder,
            )

    def _manifest(self, precision: Precision, max_accuracy_drop: float | None) -> EngineManifest:
        model = self.check.model
        return EngineManifest(
            model=model.name,
            model_hash=self.model_hash,
            backend=self.backend.name,
            versions=self.backend.versions(),
            precision=precision,
            max_accuracy_drop=max_accuracy_drop,
            machine=this_machine(),
            inputs=input_specs(model),
            outputs=tuple(output_names(model)),
            layers=_layers(model),
        )


def input_specs(model: keras.Model) -> tuple[TensorSpec, ...]:
    """Return the shape and dtype of each input of a model.

    Raises:
        Invalid: The model does not know its inputs, as a subclassed one, or takes texts.
    """
    try:
        inputs = model.inputs
    except (AttributeError, ValueError):
        inputs = None
    if not inputs:
        raise Invalid(
            f"{model.name} does not know the shape of its input: wrap it, as in inputs = "
            "keras.Input((32, 32, 3)); keras.Model(inputs, model(inputs))."
        )
    if any(tensor.dtype == "string" for tensor in inputs):
        raise Invalid(
            f"{model.name} takes texts, and engines take numbers: leave out the layer that reads "
            "the texts, such as TextVectorization, and call it before the engine."
        )
    return tuple(
        TensorSpec(
            name=name,
            shape=tuple(tensor.shape[1:]),
            dtype=keras.backend.standardize_dtype(tensor.dtype),
        )
        for name, tensor in zip(input_names(model), inputs, strict=True)
    )


def _layers(model: keras.Model) -> Layers:
    """Return name and kind of every layer call, in order.

    Where sizes are unknown, each layer is listed once. The result is cached as long as the model
    lives: it does not change, and finding it takes a third of a second.
    """
    if model not in _LAYERS:
        try:
            _LAYERS[model] = tuple((row.name, row.kind) for row in cost(model).layers)
        except Invalid:  # its cost needs known sizes
            _LAYERS[model] = tuple((layer.name, type(layer).__name__) for layer in model.layers)
    return _LAYERS[model]
