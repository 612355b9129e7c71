"""Traces of TensorFlow's profiler, as a table and a figure."""

import os
from pathlib import Path

import pytest
import tensorflow as tf
from tensorflow.tsl.profiler.protobuf import xplane_pb2

from dltlab.errors import Damaged, NotFound
from dltlab.training import read_trace

MS = 1_000_000_000  # picoseconds


def space(planes: dict[str, dict[str, list[tuple[str, int, int]]]]) -> xplane_pb2.XSpace:
    """A trace of planes with threads with events: a name, a start and an end in milliseconds."""
    trace = xplane_pb2.XSpace()
    for plane_name, threads in planes.items():
        plane = trace.planes.add(name=plane_name)
        for thread, events in threads.items():
            line = plane.lines.add(name=thread, timestamp_ns=5)
            for name, start, end in events:
                number = len(plane.event_metadata) + 1
                plane.event_metadata[number].name = name
                duration = (end - start) * MS
                line.events.add(metadata_id=number, offset_ps=start * MS, duration_ps=duration)
    return trace


HOST = {
    "tf_Compute/1": [
        ("ExecutorState::Process", 0, 100),
        ("model/dense/MatMul:MatMul", 10, 20),
        ("model/dense/MatMul:MatMul", 60, 90),
        ("model/relu/Relu:Relu", 70, 75),
        ("IteratorGetNext:IteratorGetNext", 20, 60),
    ],
    "tf_Compute/2": [("model/conv/Conv2D:Conv2D", 15, 30)],
    "tf_data_private_threadpool/3": [
        ("Iterator::Root::Prefetch::ParallelMapV2[0]", 10, 60),
        ("decode/DecodeJpeg:DecodeJpeg", 10, 55),
    ],
}


def write(folder: Path, trace: xplane_pb2.XSpace, name: str = "host") -> Path:
    file = folder / "plugins" / "profile" / f"{name}.xplane.pb"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(trace.SerializeToString())
    return file


def test_operations_have_their_own_time_and_their_part(tmp_path: Path) -> None:
    write(tmp_path, space({"/host:CPU": HOST}))

    trace = read_trace(tmp_path)

    rows = {row.operation: row for row in trace.table.itertuples()}
    assert {name: row.part for name, row in rows.items()} == {
        "MatMul": "step",
        "Relu": "step",
        "Conv2D": "step",
        "IteratorGetNext": "input",
        "ParallelMapV2": "input",
        "DecodeJpeg": "input",
    }
    assert rows["MatMul"].calls == 2
    assert rows["MatMul"].ms == pytest.approx(35)  # 10 and 30, without the 5 of Relu
    assert rows["ParallelMapV2"].ms == pytest.approx(5)
    assert trace.table["of the work"].sum() == pytest.approx(1)


def test_idle_is_the_time_in_which_no_operation_of_a_step_runs(tmp_path: Path) -> None:
    write(tmp_path, space({"/host:CPU": HOST}))

    trace = read_trace(tmp_path)

    assert trace.seconds == pytest.approx(0.080)  # from 10 to 90 ms
    assert trace.idle == pytest.approx(30 / 80)  # from 30 to 60 ms
    assert trace.summary == ("In 80 ms, no operation of a step ran for 37.5% of the time.")
    assert trace.threads["tf_Compute 1"]["input"] == [pytest.approx((0.010, 0.050))]


def test_kernels_of_a_gpu_are_the_step(tmp_path: Path) -> None:
    streams = {
        "Stream #7(Compute)": [("ampere_sgemm", 20, 30), ("ampere_sgemm", 50, 60)],
        "TensorFlow Ops": [("MatMul", 20, 60)],
    }
    write(tmp_path, space({"/host:CPU": HOST, "/device:GPU:0": streams}))

    trace = read_trace(tmp_path)

    assert trace.idle == pytest.approx(0.5)
    assert set(trace.table["operation"][trace.table["part"] == "step"]) == {"ampere_sgemm"}
    assert trace.threads["GPU:0 1"] == {
        "step": [pytest.approx((0, 0.010)), pytest.approx((0.030, 0.040))]
    }


def test_figure_has_a_row_for_each_thread_with_the_step_first(tmp_path: Path) -> None:
    write(tmp_path, space({"/host:CPU": HOST}))

    trace = read_trace(tmp_path)

    (axes,) = trace.figure().axes
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "tf_Compute 1",
        "tf_Compute 2",
        "tf_data_private_threadpool 1",
    ]
    assert trace.alt == f"{trace.summary} Bars show when each of 3 threads worked."


def test_the_newest_trace_is_read(tmp_path: Path) -> None:
    old = write(tmp_path, space({"/host:CPU": HOST}), "a")
    write(tmp_path, space({"/host:CPU": {"tf_Compute/1": [("x:Add", 0, 7)]}}), "b")
    os.utime(old, (1, 1))

    assert read_trace(tmp_path).seconds == pytest.approx(0.007)


def test_a_folder_without_a_trace_is_named_with_the_fix(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"There is no trace in .*profile_batch=\(10, 15\)"):
        read_trace(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no protocol buffer", "is no trace, or it is damaged"),
        (b"", "contains no operation of a step: trace more batches"),
    ],
)
def test_a_file_that_is_no_trace_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "host.xplane.pb").write_bytes(content)

    with pytest.raises(Damaged, match=message):
        read_trace(tmp_path)


def test_a_trace_of_tensorflow_has_the_operations_that_ran(tmp_path: Path) -> None:
    matrix = tf.ones((64, 64))
    product = tf.function(lambda x: tf.linalg.matmul(x, matrix))
    dataset = tf.data.Dataset.from_tensors(matrix).repeat(5).map(lambda x: x + 1)
    product(matrix)
    with tf.profiler.experimental.Profile(str(tmp_path)):
        for batch in dataset:
            product(batch)

    trace = read_trace(tmp_path)

    rows = trace.table.set_index("operation")
    assert rows.loc["MatMul", "part"] == "step"
    assert rows.loc["MatMul", "calls"] == 5
    assert "input" in set(rows["part"])
    assert 0 <= trace.idle < 1
