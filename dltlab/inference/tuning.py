"""Find the fastest settings within a latency bound: `tune`."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from dltlab.display import NEUTRAL, Result
from dltlab.errors import Invalid, Unavailable
from dltlab.files import write_atomically
from dltlab.inference.benchmarking import count_streams, measure, plot_tradeoff
from dltlab.inference.engine import Engine
from dltlab.inference.manifest import this_machine
from dltlab.paths import engine_dir

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_MAX_BATCH_SIZE = 256
_MIN_GAIN = 1.02  # that a larger batch must bring in images/s, or the search ends


class Trial(BaseModel):
    """Settings that were measured.

    Attributes:
        batch_size: Examples in a call.
        streams: Calls at the same time.
        threads: Threads of all streams together.
        p99_ms: The 99th percentile of the latency.
        images_per_second: All examples, divided by the elapsed time.
    """

    model_config = ConfigDict(frozen=True)

    batch_size: int
    streams: int
    threads: int
    p99_ms: float
    images_per_second: float


_TRIALS = TypeAdapter(tuple[Trial, ...])


@dataclass(frozen=True, repr=False)
class Tuning(Result):
    """The result of `tune`.

    Attributes:
        engine: The engine with the best settings.
        latency_ms: The bound on the latency.
        rows: All settings that were measured.
    """

    engine: Engine
    latency_ms: float
    rows: tuple[Trial, ...]

    _formats: ClassVar[Mapping[str, Callable[[Any], str]]] = {
        "p99 (ms)": "{:,.3g}".format,
        "images/s": "{:,.0f}".format,
    }

    @property
    def best(self) -> Trial:
        """The settings with the most images/s within the bound."""
        within = [row for row in self.rows if row.p99_ms <= self.latency_ms]
        return max(within, key=lambda row: row.images_per_second)

    @property
    def summary(self) -> str:
        """The best settings."""
        best = self.best
        return (
            f"{self.engine.manifest.title}: within {self.latency_ms:g} ms the best of "
            f"{len(self.rows)} settings is batch size {best.batch_size} in "
            f"{count_streams(best.streams)} and {best.threads} "
            f"thread{'s' if best.threads > 1 else ''}, with {best.images_per_second:,.0f} images/s "
            f"and a 99th percentile of {best.p99_ms:.3g} ms."
        )

    @property
    def table(self) -> "pd.DataFrame":
        """A row for each setting that was measured."""
        import pandas as pd

        table = pd.DataFrame([row.model_dump() for row in self.rows])
        return table.set_axis(
            ["batch size", "streams", "threads", "p99 (ms)", "images/s"], axis="columns"
        )

    @property
    def alt(self) -> str:
        """The description of the figure."""
        return f"Images per second over latency, with the bound. {self.summary}"

    def figure(self) -> "Figure":
        """Draw images/s over the 99th percentile of the latency, and the bound."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.subplots()
        splits = dict.fromkeys((row.streams, row.threads) for row in self.rows)
        for index, (streams, threads) in enumerate(splits):
            points = [
                (row.batch_size, row.p99_ms / 1000, row.images_per_second)
                for row in self.rows
                if (row.streams, row.threads) == (streams, threads)
            ]
            plot_tradeoff(axes, index, points, f"{count_streams(streams)}, threads: {threads}")
        axes.axvline(self.latency_ms, color=NEUTRAL, linestyle="--", label="bound")
        axes.set_title("Settings that were measured; numbers are batch sizes")
        axes.legend()
        return figure


def tune(engine: Engine, *, latency_ms: float, seconds: float = 1.0) -> Tuning:
    """Find the settings with the most images/s whose latency stays within a bound.

    The latency is the 99th percentile, as in MLPerf's server scenario. For each number of streams
    and threads the batch size is doubled until calls take too long or throughput stops growing. The
    result is stored for this engine on this machine, and not measured again.

    Args:
        engine: What `optimize` returned.
        latency_ms: The bound, in milliseconds.
        seconds: For each measurement.

    Raises:
        Invalid: `latency_ms` is not positive.
        Unavailable: No settings stay within the bound.
    """
    if not latency_ms > 0:
        raise Invalid(f"latency_ms is {latency_ms}; it must be more than 0.")
    path = _stored_at(engine, latency_ms, seconds)
    trials: tuple[Trial, ...] = ()
    with suppress(OSError, ValidationError):  # nothing is stored, or it is damaged
        trials = _TRIALS.validate_json(path.read_bytes())
    if not trials:
        trials = tuple(_measure_all(engine, latency_ms, seconds))
        shortest = min(trial.p99_ms for trial in trials)
        if shortest > latency_ms:
            raise Unavailable(
                f"No settings stay within {latency_ms:g} ms: the 99th percentile is "
                f"{shortest:.3g} ms at best. Allow more, or choose a faster engine."
            )
        write_atomically(path, _TRIALS.dump_json(trials))
    best = Tuning(engine, latency_ms, trials).best
    fastest = engine.configured(
        batch_size=best.batch_size, streams=best.streams, threads=best.threads
    )
    return Tuning(fastest, latency_ms, trials)


def _stored_at(engine: Engine, latency_ms: float, seconds: float) -> Path:
    """Return where the result of these arguments is stored on this machine."""
    manifest = engine.manifest.model_dump_json(exclude={"accuracy", "build_seconds"})
    description = f"{manifest}{this_machine()} {engine.settings.threads} {latency_ms} {seconds}"
    return engine_dir() / f"tuned-{hashlib.sha256(description.encode()).hexdigest()[:32]}.json"


def _measure_all(engine: Engine, latency_ms: float, seconds: float) -> Iterator[Trial]:
    for streams, threads in _splits(engine.settings.threads):
        previous, batch_size = 0.0, 1
        while batch_size <= _MAX_BATCH_SIZE:
            configured = engine.configured(batch_size=batch_size, streams=streams, threads=threads)
            measured = measure(configured, seconds)
            trial = Trial(
                batch_size=batch_size,
                streams=streams,
                threads=threads,
                p99_ms=1e3 * measured.percentile(99),
                images_per_second=measured.images_per_second,
            )
            yield trial
            if trial.p99_ms > latency_ms or trial.images_per_second < _MIN_GAIN * previous:
                break
            previous, batch_size = trial.images_per_second, 2 * batch_size


def _splits(cores: int) -> Iterator[tuple[int, int]]:
    """Yield numbers of streams and threads: powers of 2, and all cores."""
    counts = sorted({cores, *(1 << power for power in range(cores.bit_length()))})
    for threads, streams in product(counts, counts):
        if streams <= threads <= cores:
            yield streams, threads
