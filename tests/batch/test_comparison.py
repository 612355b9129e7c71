"""Comparing runs."""

import json

import pytest

from dltlab.batch.comparison import compare
from dltlab.batch.records import read_records
from dltlab.batch.run_folder import Status
from tests.batch.fabricated_runs import fabricate


@pytest.fixture
def compared(tmp_path):
    """The comparison of two rates with three seeds each, and of a run that failed."""
    for rate, accuracy in ((0.1, 0.8), (0.2, 0.9)):
        for seed in range(3):
            metrics = {"accuracy": accuracy + 0.01 * (seed - 1), "loss": accuracy, "note": "text"}
            fabricate(tmp_path, {"lr": rate, "SEED": seed}, metrics)
    fabricate(tmp_path, {"lr": 0.3, "SEED": 1}, status=Status.FAILED)
    return compare(read_records(tmp_path))


def test_repeats_are_one_row_with_mean_and_standard_deviation(compared):
    assert compared.parameters == ("lr",)
    assert compared.left_out == 1
    assert [group.parameters["lr"] for group in compared.groups] == [0.2, 0.1]
    mean = compared.groups[0].metrics["accuracy"]
    assert (mean.mean, mean.std, mean.runs) == (pytest.approx(0.9), pytest.approx(0.01), 3)
    assert "note" not in compared.metrics


def test_the_best_is_marked_and_a_lower_loss_is_better(compared):
    assert [group.best for group in compared.groups] == [("accuracy",), ("loss",)]
    assert list(compared.table["accuracy"]) == ["0.9 ± 0.01 *", "0.8 ± 0.01"]
    assert "Best accuracy: 0.9 ± 0.01 (3 runs) with lr=0.2." in compared.summary


def test_it_is_drawn_and_is_valid_json(compared):
    (axes,) = compared.figure().axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["lr=0.2", "lr=0.1"]
    assert axes.get_xlabel() == "accuracy"
    assert json.dumps(compared.as_dict(), allow_nan=False)


def test_values_that_are_not_finite_are_never_the_best(tmp_path):
    for rate, loss in enumerate((float("nan"), float("inf"), 0.5)):
        fabricate(tmp_path, {"lr": rate, "seed": 0}, {"loss": loss})
        fabricate(tmp_path, {"lr": rate, "seed": 1}, {"loss": loss})

    comparison = compare(read_records(tmp_path))

    assert comparison.groups[0].best == ("loss",)
    assert comparison.groups[0].metrics["loss"].mean == 0.5
    assert json.dumps(comparison.as_dict(), allow_nan=False)


def test_runs_without_metrics_are_counted(tmp_path):
    fabricate(tmp_path, {"lr": 1})

    comparison = compare(read_records(tmp_path))

    assert comparison.figure() is None
    assert len(comparison.table) == 1


def test_a_close_rival_is_counted(tmp_path):
    for rate, values in ((1, (0.8, 0.9)), (2, (0.79, 0.89))):
        for seed, value in enumerate(values):
            fabricate(tmp_path, {"lr": rate, "seed": seed}, {"accuracy": value})

    assert "1 within one standard deviation" in compare(read_records(tmp_path)).summary
