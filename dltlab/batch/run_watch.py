"""What ends a run from outside: its time limit, its memory limit, and a user who stops it."""

import time
from contextlib import suppress
from pathlib import Path

import psutil

from dltlab.batch.control import read_control
from dltlab.batch.run_folder import Run, RunFolder, Status

_GB = 1e9


class RunEnded(Exception):
    """A run has ended before its last cell.

    Attributes:
        status: How it ended.
        reason: Why, as what follows the number of the cell and a colon.
        advice: What to try.
        out_of_memory: Whether memory was exhausted.
    """

    def __init__(
        self, status: Status, reason: str, advice: str = "", *, out_of_memory: bool = False
    ) -> None:
        super().__init__(reason)
        self.status, self.reason, self.advice = status, reason, advice
        self.out_of_memory = out_of_memory


class RunWatch:
    """Watches a run.

    Attributes:
        peak_memory_bytes: The most memory that was measured; of memory that several processes
            share, each has its part.
    """

    def __init__(self, run: Run, folder: RunFolder) -> None:
        self.peak_memory_bytes = 0
        self._run, self._folder = run, folder
        self._peak_resident = 0
        self._deadline = None if run.timeout is None else time.monotonic() + run.timeout
        self._oom_kills = oom_kills()

    def check(self, kernel_pid: int | None) -> None:
        """Measure the memory of the kernel and its children.

        Raises:
            RunEnded: The run must end now.
        """
        if self._deadline is not None and time.monotonic() >= self._deadline:
            raise RunEnded(
                Status.TIMEOUT,
                f"the run took longer than its {self._run.timeout:g} seconds",
                "Give it more time, or less to compute.",
            )
        if read_control(self._folder.path.parent).stops(self._folder.path.name):
            raise RunEnded(
                Status.CANCELLED, "the run was stopped", "The same command runs it again."
            )
        if kernel_pid is not None:
            self._check_memory(kernel_pid)

    def machine_ran_out_of_memory(self) -> bool:
        """Return whether Linux has killed a process for lack of memory since the run began."""
        return oom_kills() > self._oom_kills

    def _check_memory(self, kernel_pid: int) -> None:
        limit = self._run.memory_bytes
        processes = _family(kernel_pid)
        resident = sum(map(_resident_bytes, processes))
        # The exact measure goes through all pages: only where it can matter.
        if resident > 1.05 * self._peak_resident or (limit and resident > limit):
            self._peak_resident = max(resident, self._peak_resident)
            memory = sum(map(_own_bytes, processes))
            self.peak_memory_bytes = max(memory, self.peak_memory_bytes)
            if limit and memory > limit:
                raise RunEnded(
                    Status.KILLED,
                    f"the run used {memory / _GB:.2f} GB of memory; it may use {limit / _GB:.2f}",
                    "Give it more memory, or smaller batches.",
                    out_of_memory=True,
                )


def oom_kills() -> int:
    """Return how many processes Linux has killed for lack of memory since it started."""
    with suppress(OSError, ValueError):
        for line in Path("/proc/vmstat").read_text().splitlines():
            name, value = line.split()
            if name == "oom_kill":
                return int(value)
    return 0


def _family(pid: int) -> list[psutil.Process]:
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    return []


def _resident_bytes(process: psutil.Process) -> int:
    with suppress(psutil.Error):
        return int(process.memory_info().rss)
    return 0


def _own_bytes(process: psutil.Process) -> int:
    """Return the memory of a process; of shared pages, its part (proportional set size)."""
    with suppress(OSError, ValueError, IndexError):
        usage = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
        return int(usage.partition("Pss:")[2].split()[0]) * 1024
    return _resident_bytes(process)
