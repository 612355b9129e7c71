"""Measure the latency and the throughput of an engine: `benchmark`."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from dltlab.devices import PowerMeter
from dltlab.display import PALETTE, Result
from dltlab.errors import Invalid
from dltlab.inference.arrays import example_inputs
from dltlab.inference.backends.base import Arrays, Runner
from dltlab.inference.engine import Engine

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BATCH_SIZES = (1, 8, 32)
_WARM_UP_CALLS = 3
_MIN_CALLS = 10
_MARKERS = "os^D"


@dataclass(frozen=True)
class Measurement:
    """The latency and throughput for one batch size and number of streams.

    Attributes:
        batch_size: Examples in a call.
        streams: Calls at the same time.
        latencies: The time of each call in seconds, in no order.
        images_per_second: All examples, divided by the elapsed time.
        images_per_joule: Divided by the energy of the processor and the GPUs, including what other
            programs use; None where no device reports its power.
        repeats: The parts of the measurement, one after the other; empty where it is one.
    """

    batch_size: int
    streams: int
    latencies: np.ndarray
    images_per_second: float
    images_per_joule: float | None = None
    repeats: "tuple[Measurement, ...]" = ()

    def percentile(self, percent: float) -> float:
        """Return a percentile of the latencies in seconds, such as the 99th for 99."""
        return float(np.percentile(self.latencies, percent))

    @property
    def rate_range(self) -> tuple[float, float]:
        """The lowest and the highest images/s of the repeats."""
        rates = [repeat.images_per_second for repeat in self.repeats or (self,)]
        return min(rates), max(rates)

    def percentile_range(self, percent: float) -> tuple[float, float]:
        """Return the lowest and the highest of the repeats' percentiles, in seconds."""
        values = [repeat.percentile(percent) for repeat in self.repeats or (self,)]
        return min(values), max(values)


@dataclass(frozen=True, repr=False)
class Benchmark(Result):
    """The result of `benchmark`.

    Attributes:
        title: The engine in a few words.
        rows: A measurement for each batch size and number of streams.
    """

    title: str
    rows: tuple[Measurement, ...]

    _formats: ClassVar[Mapping[str, Callable[[Any], str]]] = {
        **dict.fromkeys(("p50 (ms)", "p90 (ms)", "p99 (ms)", "images/J"), "{:,.3g}".format),
        "images/s": "{:,.0f}".format,
    }

    @property
    def single_stream(self) -> Measurement | None:
        """MLPerf's single-stream scenario: one example at a time.

        MLPerf Inference reports the 90th percentile of its latency. The rules' minimum number of
        queries and duration of 10 minutes are not kept here. None where batch size 1 was not
        measured.
        """
        return next((row for row in self.rows if (row.batch_size, row.streams) == (1, 1)), None)

    @property
    def offline(self) -> Measurement:
        """MLPerf's offline scenario: all examples are there from the start; images/s count."""
        return max(self.rows, key=lambda row: row.images_per_second)

    @property
    def summary(self) -> str:
        """The two MLPerf scenarios."""
        single, offline = self.single_stream, self.offline
        single_stream = (
            f"single stream (MLPerf) p90 {1e3 * single.percentile(90):.3g} ms; " if single else ""
        )
        return (
            f"{self.title}: {single_stream}offline (MLPerf) {offline.images_per_second:,.0f} "
            f"images/s with batch size {offline.batch_size} in {count_streams(offline.streams)}."
        )

    @property
    def table(self) -> "pd.DataFrame":
        """A row for each batch size and number of streams."""
        import pandas as pd

        columns: dict[str, list[float | None]] = {
            "batch size": [row.batch_size for row in self.rows],
            "streams": [row.streams for row in self.rows],
        }
        for percent in (50, 90, 99):
            columns[f"p{percent} (ms)"] = [1e3 * row.percentile(percent) for row in self.rows]
        columns["calls"] = [len(row.latencies) for row in self.rows]
        columns["images/s"] = [row.images_per_second for row in self.rows]
        if any(row.images_per_joule for row in self.rows):
            columns["images/J"] = [row.images_per_joule for row in self.rows]
        return pd.DataFrame(columns)

    @property
    def alt(self) -> str:
        """The description of the figure."""
        bars = "; bars from the lowest to the highest repeat" if self._has_repeats else ""
        return f"Images per second over latency{bars}. {self.summary}"

    @property
    def _has_repeats(self) -> bool:
        return any(row.repeats for row in self.rows)

    def figure(self) -> "Figure":
        """Draw images/s over the 99th percentile of the latency, with the range of the repeats."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.subplots()
        for index, streams in enumerate(sorted({row.streams for row in self.rows})):
            rows = sorted(
                (row for row in self.rows if row.streams == streams), key=lambda row: row.batch_size
            )
            points = [(row.batch_size, row.percentile(99), row.images_per_second) for row in rows]
            plot_tradeoff(axes, index, points, count_streams(streams))
            if self._has_repeats:
                _plot_ranges(axes, index, rows)
        axes.set_ylim(0)
        axes.set_title("What a larger batch costs in latency; numbers are batch sizes")
        axes.legend()
        return figure


def _plot_ranges(axes: "Axes", index: int, rows: Sequence[Measurement]) -> None:
    """Add error bars from the lowest to the highest repeat to a line of `plot_tradeoff`."""
    latencies = 1e3 * np.array([(row.percentile(99), *row.percentile_range(99)) for row in rows])
    rates = np.array([(row.images_per_second, *row.rate_range) for row in rows])
    # The whole is between its parts, except for the interpolation of a percentile.
    lengths = [
        np.maximum(0, [part[:, 0] - part[:, 1], part[:, 2] - part[:, 0]])
        for part in (latencies, rates)
    ]
    axes.errorbar(
        latencies[:, 0],
        rates[:, 0],
        xerr=lengths[0],
        yerr=lengths[1],
        fmt="none",
        ecolor=PALETTE[index % len(PALETTE)],
        alpha=0.5,
        capsize=2,
    )


def plot_tradeoff(
    axes: "Axes", index: int, points: Sequence[tuple[int, float, float]], label: str
) -> None:
    """Add a line of throughput over latency to axes.

    Args:
        axes: They get labels and a logarithmic scale.
        index: Chooses the color and the marker.
        points: Batch size, latency in seconds, and images/s, in the order of the line.
        label: The line's name in the legend.
    """
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    batch_sizes, latencies, rates = zip(*points, strict=True)
    milliseconds = [1e3 * latency for latency in latencies]
    below_or_above = (5, -11) if index % 2 == 0 else (5, 6)  # the labels of lines that meet
    axes.plot(
        milliseconds,
        rates,
        marker=_MARKERS[index % len(_MARKERS)],
        color=PALETTE[index % len(PALETTE)],
        label=label,
    )
    for batch_size, x, y in zip(batch_sizes, milliseconds, rates, strict=True):
        axes.annotate(
            str(batch_size), (x, y), xytext=below_or_above, textcoords="offset points", fontsize=8
        )
    axes.set(xscale="log", xlabel="latency, 99th percentile (ms)", ylabel="images/s")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.set_ylim(0, auto=True)  # or the next line would not change the limits
    axes.spines[["top", "right"]].set_visible(False)


def count_streams(streams: int) -> str:
    """Return "1 stream" or "2 streams"."""
    return f"{streams} stream{'s' if streams > 1 else ''}"


def benchmark(
    engine: Engine,
    *,
    batch_sizes: Sequence[int] | None = None,
    streams: Sequence[int] | None = None,
    seconds: float = 1.0,
    repeats: int = 1,
) -> Benchmark:
    """Measure latency and throughput for each batch size and number of streams.

    Each stream has a thread that calls the engine again and again. The first calls, which allocate
    memory and create kernels, do not count. The inputs are random numbers, already in memory.

    Args:
        engine: What `optimize` returned.
        batch_sizes: By default 1, 8 and 32.
        streams: By default 1, and one for each thread of the engine.
        seconds: For each measurement; longer where that is fewer than 10 calls.
        repeats: The number of measurements with each setting. The result has them together, and the
            figure their range.

    Raises:
        Invalid: A number is not positive.
    """
    if not seconds > 0:
        raise Invalid(f"seconds is {seconds}; it must be more than 0.")
    if repeats < 1:
        raise Invalid(f"repeats is {repeats}; it must be at least 1.")
    rows = [
        measure(engine.configured(batch_size=batch_size, streams=count), seconds, repeats)
        for count in (streams or sorted({1, engine.settings.threads}))
        for batch_size in (batch_sizes or _BATCH_SIZES)
    ]
    return Benchmark(engine.manifest.title, tuple(rows))


def measure(engine: Engine, seconds: float, repeats: int = 1) -> Measurement:
    """Measure an engine with its own settings; as for `benchmark`."""
    settings = engine.settings
    inputs = example_inputs(engine.manifest.inputs, settings.batch_size)
    runners = [engine.runner() for _ in range(settings.streams)]
    for run in runners:
        for _ in range(_WARM_UP_CALLS):
            run(inputs)
    parts = []
    elapsed = 0.0
    with PowerMeter() as power:
        for _ in range(repeats):
            start = time.perf_counter()
            latencies = _call_repeatedly(runners, inputs, seconds)
            duration = time.perf_counter() - start
            rate = len(latencies) * settings.batch_size / duration
            parts.append(Measurement(settings.batch_size, settings.streams, latencies, rate))
            elapsed += duration
        watts = power.watts()
    latencies = np.concatenate([part.latencies for part in parts])
    rate = len(latencies) * settings.batch_size / elapsed
    return Measurement(
        settings.batch_size,
        settings.streams,
        latencies,
        rate,
        rate / watts if watts else None,
        tuple(parts) if repeats > 1 else (),
    )


def _call_repeatedly(runners: list[Runner], inputs: Arrays, seconds: float) -> np.ndarray:
    """Call all runners at the same time, again and again; return the time of each call."""
    latencies: list[list[float]] = [[] for _ in runners]
    errors: list[BaseException] = []
    begin = time.perf_counter()

    def work(run: Runner, times: list[float]) -> None:
        try:
            while time.perf_counter() - begin < seconds or len(times) < _MIN_CALLS:
                start = time.perf_counter()
                run(inputs)
                times.append(time.perf_counter() - start)
        except BaseException as error:  # to be raised in the caller's thread
            errors.append(error)

    if len(runners) == 1:
        work(runners[0], latencies[0])
    else:
        threads = [
            threading.Thread(target=work, args=pair)
            for pair in zip(runners, latencies, strict=True)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if errors:
        raise errors[0]
    return np.concatenate(latencies)
