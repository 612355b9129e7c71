"""Compare engines with the float32 model: `AccuracyCheck`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import keras
import numpy as np

from dltlab.errors import Damaged, Invalid
from dltlab.inference.arrays import check_arrays, example_inputs
from dltlab.inference.backends.base import Arrays
from dltlab.inference.export import Unsupported, reason_of, subject_of
from dltlab.inference.manifest import Accuracy, TensorSpec
from dltlab.inference.signature import call, predict
from dltlab.models import record_layer_calls

_REFERENCE_BATCH = 32  # examples in a call of the float32 model
_RANDOM_EXAMPLES = 32
_ROUNDING = 1e-3  # the relative difference of two calls of a model that is not random


@dataclass(frozen=True)
class AccuracyCheck:
    """The data that engines are compared on, and the float32 model that they are compared with.

    Attributes:
        model: In float32.
        inputs: An array for each input of the model.
        labels: None where there are none.
        data: What the inputs are, as in `Accuracy.data`.
    """

    model: keras.Model
    inputs: Arrays
    labels: np.ndarray | None
    data: str

    @classmethod
    def create(
        cls,
        model: keras.Model,
        specs: Sequence[TensorSpec],
        validation: Any,
        calibration: Arrays,
    ) -> "AccuracyCheck":
        """Create one with the validation data, else the calibration data or random numbers.

        Args:
            model: In float32.
            specs: Its inputs.
            validation: As for `optimize`.
            calibration: An array for each input; empty where there is no calibration data.

        Raises:
            Invalid: The data does not fit the model, or there is nothing to run it on.
        """
        if validation is None:
            if calibration:
                return cls(model, calibration, None, "calibration data")
            if not all(np.issubdtype(np.dtype(spec.dtype), np.floating) for spec in specs):
                raise Invalid(
                    "The model takes integers, and which ones are valid is not known: pass "
                    "validation=, examples to compare on."
                )
            return cls(model, example_inputs(specs, _RANDOM_EXAMPLES), None, "random numbers")
        pair = validation if isinstance(validation, tuple) else (validation, None)
        if len(pair) != 2:
            raise Invalid(
                f"validation is a tuple of {len(pair)}: pass (examples, labels), and for several "
                "inputs a list or dict of arrays as the examples."
            )
        arrays = check_arrays(_as_list(pair[0]), specs, "validation")
        labels = None if pair[1] is None else _checked_labels(pair[1], len(arrays[0]))
        return cls(model, arrays, labels, "validation data")

    def arrays(self) -> Arrays:
        """Return all data that the result depends on."""
        return self.inputs if self.labels is None else [*self.inputs, self.labels]

    @cached_property
    def expected(self) -> Arrays:
        """The outputs of the float32 model.

        Raises:
            Damaged: They contain NaN or infinity.
            Invalid: The model cannot run, or returns something else when it is called again.
        """
        try:
            batches = [
                predict(
                    self.model, [array[start : start + _REFERENCE_BATCH] for array in self.inputs]
                )
                for start in range(0, len(self.inputs[0]), _REFERENCE_BATCH)
            ]
        except Exception as error:  # of a layer, of any type
            raise Invalid(
                f"{subject_of(self.model, error)} fails on the {self.data} in Keras itself "
                f"({reason_of(error)}): correct the model, or pass data that it takes."
            ) from error
        expected = [np.concatenate(parts) for parts in zip(*batches, strict=True)]
        if not _is_finite(expected):
            raise Damaged(
                f"{self.model.name} returns NaN or infinity itself: its weights are damaged, or "
                f"the {self.data} is. Nothing was built."
            )
        _require_repeatable(self.model, [array[:_REFERENCE_BATCH] for array in self.inputs])
        return expected

    @cached_property
    def reference(self) -> float:
        """The accuracy of the float32 model; 1 for agreement.

        Raises:
            Damaged: Its outputs contain NaN or infinity.
            Invalid: It returns something else when it is called again, or the labels do not fit.
        """
        return self.score(self.expected, range(len(self.inputs[0])))

    def facts(self) -> dict[str, Any]:
        """Return the fields of an engine's manifest that describe the data."""
        smallest, largest = float(self.inputs[0].min()), float(self.inputs[0].max())
        pixel_max = 1.0 if largest <= 1 else 255.0
        are_pixels = smallest >= 0 and largest <= pixel_max
        return {
            "logits": not are_probabilities(self.expected[0]),
            "pixel_max": pixel_max if are_pixels else None,
        }

    def compare(self, outputs: Arrays) -> Accuracy:
        """Return the accuracy of an engine's outputs for all inputs.

        Raises:
            Unavailable: Their shapes or dtypes are not those of the model.
            Invalid: The labels do not fit the outputs.
        """
        actual, expected = _signature(outputs), _signature(self.expected)
        if actual != expected:
            raise Unsupported(
                f"The engine returns {actual}, and {self.model.name} {expected}: choose another "
                "backend."
            )
        is_finite, indices = _is_finite(outputs), range(len(self.inputs[0]))
        return Accuracy(
            metric="agreement" if self.labels is None else "accuracy",
            reference=self.reference,
            engine=self.score(outputs, indices) if is_finite else 0.0,
            num_examples=len(indices),
            data=self.data,
            finite=is_finite,
        )

    def score(self, outputs: Arrays, indices: Sequence[int]) -> float:
        """Return the accuracy, or the agreement, of outputs for the examples at `indices`.

        Raises:
            Invalid: The labels do not fit the outputs.
        """
        chosen = list(indices)
        if self.labels is None:
            expected = [array[chosen] for array in self.expected]
            return min(map(_agreement, expected, outputs))
        targets, output = self._targets[chosen], outputs[0]
        if targets.ndim < output.ndim:
            return float(np.mean(output.argmax(-1) == targets))
        return float(np.mean((output > self._threshold) == targets))

    @cached_property
    def _targets(self) -> np.ndarray:
        """The labels: the number of a class for each vector of outputs, or 0 or 1 for each output.

        Raises:
            Invalid: They do not fit the outputs.
        """
        assert self.labels is not None
        labels, shapes = self.labels, [output.shape for output in self.expected]
        if len(shapes) == 1:
            (shape,), axes = shapes, _without_last_one(labels.shape)
            are_classes = 0 <= labels.min() <= labels.max() < shape[-1] > 1
            if are_classes and axes == _without_last_one(shape[:-1]):
                return labels.reshape(shape[:-1])
            if axes == _without_last_one(shape) and np.isin(labels, (0, 1)).all():
                labels = labels.reshape(shape)
                is_one_hot = len(shape) > 1 < shape[-1] and (labels.sum(-1) == 1).all()
                return labels.argmax(-1) if is_one_hot else labels
        raise Invalid(
            f"Labels of shape {labels.shape} from {labels.min()} to {labels.max()} do not fit "
            f"outputs of shape {', '.join(map(str, shapes))}: pass the number of a class for each "
            "example, or 0 or 1 for each output. Or leave the labels out to compare the outputs."
        )

    @property
    def _threshold(self) -> float:
        """What a single output must exceed to mean 1: 0.5, or 0 for logits."""
        return 0.5 if are_probabilities(self.expected[0]) else 0.0


def calibration_arrays(calibration: Any, specs: Sequence[TensorSpec]) -> Arrays:
    """Return the calibration data of `optimize` as an array for each input; empty for None.

    Raises:
        Invalid: It does not fit the model's inputs.
    """
    if calibration is None:
        return []
    return check_arrays(_as_list(calibration), specs, "calibration")


def are_probabilities(outputs: np.ndarray) -> bool:
    """Return whether all outputs are in [0, 1]; logits are not."""
    return bool(outputs.min() >= 0 and outputs.max() <= 1)


def _as_list(examples: Any) -> list[Any] | Mapping[str, Any]:
    return examples if isinstance(examples, list | Mapping) else [examples]


def _checked_labels(labels: Any, num_examples: int) -> np.ndarray:
    array = np.asarray(labels)
    is_number = array.dtype.kind in "biuf"
    if array.shape[:1] != (num_examples,) or not is_number or (array % 1).any():
        raise Invalid(
            f"validation has {num_examples:,} examples and labels of shape {array.shape} and type "
            f"{array.dtype}: pass an integer for each example."
        )
    return array.astype(np.int64)


def _require_repeatable(model: keras.Model, inputs: Arrays) -> None:
    """Refuse a model whose second call returns something else, and name the layer."""
    import tensorflow as tf

    if _are_close(predict(model, inputs), predict(model, inputs)):
        return
    calls = []
    for _ in range(2):
        with record_layer_calls() as recorded:
            call(model, [tf.constant(array) for array in inputs])
        calls.append([(record.layer.name, _tensors(record.output)) for record in recorded])
    names = [
        name
        for (name, first), (_, second) in zip(*calls, strict=False)
        if not _are_close(first, second)
    ]
    subject = f"The layer {names[0]} of {model.name}" if names else model.name
    raise Invalid(
        f"{subject} returns something else when it is called again with the same input, because it "
        "is random or keeps a state: an engine cannot be checked against it. Remove that, or make "
        "it depend on the argument `training`."
    )


def _without_last_one(shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape[:-1] if shape[1:] and shape[-1] == 1 else shape


def _tensors(output: Any) -> list[Any]:
    return [tensor for tensor in keras.tree.flatten(output) if hasattr(tensor, "shape")]


def _are_close(first: list[Any], second: list[Any]) -> bool:
    """Return whether two lists of arrays differ by rounding at most, as on a GPU."""
    pairs = zip(map(np.asarray, first), map(np.asarray, second), strict=True)
    return all(_agreement_of_norms(*pair) > 1 - _ROUNDING for pair in pairs if pair[0].size)


def _agreement(expected: np.ndarray, actual: np.ndarray) -> float:
    """Return the agreement as `optimize` defines it."""
    if expected.ndim > 1 and expected.shape[-1] > 1:
        return float(np.mean(expected.argmax(-1) == actual.argmax(-1)))
    return _agreement_of_norms(expected, actual)


def _agreement_of_norms(expected: np.ndarray, actual: np.ndarray) -> float:
    """Return 1 minus the relative error in the Euclidean norm, at least 0."""
    numbers = expected.astype(np.float64)  # booleans have no difference
    norm = float(np.linalg.norm(numbers))
    return max(0.0, 1 - float(np.linalg.norm(actual.astype(np.float64) - numbers)) / (norm or 1.0))


def _signature(outputs: Arrays) -> list[tuple[tuple[int, ...], str]]:
    return [(output.shape, str(output.dtype)) for output in outputs]


def _is_finite(outputs: Arrays) -> bool:
    return all(bool(np.isfinite(output).all()) for output in outputs)
