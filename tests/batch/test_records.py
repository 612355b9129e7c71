"""Reading, selecting and describing runs."""

import json
from pathlib import Path

import pytest

from dltlab.batch.records import (
    OBJECTIVE_FILE,
    RecordReader,
    differing_parameters,
    duration_text,
    log_tail,
    lower_is_better,
    metric_names,
    read_records,
    run_details,
    select_records,
    value_text,
)
from dltlab.batch.run_folder import Status
from dltlab.errors import Invalid, NotFound
from tests.batch.fabricated_runs import fabricate


def test_failures_come_first(tmp_path):
    for rate, status in enumerate(Status):
        fabricate(tmp_path, {"lr": rate}, status=status)

    statuses = [record.state.status for record in read_records(tmp_path)]

    assert statuses[:2] == [Status.FAILED, Status.TIMEOUT]
    assert statuses[-2:] == [Status.DONE, Status.PRUNED]


def test_a_folder_without_runs_is_an_error_that_says_how_to_start_one(tmp_path):
    for out in (tmp_path, tmp_path / "missing"):
        with pytest.raises(NotFound, match=r"There are no runs in .* dltlab run"):
            read_records(out)


def test_a_damaged_folder_is_a_failed_run_with_the_reason(tmp_path):
    folder = fabricate(tmp_path)
    (folder.path / "run.json").write_text("{")

    (record,) = read_records(tmp_path)

    assert record.state.status is Status.FAILED
    assert record.run.name == "train"
    assert "run.json cannot be read" in record.state.reason


def test_a_reader_sees_what_changes(tmp_path):
    folder = fabricate(tmp_path, metrics={"loss": [0.5]}, status=Status.RUNNING)
    reader = RecordReader(tmp_path)
    with folder.locked():
        assert reader.read()[0].state.status is Status.RUNNING
    assert reader.read()[0].state.status is Status.KILLED
    with folder.metrics_file.open("a") as file:
        file.write('{"name": "loss", "value": 0.25, "step": 2, "time": 0}\n')

    (record,) = reader.read()

    assert record.values == {"loss": 0.25}
    assert record.histories == {"loss": [(1, 0.5), (2, 0.25)]}


def test_a_history_keeps_its_ends_and_at_most_200_points(tmp_path):
    fabricate(tmp_path, metrics={"loss": [1 / step for step in range(1, 10_001)]})

    (record,) = read_records(tmp_path)

    points = record.histories["loss"]
    assert len(points) == 200
    assert [points[0][0], points[-1][0]] == [1, 10_000]


def test_runs_are_selected_by_the_beginning_of_their_id_or_key(tmp_path):
    fabricate(tmp_path, name="train")
    fabricate(tmp_path, name="train2")
    records = read_records(tmp_path)
    first, second = sorted(records, key=lambda record: record.id)
    key = first.id.rpartition("-")[2]

    assert select_records(records, [first.id, key[:6], "train2"]) == [first, first, second]
    with pytest.raises(Invalid, match='2 runs begin with "tr": train'):
        select_records(records, ["tr"])
    with pytest.raises(NotFound, match='no run "other"'):
        select_records(records, ["other"])


def test_parameters_differ_between_runs_of_the_same_notebook_only(tmp_path):
    fabricate(tmp_path, {"lr": 0.1, "epochs": 3, "seed": 1}, name="a")
    fabricate(tmp_path, {"lr": 0.2, "epochs": 3}, name="a")
    fabricate(tmp_path, {"units": 3}, name="b")

    assert sorted(differing_parameters(read_records(tmp_path))) == ["lr", "seed"]


def test_metrics_that_most_runs_have_come_first(tmp_path):
    fabricate(tmp_path, {"lr": 1}, {"rare": 1, "common": 1})
    fabricate(tmp_path, {"lr": 2}, {"common": 1})

    assert metric_names(read_records(tmp_path)) == ["common", "rare"]


@pytest.mark.parametrize("name", ["loss", "val_loss", "error_rate", "MSE", "seconds", "WordError"])
def test_lower_is_better_for_a_loss_or_a_time(tmp_path, name):
    assert lower_is_better([name], tmp_path) == {name: True}


@pytest.mark.parametrize("name", ["accuracy", "times_correct", "glossary", "f1", "images_per_s"])
def test_higher_is_better_for_the_rest(tmp_path, name):
    assert lower_is_better([name], tmp_path) == {name: False}


@pytest.mark.parametrize("content", ["", "[]", '{"metric": "score"}'])
def test_a_damaged_objective_is_ignored(tmp_path, content):
    (tmp_path / "search").mkdir()
    (tmp_path / OBJECTIVE_FILE).write_text(content)

    assert lower_is_better(["score", "loss"], tmp_path) == {"score": False, "loss": True}


def test_the_log_is_shown_as_a_terminal_would(tmp_path):
    folder = fabricate(tmp_path, log="first\n\n\x1b[31mred\x1b[0m\r\n 10%\r100%\nbell\x07\n")

    assert log_tail(folder, 3) == ["red", "100%", r"bell\x07"]
    folder.log.unlink()
    assert log_tail(folder, 3) == []


def test_values_and_times_are_short_and_printable():
    assert value_text("a" * 1000) == "a" * 199 + "…"
    assert [value_text(v) for v in (0.123456, 3, True, None, "a\n", [1, "é"])] == [
        "0.1235", "3", "true", "–", r"a\n", '[1, "é"]',
    ]  # fmt: skip
    assert [duration_text(s) for s in (None, 3.21, 61, 7260)] == [
        "–", "3.2 s", "1 min 01 s", "2 h 01 min",
    ]  # fmt: skip


def test_the_details_are_valid_json_without_nan(tmp_path: Path):
    folder = fabricate(tmp_path, {"lr": 1}, {"loss": float("nan")}, log="end\n")
    (folder.path / "files").mkdir()
    (folder.path / "files" / "model é.keras").write_bytes(b"123")
    (record,) = read_records(tmp_path)

    details = json.loads(json.dumps(run_details(record, 5), allow_nan=False))

    assert details["metrics"] == {"loss": None}
    assert details["files"]["files/model é.keras"] == 3
    assert details["log"] == ["end"]
    assert details["status"] == "done"
