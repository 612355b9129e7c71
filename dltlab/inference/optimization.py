"""From a Keras model to an engine that is fast and still right: `optimize`."""

import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import keras

from dltlab.devices import cpu_info, list_gpus
from dltlab.errors import LabError
from dltlab.files import cannot_write
from dltlab.inference import cache
from dltlab.inference.accuracy_check import Judge, examples_of
from dltlab.inference.backends import (
    PRECISIONS,
    Arrays,
    Mixing,
    Precision,
    Settings,
    backend,
    versions,
)
from dltlab.inference.cache import Manifest, Tensor
from dltlab.inference.engine import Engine, default_settings
from dltlab.inference.report import report_of
from dltlab.models import cost, in_precision, model_hash
from dltlab.models.loading import load_model
from dltlab.paths import engine_dir

if TYPE_CHECKING:
    from dltlab.inference.backends import Backend

Layers = tuple[tuple[str, str], ...]

_LAYERS: WeakKeyDictionary[keras.Model, Layers] = WeakKeyDictionary()
_FASTEST_FIRST = ("tensorrt", "openvino", "onnxruntime", "litert", "tf.function")
_FALLS_BACK_TO: dict[Precision, tuple[Precision, ...]] = {
    "int8": ("bfloat16", "float32"),
    "bfloat16": ("float32",),
    "float16": ("float32",),
    "float32": (),
}
_IN_BFLOAT16 = {"AMX-BF16", "AVX-512 BF16", "BF16", "SME"}  # what multiplies matrices in it


def optimize(
    model: keras.Model | str | Path,
    *,
    backend: str = "auto",
    precision: str = "auto",
    calibration: Any = None,
    validation: Any = None,
    batch: int = 1,
    tolerance: float = 0.01,
) -> Engine:
    """Compile a model, and make sure that it is still right.

    The engine is compared with the model in float32 on `validation`. Where it loses more than
    `tolerance`, the next choice takes its place, and `Engine.notes` says so: after int8 int8 with
    the layers that cost most in float32, where the backend can do that, then bfloat16, where the
    machine has it, and float32; after bfloat16 and float16 float32.

    With labels the accuracy counts: the share of examples whose largest output, along the last
    axis, is at the label. Without labels it is the agreement: the share of examples whose largest
    output is at the same place as that of the float32 model; for a single output 1 minus the
    relative error, in the Euclidean norm. MLPerf demands 0.99 of the reference's accuracy, too.

    What is built is kept until nobody has used it for 30 days, and found again for the same model,
    data, versions and processor.

    Args:
        model: A Keras model with known inputs, or a `.keras` file, which is loaded without running
            code in it.
        backend: "auto", the fastest one that is installed, or one of `BACKENDS`.
        precision: One of "float32", "bfloat16", "float16" and "int8"; "auto": int8 where there is
            calibration data, else bfloat16 where the processor multiplies matrices in it, else
            float32.
        calibration: Examples for int8, `(n, …)`, some hundred of those that the model is for, and
            none that it is judged by; a list of arrays for several inputs.
        validation: Examples to compare on, `(n, …)`, or a tuple of them and their labels; by
            default the calibration data, or random numbers.
        batch: Examples in a call.
        tolerance: The share of the accuracy that may be lost, in [0, 1].

    Raises:
        LabError: An argument makes no sense, the backend or the precision is not to be had here, a
            layer cannot be exported (it is named), or not even float32 is right.
    """
    if not isinstance(model, keras.Model):
        model = load_model(Path(model))
    if not 0 <= tolerance <= 1:
        raise LabError(f"tolerance is {tolerance}; it must be in [0, 1], as in 0.01.")
    settings = default_settings(batch)
    inputs = inputs_of(model)
    reference = in_precision(model, "float32")
    calibrating = examples_of(calibration, inputs, "calibration")
    judge = Judge.of(reference, inputs, validation, calibrating)
    notes: list[str] = []
    name, module = _chosen_backend(backend, notes)
    hashed = model_hash(reference)
    for each in _precisions(name, module, precision, calibrating, notes):
        mixes = each == "int8" and isinstance(module, Mixing)
        for max_drop in (None, tolerance) if mixes else (None,):
            work = _Work(judge, name, module, each, max_drop, calibrating, settings, hashed)
            try:
                engine = work.engine()
            except LabError as error:
                if max_drop is None:
                    raise
                notes.append(str(error))
                continue
            check = engine.check
            assert check is not None
            if check.holds(tolerance):
                engine.notes = [*notes, f"{name} in {each} {check}.", *_left_out(engine, reference)]
                return engine
            notes.append(
                f"{each}{' in part' if max_drop is not None else ''} {check}: less than "
                f"{1 - tolerance:.1%} is kept, so the next choice is tried."
            )
    raise LabError(
        f"{reference.name} on {name} is not right in any precision: {' '.join(notes)} Choose "
        "another backend, or a larger tolerance."
    )


def _left_out(engine: Engine, model: keras.Model) -> list[str]:
    """Which layers with weights an engine that was to be int8 computes in something else."""
    if engine.manifest.max_drop is None:
        return []
    kept = [each for each in report_of(engine).after
            if each.operation.precision != "int8" and each.layers]  # fmt: skip
    weighted = {layer.name for layer in model._flatten_layers() if layer.weights}
    names = dict.fromkeys(name for each in kept for name in each.layers if name in weighted)
    return [f"These layers stay in float32: {', '.join(names)}."]


def _chosen_backend(name: str, notes: list[str]) -> "tuple[str, Backend]":
    """The backend asked for; for auto the first that can run here."""
    if name != "auto":
        return name, backend(name)
    on_cpu = not list_gpus()
    for each in _FASTEST_FIRST[on_cpu:]:  # TensorRT is the first
        try:
            return each, backend(each)
        except LabError as error:
            notes.append(str(error))
    raise AssertionError(f"{_FASTEST_FIRST[-1]} lacks nothing")


def _precisions(
    name: str, module: "Backend", asked: str, calibrating: Arrays, notes: list[str]
) -> list[Precision]:
    """Those to try, in order.

    Raises:
        LabError: The one asked for makes no sense here.
    """
    here = module.precisions()
    if asked == "auto":
        asked = "int8" if calibrating and "int8" in here else "bfloat16"
        if not calibrating:
            notes.append("No calibration data, so int8 was not tried.")
        if asked == "bfloat16" and not _IN_BFLOAT16 & set(cpu_info().extensions):
            asked = "float32"
    elif asked not in PRECISIONS:
        raise LabError(
            f"precision is '{asked}'; it must be auto or one of {', '.join(PRECISIONS)}."
        )
    elif asked not in here:
        raise LabError(
            f"{name} has no {asked} on this machine; it has {', '.join(here)}. Choose one of "
            "those, or another backend."
        )
    elif asked == "int8" and not calibrating:
        raise LabError(
            "int8 needs calibration data: pass calibration=, some hundred examples such as the "
            "model will meet, but none that it is judged by."
        )
    first: Precision = asked  # type: ignore[assignment]
    return [each for each in (first, *_FALLS_BACK_TO[first]) if each in here]


@dataclass(frozen=True)
class _Work:
    """One attempt: a backend in a precision.

    With `max_drop` layers are taken back to float32 until no more than that is lost.
    """

    judge: Judge
    name: str
    module: "Backend"
    precision: Precision
    max_drop: float | None
    calibrating: Arrays
    settings: Settings
    model_hash: str

    def engine(self) -> Engine:
        """The engine, with its check: that on disk where it is whole, else a new one.

        Raises:
            LabError: It cannot be built, or not be written.
        """
        about = self._manifest()
        data = [*self.judge.arrays(), *(self.calibrating if self.precision == "int8" else [])]
        home = engine_dir() / cache.key_of(about, data)
        with suppress(LabError):  # there is none, or it is damaged
            return self._found(home / cache.ENGINE)
        with cache.alone(home):
            with suppress(LabError):  # somebody else may have built it meanwhile
                return self._found(home / cache.ENGINE)
            return self._built(about, home / cache.ENGINE)

    def _found(self, folder: Path) -> Engine:
        engine = Engine(folder, cache.read_manifest(folder), self.settings)
        cache.mark_used(folder)
        return engine

    def _built(self, about: Manifest, folder: Path) -> Engine:
        new = cache.beside(folder)
        try:
            start = time.perf_counter()
            self._build(new)
            about = about.model_copy(update={"build_seconds": time.perf_counter() - start})
            answer = Engine(new, about, self.settings)(*self.judge.inputs)
            check = self.judge.check(answer if isinstance(answer, list) else [answer])
            about = cache.write_manifest(new, about.model_copy(update={"check": check}))
            cache.put(new, folder)
            cache.forget_unused()
        except OSError as error:
            raise cannot_write(folder, error) from error
        finally:
            shutil.rmtree(new, ignore_errors=True)
        return Engine(folder, about, self.settings)

    def _build(self, folder: Path) -> None:
        judge, count = self.judge, len(self.calibrating[0]) if self.calibrating else 0
        singles = [[each[i : i + 1] for each in self.calibrating] for i in range(count)]
        if self.max_drop is None:
            self.module.build(judge.model, self.precision, singles, folder)
        else:
            assert isinstance(self.module, Mixing)
            self.module.build_mixed(
                judge.model, singles, judge.inputs, judge.score, self.max_drop, folder
            )

    def _manifest(self) -> Manifest:
        model = self.judge.model
        return Manifest(
            model=model.name,
            model_hash=self.model_hash,
            backend=self.name,
            versions=versions(self.module),
            precision=self.precision,
            max_drop=self.max_drop,
            machine=cache.machine(),
            inputs=inputs_of(model),
            layers=_layers_of(model),
        )


def inputs_of(model: keras.Model) -> tuple[Tensor, ...]:
    """What the model takes.

    Raises:
        LabError: It does not say, as a subclassed one.
    """
    try:
        known = model.inputs
    except (AttributeError, ValueError):
        known = None
    if not known:
        raise LabError(
            f"{model.name} does not know the shape of its input: wrap it, as in inputs = "
            "keras.Input((32, 32, 3)); keras.Model(inputs, model(inputs))."
        )
    return tuple(
        Tensor(shape=tuple(each.shape[1:]), dtype=keras.backend.standardize_dtype(each.dtype))
        for each in known
    )


def _layers_of(model: keras.Model) -> Layers:
    """Name and kind of every layer call, in order; of each layer once where sizes are unknown.

    Kept as long as the model lives: its layers stay, and finding them takes a third of a second.
    """
    if model not in _LAYERS:
        try:
            _LAYERS[model] = tuple((row.name, row.kind) for row in cost(model).layers)
        except LabError:
            _LAYERS[model] = tuple((layer.name, type(layer).__name__) for layer in model.layers)
    return _LAYERS[model]
