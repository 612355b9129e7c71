"""What each worker of `benchmark_collectives` runs: it measures, and worker 0 writes the times."""

import json
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from dltlab.distribute.cluster import worker
from dltlab.distribute.group import Group, join
from dltlab.distribute.transports import start_transport
from dltlab.distribute.transports.base import Transport
from dltlab.errors import Unavailable

_ROUNDS = 7
_ROUND_SECONDS = 0.02  # a round repeats the collective as often as fits into this time


def main() -> None:
    """Measure all transports with all sizes, as the options in the first argument say."""
    options = json.loads(sys.argv[1])
    group = join("ring")
    ring = group.transport.ring
    transports, left_out = [], {}
    for name in options["transports"]:
        try:
            transports.append(start_transport(name, ring, worker()))
        except Unavailable as error:  # on all workers
            left_out[name] = str(error)
    times = [
        values
        for num_bytes in options["sizes"]
        for values in _measure(group, transports, num_bytes)
    ]
    if group.rank == 0:
        Path(options["output"]).write_text(json.dumps({"times": times, "left_out": left_out}))


def _measure(group: Group, transports: Sequence[Transport], num_bytes: int) -> list[dict[str, Any]]:
    """Measure one size; the transports and a copy in memory take turns."""
    count = max(1, num_bytes // 4)
    zeros = np.zeros(count, np.float32)  # the sum of zeros may be reduced again without end
    other = np.ones_like(zeros)
    wrong = [_count_wrong(group, transport, count) for transport in transports]
    calls = [transport.summing(zeros) for transport in transports]
    *seconds, copy_seconds = _times(group, [*calls, lambda: np.copyto(other, zeros)])
    return [
        {
            "transport": transport.name,
            "count": count,
            "num_wrong": num_wrong,
            "seconds": time,
            "copy_seconds": copy_seconds,
        }
        for transport, num_wrong, time in zip(transports, wrong, seconds, strict=True)
    ]


def _count_wrong(group: Group, transport: Transport, count: int) -> int:
    """Return how many elements of the sum are wrong, on all workers together."""
    index = np.arange(count) % 1000
    own = (index * (group.rank + 1)).astype(np.float32)
    expected = index * (group.size * (group.size + 1) // 2)  # exact in float32
    wrong = np.count_nonzero(np.asarray(transport.summing(own)()) != expected)
    return sum(group.exchange(int(wrong)))


def _times(group: Group, calls: Sequence[Callable[[], Any]]) -> list[float]:
    """Return the seconds of each call: the medians of rounds, of each the mean over workers."""
    repeats = []
    for call in calls:
        _time_round(group, call, 1)
        repeats.append(max(1, int(_ROUND_SECONDS / _time_round(group, call, 1))))
    rounds = [
        [_time_round(group, call, count) for call, count in zip(calls, repeats, strict=True)]
        for _ in range(_ROUNDS)
    ]
    return [statistics.median(times) for times in zip(*rounds, strict=True)]


def _time_round(group: Group, run: Callable[[], Any], repeats: int) -> float:
    """Return the seconds of a call, the same on all workers."""
    group.exchange(None)  # all begin at the same time
    start = perf_counter()
    for _ in range(repeats):
        result = run()
    if result is not None:
        np.asarray(result[-1:])  # a GPU has finished
    return float(np.mean(group.exchange((perf_counter() - start) / repeats)))


if __name__ == "__main__":
    main()
