"""`SocketRing` between threads, and between processes that are killed or stopped."""

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from dltlab.distribute.socket_ring import Address, SocketRing
from dltlab.errors import Unavailable
from tests.deadlines import HANG_SECONDS


def exchange_in_process(size: int) -> Callable[[int], Callable[[Address], Sequence[Address]]]:
    """Return, for each rank, a function that tells all threads its address."""
    addresses: dict[int, Address] = {}
    barrier = threading.Barrier(size)

    def of_rank(rank: int) -> Callable[[Address], Sequence[Address]]:
        def exchange(address: Address) -> Sequence[Address]:
            addresses[rank] = address
            barrier.wait(HANG_SECONDS)
            return [addresses[other] for other in range(size)]

        return exchange

    return of_rank


def on_workers(size: int, task: Callable[[SocketRing], Any], **options: Any) -> list[Any]:
    """Return what `task` returns on the ring of each worker; the workers are threads."""
    of_rank = exchange_in_process(size)

    def work(rank: int) -> Any:
        ring = SocketRing(rank, size, of_rank(rank), "secret", **options)
        try:
            return task(ring)
        finally:
            ring.close()

    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(work, range(size), timeout=HANG_SECONDS))


@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.int64])
def test_all_reduce_adds_arrays_of_any_length(size: int, dtype: type) -> None:
    lengths = [0, 1, size, 1000, 300_001]

    def task(ring: SocketRing) -> list[np.ndarray]:
        arrays = [np.arange(length).astype(dtype) + dtype(ring.rank) for length in lengths]
        for array in arrays:
            ring.all_reduce(array)
        return arrays

    for arrays in on_workers(size, task):
        for length, array in zip(lengths, arrays, strict=True):
            expected = size * np.arange(length) + size * (size - 1) // 2
            np.testing.assert_array_equal(array, expected.astype(dtype))


def test_the_sum_is_the_same_on_every_worker_to_the_bit() -> None:
    def task(ring: SocketRing) -> bytes:
        array = np.random.default_rng(ring.rank).standard_normal(5000).astype(np.float32)
        ring.all_reduce(array)
        return array.tobytes()

    assert len(set(on_workers(4, task))) == 1


@pytest.mark.parametrize("size", [1, 2, 3])
def test_all_gather_returns_arrays_of_different_lengths(size: int) -> None:
    def task(ring: SocketRing) -> list[np.ndarray]:
        return ring.all_gather(np.full(ring.rank * 20_000, ring.rank, np.int64))

    for arrays in on_workers(size, task):
        for rank, array in enumerate(arrays):
            np.testing.assert_array_equal(array, np.full(rank * 20_000, rank))


def test_a_worker_that_reduces_after_another_left_is_told_so() -> None:
    def task(ring: SocketRing) -> str:
        if ring.rank == 0:
            return ""
        with pytest.raises(Unavailable) as error:
            ring.all_reduce(np.ones(100_000, np.float32))
        return str(error.value)

    assert on_workers(2, task)[1].startswith("Worker 0 has finished")


def test_a_connection_without_the_token_is_refused() -> None:
    of_rank = exchange_in_process(2)

    def work(rank: int) -> str:
        with pytest.raises(Unavailable) as error:
            SocketRing(rank, 2, of_rank(rank), f"secret {rank}", timeout=1.0)
        return str(error.value)

    with ThreadPoolExecutor(2) as pool:
        messages = list(pool.map(work, range(2), timeout=HANG_SECONDS))
    assert messages == ["Worker 1 did not connect in time.", "Worker 0 did not connect in time."]


# Reads the addresses of all workers, then reduces until it is told not to.
WORKER = """
import json, sys
import numpy as np
from dltlab.distribute.socket_ring import SocketRing
from dltlab.errors import Unavailable

def exchange(address):
    print(json.dumps(address), flush=True)
    return [tuple(other) for other in json.loads(sys.stdin.readline())]

rank, size, patience = json.loads(sys.argv[1])
ring = SocketRing(rank, size, exchange, "secret", patience=patience)
print("ready", flush=True)
try:
    while True:
        ring.all_reduce(np.ones(100_000, np.float32))
except Unavailable as error:
    print(error, flush=True)
"""


def messages_after(number: signal.Signals, program: str = WORKER, size: int = 4) -> list[str]:
    """Send a signal to worker 1; return what the others print."""
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", program, json.dumps([rank, size, 3])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]
    try:
        addresses = [json.loads(worker.stdout.readline()) for worker in workers]
        for worker in workers:
            worker.stdin.write(json.dumps(addresses) + "\n")
            worker.stdin.flush()
        for worker in workers:
            assert worker.stdout.readline() == "ready\n"
        workers[1].send_signal(number)
        others = [worker for rank, worker in enumerate(workers) if rank != 1]
        return [worker.communicate(timeout=HANG_SECONDS)[0] for worker in others]
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (signal.SIGKILL, "Worker 1 has ended."),
        (signal.SIGSTOP, "Worker 1 has not answered for 3 s"),
    ],
)
def test_a_lost_worker_is_named_by_all_others(number: signal.Signals, message: str) -> None:
    for output in messages_after(number):
        assert output.startswith(message)
