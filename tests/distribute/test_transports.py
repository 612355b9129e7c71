"""How workers agree on a transport, and TensorFlow's collectives and MPI between processes."""

import errno
import importlib.util
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dltlab.distribute.cluster import Worker
from dltlab.distribute.socket_ring import SocketRing
from dltlab.distribute.transports import start_transport
from dltlab.errors import Invalid, LabError, WorkerLost
from tests.deadlines import HANG_SECONDS
from tests.distribute.test_socket_ring import WORKER, messages_after, on_workers

on_linux = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64",
    reason="memory is shared on Linux with x86-64 processors only",
)

# Each worker sums, then worker 1 kills itself while worker 0 waits for a sum.
PROGRAM = """
import json, os, signal, sys
from dltlab.distribute.group import join

name, folder = sys.argv[1:]
group = join(name)
import tensorflow as tf
from dltlab.errors import Invalid, LabError, WorkerLost

@tf.function
def loop(tensor):
    for _ in tf.range(300):  # more often than there are keys
        tensor = group.sum([tensor])[0] / 2
    return tensor

rank = float(group.rank)
large = tf.range(3_000_000, dtype=tf.float32) % 1000 + rank
half, integers, shaped = group.sum(
    [tf.constant([rank, 1], tf.float16), tf.constant([group.rank, 1]), tf.fill([2, 3], rank)]
)
result = {
    "transport": group.transport.name,
    "wrong": int(tf.math.count_nonzero(group.sum([large])[0] - 2 * (large - rank) - 1)),
    "loop": loop(tf.constant([rank])).numpy().tolist(),
    "half": half.numpy().tolist(), "integers": integers.numpy().tolist(),
    "shape": shaped.shape.as_list(),
    "unknown_length": tf.function(
        lambda tensor: group.sum([tensor])[0], input_signature=[tf.TensorSpec([None])]
    )(tf.constant([rank, rank])).numpy().tolist(),
}
try:
    join("ring")
except Invalid as error:
    result["other"] = str(error)
def write():
    with open(f"{folder}/result.json", "w") as file:
        json.dump(result, file)

if group.rank == 0:
    write()  # a call of MPI that waits for a lost worker does not return
group.exchange(None)
if group.rank == 1:
    os.kill(os.getpid(), signal.SIGKILL)
try:
    for _ in range(1000):
        group.sum([large])[0].numpy()
except (tf.errors.OpError, LabError):
    result["failure"] = group.failure
    write()
os._exit(1)
"""


def run(folder: Path, name: str, *command: str | Path, **variables: str) -> dict[str, Any]:
    """Return what worker 0 has written."""
    (folder / "program.py").write_text(PROGRAM)
    done = subprocess.run(
        [*command, "--log-dir", folder / "logs", "--", folder / "program.py", name, folder],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
    )
    assert (folder / "result.json").exists(), done.stdout + done.stderr
    return json.loads((folder / "result.json").read_text())


SUMS = {
    "wrong": 0,
    "loop": [0.5],
    "half": [1.0, 2.0],
    "integers": [1, 2],
    "shape": [2, 3],
    "unknown_length": [1.0, 1.0],
}


def test_tensorflow_sums_and_the_killed_worker_is_named(script: Path, tmp_path: Path) -> None:
    result = run(tmp_path, "tensorflow", script, "launch", "-n", "2")

    assert result.pop("transport") == "tensorflow"
    assert result.pop("failure") == "Worker 1 has ended."
    assert "name ring in its first call of join" in result.pop("other")
    assert result == SUMS


@pytest.mark.skipif(
    not (importlib.util.find_spec("mpi4py") and shutil.which("mpirun")),
    reason="mpi4py and Open MPI are not installed",
)
def test_mpi_sums(script: Path, tmp_path: Path) -> None:
    result = run(
        tmp_path,
        "auto",
        *("mpirun", "-n", "2", "--oversubscribe", "--bind-to", "none", script, "launch"),
        OMPI_ALLOW_RUN_AS_ROOT="1",
        OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1",
        DLTLAB_JOB_TOKEN="0123456789abcdef",
    )

    assert result.pop("transport") == "mpi"
    assert {name: result[name] for name in SUMS} == SUMS


def place(ring: SocketRing, local_world_size: int) -> Worker:
    return Worker(ring.rank, ring.size, ring.rank % local_world_size, local_world_size)


def started(name_of: dict[int, str], local_world_size: int | None = None) -> list[str]:
    """Return the name of the transport that each worker has got, or the error."""

    def task(ring: SocketRing) -> str:
        own_place = place(ring, local_world_size or ring.size)
        try:
            return start_transport(name_of[ring.rank], ring, own_place).name
        except LabError as error:
            return f"{type(error).__name__}: {error}"

    return on_workers(len(name_of), task)


@pytest.fixture
def no_gpus_and_no_mpi(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setitem(sys.modules, "mpi4py", None)


@on_linux
@pytest.mark.usefixtures("no_gpus_and_no_mpi")
def test_workers_of_one_host_choose_shared_memory() -> None:
    assert started({0: "auto", 1: "auto", 2: "auto"}) == ["shared_memory"] * 3


@pytest.mark.usefixtures("no_gpus_and_no_mpi")
def test_workers_of_several_hosts_choose_the_ring() -> None:
    assert started({0: "auto", 1: "auto"}, local_world_size=1) == ["ring"] * 2


@on_linux
@pytest.mark.usefixtures("no_gpus_and_no_mpi")
def test_where_memory_cannot_be_shared_the_ring_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(descriptor: int, offset: int, length: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    before = set(os.listdir("/dev/shm"))
    monkeypatch.setattr(os, "posix_fallocate", no_space)

    assert started({0: "auto", 1: "auto"}) == ["ring"] * 2
    for message in started({0: "shared_memory", 1: "shared_memory"}):
        assert "No space left on device" in message
    assert set(os.listdir("/dev/shm")) <= before


@on_linux
@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_shared_memory_adds_arrays_of_any_length(size: int, dtype: type) -> None:
    lengths = [0, 1, size, 1000, (1 << 19) + 1, 3 << 18]

    def task(ring: SocketRing) -> list[np.ndarray]:
        transport = start_transport("shared_memory", ring, place(ring, ring.size))
        arrays = [np.arange(length).astype(dtype) % 1000 + dtype(ring.rank) for length in lengths]
        for array in arrays:
            transport.all_reduce(array)
        return arrays

    for arrays in on_workers(size, task):
        for length, array in zip(lengths, arrays, strict=True):
            expected = size * (np.arange(length) % 1000) + size * (size - 1) // 2
            np.testing.assert_array_equal(array, expected.astype(dtype))


@on_linux
def test_a_worker_that_waits_for_one_that_has_left_is_told_so() -> None:
    def task(ring: SocketRing) -> str:
        transport = start_transport("shared_memory", ring, place(ring, ring.size))
        if ring.rank == 0:
            return ""
        with pytest.raises(WorkerLost) as error:
            transport.all_reduce(np.ones(1000, np.float32))
        return str(error.value)

    assert on_workers(2, task)[1].startswith("Worker 0 has finished")


@on_linux
def test_a_worker_that_is_killed_while_memory_is_shared_is_named() -> None:
    start = (
        "from dltlab.distribute.transports.shared_memory import SharedMemoryTransport\n"
        "transport = SharedMemoryTransport(ring)\n"
    )
    program = WORKER.replace('print("ready"', start + 'print("ready"')
    program = program.replace("ring.all_reduce", "transport.all_reduce")

    for output in messages_after(signal.SIGKILL, program, size=3):
        assert output.startswith("Worker 1 has ended.")


def test_workers_that_ask_for_different_transports_are_refused_on_all() -> None:
    for message in started({0: "ring", 1: "ring", 2: "auto"}):
        assert message.startswith("Invalid: Worker 0 asks for the transport ring and worker 2 for")


def test_mpi_without_mpi4py_is_refused_on_all_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mpi4py", None)

    for message in started({0: "mpi", 1: "mpi"}):
        assert message.startswith("Unavailable: Worker 0 cannot use the transport mpi: mpi4py is")
        assert "pip install 'dltlab[mpi]'" in message


@pytest.mark.parametrize(
    "variables", [{}, {"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "1"}]
)
def test_mpi_that_has_not_started_each_worker_is_refused(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    for variable in ("OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK"):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)

    for message in started({0: "mpi", 1: "mpi"}):
        assert "mpirun -n 2 dltlab launch" in message


def test_tensorflow_that_has_begun_to_compute_is_refused() -> None:
    import tensorflow as tf

    tf.constant(1)

    for message in started({0: "tensorflow", 1: "tensorflow"}):
        assert "call distribute.join() at the beginning of the program" in message


@pytest.mark.parametrize("name", ["nccl", ""])
def test_an_unknown_transport_is_refused(name: str) -> None:
    with pytest.raises(Invalid, match="auto or one of tensorflow, mpi, shared_memory, ring"):
        start_transport(name, SocketRing(0, 1, lambda address: [address], ""), Worker())
