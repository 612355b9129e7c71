"""Simulate the steps of a data-parallel training: `simulate`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from dltlab.display import NEUTRAL, PALETTE, Result
from dltlab.distribute.topologies import Topology
from dltlab.errors import Invalid

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from dltlab.models import Cost

_FLOAT32_BYTES = 4
_NUM_STEPS_WITH_JITTER = 20


@dataclass(frozen=True)
class LayerTime:
    """What a layer takes in a training step of one device.

    Attributes:
        name: The layer's name.
        forward: Seconds of the forward pass.
        backward: Seconds of the backward pass.
        num_bytes: The size of its gradients.
    """

    name: str
    forward: float
    backward: float
    num_bytes: float

    def __post_init__(self) -> None:
        """Refuse negative values."""
        if not (self.forward >= 0 and self.backward >= 0 and self.num_bytes >= 0):
            raise Invalid(f"The times and bytes of layer {self.name!r} must be at least 0.")


@dataclass(frozen=True)
class Span:
    """What the first device computes or communicates, in seconds after the start of the step."""

    name: str
    start: float
    end: float


@dataclass(frozen=True, repr=False, eq=False)
class Simulation(Result):
    """What `simulate` returns.

    Attributes:
        num_devices: The number of devices.
        compute_seconds: The time of a step on one device alone, without jitter.
        step_seconds: The time of each step, `(num_steps,)`.
        communication_seconds: The time that a device communicates in a step, the mean over devices
            and steps; with jitter it contains waiting for others.
        exposed_seconds: The part of it in which the device does not compute.
        timeline: The computation and communication of the first device in the last step.
    """

    num_devices: int
    compute_seconds: float
    step_seconds: np.ndarray
    communication_seconds: float
    exposed_seconds: float
    timeline: tuple[Span, ...]

    _formats: ClassVar[Mapping[str, Callable[[Any], str]]] = {
        "start (ms)": "{:.3f}".format,
        "end (ms)": "{:.3f}".format,
    }

    @property
    def efficiency(self) -> float:
        """The efficiency of weak scaling: one device's time of a step divided by that of all."""
        return self.compute_seconds / float(np.mean(self.step_seconds))

    @property
    def hidden_share(self) -> float | None:
        """The share of the communication behind computation; None if there is none."""
        if not self.communication_seconds:
            return None
        return 1 - self.exposed_seconds / self.communication_seconds

    @property
    def table(self) -> "pd.DataFrame":
        """The timeline: one row for each span."""
        import pandas as pd

        rows = [(span.name, 1e3 * span.start, 1e3 * span.end) for span in self.timeline]
        return pd.DataFrame(rows, columns=["first device", *self._formats])

    @property
    def summary(self) -> str:
        """The time of a step, the efficiency and the hidden share in a sentence."""
        hidden = ""
        if self.hidden_share is not None:
            hidden = (
                f" Each device communicates for {1e3 * self.communication_seconds:.3g} ms, "
                f"{self.hidden_share:.0%} of it behind computation."
            )
        return (
            f"{self.num_devices} devices: {1e3 * np.mean(self.step_seconds):.4g} ms for a step "
            f"that takes {1e3 * self.compute_seconds:.4g} ms on one, an efficiency of "
            f"{self.efficiency:.3f}.{hidden}"
        )

    @property
    def alt(self) -> str:
        """The description of the figure."""
        return f"Computation and communication of the first device in a step. {self.summary}"

    def figure(self) -> "Figure":
        """Draw when the first device computes and communicates in the last step."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(8, 2.6), layout="constrained")
        axes = figure.subplots()
        colors = {"forward": PALETTE[4], "backward": PALETTE[5]}
        for span in self.timeline:
            lane = span.name if span.name in colors else "communication"
            left, width = 1e3 * span.start, 1e3 * (span.end - span.start)
            row = 0 if lane in colors else 1
            axes.barh(row, width, left=left, color=colors.get(lane, PALETTE[1]), edgecolor="white")
            if lane in colors:
                axes.text(left + width / 2, row, lane, ha="center", va="center")
        alone = 1e3 * self.compute_seconds
        axes.axvline(alone, color=NEUTRAL, linestyle="--", label="end of the step on one device")
        figure.legend(loc="outside lower right", fontsize=8)
        axes.set_yticks([0, 1], ["computation", "communication"])
        axes.set_ylim(1.5, -0.5)
        axes.set(xlabel="time (ms)", title=f"A step of {self.num_devices} devices")
        axes.spines[["top", "right"]].set_visible(False)
        return figure


def layer_times(cost: "Cost", batch_size: int, flops_per_second: float) -> tuple[LayerTime, ...]:
    """Estimate the times of a model's layers from their operations.

    Two operations per multiply-add; the backward pass computes twice as many as the forward pass.
    Layers without multiply-adds take no time. All parameters have float32 gradients.

    Args:
        cost: What `models.cost` returns for the model.
        batch_size: Examples per step and device.
        flops_per_second: The rate that the device reaches in training, which is less than its peak.

    Raises:
        Invalid: A number is not positive, or the multiply-adds of a layer are not known.
    """
    if not batch_size > 0 or not flops_per_second > 0:
        raise Invalid(
            f"batch_size is {batch_size} and flops_per_second {flops_per_second}; both must be "
            "positive."
        )
    if cost.uncounted:
        raise Invalid(
            f"The multiply-adds of {', '.join(cost.uncounted)} are not known: give `simulate` a "
            "list of LayerTime."
        )
    seconds = [2 * batch_size * row.macs / flops_per_second for row in cost.layers]
    return tuple(
        LayerTime(row.name, forward, 2 * forward, _FLOAT32_BYTES * row.params)
        for row, forward in zip(cost.layers, seconds, strict=True)
    )


def simulate(
    layers: Sequence[LayerTime],
    topology: Topology,
    *,
    bucket_bytes: float = 25e6,
    overlap: bool = True,
    jitter: float = 0.0,
    seed: int = 0,
) -> Simulation:
    """Simulate steps of a synchronous data-parallel training.

    Each device has two queues. One computes the forward pass of all layers, then the backward pass
    from the last layer to the first. The other runs an all-reduce for each bucket of gradients, in
    the order in which buckets become full; an all-reduce starts as soon as the bucket is full and
    the one before is finished, and waits, message by message, for the devices that are late. A step
    ends, on each device, when both queues are empty.

    Not modeled are: input of data, the update of the weights, the time to combine gradients, the
    slowdown of computation by communication, pieces of a bucket that overlap in a pipeline, traffic
    of other programs, and switches. A topology with the rates of a data sheet gives an upper
    bound of the efficiency: use rates that were measured.

    Args:
        layers: The layers in the order of the forward pass.
        topology: `Ring`, `Tree`, `CubeMesh` or `FatTree`.
        bucket_bytes: A bucket is full when it has this many bytes; the last one may have fewer.
        overlap: Communicate while the backward pass runs; if False, after it.
        jitter: The standard deviation of the time that a device computes in a step, as a share of
            it. The times have a log-normal distribution.
        seed: The seed of the jitter.

    Returns:
        The times of 20 steps with jitter, of one step without.

    Raises:
        Invalid: There is no layer, or a number is out of its range.
    """
    if not layers:
        raise Invalid("There is no layer to simulate.")
    if not bucket_bytes > 0 or not jitter >= 0:
        raise Invalid(
            f"bucket_bytes is {bucket_bytes} and jitter {jitter}; bucket_bytes must be positive, "
            "and jitter must not be negative."
        )
    forward = sum(layer.forward for layer in layers)
    compute = forward + sum(layer.backward for layer in layers)
    buckets = _buckets(layers, forward, bucket_bytes)
    factors = _factors(topology.num_devices, jitter, seed)
    clocks = np.zeros(topology.num_devices)
    ends, communication, exposed = [0.0], [], []
    spans: list[tuple[float, float]] = []
    for factor in factors:
        starts, computed = clocks, clocks + compute * factor
        clocks, busy, spans = starts, np.zeros(len(starts)), []
        for filled, num_bytes in buckets:
            ready = np.maximum(clocks, starts + filled * factor if overlap else computed)
            clocks = topology.all_reduce(ready, num_bytes)
            busy += clocks - ready
            spans.append((ready[0] - starts[0], clocks[0] - starts[0]))
        clocks = np.maximum(clocks, computed)
        ends.append(clocks.max())
        communication.append(busy.mean())
        exposed.append((clocks - computed).mean())
    computation = (("forward", 0.0, forward), ("backward", forward, compute))
    timeline = [Span(name, start * factor[0], end * factor[0]) for name, start, end in computation]
    timeline += [Span(f"bucket {i}", float(s), float(e)) for i, (s, e) in enumerate(spans, 1)]
    return Simulation(
        topology.num_devices,
        compute,
        np.diff(ends),
        float(np.mean(communication)),
        float(np.mean(exposed)),
        tuple(timeline),
    )


def _buckets(
    layers: Sequence[LayerTime], forward: float, bucket_bytes: float
) -> list[tuple[float, float]]:
    """Return when each bucket is full, in seconds after the start of a step, and its bytes."""
    buckets, time, num_bytes = [], forward, 0.0
    for layer in reversed(layers):
        time += layer.backward
        num_bytes += layer.num_bytes
        if num_bytes >= bucket_bytes:
            buckets.append((time, num_bytes))
            num_bytes = 0.0
    return [*buckets, (time, num_bytes)] if num_bytes else buckets


def _factors(num_devices: int, jitter: float, seed: int) -> np.ndarray:
    """Return what the time of each device in each step is multiplied by; its mean is 1."""
    if not jitter:
        return np.ones((1, num_devices))
    sigma = np.sqrt(np.log1p(jitter**2))
    shape = (_NUM_STEPS_WITH_JITTER, num_devices)
    return np.random.default_rng(seed).lognormal(-(sigma**2) / 2, sigma, shape)
