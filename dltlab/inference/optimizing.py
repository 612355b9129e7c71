"""From a Keras model to an engine that is fast and still right: `optimize`."""

import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from dltlab.devices import processor
from dltlab.errors import LabError
from dltlab.files import locked
from dltlab.inference import cache
from dltlab.inference.backends import (
    PRECISIONS,
    Arrays,
    Precision,
    Settings,
    backend,
    versions,
)
from dltlab.inference.cache import Check, Manifest, Tensor
from dltlab.inference.engine import Engine, default_settings, examples, require_fitting
from dltlab.inference.policies import in_precision
from dltlab.models.counting import cost
from dltlab.models.loading import load_model

if TYPE_CHECKING:
    from dltlab.inference.backends import Backend

_FASTEST_FIRST = ("tensorrt", "openvino", "onnxruntime", "litert", "tf.function")
_FALLS_BACK_TO: dict[Precision, tuple[Precision, ...]] = {
    "int8": ("bfloat16", "float32"),
    "bfloat16": ("float32",),
    "float16": ("float32",),
    "float32": (),
}
_AT_A_TIME = 32  # examples that Keras is given
_IN_BFLOAT16 = {"AMX-BF16", "AVX-512 BF16", "BF16", "SME"}  # what multiplies matrices in it
_RANDOM = 32  # examples, where there are none


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
    `tolerance`, the next precision takes its place (int8, bfloat16, float32, those that the backend
    and the processor have; from float16 float32), and `Engine.notes` says so. With labels the accuracy counts:
    the share of examples whose largest output, along the last axis, is at the label. Without labels
    it is the agreement: the share of examples whose largest output is at the same place as that of
    the float32 model; for a single output 1 minus the relative error, in the Euclidean norm. MLPerf
    demands 0.99 of the reference's accuracy, too.

    What is built is kept, and found again for the same model, data, versions and processor.

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
    reference = in_precision(model, "float32")
    inputs = _inputs_of(reference)
    calibrating = _examples(calibration, inputs, "calibration")
    judging = _Judging.of(inputs, validation, calibrating)
    notes: list[str] = []
    name, module = _chosen_backend(backend)
    hashed = cache.model_hash(reference)
    for each in _precisions(name, module, precision, calibrating, notes):
        work = _Work(reference, name, module, each, calibrating, judging, settings, hashed)
        engine = work.engine()
        check = engine.check
        assert check is not None
        if check.holds(tolerance):
            engine.notes = [*notes, f"{name} in {each}: {check}."]
            return engine
        notes.append(
            f"{each} {check}: less than {1 - tolerance:.1%} is kept, so the next precision is tried."
        )
    raise LabError(
        f"{reference.name} on {name} is not right in any precision: {' '.join(notes)} Choose "
        "another backend, or a larger tolerance."
    )


def _chosen_backend(name: str) -> "tuple[str, Backend]":
    """The backend asked for; for auto the first that can run here."""
    if name != "auto":
        return name, backend(name)
    for each in _FASTEST_FIRST:
        try:
            return each, backend(each)
        except LabError:
            continue
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
        if asked == "bfloat16" and not _IN_BFLOAT16 & set(processor.cpu().extensions):
            asked = "float32"
    elif asked not in PRECISIONS:
        raise LabError(
            f"precision is '{asked}'; it must be auto or one of {', '.join(PRECISIONS)}."
        )
    elif asked not in here:
        raise LabError(
            f"{name} has no {asked} on this processor; it has {', '.join(here)}. Choose one of those, "
            "or another backend."
        )
    elif asked == "int8" and not calibrating:
        raise LabError(
            "int8 needs calibration data: pass calibration=, some hundred examples such as the "
            "model will meet, but none that it is judged by."
        )
    first: Precision = asked  # type: ignore[assignment]
    return [each for each in (first, *_FALLS_BACK_TO[first]) if each in here]


@dataclass(frozen=True)
class _Judging:
    """What engines are compared on.

    Attributes:
        inputs: An array for each input of the model.
        labels: None where there are none.
        data: What the inputs are.
    """

    inputs: Arrays
    labels: np.ndarray | None
    data: str

    @classmethod
    def of(cls, inputs: Sequence[Tensor], validation: Any, calibrating: Arrays) -> "_Judging":
        """The validation data; where there is none, the best there is.

        Raises:
            LabError: It does not fit the model, or there is nothing to run it on.
        """
        if validation is None:
            if calibrating:
                return cls(calibrating, None, "calibration data")
            if not all(np.issubdtype(np.dtype(each.dtype), np.floating) for each in inputs):
                raise LabError(
                    "The model takes whole numbers, and which ones make sense is not known: pass "
                    "validation=, examples to compare on."
                )
            return cls(examples(inputs, _RANDOM), None, "random numbers")
        given, labels = validation if isinstance(validation, tuple) else (validation, None)
        arrays = _examples(given, inputs, "validation")
        if labels is None:
            return cls(arrays, None, "validation data")
        labels = np.asarray(labels)
        if len(labels) != len(arrays[0]) or labels.dtype.kind not in "iu":
            raise LabError(
                f"validation has {len(arrays[0]):,} examples and {len(labels):,} labels of type "
                f"{labels.dtype}: give a whole number for each example."
            )
        return cls(arrays, labels, "validation data")

    def arrays(self) -> Arrays:
        """All of it."""
        return self.inputs if self.labels is None else [*self.inputs, self.labels]

    def check(self, model: keras.Model, engine: Engine) -> Check:
        """Compare an engine with the model.

        Raises:
            LabError: The model gives NaN, the shapes differ, or the labels do not fit the outputs.
        """
        expected = _outputs(model, self.inputs)
        if not all(np.isfinite(each).all() for each in expected):
            raise LabError(
                f"{model.name} gives NaN or infinity itself: its weights are damaged, or the "
                f"{self.data} is. Nothing was built."
            )
        answer = engine(*self.inputs)
        found: Arrays = answer if isinstance(answer, list) else [answer]
        if [each.shape for each in found] != [each.shape for each in expected]:
            raise LabError(
                f"The engine gives the shapes {[each.shape for each in found]}, and {model.name} "
                f"{[each.shape for each in expected]}: choose another backend."
            )
        whole = all(np.isfinite(each).all() for each in found)
        if self.labels is None:
            score = min(map(_agreement, expected, found)) if whole else 0.0
            return Check(
                metric="agreement", reference=1.0, engine=score,
                num_examples=len(expected[0]), data=self.data,
            )  # fmt: skip
        return Check(
            metric="accuracy",
            reference=_accuracy(expected, self.labels),
            engine=_accuracy(found, self.labels) if whole else 0.0,
            num_examples=len(self.labels),
            data=self.data,
        )


def _agreement(expected: np.ndarray, found: np.ndarray) -> float:
    """As `optimize` describes it."""
    if expected.ndim > 1 and expected.shape[-1] > 1:
        return float(np.mean(expected.argmax(-1) == found.argmax(-1)))
    size = float(np.linalg.norm(expected))
    return max(0.0, 1 - float(np.linalg.norm(found - expected)) / (size or 1.0))


def _accuracy(outputs: Arrays, labels: np.ndarray) -> float:
    """The share of labels at which the output is largest.

    Raises:
        LabError: There is not one output for each class, at each label.
    """
    if len(outputs) != 1 or outputs[0].shape[:-1] != labels.shape or outputs[0].shape[-1] < 2:
        raise LabError(
            f"Labels of shape {labels.shape} do not fit outputs of shape "
            f"{[each.shape for each in outputs]}: accuracy needs an output for each class. Leave "
            "the labels out, and the outputs are compared."
        )
    return float(np.mean(outputs[0].argmax(-1) == labels))


def _outputs(model: keras.Model, inputs: Arrays) -> Arrays:
    """What the model gives, float32."""
    parts = []
    for first in range(0, len(inputs[0]), _AT_A_TIME):
        some = [each[first : first + _AT_A_TIME] for each in inputs]
        found = model.predict_on_batch(some[0] if len(some) == 1 else some)
        parts.append([np.asarray(each, np.float32) for each in keras.tree.flatten(found)])
    return [np.concatenate(each) for each in zip(*parts, strict=True)]


@dataclass(frozen=True)
class _Work:
    """One attempt: a backend in a precision."""

    model: keras.Model
    name: str
    module: "Backend"
    precision: Precision
    calibrating: Arrays
    judging: _Judging
    settings: Settings
    model_hash: str

    def engine(self) -> Engine:
        """The engine, with its check: that on disk where it is whole, else a new one."""
        about = self._manifest()
        data = [*self.judging.arrays(), *(self.calibrating if self.precision == "int8" else [])]
        folder = cache.engines_folder() / cache.key_of(about, data)
        with suppress(LabError):  # there is none, or it is damaged
            return Engine(folder, cache.read_manifest(folder), self.settings)
        return self._built(about, folder)

    def _built(self, about: Manifest, folder: Path) -> Engine:
        new = cache.beside(folder)
        try:
            start = time.perf_counter()
            singles = [[each[place : place + 1] for each in self.calibrating]
                       for place in range(len(self.calibrating[0]) if self.calibrating else 0)]  # fmt: skip
            self.module.build(self.model, self.precision, singles, new)
            about = about.model_copy(update={"build_seconds": time.perf_counter() - start})
            check = self.judging.check(self.model, Engine(new, about, self.settings))
            about = cache.write_manifest(new, about.model_copy(update={"check": check}))
            with locked(folder.parent):
                cache.put(new, folder)
        finally:
            shutil.rmtree(new, ignore_errors=True)
        return Engine(folder, about, self.settings)

    def _manifest(self) -> Manifest:
        return Manifest(
            model=self.model.name,
            model_hash=self.model_hash,
            backend=self.name,
            versions=versions(self.module),
            precision=self.precision,
            machine=cache.machine(),
            inputs=_inputs_of(self.model),
            layers=_layers_of(self.model),
        )


def _inputs_of(model: keras.Model) -> tuple[Tensor, ...]:
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


def _layers_of(model: keras.Model) -> tuple[tuple[str, str], ...]:
    """Name and kind of every layer call, in order; of the layers alone where sizes are not known."""
    try:
        return tuple((row.name, row.kind) for row in cost(model).layers)
    except LabError:
        return tuple((layer.name, type(layer).__name__) for layer in model.layers)


def _examples(given: Any, inputs: Sequence[Tensor], what: str) -> Arrays:
    """The arrays of calibration or validation data; none where there is none.

    Raises:
        LabError: They are not as the model's inputs.
    """
    if given is None:
        return []
    arrays = [np.asarray(each) for each in (given if isinstance(given, list) else [given])]
    if len(arrays) != len(inputs):
        raise LabError(
            f"{what} has {len(arrays)} arrays, and the model takes {len(inputs)} inputs: pass a "
            "list with an array for each."
        )
    for array, tensor in zip(arrays, inputs, strict=True):
        require_fitting(array, tensor, what)
    if len({len(each) for each in arrays}) != 1:
        raise LabError(f"{what} has different numbers of examples for the inputs.")
    return arrays
