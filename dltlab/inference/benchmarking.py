"""How long an engine takes, and how much it does: `benchmark`."""

import html
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dltlab.devices import PowerMeter
from dltlab.errors import LabError
from dltlab.inference.backends import Arrays, Lane
from dltlab.inference.engine import Engine, examples

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_BATCHES = (1, 8, 32)
_WARM_UP = 3  # calls of each lane
_LEAST = 10  # calls that are timed
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")


@dataclass(frozen=True)
class Measurement:
    """One batch and number of streams.

    Attributes:
        batch: Examples in a call.
        streams: Calls at once.
        latencies: Seconds of each call, in no order.
        images_per_second: All that was done, in the time that passed.
        images_per_joule: Of the processor and the GPUs, others' use of them included; None where
            no device tells its power.
    """

    batch: int
    streams: int
    latencies: np.ndarray
    images_per_second: float
    images_per_joule: float | None = None

    def percentile(self, share: float) -> float:
        """Seconds within which `share` percent of the calls were done."""
        return float(np.percentile(self.latencies, share))


@dataclass(frozen=True, repr=False)
class Benchmark:
    """What `benchmark` has measured; a notebook shows it as a table.

    Attributes:
        engine: In words.
        rows: A measurement for each batch and number of streams.
    """

    engine: str
    rows: tuple[Measurement, ...]

    @property
    def single_stream(self) -> Measurement | None:
        """MLPerf's single stream: one example at a time; None where batch 1 was not measured.

        MLPerf Inference reports the 90th percentile of its latency; the rules' least number of
        queries and 10 minutes are not kept here.
        """
        return next((row for row in self.rows if (row.batch, row.streams) == (1, 1)), None)

    @property
    def offline(self) -> Measurement:
        """MLPerf's offline: all examples are there at once, and only images/s count."""
        return max(self.rows, key=lambda row: row.images_per_second)

    def table(self) -> "pd.DataFrame":
        """A row for each batch and number of streams; latencies in ms."""
        import pandas as pd

        return pd.DataFrame(
            {
                "batch": [row.batch for row in self.rows],
                "streams": [row.streams for row in self.rows],
                **{
                    f"p{share} ms": [1e3 * row.percentile(share) for row in self.rows]
                    for share in (50, 90, 99)
                },
                "calls": [len(row.latencies) for row in self.rows],
                "images/s": [row.images_per_second for row in self.rows],
                **self._energy(),
            }
        )

    def _energy(self) -> dict[str, list[float | None]]:
        """A column, where any device tells its power."""
        column = [row.images_per_joule for row in self.rows]
        return {"images/J": column} if any(column) else {}

    def figure(self) -> tuple["Figure", str]:
        """Images/s over the 99th percentile of the latency, and that in words."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.subplots()
        counts = sorted({row.streams for row in self.rows})
        for place, streams in enumerate(counts):
            some = sorted((row for row in self.rows if row.streams == streams), key=_batch)
            axes.plot(
                [1e3 * row.percentile(99) for row in some],
                [row.images_per_second for row in some],
                marker="os^D"[place % 4],
                color=_COLORS[place % len(_COLORS)],
                label=f"{streams} stream{'s' if streams > 1 else ''}",
            )
            for row in some:
                axes.annotate(
                    str(row.batch), (1e3 * row.percentile(99), row.images_per_second),
                    xytext=(5, -11), textcoords="offset points", fontsize=8,
                )  # fmt: skip
        axes.set(
            xscale="log", ylim=(0, None), xlabel="latency, 99th percentile (ms)", ylabel="images/s"
        )
        axes.set_title("What a batch costs in latency; the number at a point is the batch")
        axes.legend()
        axes.spines[["top", "right"]].set_visible(False)
        return figure, f"Images per second over latency. {self._sentence}"

    def show(self) -> None:
        """Show the figure."""
        from dltlab.display import show

        show(*self.figure())

    @property
    def _sentence(self) -> str:
        single, offline = self.single_stream, self.offline
        says = [f"{self.engine}:"]
        if single:
            says.append(f"single stream (MLPerf) p90 {1e3 * single.percentile(90):.3g} ms;")
        says.append(
            f"offline (MLPerf) {offline.images_per_second:,.0f} images/s with batch "
            f"{offline.batch} in {offline.streams} stream{'s' if offline.streams > 1 else ''}."
        )
        return " ".join(says)

    def _repr_html_(self) -> str:
        table = self.table().to_html(index=False, float_format="{:,.3g}".format)
        return f"<p>{html.escape(self._sentence)}</p>{table}"

    def __repr__(self) -> str:
        table = self.table().to_string(index=False, float_format="{:,.3g}".format)
        return f"{self._sentence}\n{table}"


def _batch(row: Measurement) -> int:
    return row.batch


def benchmark(
    engine: Engine,
    *,
    batches: Sequence[int] | None = None,
    streams: Sequence[int] | None = None,
    seconds: float = 1.0,
) -> Benchmark:
    """Measure an engine for each batch and number of streams.

    Every stream has a thread that calls the engine again and again; the first calls, in which
    memory is taken and kernels are made, do not count. The inputs are random numbers, already in
    memory.

    Args:
        engine: What `optimize` returned.
        batches: By default 1, 8 and 32.
        streams: By default 1, and one for each thread of the engine.
        seconds: For each measurement; longer, until there are 10 calls.

    Raises:
        LabError: A number makes no sense.
    """
    if not seconds > 0:
        raise LabError(f"seconds is {seconds}; it must be more than 0.")
    threads = engine.settings.threads
    rows = [
        measure(engine.configured(batch=batch, streams=count), seconds)
        for count in (streams or sorted({1, threads}))
        for batch in (batches or _BATCHES)
    ]
    about = engine.manifest
    return Benchmark(f"{about.model} on {about.backend} in {about.precision}", tuple(rows))


def measure(engine: Engine, seconds: float) -> Measurement:
    """Measure an engine as it is set."""
    settings = engine.settings
    inputs = examples(engine.manifest.inputs, settings.batch)
    lanes = [engine.lane() for _ in range(settings.streams)]
    for lane in lanes:
        for _ in range(_WARM_UP):
            lane(inputs)
    found: list[list[float]] = [[] for _ in lanes]
    with PowerMeter() as power:
        begin = time.perf_counter()
        _run(lanes, inputs, seconds, found)
        passed = time.perf_counter() - begin
        watts = power.watts()
    latencies = np.concatenate(found)
    per_second = len(latencies) * settings.batch / passed
    per_joule = per_second / watts if watts else None
    return Measurement(settings.batch, settings.streams, latencies, per_second, per_joule)


def _run(lanes: list[Lane], inputs: Arrays, seconds: float, found: list[list[float]]) -> None:
    """Call all lanes at once, again and again, and note how long each call took."""
    failed: list[BaseException] = []
    begin = time.perf_counter()

    def work(lane: Lane, latencies: list[float]) -> None:
        try:
            while time.perf_counter() - begin < seconds or len(latencies) < _LEAST:
                start = time.perf_counter()
                lane(inputs)
                latencies.append(time.perf_counter() - start)
        except BaseException as error:  # to be raised where somebody sees it
            failed.append(error)

    if len(lanes) == 1:
        work(lanes[0], found[0])
    else:
        threads = [
            threading.Thread(target=work, args=each) for each in zip(lanes, found, strict=True)
        ]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
    if failed:
        raise failed[0]
