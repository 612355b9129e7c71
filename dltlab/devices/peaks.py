"""What this machine reaches: `measure_peaks`, and `roofline` with programs as points on it."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Any, ClassVar

from dltlab.devices import datasheets, processor
from dltlab.devices.layer_rates import Rates, measure_layer_rates
from dltlab.devices.timing import Clock, fastest_call
from dltlab.display import NEUTRAL, PALETTE, Result
from dltlab.errors import Invalid, NotFound, Unavailable

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

DTYPES = ("float64", "float32", "tensorfloat32", "bfloat16", "float16")
_CPU_DTYPES = ("float64", "float32", "bfloat16")
_MIN_ROWS, _MAX_ROWS = 512, 16384  # of a square matrix
_MIN_SECONDS = 0.02  # of one product, so that the overhead of a call does not matter
_ARRAY_BYTES = {"CPU": 256 << 20, "GPU": 2 << 30}  # much more than any cache


@dataclass(frozen=True, repr=False)
class Peaks(Result):
    """Peaks of one device, measured or from its data sheet.

    Attributes:
        device: Its name.
        flops: FLOP/s by dtype; measured ones are those of a product of two square matrices.
        bytes_per_second: Memory traffic; a measured one is that of adding one large array to
            another.
        size: Rows of the matrices, by dtype; empty for a data sheet.
        layers: Rates of layers in float32, by kind and pass; empty unless they were measured.
    """

    device: str
    flops: dict[str, float]
    bytes_per_second: float
    size: dict[str, int]
    layers: Rates = field(default_factory=dict)

    _formats: ClassVar[Mapping[str, Callable[[Any], str]]] = {"GFLOP/s": "{:,.0f}".format}

    @property
    def summary(self) -> str:
        """The peak of each dtype and the memory bandwidth."""
        levels = ", ".join(f"{_flops_text(peak)} in {name}" for name, peak in self.flops.items())
        return f"{self.device}: {levels}; memory at {self.bytes_per_second / 1e9:,.1f} GB/s."

    @property
    def table(self) -> "pd.DataFrame":
        """A row for each dtype: columns `dtype`, `GFLOP/s` and `matrix rows`."""
        import pandas as pd

        rows = [(name, peak / 1e9, self.size.get(name)) for name, peak in self.flops.items()]
        return pd.DataFrame(rows, columns=["dtype", "GFLOP/s", "matrix rows"])


@dataclass(frozen=True)
class Point:
    """A program, or a layer, on a roofline.

    Attributes:
        name: Shown in the figure.
        flops: Floating-point operations; a multiply-add counts as two.
        bytes: Bytes that must at least move between memory and processor.
        seconds: The time it took.
    """

    name: str
    flops: float
    bytes: float
    seconds: float

    @property
    def intensity(self) -> float:
        """Arithmetic intensity in FLOP per byte."""
        return self.flops / self.bytes

    @property
    def speed(self) -> float:
        """FLOP/s."""
        return self.flops / self.seconds


@dataclass(frozen=True, repr=False)
class Roofline(Result):
    """How fast programs are, and how fast they could be on a device.

    Attributes:
        points: The programs.
        peaks: Of the device.
    """

    points: tuple[Point, ...]
    peaks: Peaks

    _formats: ClassVar[Mapping[str, Callable[[Any], str]]] = {
        "FLOP/byte": "{:,.1f}".format,
        "GFLOP/s": "{:,.1f}".format,
        "roof (GFLOP/s)": "{:,.1f}".format,
        "share": "{:.0%}".format,
    }

    @property
    def summary(self) -> str:
        """The speed of each point, and its share of the roof above it.

        The roof is that of the fastest dtype.
        """
        parts = [
            f"{point.name} runs at {_flops_text(point.speed)}, "
            f"{point.speed / self._roof(point):.0%} of what it could reach"
            for point in self.points
        ]
        points = f" {'; '.join(parts)}." if parts else ""
        return f"Roofline of {self.peaks.summary}{points}"

    @property
    def table(self) -> "pd.DataFrame":
        """A row for each point: its intensity, speed, roof, and share of the roof."""
        import pandas as pd

        rows = [
            (
                point.name,
                point.intensity,
                point.speed / 1e9,
                self._roof(point) / 1e9,
                point.speed / self._roof(point),
            )
            for point in self.points
        ]
        columns = ["point", "FLOP/byte", "GFLOP/s", "roof (GFLOP/s)", "share"]
        return pd.DataFrame(rows, columns=columns)

    def figure(self) -> "Figure":
        """Draw a roof for each dtype, and the points."""
        import numpy as np
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7.5, 4.5), layout="constrained")
        axes = figure.subplots()
        bandwidth = self.peaks.bytes_per_second
        ridges = [peak / bandwidth for peak in self.peaks.flops.values()]
        intensities = [*ridges, *(point.intensity for point in self.points)]
        left, right = min(intensities) / 10, max(intensities) * 10
        x = np.geomspace(left, right, 200)
        for color, (name, peak) in zip(PALETTE, self.peaks.flops.items(), strict=False):
            roof = np.minimum(peak, bandwidth * x)
            axes.loglog(x, roof, color=color, label=f"{name}: {_flops_text(peak)}")
        labelled: list[tuple[Point, bool]] = []  # and whether the label is at the left
        for point in self.points:
            is_left = point.intensity > (left * right) ** 0.5
            is_left ^= any(_is_near(point, other) and place == is_left for other, place in labelled)
            labelled.append((point, is_left))
            axes.plot(point.intensity, point.speed, "o", color="black", zorder=3)
            axes.annotate(
                point.name,
                (point.intensity, point.speed),
                xytext=(-6, -6) if is_left else (6, -6),
                textcoords="offset points",
                ha="right" if is_left else "left",
                va="top",
            )
        axes.set(
            title=f"Roofline of {self.peaks.device}, memory at {bandwidth / 1e9:,.0f} GB/s",
            xlabel="arithmetic intensity (FLOP per byte)",
            ylabel="speed (FLOP/s)",
            xlim=(left, right),
        )
        axes.grid(color=NEUTRAL, alpha=0.3, which="both")
        axes.legend(loc="upper left", title="measured peak")
        return figure

    def _roof(self, point: Point) -> float:
        best = max(self.peaks.flops.values())
        return min(best, self.peaks.bytes_per_second * point.intensity)


def _is_near(one: Point, other: Point) -> bool:
    """Whether labels at the same side of two points of a roofline would overlap."""
    return (
        abs(math.log10(one.intensity / other.intensity)) < 1
        and abs(math.log10(one.speed / other.speed)) < 0.15
    )


def measure_peaks(
    dtypes: Sequence[str] | None = None,
    device: str | None = None,
    seconds: float = 1.0,
    *,
    layers: bool = False,
    clock: Clock = perf_counter,
) -> Peaks:
    """Measure the fastest of several matrix products in each dtype, and the memory traffic.

    The matrices grow until a product takes 20 ms; all of it takes a few seconds.

    A layer is slower than a product of large matrices. With `layers`, typical layers of seven kinds
    are measured, too, forward and backward, in float32, and `predict_step_time` predicts from them.

    Args:
        dtypes: Names from `DTYPES`; by default all that the device computes in hardware. "float32"
            is without TensorFloat-32, "tensorfloat32" is float32 with it.
        device: "CPU:0", "GPU:1", …; by default the first GPU, or else the CPU.
        seconds: Spent on each dtype and on memory, and a twentieth of it on each pass of a layer.
        layers: Measure layers; "float32" must be among the dtypes.
        clock: Tells the time. On a busy machine, with a single thread, `time.process_time` gives
            about the times of an idle one.

    Raises:
        NotFound: There is no such device.
        Invalid: There is no such dtype on the device.
    """
    import tensorflow as tf

    device = _find_device(tf, device)
    known = DTYPES if device.startswith("GPU") else _CPU_DTYPES
    names = known if dtypes is None else tuple(dtypes)
    for name in names:
        if name not in DTYPES or (name == "tensorfloat32" and name not in known):
            raise Invalid(
                f"{device} cannot measure dtype {name!r}; choose from {', '.join(known)}."
            )
    if layers and "float32" not in names:
        raise Invalid(f"Layers are measured in float32, which is not among {', '.join(names)}.")
    flops, sizes = {}, {}
    with tf.device(device):
        for name in names:
            sizes[name], flops[name] = _measure_product(tf, name, seconds, clock)
        bandwidth = _measure_bandwidth(tf, _ARRAY_BYTES[device[:3]], seconds, clock)
        rates = {}
        if layers:
            rates = measure_layer_rates(tf, flops["float32"], seconds / 20, clock)
    return Peaks(_device_name(tf, device), flops, bandwidth, sizes, rates)


def specified_peaks(name: str) -> Peaks:
    """Return the peaks of a device according to its data sheet, as "P100"; see `specs`.

    Raises:
        NotFound: The table has no such device.
        Unavailable: Its data sheet does not say how fast its memory is.
    """
    spec = datasheets.find_spec(name)
    if spec.memory_gbps is None:
        raise Unavailable(f"No data sheet says how fast the memory of {name} is: measure_peaks().")
    rates = {dtype: getattr(spec, dtype) for dtype in DTYPES}
    flops = {dtype: 1e12 * rate for dtype, rate in rates.items() if rate}
    return Peaks(spec.full_name, flops, 1e9 * spec.memory_gbps, {})


def roofline(points: Sequence[Point] = (), peaks: Peaks | None = None) -> Roofline:
    """Compare the speed of programs with what the device could reach at their intensity.

    Left of the ridge memory limits the speed, right of it the processor (S. Williams, A. Waterman
    and D. Patterson, "Roofline: an insightful visual performance model", CACM 52(4), 2009).

    Args:
        points: Programs that were measured.
        peaks: The roof; by default this machine is measured.
    """
    return Roofline(tuple(points), measure_peaks() if peaks is None else peaks)


def _flops_text(value: float) -> str:
    return f"{value / 1e12:,.1f} TFLOP/s" if value >= 1e12 else f"{value / 1e9:,.0f} GFLOP/s"


def _find_device(tf: Any, name: str | None) -> str:
    devices = tf.config.list_logical_devices()
    names = [device.name.removeprefix("/device:") for device in devices]
    if name is None:
        return next((name for name in names if name.startswith("GPU")), "CPU:0")
    if name not in names:
        raise NotFound(f"There is no device {name!r}; choose from {', '.join(names)}.")
    return name


def _device_name(tf: Any, device: str) -> str:
    if device.startswith("CPU"):
        return processor.cpu_info().name
    gpu = tf.config.list_physical_devices("GPU")[0]
    name: str = tf.config.experimental.get_device_details(gpu).get("device_name", device)
    return name


def _measure_product(tf: Any, name: str, seconds: float, clock: Clock) -> tuple[int, float]:
    """Return the rows of matrices whose product takes long enough, and the FLOP/s of it."""
    dtype = "float32" if name == "tensorfloat32" else name
    with _tensorfloat32(tf, name == "tensorfloat32"):
        multiply = tf.function(lambda a, b: tf.linalg.matmul(a, b))
        size = _MIN_ROWS
        while True:
            a, b = (tf.cast(tf.random.normal((size, size)), dtype) for _ in range(2))
            once = fastest_call(lambda: multiply(a, b)[0, 0].numpy(), 0.0, clock)  # noqa: B023
            if once >= _MIN_SECONDS or size >= _MAX_ROWS:
                break
            size *= 2
        best = fastest_call(lambda: multiply(a, b)[0, 0].numpy(), seconds, clock)
        return size, 2 * size**3 / best


@contextmanager
def _tensorfloat32(tf: Any, enabled: bool) -> Iterator[None]:
    before = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(enabled)
    try:
        yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(before)


def _measure_bandwidth(tf: Any, num_bytes: int, seconds: float, clock: Clock) -> float:
    """Return bytes per second in adding one large array to another: two are read, one written."""
    total = tf.Variable(tf.zeros(num_bytes // 4))
    ones = tf.ones_like(total)
    add = tf.function(lambda: total.assign_add(ones)[0])
    return 3 * num_bytes / fastest_call(lambda: add().numpy(), seconds, clock)
