"""Count the parameters, multiply-adds and activations of a model, layer by layer: `cost`."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import keras

from dltlab.display import PALETTE, Result, printable
from dltlab.errors import Invalid
from dltlab.models.flop_rules import Shape, counts_inner_layers, has_no_macs, rule_for, shape_of
from dltlab.models.layer_calls import LayerCall, record_layer_calls
from dltlab.models.training_cost import FLOAT32_BYTES, MAX_SLOTS, LayerTraining, TrainingCost

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MAX_NAMED_BARS = 24  # of a figure that has room for their names
_MAX_NAME = 22  # characters
_PANELS = {
    "macs": "multiply-adds",
    "params": "parameters",
    "activation_bytes": "activations (bytes)",
}


@dataclass(frozen=True)
class LayerCost:
    """The cost of one call of a layer, for one example.

    Attributes:
        name: The layer's name.
        kind: The layer's class.
        output_shape: The shape of its first output, without the batch.
        params: The number of parameters; 0 if an earlier call of the layer has counted them.
        macs: Multiply-adds; NaN if they are not known.
        activation_bytes: The size of all outputs, in the dtype that the layer computes in.
        input_bytes: The size of all inputs.
        output_bytes: The size of all outputs; other than `activation_bytes`, also if they are the
            outputs of a layer inside this one.
        weight_gradients: 1 if the layer itself has weights to train, else 0.
        input_gradients: The gradients of inputs that the backward pass computes: 0 if no layer
            before this one has weights to train; 2 for a product of two inputs, as in attention.
    """

    name: str
    kind: str
    output_shape: Shape
    params: int
    macs: float
    activation_bytes: int
    input_bytes: int
    output_bytes: int
    weight_gradients: int
    input_gradients: int

    @property
    def flops_per_input_byte(self) -> float:
        """Arithmetic intensity: two operations per multiply-add, for each byte of input."""
        return 2 * self.macs / self.input_bytes if self.input_bytes else math.nan

    def training(self, batch_size: int) -> LayerTraining:
        """Return what the call costs in a training step with `batch_size` examples."""
        return LayerTraining(
            name=self.name,
            kind=self.kind,
            macs=batch_size * self.macs,
            weight_bytes=FLOAT32_BYTES * self.params,
            activation_bytes=batch_size * (self.input_bytes + self.output_bytes),
            weight_gradients=self.weight_gradients,
            input_gradients=self.input_gradients,
        )


@dataclass(frozen=True, repr=False)
class Cost(Result):
    """What `cost` returns: a table of layers, and totals.

    Attributes:
        name: The name of the model.
        layers: One row per call of a layer, in the order in which they run.
        params: The number of parameters of the model.
        trainable_params: The number of parameters that training changes.
        input_bytes: The size of one example; float32 unless the model says otherwise.
        uncounted: The layers whose multiply-adds are not known; all totals lack them.
    """

    name: str
    layers: tuple[LayerCost, ...]
    params: int
    trainable_params: int
    input_bytes: int
    uncounted: tuple[str, ...]

    _formats: ClassVar[Mapping[str, Callable[[Any], str]]] = {
        "parameters": "{:,}".format,
        "multiply-adds": "{:,.0f}".format,
        "activation bytes": "{:,}".format,
        "FLOPs per input byte": "{:,.1f}".format,
    }
    _max_rows: ClassVar[int] = 60

    @property
    def macs(self) -> int:
        """Multiply-adds for one example, without those of the layers in `uncounted`."""
        return int(sum(row.macs for row in self.layers if not math.isnan(row.macs)))

    @property
    def activation_bytes(self) -> int:
        """The size of the outputs of all layers for one example."""
        return sum(row.activation_bytes for row in self.layers)

    @property
    def flops_per_input_byte(self) -> float:
        """Operations of a forward pass, two per multiply-add, for each byte of input."""
        return 2 * self.macs / self.input_bytes

    def training(self, batch_size: int = 1, slots: int = 2) -> TrainingCost:
        """Count the FLOPs, the memory and the bytes moved of a training step.

        FLOPs are two for each multiply-add, in the forward pass, in the gradients of the weights
        and in those of the inputs; a network's first layer needs no gradient of its input. As in
        `macs`, normalization, activations and pooling are not counted; the update of the weights
        is.

        Bytes moved are a lower bound: each of these passes reads or writes the inputs, outputs and
        weights of a layer once, as if nothing stayed in a cache between two layers, and nothing had
        to be moved twice within one. The optimizer reads the gradients, the weights and its state,
        and writes the last two.

        Memory: 4 bytes for each parameter; for each trainable one 4 more for its gradient and for
        each of the optimizer's `slots`; the outputs of all layers, which the backward pass needs;
        and the gradient of the largest of them.

        Args:
            batch_size: Examples in a step.
            slots: Numbers that the optimizer keeps for each parameter: 2 for Adam, 1 for SGD with
                momentum, 0 for SGD.

        Raises:
            Invalid: An argument is out of its range.
        """
        if batch_size < 1 or slots not in range(MAX_SLOTS + 1):
            raise Invalid(
                f"batch_size is {batch_size} and slots {slots}; a batch has 1 example or more, and "
                f"an optimizer 0 to {MAX_SLOTS} slots."
            )
        return TrainingCost(
            name=self.name,
            batch_size=batch_size,
            layers=tuple(row.training(batch_size) for row in self.layers),
            params=self.params,
            trainable_params=self.trainable_params,
            slots=slots,
            activation_bytes=batch_size * (self.activation_bytes + self.input_bytes),
            workspace_bytes=batch_size * max((r.activation_bytes for r in self.layers), default=0),
            uncounted=self.uncounted,
        )

    @property
    def table(self) -> "pd.DataFrame":
        """One row per call of a layer, and the total."""
        import pandas as pd

        rows = [
            (
                *(row.name, row.kind, shape_text(row.output_shape), row.params),
                *(row.macs, row.activation_bytes, row.flops_per_input_byte),
            )
            for row in self.layers
        ]
        total = ("total", "at least" if self.uncounted else "", "", self.params, float(self.macs))
        rows.append((*total, self.activation_bytes, self.flops_per_input_byte))
        columns = ["layer", "kind", "output shape", *self._formats]
        return pd.DataFrame(rows, columns=columns)

    @property
    def summary(self) -> str:
        """The totals in a sentence."""
        missing = f" Not counted: {', '.join(self.uncounted)}." if self.uncounted else ""
        return self._totals + missing

    @property
    def _totals(self) -> str:
        at_least = "at least " if self.uncounted else ""
        return (
            f"{self.name}: {self.params:,} parameters, {at_least}{_with_prefix(self.macs)} "
            f"multiply-adds and {_with_prefix(self.activation_bytes)}B of activations for one "
            "example."
        )

    @property
    def alt(self) -> str:
        """The totals, and the largest layer in each panel of the figure."""
        bars = _Bar.of(self.layers)
        largest = [_largest(bars, quantity) for quantity in _PANELS] if bars else []
        return " ".join([self.summary, *largest])

    def figure(self) -> "Figure":
        """Draw multiply-adds, parameters and activations along the depth of the network.

        Each bar is a layer with multiply-adds, together with the layers without any that follow it.
        """
        from matplotlib.figure import Figure
        from matplotlib.ticker import EngFormatter

        bars = _Bar.of(self.layers)
        figure = Figure(figsize=(9, 6), layout="constrained")
        panels: Sequence[Axes] = figure.subplots(3, 1, sharex=True)
        for axes, (quantity, label), color in zip(panels, _PANELS.items(), PALETTE, strict=False):
            axes.bar(range(len(bars)), [getattr(bar, quantity) for bar in bars], color=color)
            axes.set_ylabel(label)
            axes.yaxis.set_major_formatter(EngFormatter())
            axes.spines[["top", "right"]].set_visible(False)
        if len(bars) <= _MAX_NAMED_BARS:
            names = [_short(bar.name) for bar in bars]
            panels[-1].set_xticks(range(len(bars)), names, rotation=60, ha="right", fontsize=8)
            panels[-1].set_xlabel("layer")
        else:
            panels[-1].set_xlabel("layers, from first to last")
        figure.suptitle(self._totals, fontsize=11)
        return figure


def cost(model: keras.Model, input_shape: Shape | None = None) -> Cost:
    """Count parameters, multiply-adds and activations of each layer, for one example.

    Multiply-adds are those of convolutions, matrix products, attention and recurrent layers, as
    papers count them. Biases, normalization, activations, pooling and sums are not counted. The
    model runs once to find which layers it calls and how often; on TensorFlow it runs on shapes
    only, without computing.

    Args:
        model: Any Keras model.
        input_shape: The shape of one example, without the batch. Needed if the model does not know
            it (a subclassed model) or accepts inputs of any size.

    Raises:
        Invalid: The input's shape is not known, or the model does not run on it.
    """
    inputs = _input_specs(model, input_shape)
    try:
        calls = _layer_calls(model, inputs)
    except Exception as error:  # a model's own code may raise anything
        lines = str(error).strip().splitlines()
        shapes = ", ".join(shape_text(spec.shape[1:]) for spec in inputs)
        raise Invalid(
            f"{model.name} does not run on an input of shape {shapes} "
            f"({lines[0] if lines else type(error).__name__}): pass the right input_shape."
        ) from error
    counter = _Counter(calls)
    return Cost(
        name=model.name,
        layers=tuple(counter.rows),
        params=model.count_params(),
        trainable_params=sum(math.prod(weight.shape) for weight in model.trainable_weights),
        input_bytes=sum(map(_num_bytes, inputs)),
        uncounted=tuple(dict.fromkeys(counter.uncounted)),
    )


def _input_specs(model: keras.Model, input_shape: Shape | None) -> list[keras.KerasTensor]:
    """Return the shape and dtype of each input of a model, for one example.

    Raises:
        Invalid: They are not known.
    """
    if input_shape is not None:
        return [keras.KerasTensor((1, *input_shape))]
    try:
        inputs = model.inputs
    except (AttributeError, ValueError):
        inputs = None
    if not inputs:
        raise Invalid(
            f"{model.name} does not know the shape of its input: pass input_shape, as in "
            "cost(model, (32, 32, 3))."
        )
    for tensor in inputs:
        if None in tensor.shape[1:]:
            raise Invalid(
                f"{model.name} accepts inputs of any size, {shape_text(tensor.shape[1:])}: pass "
                "the input_shape to count for."
            )
    return [keras.KerasTensor((1, *tensor.shape[1:]), tensor.dtype) for tensor in inputs]


def _layer_calls(model: keras.Model, inputs: list[keras.KerasTensor]) -> list[LayerCall]:
    """Return the calls of layers in one run: on shapes only on TensorFlow, else on zeros."""

    def run(*tensors: Any) -> Any:
        return model(tensors[0] if len(tensors) == 1 else list(tensors), training=False)

    zeros = [keras.ops.zeros(spec.shape, spec.dtype) for spec in inputs]
    if keras.config.backend() != "tensorflow":
        with record_layer_calls() as calls:
            run(*zeros)
        return calls
    import tensorflow as tf

    if not model.built:
        run(*zeros)  # weights cannot be created while a graph is built
    specs = [tf.TensorSpec(spec.shape, spec.dtype) for spec in inputs]
    # Stateless, so that the model does not keep losses of its layers that belong to this graph.
    with record_layer_calls() as calls, keras.StatelessScope():
        tf.function(run, autograph=False).get_concrete_function(*specs)
    return calls


class _Counter:
    """Counts the cost of each call of a layer in one run.

    Attributes:
        rows: The costs, in the order in which the layers run. A layer with inner layers has a row
            only if it has parameters or multiply-adds itself.
        uncounted: The names of the layers whose multiply-adds are not known.
    """

    def __init__(self, calls: list[LayerCall]) -> None:
        self.rows: list[LayerCost] = []
        self.uncounted: list[str] = []
        self._calls = calls
        self._counted_weights: set[int] = set()
        self._has_trainable = False  # one of the layers so far
        for place in self._outermost(0, len(calls)):
            self._count(place)

    def _outermost(self, begin: int, end: int) -> list[int]:
        """Return the places of the outermost calls among those from `begin` to `end`."""
        places, place = [], end - 1
        while place >= begin:
            places.append(place)
            place = self._calls[place].begin - 1
        return places[::-1]

    def _count(self, place: int) -> None:
        call = self._calls[place]
        rule = rule_for(call.layer)
        has_full_rule = rule is not None and counts_inner_layers(call.layer)
        inner = [] if has_full_rule else self._outermost(call.begin, place)
        for inner_place in inner:
            self._count(inner_place)
        macs = rule(call) if rule else 0.0 if has_no_macs(call) else math.nan
        params = self._new_params(call.layer)
        weights, trainable = self._own_weights(call.layer, inner)
        is_product = macs > 0 and not weights
        input_gradients = (2 if is_product else 1) if self._has_trainable else 0
        self._has_trainable |= trainable
        if math.isnan(macs):
            self.uncounted.append(call.layer.name)
        if inner and macs == 0 and not params:
            return
        outputs = keras.tree.flatten(call.output)
        output_bytes = sum(map(_num_bytes, outputs))
        self.rows.append(
            LayerCost(
                name=call.layer.name,
                kind=type(call.layer).__name__,
                output_shape=shape_of(outputs[0]),
                params=params,
                macs=macs,
                activation_bytes=0 if inner else output_bytes,
                input_bytes=sum(map(_num_bytes, call.inputs)),
                output_bytes=output_bytes,
                weight_gradients=int(trainable),
                input_gradients=input_gradients,
            )
        )

    def _own_weights(self, layer: keras.layers.Layer, inner: list[int]) -> tuple[bool, bool]:
        """Return whether a layer has weights, and weights to train, besides those of `inner`."""
        others = {id(w) for place in inner for w in self._calls[place].layer.weights}
        weights, trainable = (
            any(id(weight) not in others for weight in group)
            for group in (layer.weights, layer.trainable_weights)
        )
        return weights, trainable

    def _new_params(self, layer: keras.layers.Layer) -> int:
        """Return the number of a layer's parameters that no row has counted yet."""
        new = [weight for weight in layer.weights if id(weight) not in self._counted_weights]
        self._counted_weights.update(map(id, new))
        return sum(math.prod(weight.shape) for weight in new)


def _num_bytes(tensor: Any) -> int:
    """Return the size of one example of a tensor."""
    bits = re.search(r"\d+$", keras.backend.standardize_dtype(tensor.dtype))
    return math.prod(shape_of(tensor)) * (int(bits[0]) // 8 if bits else 1)


@dataclass
class _Bar:
    """A layer with multiply-adds, and the layers without any that follow it."""

    name: str
    macs: float = 0.0
    params: int = 0
    activation_bytes: int = 0

    @classmethod
    def of(cls, rows: Sequence[LayerCost]) -> "list[_Bar]":
        bars: list[_Bar] = []
        has_macs = any(row.macs for row in rows)
        for row in rows:
            if not bars or row.macs or not has_macs:
                bars.append(cls(row.name))
            bars[-1].macs += 0.0 if math.isnan(row.macs) else row.macs
            bars[-1].params += row.params
            bars[-1].activation_bytes += row.activation_bytes
        return bars


def _largest(bars: Sequence[_Bar], quantity: str) -> str:
    """Return a sentence that names the bar with the most of a quantity."""
    largest = max(bars, key=lambda bar: getattr(bar, quantity))
    total = sum(getattr(bar, quantity) for bar in bars)
    share = getattr(largest, quantity) / max(total, 1)
    return f"{largest.name} has {share:.0%} of the {_PANELS[quantity]}."


def _with_prefix(value: float) -> str:
    """Return a number with an SI prefix: 15.5 G."""
    for factor, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.3g} {prefix}"
    return f"{value:g} "


def shape_text(shape: Sequence[int | None]) -> str:
    """Return a shape as text: 32×32×3; a side of any size is `?`."""
    return "×".join("?" if side is None else str(side) for side in shape)


def _short(name: str) -> str:
    name = printable(name)
    return name if len(name) <= _MAX_NAME else f"{name[: _MAX_NAME - 1]}…"
