"""The best batch, streams and threads under a bound on the latency: `tune`."""

import hashlib
import math
from collections.abc import Iterator
from contextlib import suppress
from itertools import product

from pydantic import BaseModel, ValidationError

from dltlab.errors import LabError
from dltlab.files import write_atomically
from dltlab.inference import cache
from dltlab.inference.benchmarking import measure
from dltlab.inference.engine import Engine
from dltlab.paths import engine_dir

_LARGEST_BATCH = 256
_GAIN = 1.02  # a larger batch must do so much more, or the search ends


class _Choice(BaseModel):
    """What is remembered."""

    batch: int
    streams: int
    threads: int


def tune(engine: Engine, *, latency_ms: float, seconds: float = 1.0) -> Engine:
    """Find the settings that do most images/s while calls stay within a latency.

    A call counts with its 99th percentile, as for MLPerf's server. For each number of streams and
    threads the batch is doubled until calls take too long or no more is done. What was found is
    remembered for this engine on this machine, and not measured again.

    Args:
        engine: What `optimize` returned.
        latency_ms: What a call may take, in milliseconds.
        seconds: For each measurement.

    Returns:
        The same engine with the best settings.

    Raises:
        LabError: No settings keep within the latency, or it is not above 0.
    """
    if not latency_ms > 0:
        raise LabError(f"latency_ms is {latency_ms}; it must be more than 0.")
    about = engine.manifest.model_dump_json(exclude={"check", "build_seconds"}) + cache.machine()
    measured = f"{about} {engine.settings.threads} {latency_ms} {seconds}"
    key = hashlib.sha256(measured.encode())
    remembered = engine_dir() / f"tuned-{key.hexdigest()[:32]}.json"
    with suppress(OSError, ValidationError):  # there is nothing yet, or it is damaged
        return _configured(engine, _Choice.model_validate_json(remembered.read_bytes()))
    choice = _best(engine, latency_ms / 1000, seconds)
    write_atomically(remembered, choice.model_dump_json())
    return _configured(engine, choice)


def _configured(engine: Engine, choice: _Choice) -> Engine:
    return engine.configured(**choice.model_dump())


def _best(engine: Engine, latency: float, seconds: float) -> _Choice:
    most, best, shortest = 0.0, None, math.inf
    for streams, threads in _splits(engine.settings.threads):
        before, batch = 0.0, 1
        while batch <= _LARGEST_BATCH:
            choice = _Choice(batch=batch, streams=streams, threads=threads)
            found = measure(_configured(engine, choice), seconds)
            shortest = min(shortest, found.percentile(99))
            if found.percentile(99) > latency:
                break
            if found.images_per_second > most:
                most, best = found.images_per_second, choice
            if found.images_per_second < _GAIN * before:
                break
            before, batch = found.images_per_second, 2 * batch
    if best is None:
        raise LabError(
            f"No settings keep within {1000 * latency:g} ms: the 99th percentile is "
            f"{1000 * shortest:.3g} ms at best. Allow more, or choose a faster engine."
        )
    return best


def _splits(cores: int) -> Iterator[tuple[int, int]]:
    """Numbers of streams and threads: powers of two, and all cores."""
    counts = sorted({cores, *(1 << power for power in range(cores.bit_length()))})
    for threads, streams in product(counts, counts):
        if streams <= threads <= cores:
            yield streams, threads
