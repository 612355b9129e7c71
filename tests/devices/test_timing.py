"""`fastest_call`, with a fake clock."""

import pytest

from dltlab.devices.timing import fastest_call


def test_the_fastest_call_that_fits_counts_and_the_first_does_not():
    durations = iter([0.1, 0.5, 0.2, 0.4, 0.1])
    now = 0.0

    def call() -> None:
        nonlocal now
        now += next(durations)

    assert fastest_call(call, 1.0, clock=lambda: now) == pytest.approx(0.2)
