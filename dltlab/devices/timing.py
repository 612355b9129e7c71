"""Time a call: `fastest_call`."""

from collections.abc import Callable
from time import perf_counter

Clock = Callable[[], float]  # returns seconds


def fastest_call(call: Callable[[], object], seconds: float, clock: Clock = perf_counter) -> float:
    """Return the seconds of the fastest call, of as many as fit into `seconds`.

    The first call does not count: it warms up.
    """
    call()
    fastest, end = float("inf"), clock() + seconds
    while True:
        start = clock()
        call()
        now = clock()
        fastest = min(fastest, now - start)
        if now >= end:
            return fastest
