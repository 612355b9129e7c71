"""Memory that the workers of one host share."""

import itertools
import mmap
import os
import platform
import sys
import tempfile
from contextlib import suppress
from time import monotonic, sleep

import numpy as np

from dltlab.distribute.cluster import Worker
from dltlab.distribute.socket_ring import SocketRing
from dltlab.distribute.transports.base import Transport
from dltlab.errors import Unavailable

_FOLDER = "/dev/shm"  # noqa: S108 - files in memory; the name is not predictable
_BLOCK_BYTES = 1 << 19  # is still in the cache of the core that has written it
_LINE_BYTES = 64  # of the cache: each counter has one of its own
_SPIN_SECONDS = 0.0002  # before a nap, where each worker has a core of its own
_NAP_SHARE = 0.1  # of the time waited so far
_MIN_NAP_SECONDS, _MAX_NAP_SECONDS = 0.00002, 0.001


class SharedMemoryTransport(Transport):
    """Sums through memory, block by block.

    A worker writes its block where the others can read it, adds their parts of the piece that is
    its own, and reads the sums of the other pieces. Two blocks take turns: when all have written
    the next one, all have read what they need of the one before.
    """

    name = "shared_memory"
    priority = 2

    def __init__(self, ring: SocketRing) -> None:
        super().__init__(ring)
        header = ring.size * _LINE_BYTES
        num_bytes = header + ring.size * 2 * _BLOCK_BYTES
        path, error = ring.exchange(_create(num_bytes) if ring.rank == 0 else None)[0]
        if path:
            try:
                with open(path, "r+b") as file:
                    memory = mmap.mmap(file.fileno(), num_bytes)
            except OSError as reason:
                error = str(reason)
        errors = [text for text in ring.exchange(error) if text]
        if path and ring.rank == 0:
            os.unlink(path)  # it lives as long as a worker has it open
        if errors:
            raise Unavailable(
                f"The workers cannot share memory ({errors[0]}); use the transport ring."
            )
        self._counters = memoryview(memory)[:header].cast("Q")
        blocks = np.frombuffer(memory, np.uint8, offset=header)
        self._blocks = blocks.reshape(2, ring.size, _BLOCK_BYTES)
        self._num_blocks = self._num_meetings = 0
        cores = {core for cores in ring.exchange([*os.sched_getaffinity(0)]) for core in cores}
        self._spin_seconds = _SPIN_SECONDS if len(cores) >= ring.size else 0.0

    @classmethod
    def unavailable_reason(cls, place: Worker) -> str:
        """Check that all workers are on this host, and that its memory is ordered."""
        if place.local_world_size != place.world_size:
            return "the workers are on several hosts; use the transport ring"
        if sys.platform != "linux" or platform.machine() != "x86_64":
            return "it is made for Linux on x86-64 processors; use the transport ring"
        return ""

    def all_reduce(self, array: np.ndarray) -> None:
        """Add in shared memory."""
        step = _BLOCK_BYTES // array.itemsize
        for start in range(0, len(array), step):
            self._reduce_block(array[start : start + step])

    def _reduce_block(self, block: np.ndarray) -> None:
        rank, size = self.ring.rank, self.ring.size
        cuts = [index * len(block) // size for index in range(size + 1)]
        pieces = [slice(*cut) for cut in itertools.pairwise(cuts)]
        shared = self._blocks[self._num_blocks % 2, :, : block.nbytes].view(block.dtype)
        own = pieces[rank]
        shared[rank, : own.start] = block[: own.start]
        shared[rank, own.stop :] = block[own.stop :]
        self._meet()
        total = block[own]
        for other in range(size):
            if other != rank:
                total += shared[other, own]
        shared[rank, own] = total
        self._meet()
        for other, piece in enumerate(pieces):
            if other != rank:
                block[piece] = shared[other, piece]
        self._num_blocks += 1

    def _meet(self) -> None:
        """Wait until all workers have come here. x86-64 makes what they wrote before visible."""
        self._num_meetings += 1
        stride = _LINE_BYTES // self._counters.itemsize
        self._counters[stride * self.ring.rank] = self._num_meetings
        for index in range(0, len(self._counters), stride):
            if self._counters[index] < self._num_meetings:
                self._wait(index)

    def _wait(self, index: int) -> None:
        start = monotonic()
        while self._counters[index] < self._num_meetings:
            waited = monotonic() - start
            if waited < self._spin_seconds:
                continue
            sleep(min(max(_NAP_SHARE * waited, _MIN_NAP_SECONDS), _MAX_NAP_SECONDS))
            if self.ring.has_ended and self._counters[index] < self._num_meetings:
                raise self.ring.lost()


def _create(num_bytes: int) -> tuple[str, str]:
    """Return the path of a new file in memory, or "" and why there is none."""
    path = ""
    try:
        descriptor, path = tempfile.mkstemp(prefix="dltlab-", dir=_FOLDER)
        try:
            os.posix_fallocate(descriptor, 0, num_bytes)
        finally:
            os.close(descriptor)
    except OSError as error:
        with suppress(OSError):
            os.unlink(path)
        return "", str(error)
    return path, ""
