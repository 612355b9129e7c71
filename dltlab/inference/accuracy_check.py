"""Compare engines with the float32 model: `AccuracyCheck`."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import keras
import numpy as np

from dltlab.errors import Damaged, Invalid, Unavailable
from dltlab.inference.arrays import check_arrays, example_inputs
from dltlab.inference.backends.base import Arrays
from dltlab.inference.manifest import Accuracy, TensorSpec

_REFERENCE_BATCH = 32  # examples in a call of the float32 model
_RANDOM_EXAMPLES = 32


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
                "inputs a list of arrays as the examples."
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
        """
        batches = []
        for start in range(0, len(self.inputs[0]), _REFERENCE_BATCH):
            batch = [array[start : start + _REFERENCE_BATCH] for array in self.inputs]
            outputs = self.model.predict_on_batch(batch[0] if len(batch) == 1 else batch)
            batches.append([np.asarray(output) for output in keras.tree.flatten(outputs)])
        expected = [np.concatenate(parts) for parts in zip(*batches, strict=True)]
        if not _is_finite(expected):
            raise Damaged(
                f"{self.model.name} returns NaN or infinity itself: its weights are damaged, or "
                f"the {self.data} is. Nothing was built."
            )
        return expected

    def compare(self, outputs: Arrays) -> Accuracy:
        """Return the accuracy of an engine's outputs for all inputs.

        Raises:
            Unavailable: Their shapes or dtypes are not those of the model.
            Invalid: The labels do not fit the outputs.
        """
        actual, expected = _signature(outputs), _signature(self.expected)
        if actual != expected:
            raise Unavailable(
                f"The engine returns {actual}, and {self.model.name} {expected}: choose another "
                "backend."
            )
        is_finite, indices = _is_finite(outputs), range(len(self.inputs[0]))
        return Accuracy(
            metric="agreement" if self.labels is None else "accuracy",
            reference=self.score(self.expected, indices),
            engine=self.score(outputs, indices) if is_finite else 0.0,
            num_examples=len(indices),
            data=self.data,
            finite=is_finite,
        )

    def score(self, outputs: Arrays, indices: Sequence[int]) -> float:
        """Return the accuracy, or the agreement, of outputs for the examples at `indices`.

        Raises:
            Invalid: There is not one output for each class, for each label.
        """
        chosen = list(indices)
        if self.labels is None:
            expected = [array[chosen] for array in self.expected]
            return min(map(_agreement, expected, outputs))
        labels = self.labels[chosen]
        if len(outputs) != 1 or outputs[0].shape[:-1] != labels.shape or outputs[0].shape[-1] < 2:
            raise Invalid(
                f"Labels of shape {labels.shape} do not fit outputs of shape "
                f"{[output.shape for output in outputs]}: accuracy needs an output for each class. "
                "Leave the labels out to compare the outputs instead."
            )
        return float(np.mean(outputs[0].argmax(-1) == labels))


def calibration_arrays(calibration: Any, specs: Sequence[TensorSpec]) -> Arrays:
    """Return the calibration data of `optimize` as an array for each input; empty for None.

    Raises:
        Invalid: It does not fit the model's inputs.
    """
    if calibration is None:
        return []
    return check_arrays(_as_list(calibration), specs, "calibration")


def _as_list(examples: Any) -> list[Any]:
    return examples if isinstance(examples, list) else [examples]


def _checked_labels(labels: Any, num_examples: int) -> np.ndarray:
    array = np.asarray(labels)
    if array.shape[:1] != (num_examples,) or array.dtype.kind not in "iu":
        raise Invalid(
            f"validation has {num_examples:,} examples and labels of shape {array.shape} and type "
            f"{array.dtype}: pass an integer for each example."
        )
    return array


def _agreement(expected: np.ndarray, actual: np.ndarray) -> float:
    """Return the agreement as `optimize` defines it."""
    if expected.ndim > 1 and expected.shape[-1] > 1:
        return float(np.mean(expected.argmax(-1) == actual.argmax(-1)))
    norm = float(np.linalg.norm(expected))
    return max(0.0, 1 - float(np.linalg.norm(actual - expected)) / (norm or 1.0))


def _signature(outputs: Arrays) -> list[tuple[tuple[int, ...], str]]:
    return [(output.shape, str(output.dtype)) for output in outputs]


def _is_finite(outputs: Arrays) -> bool:
    return all(bool(np.isfinite(output).all()) for output in outputs)
