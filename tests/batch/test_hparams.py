"""TensorBoard's event files."""

import os
import subprocess
import sys

import pytest
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import PyRecordReader_New
from tensorboard.plugins.hparams import api_pb2, metadata
from tensorboard.util.tensor_util import make_ndarray

from dltlab.batch.hparams import write_hparams
from dltlab.batch.records import read_records
from dltlab.batch.run_folder import Status
from tests.batch.fabricated_runs import STARTED, fabricate


def read_values(folder):
    """Return the values of all events in the folder's event file."""
    (path,) = folder.path.glob("*tfevents*")
    reader = PyRecordReader_New(os.fspath(path))
    events = []
    while True:
        try:
            reader.GetNext()
        except EOFError:
            break
        except Exception as error:  # of the end of the file
            if type(error).__name__ != "OutOfRangeError":
                raise
            break
        events.append(Event.FromString(reader.record()))
    assert events[0].file_version == "brain.Event:2"
    return [(event.step, value) for event in events for value in event.summary.value]


def test_an_event_file_has_the_parameters_the_metrics_and_the_status(tmp_path):
    parameters = {"lr": 0.1, "name": "é", "flag": True, "sizes": [1, 2]}
    metrics = {"accuracy": 0.5, "loss": [2.0, float("nan")], "note": "text"}
    folder = fabricate(tmp_path, parameters, metrics, seconds=2)

    write_hparams(read_records(tmp_path))

    values = read_values(folder)
    start = metadata.parse_session_start_info_plugin_data(values[0][1].metadata.plugin_data.content)
    assert start.start_time_secs == STARTED
    assert start.hparams["lr"].number_value == pytest.approx(0.1)
    assert start.hparams["name"].string_value == "é"
    assert start.hparams["flag"].bool_value is True
    assert start.hparams["sizes"].string_value == "[1, 2]"
    scalars = [(value.tag, step, str(make_ndarray(value.tensor))) for step, value in values[1:-1]]
    assert scalars == [("accuracy", 0, "0.5"), ("loss", 1, "2.0"), ("loss", 2, "nan")]
    end = metadata.parse_session_end_info_plugin_data(values[-1][1].metadata.plugin_data.content)
    assert end.status == api_pb2.STATUS_SUCCESS
    assert end.end_time_secs == STARTED + 2


def test_only_runs_that_have_ended_get_one_and_each_only_once(tmp_path):
    failed = fabricate(tmp_path, {"lr": 1}, status=Status.FAILED)
    fabricate(tmp_path, {"lr": 2}, status=Status.QUEUED)
    write_hparams(read_records(tmp_path))
    (path,) = tmp_path.glob("*/*tfevents*")
    assert path.parent == failed.path
    before = path.stat()

    write_hparams(read_records(tmp_path))

    assert path.stat().st_ino == before.st_ino
    (_, last) = read_values(failed)[-1]
    end = metadata.parse_session_end_info_plugin_data(last.metadata.plugin_data.content)
    assert end.status == api_pb2.STATUS_FAILURE


def test_tensorflow_is_not_imported(tmp_path):
    fabricate(tmp_path, {"lr": 1}, {"loss": 0.5})
    code = (
        "import sys; from pathlib import Path; from dltlab.batch.hparams import write_hparams\n"
        "from dltlab.batch.records import read_records\n"
        "write_hparams(read_records(Path(sys.argv[1]))); sys.exit('tensorflow' in sys.modules)"
    )

    assert subprocess.run([sys.executable, "-c", code, tmp_path], check=False).returncode == 0
    assert list(tmp_path.glob("*/*tfevents*"))
