"""The result of a batch."""

import json

from dltlab.batch.records import read_records
from dltlab.batch.results import BatchResult
from dltlab.batch.run_folder import Status
from tests.batch.fabricated_runs import fabricate


def test_the_summary_counts_and_names_the_first_failure(tmp_path):
    fabricate(tmp_path, {"lr": 1}, {"accuracy": 0.5})
    fabricate(tmp_path, {"lr": 2}, status=Status.FAILED, reason="Cell 3 failed.")
    result = BatchResult(tmp_path, tuple(read_records(tmp_path)))

    assert "2 runs in" in result.summary
    assert "1 failed, 1 done" in result.summary
    assert "failed: Cell 3 failed." in result.summary
    assert result.exit_code == 1
    assert list(result.table.columns) == ["status", "run", "lr", "accuracy", "time"]
    assert list(result.table["status"]) == ["failed", "done"]
    assert result.report is None


def test_a_batch_without_failures_ends_with_0(tmp_path):
    fabricate(tmp_path, {"lr": 1})
    fabricate(tmp_path, {"lr": 2}, status=Status.PRUNED)
    (tmp_path / "report.html").touch()
    result = BatchResult(tmp_path, tuple(read_records(tmp_path)))

    assert result.exit_code == 0
    assert "report.html" in result.summary


def test_it_is_valid_json_with_values_that_are_not_finite(tmp_path):
    fabricate(tmp_path, {"lr": float("inf")}, {"loss": float("nan")})
    result = BatchResult(tmp_path, tuple(read_records(tmp_path)))

    values = json.loads(json.dumps(result.as_dict(), allow_nan=False))

    assert values["counts"] == {"done": 1}
    assert values["runs"][0]["metrics"] == {"loss": None}
