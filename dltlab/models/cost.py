"""What a model costs, layer by layer, before it has seen an image: `cost`."""

import html
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import keras

from dltlab.display import printable, show
from dltlab.errors import LabError
from dltlab.models.flop_rules import Shape, does_nothing, is_whole, rule_of, shape_of
from dltlab.models.tracing import Call, recorded

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_NAMED = 24  # bars of a figure that have room for their names
_LONGEST = 22  # characters of a name
_MOST_ROWS = 60  # of a table
_FLOAT32 = 4  # bytes
_COLORS = ("#0072B2", "#D55E00", "#009E73")
_PANELS = {
    "macs": "multiply-adds",
    "params": "parameters",
    "activation_bytes": "activations (bytes)",
}


@dataclass(frozen=True)
class LayerCost:
    """What one call of a layer costs, for one example.

    Attributes:
        name: Of the layer.
        kind: Its class.
        output_shape: Of its first output, without the batch.
        params: Its parameters; 0 where an earlier call has counted them.
        macs: Multiply-adds; NaN where they are not known.
        activation_bytes: Of all its outputs, in the precision it computes in.
        input_bytes: Of all its inputs.
    """

    name: str
    kind: str
    output_shape: Shape
    params: int
    macs: float
    activation_bytes: int
    input_bytes: int

    @property
    def flops_per_input_byte(self) -> float:
        """Two operations for each multiply-add, for each byte that comes in."""
        return 2 * self.macs / self.input_bytes if self.input_bytes else math.nan


@dataclass(frozen=True, repr=False)
class Cost:
    """What `cost` has counted; a notebook shows it as a table.

    Attributes:
        name: Of the model.
        layers: A row for each call of a layer, in the order in which they run.
        params: All parameters of the model.
        trainable_params: Those that training changes.
        input_bytes: Of one example, float32 where the model does not say otherwise.
        uncounted: The layers whose multiply-adds are not known, so that all sums are too low.
    """

    name: str
    layers: tuple[LayerCost, ...]
    params: int
    trainable_params: int
    input_bytes: int
    uncounted: tuple[str, ...]

    @property
    def macs(self) -> int:
        """Multiply-adds of one example; without those of the layers in `uncounted`."""
        return int(sum(row.macs for row in self.layers if not math.isnan(row.macs)))

    @property
    def activation_bytes(self) -> int:
        """Bytes of the outputs of all layers for one example."""
        return sum(row.activation_bytes for row in self.layers)

    @property
    def flops_per_input_byte(self) -> float:
        """Operations of a forward pass, two for each multiply-add, for each byte of input."""
        return 2 * self.macs / self.input_bytes

    def training_bytes(self, batch_size: int, slots: int = 2) -> int:
        """The least memory that training takes.

        4 bytes for each parameter; for each one that is trained 4 more for its gradient and each of
        the optimizer's `slots`; the activations of all examples, which the backward pass needs; and
        one gradient of the largest of them. A framework's own workspace comes on top.

        Args:
            batch_size: Examples in a step.
            slots: Numbers that the optimizer keeps for each parameter: 2 for Adam, 1 for SGD with
                momentum.
        """
        weights = _FLOAT32 * (self.params + (1 + slots) * self.trainable_params)
        largest = max((row.activation_bytes for row in self.layers), default=0)
        return weights + batch_size * (self.activation_bytes + largest + self.input_bytes)

    def table(self) -> "pd.DataFrame":
        """A row for each call of a layer, and the total."""
        import pandas as pd

        rows = [
            (
                *(row.name, row.kind, _shape_text(row.output_shape), row.params),
                *(row.macs, row.activation_bytes, row.flops_per_input_byte),
            )
            for row in self.layers
        ]
        total = ("total", "at least" if self.uncounted else "", "", self.params, float(self.macs))
        rows.append((*total, self.activation_bytes, self.flops_per_input_byte))
        columns = [
            *("layer", "kind", "output shape", "parameters", "multiply-adds"),
            *("activation bytes", "FLOPs per input byte"),
        ]
        return pd.DataFrame(rows, columns=columns)

    def _repr_html_(self) -> str:
        table = self.table().to_html(
            index=False, max_rows=_MOST_ROWS, formatters=_FORMATS, na_rep="?"
        )
        return f"<p>{html.escape(self._sentence)}</p>{table}"

    def __repr__(self) -> str:
        table = self.table().to_string(
            index=False, max_rows=_MOST_ROWS, formatters=_FORMATS, na_rep="?"
        )
        return f"{self._sentence}\n{table}"

    @property
    def _sentence(self) -> str:
        least = "at least " if self.uncounted else ""
        missing = f" Not counted: {', '.join(self.uncounted)}." if self.uncounted else ""
        return (
            f"{self.name}: {self.params:,} parameters, {least}{_amount(self.macs)} multiply-adds "
            f"and {_amount(self.activation_bytes)}B of activations for one example.{missing}"
        )

    def figure(self) -> tuple["Figure", str]:
        """Work, parameters and activations along the depth of the network, and them in words.

        A bar is a layer with multiply-adds, together with those without any that follow it.
        """
        from matplotlib.figure import Figure
        from matplotlib.ticker import EngFormatter

        bars = _Bar.of(self.layers)
        figure = Figure(figsize=(9, 6), layout="constrained")
        panels: Sequence[Axes] = figure.subplots(3, 1, sharex=True)
        for axes, (quantity, what), color in zip(panels, _PANELS.items(), _COLORS, strict=True):
            axes.bar(range(len(bars)), [getattr(bar, quantity) for bar in bars], color=color)
            axes.set_ylabel(what)
            axes.yaxis.set_major_formatter(EngFormatter())
            axes.spines[["top", "right"]].set_visible(False)
        if len(bars) <= _NAMED:
            names = [_short(bar.name) for bar in bars]
            panels[-1].set_xticks(range(len(bars)), names, rotation=60, ha="right", fontsize=8)
            panels[-1].set_xlabel("layer")
        else:
            panels[-1].set_xlabel("layers, the first one to the left")
        figure.suptitle(self._sentence.partition(" Not counted")[0], fontsize=11)
        parts = (
            [_largest(bars, quantity, what) for quantity, what in _PANELS.items()] if bars else []
        )
        return figure, f"{self._sentence} {'; '.join(parts)}."

    def show(self) -> None:
        """Show the image."""
        show(*self.figure())


def cost(model: keras.Model, input_shape: Shape | None = None) -> Cost:
    """Count what a model has and does, layer by layer, for one example.

    Multiply-adds are those of convolutions, matrix products, attention and recurrences, as papers
    count them. Biases, normalization, activations, pooling and sums are not counted. The model runs
    once, on nothing but shapes where Keras is on TensorFlow, so that subclassed models and shared
    layers are counted as they are used.

    Args:
        model: Any Keras model.
        input_shape: Of one example, without the batch; needed where the model does not know it, as
            a subclassed one, or has sides of any length.

    Raises:
        LabError: The input's shape is not known, or the model does not run on it.
    """
    inputs = _inputs(model, input_shape)
    shapes = ", ".join(_shape_text(each.shape[1:]) for each in inputs)
    try:
        calls = _calls(model, inputs)
    except Exception as error:  # whatever a model's own code raises
        words = str(error).strip().splitlines()
        raise LabError(
            f"{model.name} does not run on an input of shape {shapes} "
            f"({words[0] if words else type(error).__name__}): pass the input_shape that it is for."
        ) from error
    counted = _Counted(calls)
    return Cost(
        name=model.name,
        layers=tuple(counted.rows),
        params=model.count_params(),
        trainable_params=sum(math.prod(each.shape) for each in model.trainable_weights),
        input_bytes=sum(map(_num_bytes, inputs)),
        uncounted=tuple(dict.fromkeys(counted.uncounted)),
    )


def _inputs(model: keras.Model, input_shape: Shape | None) -> list[keras.KerasTensor]:
    """The shape and dtype of each input of the model, for one example.

    Raises:
        LabError: They are not known.
    """
    if input_shape is not None:
        return [keras.KerasTensor((1, *input_shape))]
    try:
        known = model.inputs
    except (AttributeError, ValueError):
        known = None
    if not known:
        raise LabError(
            f"{model.name} does not know the shape of its input: pass input_shape, as in "
            "cost(model, (32, 32, 3))."
        )
    for each in known:
        if None in each.shape[1:]:
            raise LabError(
                f"{model.name} takes inputs of any size, {_shape_text(each.shape[1:])}: pass the "
                "input_shape to count for."
            )
    return [keras.KerasTensor((1, *each.shape[1:]), each.dtype) for each in known]


def _calls(model: keras.Model, inputs: list[keras.KerasTensor]) -> list[Call]:
    """The calls of layers in one run of the model: on shapes alone on TensorFlow, else on zeros."""

    def run(*tensors: Any) -> Any:
        return model(tensors[0] if len(tensors) == 1 else list(tensors), training=False)

    zeros = [keras.ops.zeros(each.shape, each.dtype) for each in inputs]
    if keras.config.backend() != "tensorflow":
        with recorded() as calls:
            run(*zeros)
        return calls
    import tensorflow as tf

    if not model.built:
        run(*zeros)  # its weights cannot be made while a graph is built
    specs = [tf.TensorSpec(each.shape, each.dtype) for each in inputs]
    with recorded() as calls:
        tf.function(run, autograph=False).get_concrete_function(*specs)
    return calls


class _Counted:
    """Rows for the calls of layers in a run.

    Attributes:
        rows: In the order in which the layers run; a layer that holds others has one only where it
            does or has something itself.
        uncounted: The names of layers whose multiply-adds are not known.
    """

    def __init__(self, calls: list[Call]) -> None:
        self.rows: list[LayerCost] = []
        self.uncounted: list[str] = []
        self._calls = calls
        self._seen: set[int] = set()
        for place in self._within(0, len(calls)):
            self._count(place)

    def _within(self, begin: int, end: int) -> list[int]:
        """The outermost calls among those from `begin` to `end`."""
        places, place = [], end - 1
        while place >= begin:
            places.append(place)
            place = self._calls[place].begin - 1
        return places[::-1]

    def _count(self, place: int) -> None:
        call = self._calls[place]
        rule = rule_of(call.layer)
        inner = [] if rule and is_whole(call.layer) else self._within(call.begin, place)
        for each in inner:
            self._count(each)
        macs = rule(call) if rule else 0.0 if does_nothing(call) else math.nan
        params = self._new_params(call.layer)
        if math.isnan(macs):
            self.uncounted.append(call.layer.name)
        if inner and macs == 0 and not params:
            return
        outputs = [] if inner else keras.tree.flatten(call.output)
        self.rows.append(
            LayerCost(
                name=call.layer.name,
                kind=type(call.layer).__name__,
                output_shape=shape_of(keras.tree.flatten(call.output)[0]),
                params=params,
                macs=macs,
                activation_bytes=sum(map(_num_bytes, outputs)),
                input_bytes=sum(map(_num_bytes, call.inputs)),
            )
        )

    def _new_params(self, layer: keras.layers.Layer) -> int:
        """The parameters of a layer that no row has yet."""
        new = [each for each in layer.weights if id(each) not in self._seen]
        self._seen.update(map(id, new))
        return sum(math.prod(each.shape) for each in new)


def _num_bytes(tensor: Any) -> int:
    """Of one example."""
    bits = re.search(r"\d+$", keras.backend.standardize_dtype(tensor.dtype))
    return math.prod(shape_of(tensor)) * (int(bits[0]) // 8 if bits else 1)


@dataclass
class _Bar:
    """A layer with multiply-adds, and those without any that follow it."""

    name: str
    macs: float = 0.0
    params: int = 0
    activation_bytes: int = 0

    @classmethod
    def of(cls, rows: Sequence[LayerCost]) -> "list[_Bar]":
        bars: list[_Bar] = []
        any_works = any(row.macs for row in rows)
        for row in rows:
            if not bars or row.macs or not any_works:
                bars.append(cls(row.name))
            bars[-1].macs += 0.0 if math.isnan(row.macs) else row.macs
            bars[-1].params += row.params
            bars[-1].activation_bytes += row.activation_bytes
        return bars


def _largest(bars: Sequence[_Bar], quantity: str, what: str) -> str:
    """Which bar has the most of a quantity."""
    most = max(bars, key=lambda bar: getattr(bar, quantity))
    total = sum(getattr(bar, quantity) for bar in bars)
    return f"{most.name} has {getattr(most, quantity) / max(total, 1):.0%} of the {what}"


def _amount(value: float) -> str:
    """A number as it is spoken of: 15.5 G."""
    for factor, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.3g} {letter}"
    return f"{value:g} "


def _shape_text(shape: Sequence[int | None]) -> str:
    return "×".join("?" if side is None else str(side) for side in shape)


def _short(name: str) -> str:
    name = printable(name)
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"


_FORMATS = {
    "parameters": "{:,}".format,
    "multiply-adds": "{:,.0f}".format,
    "activation bytes": "{:,}".format,
    "FLOPs per input byte": "{:,.1f}".format,
}
