"""The folder of a run: what is run, how it is going, and what it has left.

runs/NAME-4f1c2a9b03/    one folder for each run, named after its notebook and its key
run.json             what is run: a `Run`
state.json           how it is going: a `State`
notebook.ipynb       the output notebook, written as cells finish
log.txt              what the cells print
kernel.log           what the kernel's process itself prints, such as the message of a crash
metrics.jsonl        what the notebook records: {"name", "value", "step", "time"} in each line
images/              figures of the notebook
versions.json        of Python, packages, code and data
.lock                locked by the process that executes the run
"""

import hashlib
import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any

from dltlab.errors import Damaged, Unavailable
from dltlab.files import cannot_write, write_atomically
from dltlab.recording import METRICS_FILE

_PROBE_SECONDS = 0.1  # longer than `RunFolder.is_locked` holds the lock to find out


class Status(StrEnum):
    """How a run is going, or how it ended.

    A run whose notebook raises, crashes or ends its kernel has failed; one that was ended from
    outside (by a signal, or because of its memory) is killed.
    """

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    KILLED = "killed"
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"
    PRUNED = "pruned"

    @property
    def is_final(self) -> bool:
        """Whether the same command does not run it again."""
        return self in (Status.DONE, Status.PRUNED)


@dataclass(frozen=True)
class Run:
    """One execution of a notebook.

    Attributes:
        notebook: The path of the notebook, or an address that papermill reads.
        parameters: The parameters that differ from the notebook's own.
        name: The name of the lab, or the stem of the notebook.
        source_hash: SHA-256 of the notebook's cells, so that a changed notebook is another run.
        timeout: The most seconds that the whole run may take; None: no limit.
        cores: The number of processor cores that it uses.
        gpus: The GPUs that it uses: the indices of exactly these; or a number of any, for which a
            runner chooses indices. A number has no effect on the kernel.
        memory_bytes: The most memory that it may use, with its child processes; None: no limit.
        cwd: The working directory of its kernel; None: the folder `files` of the run.
    """

    notebook: str
    parameters: dict[str, Any] = field(default_factory=dict)
    name: str = ""
    source_hash: str = ""
    timeout: float | None = None
    cores: int = 1
    gpus: int | tuple[int, ...] = 0
    memory_bytes: int | None = None
    cwd: str | None = None

    @cached_property
    def key(self) -> str:
        """Ten hexadecimal digits: the same for the same notebook with the same parameters."""
        identity = [self.name, self.source_hash, self.parameters]
        text = json.dumps(identity, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:10]

    @cached_property
    def id(self) -> str:
        """The name of the run's folder."""
        return f"{re.sub(r'[^0-9A-Za-z._-]+', '_', self.name)[:60]}-{self.key}"


@dataclass(frozen=True)
class State:
    """How a run is going, or how it ended.

    Attributes:
        status: See `Status`.
        reason: One sentence: what happened, in which cell, and what to try; empty if all is well.
        attempt: How often the run was started.
        cell: The number of the code cell that runs or failed, from 1.
        num_cells: The number of code cells.
        started: Seconds since 1970; None before the start.
        ended: Seconds since 1970; None before the end.
        host: The name of the host that executes it.
        pid: The process that executes it.
        peak_memory_bytes: The most memory of the kernel and its children.
        out_of_memory: Whether it ended because its limit or the machine's memory was exhausted.
    """

    status: Status = Status.QUEUED
    reason: str = ""
    attempt: int = 0
    cell: int | None = None
    num_cells: int | None = None
    started: float | None = None
    ended: float | None = None
    host: str = ""
    pid: int | None = None
    peak_memory_bytes: int = 0
    out_of_memory: bool = False

    @property
    def seconds(self) -> float | None:
        """How long the run took, or has taken until now."""
        return None if self.started is None else (self.ended or time.time()) - self.started


@dataclass(frozen=True)
class Metric:
    """One value that a notebook has recorded."""

    name: str
    value: float | int | str | bool | None
    step: int | None
    time: float


class RunFolder:
    """The folder of a run; see the module for its files.

    Attributes:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def notebook(self) -> Path:
        """The output notebook."""
        return self.path / "notebook.ipynb"

    @property
    def log(self) -> Path:
        """What the cells print."""
        return self.path / "log.txt"

    @property
    def kernel_log(self) -> Path:
        """What the process of the kernel itself prints."""
        return self.path / "kernel.log"

    @property
    def metrics_file(self) -> Path:
        """What the notebook records."""
        return self.path / METRICS_FILE

    @property
    def files(self) -> Path:
        """The working directory of the notebook: the files that it writes."""
        return self.path / "files"

    @property
    def images(self) -> Path:
        """The folder of the figures."""
        return self.path / "images"

    def create(self, run: Run) -> None:
        """Write what is run, unless the folder has it already."""
        if not (self.path / "run.json").exists():
            write_atomically(self.path / "run.json", json.dumps(asdict(run), indent=1) + "\n")

    def run(self) -> Run:
        """Return what is run.

        Raises:
            Damaged: The file is missing or not valid.
        """
        values = self._read("run.json")
        if isinstance(values.get("gpus"), list):
            values["gpus"] = tuple(values["gpus"])
        try:
            return Run(**values)
        except TypeError as error:
            raise self._damaged("run.json", "is not valid") from error

    def state(self) -> State:
        """Return how the run is going; one whose process has ended is "killed".

        Raises:
            Damaged: The file is not valid.
        """
        state = self._written_state()
        if state.status is Status.RUNNING and not self.is_locked():
            state = self._written_state()  # it may have ended between the two
            if state.status is Status.RUNNING:
                reason = "The process that executed the run was killed. Run the same command again."
                ended = (self.path / "state.json").stat().st_mtime
                return replace(state, status=Status.KILLED, reason=reason, ended=ended)
        return state

    def _written_state(self) -> State:
        if not (self.path / "state.json").exists():
            return State()
        values = self._read("state.json")
        try:
            return State(**values | {"status": Status(values["status"])})
        except (KeyError, TypeError, ValueError) as error:
            raise self._damaged("state.json", "is not valid") from error

    def write_state(self, state: State) -> None:
        """Write how the run is going; on a full disk, over the old state.

        Raises:
            Unavailable: It cannot be written.
        """
        path = self.path / "state.json"
        content = f"{json.dumps(asdict(state), indent=1)}\n".encode()
        try:
            write_atomically(path, content)
        except Unavailable:
            with suppress(OSError), path.open("r+b", buffering=0) as file:
                file.write(content)  # one block, which the file has already
                file.truncate()
                return
            raise

    def metrics(self) -> list[Metric]:
        """Return what the notebook has recorded, the oldest first.

        A line that a killed process has not finished is skipped.
        """
        metrics = []
        if self.metrics_file.exists():
            for line in self.metrics_file.read_bytes().splitlines():
                with suppress(ValueError, TypeError):
                    metrics.append(Metric(**json.loads(line)))
        return metrics

    def final_metrics(self) -> dict[str, Any]:
        """Return the last value of each metric."""
        return {metric.name: metric.value for metric in self.metrics()}

    def versions(self) -> dict[str, Any]:
        """Return the versions that the run was executed with; empty before its start.

        Raises:
            Damaged: The file is not valid.
        """
        return self._read("versions.json") if (self.path / "versions.json").exists() else {}

    def is_locked(self) -> bool:
        """Return whether a process executes the run now."""
        import filelock

        if not (self.path / ".lock").exists():
            return False
        try:
            with filelock.FileLock(self.path / ".lock", blocking=False):
                return False
        except filelock.Timeout:
            return True

    @contextmanager
    def locked(self) -> Iterator[bool]:
        """Hold the run's lock; yield False where another process executes the run."""
        import filelock

        lock = filelock.FileLock(self.path / ".lock")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=_PROBE_SECONDS, poll_interval=_PROBE_SECONDS / 10)
        except filelock.Timeout:
            yield False
            return
        except OSError as error:
            raise cannot_write(self.path, error) from error
        try:
            yield True
        finally:
            lock.release()

    @property
    def _fix(self) -> str:
        return f"Remove the folder {self.path.name} to run it again."

    def _read(self, name: str) -> dict[str, Any]:
        path = self.path / name
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise self._damaged(name, f"cannot be read ({error})") from error
        if not isinstance(values, dict):
            raise self._damaged(name, "is not valid")
        return values

    def _damaged(self, name: str, problem: str) -> Damaged:
        return Damaged(f"{self.path / name} {problem}. {self._fix}")


def run_folders(out: Path) -> list[RunFolder]:
    """Return the folders of the runs in `out`, sorted by name."""
    return (
        [
            RunFolder(Path(e.path))
            for e in sorted(os.scandir(out), key=lambda e: e.name)
            if e.is_dir() and os.path.exists(os.path.join(e.path, "run.json"))
        ]
        if out.is_dir()
        else []
    )
