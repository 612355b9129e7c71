"""Whether a recurrent layer runs on cuDNN's kernel, and if not, why: `check_cudnn`."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from dltlab.errors import LabError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

# What TensorFlow's operation CudnnRNNV3 is registered for.
_DTYPES = ("bfloat16", "float16", "float32", "float64")
_MARKS = {True: "yes", False: "NO", None: "?"}


@dataclass(frozen=True)
class Condition:
    """One thing that cuDNN's kernel asks for.

    Attributes:
        name: What must be so.
        holds: Whether it is so; None where that shows only in the data.
        found: What is there instead, or what is not known; empty where the condition holds.
    """

    name: str
    holds: bool | None
    found: str = ""

    def __str__(self) -> str:
        return f"{_MARKS[self.holds]:>3}  {self.name}" + (f": {self.found}" if self.found else "")


@dataclass(frozen=True)
class CudnnCheck:
    """What `check_cudnn` found: true where cuDNN's kernel will run.

    Attributes:
        layer: The layer's name.
        conditions: Everything that the kernel asks for.
        insists: Whether the layer has `use_cudnn=True`, so that Keras raises where the kernel
            cannot run, in place of computing the steps one by one.
    """

    layer: str
    conditions: tuple[Condition, ...]
    insists: bool = False

    @property
    def broken(self) -> tuple[Condition, ...]:
        """The conditions that do not hold."""
        return tuple(each for each in self.conditions if each.holds is False)

    @property
    def unknown(self) -> tuple[Condition, ...]:
        """The conditions that only the data can tell."""
        return tuple(each for each in self.conditions if each.holds is None)

    @property
    def runs(self) -> bool:
        """Whether the kernel will run: no condition is broken, as far as that can be known."""
        return not self.broken

    def __bool__(self) -> bool:
        return self.runs

    def __repr__(self) -> str:
        if self.runs:
            says = "cuDNN's kernel will run" + (", if what is unknown holds" * bool(self.unknown))
        elif self.insists:
            says = "cuDNN's kernel cannot run, and as use_cudnn is True, Keras will raise"
        else:
            says = "cuDNN's kernel will not run; Keras will compute step by step"
        return "\n".join([f"{self.layer}: {says}.", *map(str, self.conditions)])


def check_cudnn(layer: keras.layers.Layer, mask: "ArrayLike | None" = None) -> CudnnCheck:
    """Whether cuDNN's kernel for a whole sequence will run for this recurrent layer.

    Keras falls back to a loop over the steps without a word where a condition of the kernel does
    not hold. The conditions are those of `keras.layers.LSTM` and `keras.layers.GRU` on TensorFlow,
    read from what the layer makes public; nothing is computed.

    That the mask be right-padded shows only in the data. Where it is not, a layer that is called
    eagerly falls back; a compiled one, as in `fit`, stops with an error, so set `use_cudnn=False`.

    What is outside the layer cannot be seen: a `tf.device` for the CPU around the call, or
    `jit_compile=True`, as XLA cannot compile the kernel.

    Args:
        layer: An LSTM or GRU, alone or in `keras.layers.Bidirectional`; for other recurrent layers
            there is no kernel, and that is the answer.
        mask: A mask of a batch that the layer will get, bool `(b, t)`, True where a step counts.

    Raises:
        LabError: `layer` is not a recurrent layer, or `mask` is no table of batch and steps.
    """
    shared = (_device(), _right_padded(mask))
    if isinstance(layer, keras.layers.Bidirectional):
        directions = {"forward": layer.forward_layer, "backward": layer.backward_layer}
    else:
        directions = {"": layer}
    found = {name: _of_layer(each) for name, each in directions.items()}
    same = [
        each for each in next(iter(found.values())) if all(each in own for own in found.values())
    ]
    apart = [
        replace(each, name=f"{direction}: {each.name}")
        for direction, own in found.items()
        for each in own
        if each not in same
    ]
    insists = any(getattr(each, "use_cudnn", None) is True for each in directions.values())
    return CudnnCheck(layer.name, (_backend(), *same, *apart, *shared), insists)


def _of_layer(layer: keras.layers.Layer) -> list[Condition]:
    """What depends on the layer's configuration alone."""
    if not isinstance(layer, keras.layers.RNN):
        raise LabError(
            f"check_cudnn looks at one recurrent layer, and got a {type(layer).__name__}; the "
            "layers of a model are in model.layers."
        )
    if not isinstance(layer, keras.layers.LSTM | keras.layers.GRU):
        kind = type(layer).__name__
        cell = f" with the cell {type(layer.cell).__name__}" if kind == "RNN" else ""
        return [Condition("the layer is an LSTM or a GRU", False, f"it is a {kind}{cell}")]
    conditions = [
        Condition("the layer is an LSTM or a GRU", True),
        _condition("use_cudnn is not False", layer.use_cudnn is not False, "it is False"),
        _activation("activation", layer.activation, "tanh"),
        _activation("recurrent_activation", layer.recurrent_activation, "sigmoid"),
        _condition(
            "recurrent_dropout is 0",
            not layer.recurrent_dropout,
            f"it is {layer.recurrent_dropout:g}; dropout, of the inputs, would be fine",
        ),
        _condition("unroll is False", not layer.unroll, "it is True"),
        _condition("use_bias is True", layer.use_bias, "it is False"),
    ]
    if isinstance(layer, keras.layers.GRU):
        conditions.append(_condition("reset_after is True", layer.reset_after, "it is False"))
    dtype = layer.compute_dtype
    named = f"computes in {', '.join(_DTYPES[:-1])} or {_DTYPES[-1]}"
    return [*conditions, _condition(named, dtype in _DTYPES, f"in {dtype}")]


def _condition(name: str, holds: Any, otherwise: str) -> Condition:
    return Condition(name, True) if holds else Condition(name, False, otherwise)


def _activation(which: str, function: Any, wanted: str) -> Condition:
    """Keras takes its own function, that of `keras.ops`, or TensorFlow's, and no other."""
    import tensorflow as tf

    known = (getattr(module, wanted) for module in (keras.activations, keras.ops, tf))
    name = getattr(function, "__name__", type(function).__name__)
    if name == wanted:
        name = f"another function of the name {name}"
    return _condition(
        f"{which} is {wanted}", any(function is each for each in known), f"it is {name}"
    )


def _backend() -> Condition:
    backend = keras.config.backend()
    return _condition("Keras runs on TensorFlow", backend == "tensorflow", f"it runs on {backend}")


def _device() -> Condition:
    """Whether TensorFlow sees a GPU; Keras asks in the same way."""
    import tensorflow as tf

    return _condition(
        "a GPU is there", tf.config.list_logical_devices("GPU"), "TensorFlow sees none"
    )


def _right_padded(mask: "ArrayLike | None") -> Condition:
    """Whether every row of a mask is one or more True, and then only False."""
    name = "a mask, if there is one, is right-padded"
    if mask is None:
        return Condition(name, None, "that depends on the data; pass a mask to know")
    rows = np.asarray(mask)
    if rows.ndim != 2 or not rows.size:
        raise LabError(f"The mask has the shape {rows.shape}; it must be (batch, steps).")
    rows = rows.astype(bool)
    empty = ~rows.any(axis=1)
    if empty.any():
        return Condition(name, False, f"row {empty.argmax()} leaves out every step")
    gaps = (~rows[:, :-1] & rows[:, 1:]).any(axis=1)
    return _condition(name, not gaps.any(), f"in row {gaps.argmax()} a step follows one left out")
