"""Replicas and their choice, in a process whose CPU is split into three devices."""

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.deadlines import HANG_SECONDS
from tests.distribute import replicated_cases
from tests.distribute.replicated_cases import CASES


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """What the script prints."""
    done = subprocess.run(
        [sys.executable, replicated_cases.__file__],
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


EXACT = [case.__name__ for case in CASES if case is not replicated_cases.local_batch_normalization]


@pytest.mark.parametrize("name", EXACT)
def test_replicas_compute_what_one_device_computes(name: str, found: dict[str, Any]) -> None:
    assert found[name]["weights"] < 1e-5
    assert found[name]["history"] < 1e-4


@pytest.mark.parametrize("name", [case.__name__ for case in CASES])
def test_all_replicas_have_the_same_weights_and_moving_statistics(
    name: str, found: dict[str, Any]
) -> None:
    assert found[name]["copies"] == 0


def test_two_strategies_of_one_process_do_not_mix_their_sums(found: dict[str, Any]) -> None:
    assert found["two"]["weights"] < 1e-5


def test_a_strategy_says_what_it_chose_and_why(found: dict[str, Any]) -> None:
    assert found["plans"] == [
        "3 replicas, on CPU:0, CPU:1, CPU:2: the process has 3 logical devices.",
        "3 replicas, on CPU:0, CPU:1, CPU:2: the process has 3 logical devices.",
        "2 replicas, on CPU:0, CPU:1: the process has 3 logical devices, and 2 were asked for.",
        "One device, CPU:0: one was asked for.",
    ]


def test_a_model_that_cannot_be_prepared_is_refused(found: dict[str, Any]) -> None:
    inside, unusual, outside, uncompiled, late = found["refused"]
    assert "in scope already" in inside
    assert "steps_per_execution=1" in unusual
    assert "in the scope of the strategy" in outside
    assert "Compile the model" in uncompiled
    assert "already begun to compute" in late
