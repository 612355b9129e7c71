"""MPI by mpi4py, in jobs that mpirun or srun has started."""

import importlib.util
import os
import sys
import threading

import numpy as np

from dltlab.distribute.cluster import Worker
from dltlab.distribute.launching_child import LOST_PEER
from dltlab.distribute.socket_ring import SocketRing
from dltlab.distribute.transports.base import Transport
from dltlab.errors import WorkerLost

_RANKS = ("OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK")  # MPI's launchers set one of them
_SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE")
_GRACE_SECONDS = 2.0


class MpiTransport(Transport):
    """Sums with `MPI_Allreduce`.

    A call of MPI that waits for a lost worker cannot be stopped: the process then says who was
    lost, and ends.
    """

    name = "mpi"
    priority = 1

    def __init__(self, ring: SocketRing) -> None:
        from mpi4py import MPI

        super().__init__(ring)
        self._in_place = MPI.IN_PLACE
        self._world = MPI.COMM_WORLD.Dup()
        self._idle = threading.Event()
        self._idle.set()
        ring.call_when_lost(self._end_if_stuck)

    @classmethod
    def unavailable_reason(cls, place: Worker) -> str:
        """Look for mpi4py, and for a launcher of MPI that has started all workers."""
        if reason := missing_mpi4py():
            return reason
        not_started = (
            f"MPI has not started each worker; use mpirun -n {place.world_size} dltlab launch -- "
            "PROGRAM, or srun --mpi=pmix"
        )
        size = str(place.world_size)
        if not any(variable in os.environ for variable in _RANKS):
            return not_started
        if any(os.environ.get(variable, size) != size for variable in _SIZES):
            return not_started
        try:
            from mpi4py import MPI
        except (ImportError, RuntimeError) as error:
            return f"mpi4py does not find the library of MPI; install Open MPI or MPICH ({error})"
        world = MPI.COMM_WORLD
        is_same = (world.rank, world.size) == (place.rank, place.world_size)
        return "" if is_same else not_started

    def all_reduce(self, array: np.ndarray) -> None:
        """Add in place."""
        if self.failure:
            raise WorkerLost(self.failure)
        self._idle.clear()
        self._world.Allreduce(self._in_place, array)
        self._idle.set()

    def _end_if_stuck(self, failure: str) -> None:
        if not self._idle.wait(_GRACE_SECONDS):
            sys.stderr.write(f"dltlab: {failure}\n")
            sys.stderr.flush()
            os._exit(LOST_PEER)


def missing_mpi4py() -> str:
    """Return how to install mpi4py, or "" where it is installed."""
    if importlib.util.find_spec("mpi4py"):
        return ""
    return "mpi4py is not installed; run: pip install 'dltlab[mpi]'"
