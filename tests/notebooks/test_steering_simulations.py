"""The simulation of lab 16: runs that blow up or are dead are counted as such."""

from typing import Any

import numpy as np
import pytest

from dltlab.course import Course


@pytest.fixture(scope="module")
def lab() -> dict[str, Any]:
    """The lab's variables when it has defined a run."""
    (lab,) = Course.own().read(["16"])
    variables: dict[str, Any] = {}
    for cell in lab.code_cells():
        if "simulate" in variables:
            return variables
        if "make_step(" not in cell.solution:  # it measures the time of a step
            exec(compile(cell.solution, f"{lab.path.name}:{cell.line}", "exec"), variables)
    raise AssertionError("The lab defines no simulate.")


def run(lab: dict[str, Any], parameters: tuple[float, ...], **options: Any) -> dict[str, Any]:
    functions = {"is_dead": lab["is_dead"], "outcome": lab["outcome"]}
    result: dict[str, Any] = lab["simulate"](parameters, 1, 48, 5000, **functions, **options)
    return result


@pytest.mark.parametrize("stop", [True, False])
def test_a_run_that_blows_up_is_a_failure_and_no_pattern(lab: dict[str, Any], stop: bool) -> None:
    result = run(lab, (0.037, 0.06, 0.6), stop=stop)

    assert lab["CLASSES"] == ["dead", "uniform", "pattern"]
    assert result["outcome"] == lab["FAILED"] == 3
    assert result["steps"] < 1000


def test_a_dead_run_is_stopped_early_and_would_have_died(lab: dict[str, Any]) -> None:
    stopped, whole = (run(lab, (0.01, 0.07, 0.08), stop=stop) for stop in (True, False))

    assert stopped["outcome"] == whole["outcome"] == lab["DEAD"]
    assert stopped["steps"] < whole["steps"] == 5000


def test_a_run_can_be_repeated(lab: dict[str, Any]) -> None:
    first, second = (run(lab, (0.07, 0.035, 0.08), image=True) for _ in range(2))

    assert first["outcome"] == lab["UNIFORM"]
    assert first["mean"] == second["mean"]
    np.testing.assert_array_equal(first["image"], second["image"])
    assert first["image"].shape == (48, 48)
