"""What each worker of `benchmark_collectives` runs: it measures, and worker 0 writes the times."""

import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from dltlab.distribute.group import Group, join

_ROUNDS = 5
_ROUND_SECONDS = 0.02  # a round repeats the collective as often as fits into this time


def main() -> None:
    """Measure one transport with all sizes, as the options in the first argument say."""
    options = json.loads(sys.argv[1])
    group = join(options["transport"])
    times = [_measure(group, num_bytes) for num_bytes in options["sizes"]]
    if group.rank == 0:
        Path(options["output"]).write_text(json.dumps(times))


def _measure(group: Group, num_bytes: int) -> dict[str, Any]:
    count = max(1, num_bytes // 4)
    zeros = np.zeros(count, np.float32)  # the sum of zeros may be reduced again without end
    other = np.ones_like(zeros)
    return {
        "count": count,
        "num_wrong": _count_wrong(group, count),
        "seconds": _time(group, group.transport.summing(zeros)),
        "copy_seconds": _time(group, lambda: np.copyto(other, zeros)),
    }


def _count_wrong(group: Group, count: int) -> int:
    """Return how many elements of the sum are wrong, on all workers together."""
    index = np.arange(count) % 1000
    own = (index * (group.rank + 1)).astype(np.float32)
    expected = index * (group.size * (group.size + 1) // 2)  # exact in float32
    wrong = np.count_nonzero(np.asarray(group.transport.summing(own)()) != expected)
    return sum(group.exchange(int(wrong)))


def _time(group: Group, run: Callable[[], Any]) -> float:
    """Return the seconds of a call: the median of rounds, of each the mean over workers."""
    _time_round(group, run, 1)
    repeats = max(1, int(_ROUND_SECONDS / _time_round(group, run, 1)))
    return statistics.median(_time_round(group, run, repeats) for _ in range(_ROUNDS))


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
