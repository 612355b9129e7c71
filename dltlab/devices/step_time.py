"""How long a training step takes, computed before it runs: `predict_step_time`."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from dltlab.devices.layer_rates import ELEMENTWISE, FORWARD, INPUTS, OPTIMIZER, WEIGHTS, Rate
from dltlab.devices.peaks import Peaks
from dltlab.display import PALETTE, Result
from dltlab.errors import Invalid

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_SHOWN_LAYERS = 12  # of a figure


class LayerTraining(Protocol):
    """What `predict_step_time` reads of a layer of a `models` cost."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def kind(self) -> str:
        """Its class."""

    @property
    def flops(self) -> float:
        """FLOPs of a pass."""

    @property
    def weight_bytes(self) -> int:
        """The size of its weights."""

    @property
    def activation_bytes(self) -> int:
        """The size of its inputs and outputs."""

    @property
    def weight_gradients(self) -> int:
        """Passes for the gradient of its weights."""

    @property
    def input_gradients(self) -> int:
        """Passes for gradients of its inputs."""


class TrainingCost(Protocol):
    """What `predict_step_time` reads of the result of `Cost.training`."""

    @property
    def name(self) -> str:
        """The name of the model."""

    @property
    def batch_size(self) -> int:
        """Examples in the step."""

    @property
    def layers(self) -> Sequence[LayerTraining]:
        """The calls of layers."""

    @property
    def optimizer_flops(self) -> float:
        """FLOPs of the update."""

    @property
    def optimizer_bytes_moved(self) -> int:
        """Bytes that the update moves."""

    @property
    def uncounted(self) -> tuple[str, ...]:
        """Layers whose multiply-adds are not known."""


@dataclass(frozen=True)
class LayerTime:
    """The predicted time of one call of a layer in a step, or of the optimizer.

    Attributes:
        name: The layer's name, or "optimizer".
        kind: The layer's class.
        forward: Seconds of the forward pass.
        backward: Seconds of the gradients of its weights and its inputs.
        limit: What most of the time is needed for: "FLOPs", "weights" or "activations".
    """

    name: str
    kind: str
    forward: float
    backward: float
    limit: str


@dataclass(frozen=True, repr=False)
class StepTime(Result):
    """The predicted time of a training step.

    Attributes:
        model: The name of the model.
        device: The name of the device.
        batch_size: Examples in the step.
        layers: A row for each call of a layer, and the last one for the optimizer.
        is_bound: Whether no program can be faster, because the rates are peaks; else the rates are
            those of layers that were measured.
    """

    model: str
    device: str
    batch_size: int
    layers: tuple[LayerTime, ...]
    is_bound: bool

    _formats: ClassVar[Mapping[str, Callable[[Any], str]]] = {
        "forward (ms)": "{:,.2f}".format,
        "backward (ms)": "{:,.2f}".format,
        "share": "{:.0%}".format,
    }

    @property
    def seconds(self) -> float:
        """Seconds of the step."""
        return sum(row.forward + row.backward for row in self.layers)

    @property
    def examples_per_second(self) -> float:
        """Examples that are trained in a second."""
        return self.batch_size / self.seconds

    @property
    def limits(self) -> dict[str, float]:
        """The share of the step by what limits it: the FLOPs, the weights or the activations."""
        shares = dict.fromkeys(_LIMITS, 0.0)
        for row in self.layers:
            shares[row.limit] += (row.forward + row.backward) / self.seconds
        return shares

    @property
    def table(self) -> "pd.DataFrame":
        """A row for each call of a layer, and the optimizer's: seconds, share of all, and limit."""
        import pandas as pd

        rows = [
            (
                *(row.name, row.kind, 1e3 * row.forward, 1e3 * row.backward),
                *((row.forward + row.backward) / self.seconds, row.limit),
            )
            for row in self.layers
        ]
        return pd.DataFrame(rows, columns=["layer", "kind", *self._formats, "limit"])

    @property
    def summary(self) -> str:
        """The time, the rate, and what limits the step most."""
        limit = max(self.limits, key=lambda name: self.limits[name])
        at_least = "at least " if self.is_bound else ""
        return (
            f"{self.model} on {self.device}: {at_least}{_seconds_text(self.seconds)} for a step "
            f"with a batch of {self.batch_size}, {'at most ' if self.is_bound else ''}"
            f"{self.examples_per_second:,.3g} examples/s. {self.limits[limit]:.0%} of it is "
            f"limited by the {limit}."
        )

    def figure(self) -> "Figure":
        """Draw the layers that take the most time, forward and backward, and the update."""
        from matplotlib.figure import Figure

        rows = sorted(self.layers, key=lambda row: row.forward + row.backward)[-_SHOWN_LAYERS:]
        figure = Figure(figsize=(7.5, 0.9 + 0.3 * len(rows)), layout="constrained")
        axes = figure.subplots()
        names = [f"{row.name} ({row.limit})" for row in rows]
        left = [0.0] * len(rows)
        for part, color in zip(_PARTS, PALETTE, strict=False):
            lengths = [1e3 * _PARTS[part](row) for row in rows]
            if any(lengths):
                axes.barh(names, lengths, left=left, color=color, label=part)
            left = [start + length for start, length in zip(left, lengths, strict=True)]
        axes.set(
            title=f"{self.model}, batch of {self.batch_size}: predicted time by layer",
            xlabel="time (ms)",
        )
        axes.legend(loc="lower right")
        axes.spines[["top", "right"]].set_visible(False)
        return figure


def predict_step_time(cost: TrainingCost, peaks: Peaks, dtype: str = "float32") -> StepTime:
    """Predict how long a training step takes, from what is counted and what the device reaches.

    With the rates of layers, of `measure_peaks(layers=True)`, the time of a pass of a layer is the
    sum of what its FLOPs, its weights and its activations take in layers of that kind; a kind that
    was not measured counts as one without weights, or as `Dense` if it has FLOPs.

    Without them, as for data sheets, each pass is as fast as the roofline allows: its time is that
    of its FLOPs or of its bytes, whichever is longer (S. Williams, A. Waterman and D. Patterson,
    CACM 52(4), 2009). The sum over all passes is a lower bound of the time, unless the program
    computes the layers with fewer operations, as Winograd's convolution does, or keeps data in
    caches from one layer to the next.

    In both cases the input of data and the time between two operations are left out.

    Args:
        cost: What `models.cost(model).training(batch_size)` returns.
        peaks: What `measure_peaks` returns for this machine, or `specified_peaks` for another one.
        dtype: Of the layers, one of `peaks.flops`.

    Raises:
        Invalid: The multiply-adds of a layer are not known, or the peak of the dtype is not.
    """
    if cost.uncounted:
        raise Invalid(
            f"The multiply-adds of {', '.join(cost.uncounted)} in {cost.name} are not known, so "
            "the time of a step cannot be predicted."
        )
    if dtype not in peaks.flops:
        raise Invalid(f"{peaks.device} has no peak in {dtype!r}; it has {', '.join(peaks.flops)}.")
    if peaks.layers and dtype != "float32":
        raise Invalid(f"The layers were measured in float32, not in {dtype!r}.")
    rows = tuple(_rows(cost, peaks, peaks.flops[dtype]))
    return StepTime(cost.name, peaks.device, cost.batch_size, rows, is_bound=not peaks.layers)


_LIMITS = ("FLOPs", "weights", "activations")
_PARTS: dict[str, Callable[[LayerTime], float]] = {  # of the figure: seconds of a row
    "forward": lambda row: row.forward,
    "backward": lambda row: 0.0 if row.kind == OPTIMIZER else row.backward,
    "update": lambda row: row.backward if row.kind == OPTIMIZER else 0.0,
}
_Times = tuple[float, float, float]  # seconds for FLOPs, weights and activations


def _rows(cost: TrainingCost, peaks: Peaks, peak: float) -> Iterator[LayerTime]:
    def times_of(layer: LayerTraining, name: str) -> _Times:
        if peaks.layers:
            rates = peaks.layers.get(layer.kind)
            rates = rates or peaks.layers["Dense" if layer.flops else ELEMENTWISE]
            return _by_rate(rates[name], layer)
        return _by_roofline(layer, peak, peaks.bytes_per_second)

    for layer in cost.layers:
        forward = times_of(layer, FORWARD)
        gradients = [times_of(layer, WEIGHTS)] * layer.weight_gradients
        gradients += [times_of(layer, INPUTS)] * layer.input_gradients
        yield _row(layer.name, layer.kind, forward, gradients)
    flops, size = cost.optimizer_flops / peak, float(cost.optimizer_bytes_moved)
    if peaks.layers:
        update = 0.0, size * peaks.layers[OPTIMIZER][FORWARD].per_weight_byte, 0.0
    else:
        update = _longest(flops, size / peaks.bytes_per_second, 0.0)
    yield _row(OPTIMIZER, OPTIMIZER, (0.0, 0.0, 0.0), [update])


def _row(name: str, kind: str, forward: _Times, gradients: Sequence[_Times]) -> LayerTime:
    totals = dict(zip(_LIMITS, map(sum, zip(forward, *gradients, strict=True)), strict=True))
    limit = max(_LIMITS, key=lambda name: totals[name])
    return LayerTime(name, kind, sum(forward), sum(map(sum, gradients)), limit)


def _by_rate(rate: Rate, layer: LayerTraining) -> _Times:
    return (
        layer.flops * rate.per_flop,
        layer.weight_bytes * rate.per_weight_byte,
        layer.activation_bytes * rate.per_activation_byte,
    )


def _by_roofline(layer: LayerTraining, peak: float, bytes_per_second: float) -> _Times:
    flops = layer.flops / peak
    weights = layer.weight_bytes / bytes_per_second
    activations = layer.activation_bytes / bytes_per_second
    return _longest(flops, weights, activations)


def _longest(flops: float, weights: float, activations: float) -> _Times:
    """Return the longer of computing and moving; the other is hidden behind it."""
    if flops >= weights + activations:
        return flops, 0.0, 0.0
    return 0.0, weights, activations


def _seconds_text(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds >= 1 else f"{1e3 * seconds:.3g} ms"
