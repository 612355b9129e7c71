"""Whether an engine is right: `Judge`, which knows what the float32 model says."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import keras
import numpy as np

from dltlab.errors import LabError
from dltlab.inference.backends import Arrays
from dltlab.inference.cache import Check, Tensor
from dltlab.inference.engine import examples, require_fitting

_AT_A_TIME = 32  # examples that Keras is given
_RANDOM = 32  # examples, where there are none


@dataclass(frozen=True)
class Judge:
    """What engines are compared on.

    Attributes:
        model: In float32.
        inputs: An array for each input of the model.
        labels: None where there are none.
        data: What the inputs are.
    """

    model: keras.Model
    inputs: Arrays
    labels: np.ndarray | None
    data: str

    @classmethod
    def of(
        cls, model: keras.Model, inputs: Sequence[Tensor], validation: Any, calibrating: Arrays
    ) -> "Judge":
        """One with the validation data; where there is none, with the best there is.

        Raises:
            LabError: It does not fit the model, or there is nothing to run it on.
        """
        if validation is None:
            if calibrating:
                return cls(model, calibrating, None, "calibration data")
            if not all(np.issubdtype(np.dtype(each.dtype), np.floating) for each in inputs):
                raise LabError(
                    "The model takes whole numbers, and which ones make sense is not known: pass "
                    "validation=, examples to compare on."
                )
            return cls(model, examples(inputs, _RANDOM), None, "random numbers")
        pair = validation if isinstance(validation, tuple) else (validation, None)
        if len(pair) != 2:
            raise LabError(
                f"validation is a tuple of {len(pair)}: give (examples, labels), and for several "
                "inputs a list of arrays in the place of the examples."
            )
        given, labels = pair
        arrays = examples_of(given, inputs, "validation")
        if labels is None:
            return cls(model, arrays, None, "validation data")
        labels = np.asarray(labels)
        if labels.shape[:1] != arrays[0].shape[:1] or labels.dtype.kind not in "iu":
            raise LabError(
                f"validation has {len(arrays[0]):,} examples and labels of shape {labels.shape} "
                f"and type {labels.dtype}: give a whole number for each example."
            )
        return cls(model, arrays, labels, "validation data")

    def arrays(self) -> Arrays:
        """All of its data."""
        return self.inputs if self.labels is None else [*self.inputs, self.labels]

    @cached_property
    def expected(self) -> Arrays:
        """What the model gives.

        Raises:
            LabError: That is NaN or infinite.
        """
        parts = []
        for first in range(0, len(self.inputs[0]), _AT_A_TIME):
            some = [each[first : first + _AT_A_TIME] for each in self.inputs]
            found = self.model.predict_on_batch(some[0] if len(some) == 1 else some)
            parts.append([np.asarray(each) for each in keras.tree.flatten(found)])
        whole = [np.concatenate(each) for each in zip(*parts, strict=True)]
        if not _finite(whole):
            raise LabError(
                f"{self.model.name} gives NaN or infinity itself: its weights are damaged, or the "
                f"{self.data} is. Nothing was built."
            )
        return whole

    def check(self, found: Arrays) -> Check:
        """Compare what an engine gives with what the model gives.

        Raises:
            LabError: Shapes or dtypes differ, or the labels do not fit the outputs.
        """
        gives, wants = ([(each.shape, str(each.dtype)) for each in some]
                        for some in (found, self.expected))  # fmt: skip
        if gives != wants:
            raise LabError(
                f"The engine gives {gives}, and {self.model.name} {wants}: choose another backend."
            )
        finite, everything = _finite(found), range(len(self.inputs[0]))
        return Check(
            metric="agreement" if self.labels is None else "accuracy",
            reference=self.score(self.expected, everything),
            engine=self.score(found, everything) if finite else 0.0,
            num_examples=len(everything),
            data=self.data,
            finite=finite,
        )

    def score(self, outputs: Arrays, places: Sequence[int]) -> float:
        """The accuracy, or the agreement, of outputs for the examples at those places.

        Raises:
            LabError: There is not one output for each class, at each label.
        """
        chosen = list(places)
        if self.labels is None:
            expected = [each[chosen] for each in self.expected]
            return min(map(_agreement, expected, outputs))
        labels = self.labels[chosen]
        if len(outputs) != 1 or outputs[0].shape[:-1] != labels.shape or outputs[0].shape[-1] < 2:
            raise LabError(
                f"Labels of shape {labels.shape} do not fit outputs of shape "
                f"{[each.shape for each in outputs]}: accuracy needs an output for each class. "
                "Leave the labels out, and the outputs are compared."
            )
        return float(np.mean(outputs[0].argmax(-1) == labels))


def examples_of(given: Any, inputs: Sequence[Tensor], what: str) -> Arrays:
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


def _agreement(expected: np.ndarray, found: np.ndarray) -> float:
    """As `optimize` describes it."""
    if expected.ndim > 1 and expected.shape[-1] > 1:
        return float(np.mean(expected.argmax(-1) == found.argmax(-1)))
    size = float(np.linalg.norm(expected))
    return max(0.0, 1 - float(np.linalg.norm(found - expected)) / (size or 1.0))


def _finite(outputs: Arrays) -> bool:
    return all(bool(np.isfinite(each).all()) for each in outputs)
