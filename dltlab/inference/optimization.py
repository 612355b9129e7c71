"""Compile a Keras model into a fast engine that is still accurate: `optimize`."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import keras

from dltlab.devices import cpu_info
from dltlab.errors import Invalid, Unavailable
from dltlab.inference.accuracy_check import AccuracyCheck, calibration_arrays
from dltlab.inference.backends import auto_backends, get_backend
from dltlab.inference.backends.base import PRECISIONS, Backend, Precision
from dltlab.inference.building import EngineBuilder, input_specs
from dltlab.inference.engine import Engine, default_settings
from dltlab.inference.export import Unsupported
from dltlab.inference.reporting import report
from dltlab.models import in_precision, load_model, model_hash

# What is tried, in order, for each precision.
_CANDIDATES: dict[str, tuple[Precision, ...]] = {
    "int8": ("int8", "bfloat16", "float32"),
    "bfloat16": ("bfloat16", "float32"),
    "float16": ("float16", "float32"),
    "float32": ("float32",),
}
_BFLOAT16_EXTENSIONS = {"AMX-BF16", "AVX-512 BF16", "BF16", "SME"}  # multiply matrices in it


def optimize(
    model: keras.Model | str | Path,
    *,
    backend: str = "auto",
    precision: str = "auto",
    calibration: Any = None,
    validation: Any = None,
    batch_size: int = 1,
    max_accuracy_drop: float = 0.01,
    class_names: Sequence[str] = (),
) -> Engine:
    """Compile a model, and check that it is still accurate.

    The engine is compared with the model in float32 on `validation`. Where it loses more than
    `max_accuracy_drop`, the next choice is tried, and `Engine.notes` says so. After int8 come int8
    with some layers in float32 (where the backend supports that), bfloat16 (where the machine has
    it) and float32; after bfloat16 and float16 comes float32.

    With labels the accuracy is compared: the fraction of examples whose largest output, along the
    last axis, is at the label. Where the labels are 0 or 1 for each output, it is the fraction of
    outputs that are on the label's side of 0.5 (of 0 for logits). Without labels the agreement is
    compared: the fraction of examples whose largest output is at the same index as that of the
    float32 model, or, for a single output, 1 minus the relative error in the Euclidean norm. MLPerf
    Inference, too, requires 0.99 of the reference's accuracy.

    "auto" goes on to the next backend where one cannot run the model, and `Engine.notes` says so.

    Engines are cached, and found again for the same model, data, versions and processor, until they
    have not been used for 30 days.

    Args:
        model: A Keras model with known inputs, or a `.keras` file, which is loaded without running
            code in it.
        backend: "auto", the fastest one that is installed, or one of `BACKENDS`.
        precision: "float32", "bfloat16", "float16" or "int8"; "auto": int8 where there is
            calibration data, else bfloat16 where the processor multiplies matrices in it, else
            float32.
        calibration: Examples for int8, `(n, …)`: some hundred that are typical for the use of the
            model, none of them in `validation`; a list or dict of arrays for several inputs.
        validation: Examples to compare on, `(n, …)`, or a tuple of them and their labels (numbers
            of classes, one-hot vectors, or 0 or 1 for each output); by default the calibration
            data, or random numbers.
        batch_size: Examples in a call.
        max_accuracy_drop: The fraction of the accuracy that may be lost, in [0, 1].
        class_names: The names of the classes, in the order of the labels, for `dltlab serve`.

    Raises:
        Invalid: An argument is not valid, or the model keeps a state or is random.
        Unavailable: The backend or the precision is not available here, the backend cannot run the
            model (the message names the layer), or not even float32 is accurate.
        Damaged: The file is damaged, or the model returns NaN.
    """
    if not isinstance(model, keras.Model):
        model = load_model(Path(model))
    if not 0 <= max_accuracy_drop <= 1:
        raise Invalid(f"max_accuracy_drop is {max_accuracy_drop}; it must be in [0, 1], as 0.01.")
    settings = default_settings(batch_size)
    specs = input_specs(model)
    _require_stateless(model)
    reference = in_precision(model, "float32")
    examples = calibration_arrays(calibration, specs)
    check = AccuracyCheck.create(reference, specs, validation, examples)
    _require_name_for_each_class(model, class_names)
    digest = model_hash(reference)
    notes: list[str] = []
    for name in auto_backends() if backend == "auto" else [backend]:
        try:
            builder = EngineBuilder(
                check, get_backend(name), examples, settings, digest, tuple(class_names)
            )
            engine = _first_accurate(builder, precision, max_accuracy_drop)
        except Unsupported as error:
            reason = f"The backend {name} cannot run {reference.name}: {error}"
            if backend != "auto":
                raise Unsupported(f"{reason} Change that, or choose another backend.") from error
            notes.append(reason)
        except Unavailable as error:
            if backend != "auto":
                raise
            notes.append(str(error))
        else:
            engine.notes = [*notes, *engine.notes]
            return engine
    raise Unavailable(f"No backend can run {reference.name} here: {' '.join(dict.fromkeys(notes))}")


def _require_stateless(model: keras.Model) -> None:
    for layer in model._flatten_layers():
        if getattr(layer, "stateful", False):
            raise Invalid(
                f"The layer {layer.name} keeps its state from one call to the next "
                "(stateful=True), which an engine cannot do: build it with stateful=False, or run "
                "the network symbol by symbol with inference.step_engine."
            )


def _require_name_for_each_class(model: keras.Model, class_names: Sequence[str]) -> None:
    num_outputs = model.outputs[0].shape[-1]
    num_classes = 2 if num_outputs == 1 else num_outputs
    if class_names and (len(class_names) != num_classes or len(model.outputs) > 1):
        raise Invalid(
            f"class_names has {len(class_names)} names, and {model.name} has {num_classes} classes "
            f"in {len(model.outputs)} output{'s' if model.outputs[1:] else ''}: pass one name for "
            "each class of the only output, in the order of the labels."
        )


def _first_accurate(builder: EngineBuilder, precision: str, max_accuracy_drop: float) -> Engine:
    """Return the engine in the first precision that is accurate.

    Raises:
        Invalid: As for `optimize`.
        Unsupported: The backend cannot run the model.
        Unavailable: It does not compute in the precision here, or is not accurate in any.
    """
    notes: list[str] = []
    precisions = _precisions(builder.backend, precision, bool(builder.calibration), notes)
    name = builder.backend.name
    for candidate, drop in _attempts(builder.backend, precisions, max_accuracy_drop):
        try:
            engine = builder.build(candidate, drop)
        except Unsupported as error:
            if candidate == precisions[-1]:
                raise
            notes.append(str(error))
            continue
        accuracy = engine.accuracy
        assert accuracy is not None
        if accuracy.is_within(max_accuracy_drop):
            result = f"{name} in {candidate} {accuracy}."
            engine.notes = [*notes, result, *_float32_layers(engine, builder.check.model)]
            return engine
        notes.append(
            f"{candidate}{'' if drop is None else ' with float32 layers'} {accuracy}: less than "
            f"{1 - max_accuracy_drop:.3g} of it is kept, so the next choice is tried."
        )
    raise Unavailable(
        f"{builder.check.model.name} on {name} is not accurate in any precision: {' '.join(notes)} "
        "Choose another backend, or a larger max_accuracy_drop."
    )


def _attempts(
    backend: Backend, precisions: list[Precision], max_accuracy_drop: float
) -> Iterator[tuple[Precision, float | None]]:
    """Yield what to build, in order: a precision, and for mixed precision the accuracy drop."""
    for precision in precisions:
        yield precision, None
        if precision == "int8" and backend.mixes_precisions:
            yield precision, max_accuracy_drop


def _precisions(
    backend: Backend, requested: str, has_calibration: bool, notes: list[str]
) -> list[Precision]:
    """Return the precisions to try, in order.

    Raises:
        Invalid: There is no such precision, or int8 lacks calibration data.
        Unavailable: The backend does not compute in it here.
    """
    available = backend.precisions()
    if requested == "auto":
        requested = _automatic_precision(available, has_calibration, notes)
    elif requested not in PRECISIONS:
        raise Invalid(
            f"precision is '{requested}'; it must be auto or one of {', '.join(PRECISIONS)}."
        )
    elif requested not in available:
        raise Unavailable(
            f"{backend.name} has no {requested} on this machine; it has {', '.join(available)}. "
            "Choose one of those, or another backend."
        )
    elif requested == "int8" and not has_calibration:
        raise Invalid(
            "int8 needs calibration data: pass calibration=, some hundred typical examples that "
            "are not in the validation data."
        )
    return [candidate for candidate in _CANDIDATES[requested] if candidate in available]


def _automatic_precision(
    available: tuple[Precision, ...], has_calibration: bool, notes: list[str]
) -> Precision:
    if not has_calibration:
        notes.append("There is no calibration data, so int8 was not tried.")
    elif "int8" in available:
        return "int8"
    return "bfloat16" if _BFLOAT16_EXTENSIONS & set(cpu_info().extensions) else "float32"


def _float32_layers(engine: Engine, model: keras.Model) -> list[str]:
    """Return a note of the layers that stay in float32 in an engine with mixed precision."""
    if engine.manifest.max_accuracy_drop is None:
        return []
    weighted = {layer.name for layer in model._flatten_layers() if layer.weights}
    names = dict.fromkeys(
        name
        for row in report(engine).operations
        if row.operation.precision != "int8"
        for name in row.layers
        if name in weighted
    )
    return [f"These layers stay in float32: {', '.join(names)}."]
