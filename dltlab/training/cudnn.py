"""Check whether a recurrent layer runs on cuDNN's kernel, and if not, why: `check_cudnn`."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from dltlab.display import Result
from dltlab.errors import Invalid

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import ArrayLike

# The dtypes of TensorFlow's operation CudnnRNNV3.
_DTYPES = ("bfloat16", "float16", "float32", "float64")
_ANSWERS = {True: "yes", False: "NO", None: "?"}


@dataclass(frozen=True)
class Condition:
    """A requirement of cuDNN's kernel.

    Attributes:
        name: The requirement.
        holds: Whether it is met; None if that depends on the data.
        reason: Why it is not met or not known; empty if it is met.
    """

    name: str
    holds: bool | None
    reason: str = ""

    def __str__(self) -> str:
        return f"{_ANSWERS[self.holds]:>3}  {self.name}" + (f": {self.reason}" * bool(self.reason))


@dataclass(frozen=True, repr=False)
class CudnnCheck(Result):
    """What `check_cudnn` returns; true if cuDNN's kernel will run.

    Attributes:
        layer: The layer's name.
        conditions: All requirements of the kernel.
        is_required: Whether the layer has `use_cudnn=True`: Keras then raises if the kernel cannot
            run, instead of computing step by step.
    """

    layer: str
    conditions: tuple[Condition, ...]
    is_required: bool = False

    @property
    def broken(self) -> tuple[Condition, ...]:
        """The conditions that are not met."""
        return tuple(condition for condition in self.conditions if condition.holds is False)

    @property
    def unknown(self) -> tuple[Condition, ...]:
        """The conditions that depend on the data."""
        return tuple(condition for condition in self.conditions if condition.holds is None)

    @property
    def runs(self) -> bool:
        """Whether the kernel will run: no condition is known to be broken."""
        return not self.broken

    def __bool__(self) -> bool:
        return self.runs

    @property
    def summary(self) -> str:
        """Whether the kernel will run, in a sentence."""
        if self.runs:
            condition = ", if the unknown conditions are met" if self.unknown else ""
            return f"{self.layer}: cuDNN's kernel will run{condition}."
        if self.is_required:
            return (
                f"{self.layer}: cuDNN's kernel cannot run, and Keras will raise an error because "
                "use_cudnn is True."
            )
        return f"{self.layer}: cuDNN's kernel will not run; Keras will compute step by step."

    @property
    def table(self) -> "pd.DataFrame":
        """One row per condition."""
        import pandas as pd

        rows = [
            (condition.name, _ANSWERS[condition.holds], condition.reason)
            for condition in self.conditions
        ]
        return pd.DataFrame(rows, columns=["condition", "met", "reason"])


def check_cudnn(layer: keras.layers.Layer, mask: "ArrayLike | None" = None) -> CudnnCheck:
    """Check whether cuDNN's kernel for whole sequences will run for a recurrent layer.

    Keras silently computes step by step if a condition of the kernel is not met. The conditions are
    those of `keras.layers.LSTM` and `keras.layers.GRU` on TensorFlow, read from the layer's public
    attributes; nothing is computed.

    Whether a mask is right-padded depends on the data. If it is not, a layer that is called eagerly
    computes step by step; a compiled one, as in `fit`, raises an error: then set `use_cudnn=False`.

    What is outside the layer is not checked: a `tf.device` for the CPU around the call, or
    `jit_compile=True`, because XLA cannot compile the kernel.

    Args:
        layer: An LSTM or GRU, also inside `keras.layers.Bidirectional`. Other recurrent layers have
            no such kernel, and the result says so.
        mask: A mask of a batch for the layer, bool `(b, t)`, True where a step counts.

    Raises:
        Invalid: `layer` is not a recurrent layer, or `mask` is not a matrix.
    """
    shared = (_device(), _right_padded(mask))
    if isinstance(layer, keras.layers.Bidirectional):
        directions = {"forward": layer.forward_layer, "backward": layer.backward_layer}
    else:
        directions = {"": layer}
    conditions = {name: _layer_conditions(inner) for name, inner in directions.items()}
    first, *others = conditions.values()
    same = [condition for condition in first if all(condition in other for other in others)]
    different = [
        replace(condition, name=f"{direction}: {condition.name}")
        for direction, of_direction in conditions.items()
        for condition in of_direction
        if condition not in same
    ]
    is_required = any(getattr(inner, "use_cudnn", None) is True for inner in directions.values())
    return CudnnCheck(layer.name, (_backend(), *same, *different, *shared), is_required)


def _layer_conditions(layer: keras.layers.Layer) -> list[Condition]:
    """Return the conditions that depend on the layer's arguments."""
    if not isinstance(layer, keras.layers.RNN):
        raise Invalid(
            f"check_cudnn checks one recurrent layer, and got a {type(layer).__name__}; the layers "
            "of a model are in model.layers."
        )
    if not isinstance(layer, keras.layers.LSTM | keras.layers.GRU):
        layer_class = type(layer).__name__
        cell = f" with the cell {type(layer.cell).__name__}" if layer_class == "RNN" else ""
        return [Condition("the layer is an LSTM or a GRU", False, f"it is a {layer_class}{cell}")]
    conditions = [
        Condition("the layer is an LSTM or a GRU", True),
        _condition("use_cudnn is not False", layer.use_cudnn is not False, "it is False"),
        _activation("activation", layer.activation, "tanh"),
        _activation("recurrent_activation", layer.recurrent_activation, "sigmoid"),
        _condition(
            "recurrent_dropout is 0",
            not layer.recurrent_dropout,
            f"it is {layer.recurrent_dropout:g}; dropout, of the inputs, is allowed",
        ),
        _condition("unroll is False", not layer.unroll, "it is True"),
        _condition("use_bias is True", layer.use_bias, "it is False"),
    ]
    if isinstance(layer, keras.layers.GRU):
        conditions.append(_condition("reset_after is True", layer.reset_after, "it is False"))
    dtype = layer.compute_dtype
    name = f"computes in {', '.join(_DTYPES[:-1])} or {_DTYPES[-1]}"
    return [*conditions, _condition(name, dtype in _DTYPES, f"in {dtype}")]


def _condition(name: str, holds: Any, reason: str) -> Condition:
    return Condition(name, True) if holds else Condition(name, False, reason)


def _activation(argument: str, function: Any, expected: str) -> Condition:
    """Keras accepts its own function, that of `keras.ops`, or TensorFlow's, and no other."""
    import tensorflow as tf

    accepted = [getattr(module, expected) for module in (keras.activations, keras.ops, tf)]
    name = getattr(function, "__name__", type(function).__name__)
    if name == expected:
        name = f"another function named {name}"
    holds = any(function is candidate for candidate in accepted)
    return _condition(f"{argument} is {expected}", holds, f"it is {name}")


def _backend() -> Condition:
    backend = keras.config.backend()
    return _condition("Keras runs on TensorFlow", backend == "tensorflow", f"it runs on {backend}")


def _device() -> Condition:
    """Return whether TensorFlow sees a GPU, which Keras checks in the same way."""
    import tensorflow as tf

    gpus = tf.config.list_logical_devices("GPU")
    return _condition("a GPU is available", gpus, "TensorFlow sees none")


def _right_padded(mask: "ArrayLike | None") -> Condition:
    """Return whether every row of a mask is one or more True, followed by only False."""
    name = "a mask, if there is one, is right-padded"
    if mask is None:
        return Condition(name, None, "it depends on the data; pass a mask to check it")
    rows = np.asarray(mask)
    if rows.ndim != 2 or not rows.size:
        raise Invalid(f"The mask has the shape {rows.shape}; it must be (batch, steps).")
    rows = rows.astype(bool)
    is_empty = ~rows.any(axis=1)
    if is_empty.any():
        return Condition(name, False, f"row {is_empty.argmax()} leaves out every step")
    has_gap = (~rows[:, :-1] & rows[:, 1:]).any(axis=1)
    reason = f"in row {has_gap.argmax()} a step follows one that is left out"
    return _condition(name, not has_gap.any(), reason)
