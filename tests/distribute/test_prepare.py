"""Prepared models on two workers, against the same trainings in one process."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from dltlab.distribute.prepare import prepare
from dltlab.distribute.replicas import prepare_replicas
from dltlab.errors import Invalid
from tests.deadlines import HANG_SECONDS
from tests.distribute import prepared_cases
from tests.distribute.prepared_cases import CASES, Outcome

NUM_WORKERS = 2
BFLOAT16 = {"a_half_precision_optimizer": 1e-2}  # the sum is rounded in another order


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Outcome]]:
    """What each worker has computed."""
    folder = tmp_path_factory.mktemp("workers")
    launch: list[str | Path] = [Path(sys.executable).with_name("dltlab"), "launch"]
    launch += ["-n", str(NUM_WORKERS), "--log-dir", folder / "logs", "--max-restarts", "2"]
    done = subprocess.run(
        [*launch, "--", prepared_cases.__file__, folder],
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr.count("SIGKILL") == NUM_WORKERS
    return [read_outcomes(folder, rank) for rank in range(NUM_WORKERS)]


def read_outcomes(folder: Path, rank: int) -> dict[str, Outcome]:
    numbers = json.loads((folder / f"{rank}.json").read_text())
    with np.load(folder / f"{rank}.npz") as arrays:
        return {
            name: Outcome(
                [arrays[key] for key in arrays if key.startswith(f"{name}:")], numbers[name]
            )
            for name in numbers
        }


@pytest.mark.parametrize("name", CASES)
def test_workers_compute_what_one_process_computes(
    name: str, outcomes: list[dict[str, Outcome]]
) -> None:
    first, *others = (of_worker[name] for of_worker in outcomes)
    for other in others:
        assert other.numbers == first.numbers
        for own, of_first in zip(other.weights, first.weights, strict=True):
            np.testing.assert_array_equal(own, of_first)
    expected = prepared_cases.run(name, None)
    tolerance = BFLOAT16.get(name, 1e-5)
    for actual, weights in zip(first.weights, expected.weights, strict=True):
        np.testing.assert_allclose(actual, weights, rtol=0, atol=tolerance)
    assert first.numbers.keys() == expected.numbers.keys()
    for number, value in expected.numbers.items():
        np.testing.assert_allclose(first.numbers[number], value, rtol=10 * tolerance)


@pytest.mark.parametrize("name", [training.__name__ for training in prepared_cases.RESUMABLE])
def test_an_interrupted_training_ends_with_the_same_weights(
    name: str, outcomes: list[dict[str, Outcome]]
) -> None:
    for of_worker in outcomes:
        resumed, undisturbed = (of_worker[f"{name} {interrupted}"] for interrupted in (True, False))
        for actual, expected in zip(resumed.weights, undisturbed.weights, strict=True):
            np.testing.assert_array_equal(actual, expected)


def test_trainings_that_differ_between_workers_are_refused(
    outcomes: list[dict[str, Outcome]],
) -> None:
    for of_worker in outcomes:
        for name, message in of_worker["refusals"].numbers.items():
            assert message.startswith(f"The {name} of worker 1 differs from that of worker 0: ")


def test_a_model_is_prepared_once() -> None:
    group: Any = SimpleNamespace(rank=0, size=2)
    model = prepared_cases.dense()
    model.compile("sgd", "mse")
    prepare(model, group)

    with pytest.raises(Invalid, match="prepared already"):
        prepare(model, group)
    with pytest.raises(Invalid, match="prepared already"):
        prepare_replicas(model)
