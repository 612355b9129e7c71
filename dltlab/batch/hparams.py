"""Event files with which TensorBoard shows the parameters and metrics of runs: `write_hparams`."""

import io
import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from dltlab.batch.records import RunRecord, is_number
from dltlab.batch.run_folder import Status
from dltlab.display import plain
from dltlab.files import write_atomically

if TYPE_CHECKING:
    from tensorboard.compat.proto.summary_pb2 import Summary

_FILE = "events.out.tfevents.0.dltlab"  # TensorBoard looks for "tfevents" in the names of files


def write_hparams(records: Iterable[RunRecord]) -> None:
    """Write an event file into the folder of each run that has ended, unless it is there already.

    `tensorboard --logdir runs` then shows the runs in its HParams tab, and metrics with steps in
    its Scalars tab. TensorFlow is not imported.

    Args:
        records: The runs; those that have not ended are left out.

    Raises:
        Unavailable: A file cannot be written.
    """
    for record in records:
        path = record.folder.path / _FILE
        ended = record.state.ended
        if ended is None or record.state.started is None or record.state.status is Status.QUEUED:
            continue
        if not path.exists() or path.stat().st_mtime < ended:
            write_atomically(path, _events(record, record.state.started, ended))


def _events(record: RunRecord, started: float, ended: float) -> bytes:
    """Return the records of an event file."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.plugins.hparams import api_pb2, metadata
    from tensorboard.plugins.hparams.plugin_data_pb2 import SessionEndInfo, SessionStartInfo
    from tensorboard.summary.writer.record_writer import RecordWriter

    start = SessionStartInfo(start_time_secs=started, group_name=record.id)
    for name, value in record.run.parameters.items():
        if isinstance(value, bool):
            start.hparams[name].bool_value = value
        elif isinstance(value, int | float):
            start.hparams[name].number_value = value
        else:
            text = value if isinstance(value, str) else json.dumps(plain(value))
            start.hparams[name].string_value = text
    is_success = record.state.status in (Status.DONE, Status.PRUNED)
    status = api_pb2.STATUS_SUCCESS if is_success else api_pb2.STATUS_FAILURE
    end = SessionEndInfo(status=status, end_time_secs=ended)
    first = _session(metadata.SESSION_START_INFO_TAG, session_start_info=start)
    last = _session(metadata.SESSION_END_INFO_TAG, session_end_info=end)
    scalars = [(step, ended, _scalar(name, value)) for name, step, value in _points(record)]
    content = io.BytesIO()
    writer = RecordWriter(content)
    writer.write(Event(wall_time=started, file_version="brain.Event:2").SerializeToString())
    for step, wall_time, summary in ((0, started, first), *scalars, (0, ended, last)):
        event = Event(wall_time=wall_time, step=step, summary=summary)
        writer.write(event.SerializeToString())
    return content.getvalue()


def _points(record: RunRecord) -> Iterable[tuple[str, int, float]]:
    """Yield name, step and value of each metric of numbers."""
    for name, value in record.values.items():
        if name in record.histories:
            yield from ((name, step, point) for step, point in record.histories[name])
        elif is_number(value):
            yield name, 0, value


def _session(tag: str, **info: Any) -> "Summary":
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import metadata
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    data = metadata.create_summary_metadata(HParamsPluginData(**info))
    summary = Summary()
    summary.value.add(tag=tag, metadata=data, tensor=metadata.NULL_TENSOR)
    return summary


def _scalar(name: str, value: float) -> "Summary":
    import numpy as np
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.scalar import metadata
    from tensorboard.util.tensor_util import make_tensor_proto

    summary = Summary()
    summary.value.add(
        tag=name,
        metadata=metadata.create_summary_metadata(display_name=name, description=""),
        tensor=make_tensor_proto(np.float32(value)),
    )
    return summary
