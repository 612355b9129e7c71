import json
import math

import numpy as np
import pytest

from dltlab import record, recording
from dltlab.batch import RunFolder
from dltlab.errors import Invalid, Unavailable
from dltlab.paths import RUN_DIR


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder of a run whose notebook this process executes."""
    path = tmp_path / "runs" / "my-run"
    monkeypatch.setenv(RUN_DIR, str(path))
    return RunFolder(path)


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (0.93, 0.93),
        (3, 3),
        ("mnist", "mnist"),
        (True, True),
        (np.float32(0.5), 0.5),
        (np.int64(7), 7),
        (np.array([1.5]), 1.5),
        (math.inf, math.inf),
    ],
)
def test_a_recorded_value_can_be_read_from_the_folder(folder, value, stored):
    record("metric", value, step=4)

    (metric,) = folder.metrics()
    assert (metric.name, metric.value, metric.step) == ("metric", stored, 4)
    assert type(metric.value) is type(stored)


def test_nan_is_read_as_nan(folder):
    record("loss", float("nan"))

    assert math.isnan(folder.final_metrics()["loss"])


def test_a_tensor_is_recorded_as_its_value(folder):
    class Tensor:
        def numpy(self):
            return np.float32(2)

    record("loss", Tensor())

    assert folder.final_metrics() == {"loss": 2.0}


def test_each_call_adds_a_line(folder):
    for step in range(3):
        record("loss", 1 / (step + 1), step=step)

    lines = folder.metrics_file.read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [0, 1, 2]


def test_what_is_no_plain_value_is_refused(folder):
    with pytest.raises(Invalid, match=r"Metric 'history' must be a number.*a list is not"):
        record("history", [1, 2])
    assert folder.metrics() == []


def test_outside_a_batch_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.delenv(RUN_DIR, raising=False)
    monkeypatch.chdir(tmp_path)

    record("accuracy", 0.9)

    assert list(tmp_path.rglob("*.jsonl")) == []


def test_a_search_ends_the_run_at_the_next_step(folder):
    record("loss", 0.5, step=0)
    (folder.path / recording.PRUNE_FILE).touch()
    record("accuracy", 0.9)  # without a step

    with pytest.raises(recording.Pruned, match=r"ends this run at step 1, where loss is 0\.7"):
        record("loss", 0.7, step=1)
    assert [metric.name for metric in folder.metrics()] == ["loss", "accuracy", "loss"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv(RUN_DIR, str(tmp_path / "file" / "run"))

    with pytest.raises(Unavailable, match=r"file/run/metrics\.jsonl cannot be written"):
        record("accuracy", 0.9)
