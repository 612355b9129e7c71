"""What this machine really reaches: `measure_peaks`, and `roofline` with models as points on it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

from dltlab.devices import processor
from dltlab.display import show
from dltlab.errors import LabError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DTYPES = ("float64", "float32", "tensorfloat32", "bfloat16", "float16")
_CPU_DTYPES = ("float64", "float32", "bfloat16")
_SMALLEST, _LARGEST = 512, 16384  # rows of a square matrix
_LONG_ENOUGH = 0.02  # seconds of one product, beside which the cost of calling does not count
_COPY_BYTES = {"CPU": 256 << 20, "GPU": 2 << 30}  # far more than any cache
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9")


@dataclass(frozen=True)
class Peaks:
    """Measured peaks of one device.

    Attributes:
        device: Its name.
        flops: FLOP/s of a product of two square matrices, by dtype.
        bytes_per_second: Memory traffic in adding one large array to another.
        size: Rows of the matrices, by dtype.
    """

    device: str
    flops: dict[str, float]
    bytes_per_second: float
    size: dict[str, int]

    def __str__(self) -> str:
        rows = [f"{name:<14} {value / 1e9:10,.0f} GFLOP/s" for name, value in self.flops.items()]
        memory = f"{'memory':<14} {self.bytes_per_second / 1e9:10,.1f} GB/s"
        return "\n".join([f"Measured on {self.device}:", *rows, memory])

    __repr__ = __str__


@dataclass(frozen=True)
class Point:
    """A program, or a layer, on a roofline.

    Attributes:
        flops: Floating-point operations it does, a multiply-add counted as two.
        bytes: Bytes it moves between memory and processor, at the least.
        seconds: How long that took.
    """

    name: str
    flops: float
    bytes: float
    seconds: float


def measure_peaks(
    dtypes: Sequence[str] | None = None, device: str | None = None, seconds: float = 1.0
) -> Peaks:
    """Measure what a device reaches: the fastest of several matrix products, and memory traffic.

    Takes a few seconds in all. The matrices grow until a product takes 20 ms.

    Args:
        dtypes: Of `DTYPES`; by default all that the device computes well. "float32" is without
            TensorFloat-32, "tensorfloat32" is float32 with it.
        device: "CPU:0", "GPU:1", …; by default the first GPU, else the CPU.
        seconds: Spent on each dtype and on memory.

    Raises:
        LabError: There is no such device or dtype.
    """
    import tensorflow as tf

    place = _place(tf, device)
    is_gpu = place.startswith("GPU")
    wanted = tuple(dtypes) if dtypes is not None else (DTYPES if is_gpu else _CPU_DTYPES)
    for name in wanted:
        if name not in DTYPES or (name == "tensorfloat32" and not is_gpu):
            known = ", ".join(DTYPES if is_gpu else _CPU_DTYPES)
            raise LabError(f"{place} has no dtype {name!r} to measure; choose from {known}.")
    flops, sizes = {}, {}
    with tf.device(place):
        for name in wanted:
            sizes[name], flops[name] = _product(tf, name, seconds)
        bandwidth = _bandwidth(tf, _COPY_BYTES[place[:3]], seconds)
    return Peaks(_device_name(tf, place), flops, bandwidth, sizes)


def roofline(points: Sequence[Point] = (), peaks: Peaks | None = None) -> None:
    """Show how fast a program could be here, by the FLOPs it does for each byte it moves.

    Below the slope memory is the limit, below the level the processor (S. Williams, A. Waterman
    and D. Patterson, "Roofline: an insightful visual performance model", CACM 52(4), 2009).

    Args:
        points: Programs that were measured.
        peaks: The roof; by default this machine is measured.
    """
    found = measure_peaks() if peaks is None else peaks
    show(draw_roofline(points, found), describe_roofline(points, found))


def draw_roofline(points: Sequence[Point], peaks: Peaks) -> "Figure":
    """The figure of `roofline`."""
    import numpy as np
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 4.5), layout="constrained")
    axes = figure.subplots()
    ridges = [peak / peaks.bytes_per_second for peak in peaks.flops.values()]
    intensities = [point.flops / point.bytes for point in points]
    left = min([*ridges, *intensities]) / 10
    right = max([*ridges, *intensities]) * 10
    x = np.geomspace(left, right, 200)
    for color, (name, peak) in zip(_COLORS, peaks.flops.items(), strict=False):
        roof = np.minimum(peak, peaks.bytes_per_second * x)
        axes.loglog(x, roof, color=color, label=f"{name}: {_flops(peak)}")
    for point, intensity in zip(points, intensities, strict=True):
        axes.plot(intensity, point.flops / point.seconds, "o", color="black", zorder=3)
        axes.annotate(
            point.name,
            (intensity, point.flops / point.seconds),
            xytext=(-6, -6) if intensity > (left * right) ** 0.5 else (6, -6),
            textcoords="offset points",
            ha="right" if intensity > (left * right) ** 0.5 else "left",
            va="top",
        )
    axes.set(
        title=f"Roofline of {peaks.device}, memory at {peaks.bytes_per_second / 1e9:,.0f} GB/s",
        xlabel="arithmetic intensity (FLOP for each byte moved)",
        ylabel="speed (FLOP/s)",
        xlim=(left, right),
    )
    axes.grid(alpha=0.3, which="both")
    axes.legend(loc="upper left", title="measured peak")
    return figure


def describe_roofline(points: Sequence[Point], peaks: Peaks) -> str:
    """The figure in words: each point's speed, and how much of its roof that is.

    The roof over a point is the highest one, of whatever dtype.
    """
    best = max(peaks.flops.values())
    parts = [
        f"{point.name} runs at {_flops(point.flops / point.seconds)}, "
        f"{point.flops / point.seconds / _roof(point, best, peaks):.0%} of what it could"
        for point in points
    ]
    levels = ", ".join(f"{_flops(peak)} in {name}" for name, peak in peaks.flops.items())
    told = f" {'; '.join(parts)}." if parts else ""
    return (
        f"Roofline of {peaks.device}: a slope of {peaks.bytes_per_second / 1e9:,.0f} GB/s, then "
        f"levels of {levels}.{told}"
    )


def _roof(point: Point, best: float, peaks: Peaks) -> float:
    return min(best, peaks.bytes_per_second * point.flops / point.bytes)


def _flops(value: float) -> str:
    return f"{value / 1e12:,.1f} TFLOP/s" if value >= 1e12 else f"{value / 1e9:,.0f} GFLOP/s"


def _place(tf: Any, device: str | None) -> str:
    there = [each.name.removeprefix("/device:") for each in tf.config.list_logical_devices()]
    if device is None:
        return next((name for name in there if name.startswith("GPU")), "CPU:0")
    if device not in there:
        raise LabError(f"There is no device {device!r}; choose from {', '.join(there)}.")
    return device


def _device_name(tf: Any, place: str) -> str:
    if place.startswith("CPU"):
        cpu = processor.cpu_info()
        return f"{cpu.model} ({cpu.cores:g} core{'' if cpu.cores == 1 else 's'})"
    gpu = tf.config.list_physical_devices("GPU")[0]
    name: str = tf.config.experimental.get_device_details(gpu).get("device_name", place)
    return name


def _product(tf: Any, name: str, seconds: float) -> tuple[int, float]:
    """The size of matrices whose product takes long enough, and the FLOP/s of it."""
    dtype = "float32" if name == "tensorfloat32" else name
    with _tensorfloat32(tf, name == "tensorfloat32"):
        multiply = tf.function(lambda a, b: tf.linalg.matmul(a, b))
        size = _SMALLEST
        while True:
            a, b = (tf.cast(tf.random.normal((size, size)), dtype) for _ in range(2))
            once = _best(lambda: multiply(a, b)[0, 0].numpy(), 0.0)  # noqa: B023 (called at once)
            if once >= _LONG_ENOUGH or size >= _LARGEST:
                break
            size *= 2
        return size, 2 * size**3 / _best(lambda: multiply(a, b)[0, 0].numpy(), seconds)


@contextmanager
def _tensorfloat32(tf: Any, wanted: bool) -> Iterator[None]:
    before = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(wanted)
    try:
        yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(before)


def _bandwidth(tf: Any, num_bytes: int, seconds: float) -> float:
    """Bytes a second in adding one large array to another: two are read and one is written."""
    total = tf.Variable(tf.zeros(num_bytes // 4))
    ones = tf.ones_like(total)
    add = tf.function(lambda: total.assign_add(ones)[0])
    return 3 * num_bytes / _best(lambda: add().numpy(), seconds)


def _best(call: Callable[[], object], seconds: float) -> float:
    """The seconds of the fastest call, of as many as fit into `seconds`; at least two, one warm."""
    call()
    fastest, end = float("inf"), perf_counter() + seconds
    while True:
        start = perf_counter()
        call()
        now = perf_counter()
        fastest = min(fastest, now - start)
        if now >= end:
            return fastest
