"""Execute many runs: in parallel, and so that the same command goes on after any interruption."""

import math
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from dltlab.batch.control import forget_stops, read_control, stop
from dltlab.batch.execution import kernel_environment
from dltlab.batch.records import read_records
from dltlab.batch.results import BatchResult
from dltlab.batch.run_folder import Run, RunFolder, State, Status
from dltlab.batch.scheduling import (
    Backend,
    Host,
    Outcome,
    Task,
    ThisProcess,
    existing_cluster,
    local_cluster,
    slurm_cluster,
    this_host,
)
from dltlab.errors import Invalid, Unavailable
from dltlab.kernels import prestart
from dltlab.paths import short_path

_POLL_SECONDS = 0.5
_STOP_SECONDS = 20.0  # for kernels to end after Ctrl-C
_MAX_LOSSES = 3  # of the workers that execute a run
_GB = 1e9


class Source(Protocol):
    """Where the runs of a batch come from that depend on the results of others: a search."""

    def next_run(self) -> Run | None:
        """Return another run, or None if there is none now."""

    def finish(self, run: Run, folder: RunFolder, state: State) -> None:
        """Take the result of a run."""

    def watch(self, folders: Mapping[str, RunFolder]) -> None:
        """Look at what the runs that are executed now have recorded."""


def run_batch(
    runs: Sequence[Run],
    out: Path,
    *,
    jobs: int | None = None,
    scheduler: str | None = None,
    slurm: Mapping[str, Any] | None = None,
    source: Source | None = None,
    notify: Callable[[str], object] = print,
) -> BatchResult:
    """Execute runs; those that are done already are not executed again.

    Several processes may execute the runs of one folder: they share the work.

    Args:
        runs: The runs. Where they come from `source`, one of them, for the resources of all.
        out: The folder of the runs.
        jobs: The number of runs at a time; by default what cores, GPUs and memory allow. 1: in
            this process.
        scheduler: The address of a Dask scheduler, by default a cluster on this host.
        slurm: Submit jobs to Slurm, with these arguments of `dask_jobqueue.SLURMCluster`.
        source: Gives further runs.
        notify: Called with sentences for the user.

    Raises:
        Invalid: A run needs more than there is, or the options exclude each other.
        Unavailable: A package is missing, or the scheduler cannot be reached.
    """
    if scheduler and slurm is not None:
        raise Invalid("A scheduler and Slurm exclude each other. Omit one of them.")
    out = out.absolute()
    runs = list({run.id: run for run in runs}.values())
    forget_stops(out)
    batch = _Batch(out, jobs, source, notify)
    if source is None:
        for run in runs:
            batch.add(run)
    if batch.ready or source:
        unfinished = list(batch.ready) or runs
        batch.execute(_backend(unfinished, out, jobs, scheduler, slurm, source, notify))
    return BatchResult(out, tuple(r for r in read_records(out) if r.id in batch.ended))


def _backend(
    runs: Sequence[Run],
    out: Path,
    jobs: int | None,
    scheduler: str | None,
    slurm: Mapping[str, Any] | None,
    source: Source | None,
    notify: Callable[[str], object],
) -> Backend:
    if scheduler:
        return existing_cluster(scheduler, out, notify)
    if slurm is not None:
        if jobs is None:
            raise Invalid("How many jobs to submit to Slurm is missing. Add --jobs N.")
        return slurm_cluster(jobs, runs, out, slurm, notify)
    host = this_host(out)
    for run in runs:
        _check_fits(run, host)
    jobs = jobs or _default_jobs(runs, host, notify)
    if source is None:
        jobs = min(jobs, len(runs))
    if source or len(runs) > 1:
        # All kernels wait for it. Alone, a run that imports little starts faster without.
        prestart(kernel_environment(runs[0], RunFolder(out / runs[0].id)))
    return ThisProcess(host) if jobs == 1 else local_cluster(jobs, out, notify)


def _check_fits(run: Run, host: Host) -> None:
    """Refuse a run for which this host is too small."""
    lacks = _lacks(run, host)
    if lacks:
        raise Invalid(f"{run.id} needs {lacks}. Let it use less, or use another host.")


def _lacks(run: Run, host: Host) -> str:
    """Return what a run needs and a host does not have, even where nothing else runs."""
    if run.cores > math.ceil(host.cores):
        return f"{run.cores} cores; {host.name} has {host.cores:g}"
    if (run.memory_bytes or 0) > host.memory_bytes:
        needed, there = run.memory_bytes or 0, host.memory_bytes
        return f"{needed / _GB:.1f} GB of memory; {there / _GB:.1f} GB of {host.name} are free"
    if _num_gpus(run) > len(host.gpus) or (
        isinstance(run.gpus, tuple) and max(run.gpus) >= len(host.gpus)
    ):
        return f"the GPUs {run.gpus}; {host.name} has {len(host.gpus)} for this process"
    return ""


def _num_gpus(run: Run) -> int:
    return len(run.gpus) if isinstance(run.gpus, tuple) else run.gpus


def _default_jobs(runs: Sequence[Run], host: Host, notify: Callable[[str], object]) -> int:
    """Return how many runs the cores, the GPUs and the memory of a host allow at a time."""
    jobs = int(host.cores / max(run.cores for run in runs))
    gpus = max(map(_num_gpus, runs))
    if gpus:
        jobs = min(jobs, len(host.gpus) // gpus)
    memory = max(run.memory_bytes or 0 for run in runs)
    if memory and host.memory_bytes // memory < jobs:
        jobs = host.memory_bytes // memory
        notify(_memory_sentence(jobs, memory, host))
    return max(1, jobs)


def _memory_sentence(jobs: int, memory: float, host: Host) -> str:
    runs = f"{jobs} run{'s' if jobs > 1 else ''}"
    return (
        f"Memory allows {runs} at a time: one takes {memory / _GB:.2f} GB, and "
        f"{host.memory_bytes / _GB:.1f} GB of {host.name} are for runs."
    )


@dataclass
class _Started:
    """A run that is executed now; `neighbors` is the most other runs on its host."""

    run: Run
    worker: str
    host: Host
    gpus: tuple[str, ...]
    neighbors: int


class _Batch:
    """The queue of a batch, and what its runs use.

    Only what is queued or executed now is held, and the ids of the others.
    """

    def __init__(
        self, out: Path, jobs: int | None, source: Source | None, notify: Callable[[str], object]
    ) -> None:
        self.ready: deque[Run] = deque()
        self.ended: set[str] = set()
        self._out = out
        self._jobs = jobs
        self._source = source
        self._notify = notify
        self._started: dict[str, _Started] = {}
        self._elsewhere: dict[str, Run] = {}  # executed by another process
        self._attempts: dict[str, int] = {}
        self._peaks: dict[str, int] = {}  # bytes by the name of the notebook
        self._losses: Counter[str] = Counter()
        self._alone: set[str] = set()  # have died of memory beside others
        self._told: set[str] = set()

    def add(self, run: Run) -> None:
        """Queue a run unless it is done."""
        folder = self._folder(run)
        folder.create(run)
        with folder.locked() as is_ours:
            state = folder.state()
            if is_ours and not state.status.is_final:
                folder.write_state(State(attempt=state.attempt))
        # One that is executed now counts as made after this batch has begun.
        self._attempts[run.id] = state.attempt if is_ours else state.attempt - 1
        if state.status.is_final:
            self._end(run, state)
        else:
            self.ready.append(run)

    def execute(self, backend: Backend) -> None:
        """Execute what is queued, and what the source gives.

        Raises:
            KeyboardInterrupt: After Ctrl-C, when the kernels have ended.
        """
        try:
            while self._has_more():
                is_paused = self._obey()
                if not is_paused:
                    self._start(backend)
                for outcome in backend.outcomes(_POLL_SECONDS):
                    self._take(outcome)
                self._look_elsewhere()
                if self._source:
                    self._source.watch(
                        {id_: self._folder(started.run) for id_, started in self._started.items()}
                    )
        except KeyboardInterrupt:
            self._cancel(backend)
            raise
        finally:
            backend.close()

    def _folder(self, run: Run) -> RunFolder:
        return RunFolder(self._out / run.id)

    def _has_more(self) -> bool:
        if not (self.ready or self._started or self._elsewhere) and self._source:
            self._ask(1)
        return bool(self.ready or self._started or self._elsewhere)

    def _ask(self, count: int) -> None:
        """Ask the source for runs until so many are queued."""
        while self._source and len(self.ready) < count:
            run = self._source.next_run()
            if run is None:
                return
            self.add(run)

    def _obey(self) -> bool:
        """Do what the control file says; return whether the batch is paused."""
        control = read_control(self._out)
        if control.stop:
            for run in [run for run in self.ready if control.stops(run.id)]:
                self.ready.remove(run)
                reason = "It was stopped before it started. The same command runs it again."
                self._write(run, State(Status.CANCELLED, reason, self._attempts[run.id]))
                self.ended.add(run.id)
            if isinstance(control.stop, str):
                self._source = None
        if control.paused:
            self._tell(f"Paused. Go on with: dltlab runs resume --out {short_path(self._out)}")
        return control.paused

    def _start(self, backend: Backend) -> None:
        """Let each idle worker execute the first run that fits."""
        workers = backend.workers()
        busy = {started.worker for started in self._started.values()}
        idle = [worker for worker in workers if worker not in busy]
        if self._jobs:
            idle = idle[: max(0, self._jobs - len(self._started))]
        self._ask(len(idle))
        for worker in idle:
            for run in self.ready:
                gpus = self._gpus(run, workers[worker])
                if gpus is not None:
                    self.ready.remove(run)
                    self._start_on(backend, worker, workers[worker], run, gpus)
                    break
        if not workers:
            self._tell("Waiting for a worker.")
        elif self.ready and not self._started:
            self._tell(f"Waiting for a worker with {_lacks(self.ready[0], workers[idle[0]])}.")

    def _start_on(
        self, backend: Backend, worker: str, host: Host, run: Run, gpus: tuple[str, ...]
    ) -> None:
        neighbors = self._on(host)
        for started in neighbors:
            started.neighbors = max(started.neighbors, len(neighbors))
        self._started[run.id] = _Started(run, worker, host, gpus, len(neighbors))
        backend.start(worker, Task(run, self._out / run.id, self._attempts[run.id], gpus))

    def _on(self, host: Host) -> list[_Started]:
        return [started for started in self._started.values() if started.host.name == host.name]

    def _gpus(self, run: Run, host: Host) -> tuple[str, ...] | None:
        """Return the GPUs of a host for a run; None if it does not fit there now."""
        if _lacks(run, host):
            return None
        neighbors = self._on(host)
        if neighbors and not self._jobs:
            cores = sum(started.run.cores for started in neighbors)
            if cores + run.cores > host.cores:
                return None
        memory = self._memory(run)
        if neighbors and memory + sum(self._memory(s.run) for s in neighbors) > host.memory_bytes:
            if memory < math.inf:
                self._tell(_memory_sentence(len(neighbors), memory, host))
            return None
        used = {gpu for started in neighbors for gpu in started.gpus}
        free = [gpu for gpu in host.gpus if gpu not in used]
        if isinstance(run.gpus, tuple):
            chosen = [host.gpus[index] for index in run.gpus]
            return tuple(chosen) if set(chosen) <= set(free) else None
        return tuple(free[: run.gpus]) if run.gpus <= len(free) else None

    def _memory(self, run: Run) -> float:
        """Return the bytes that a run needs: all there are, if it has died of memory."""
        if run.id in self._alone:
            return math.inf
        return run.memory_bytes or self._peaks.get(run.name, 0)

    def _take(self, outcome: Outcome) -> None:
        """Take a run that has ended off its worker."""
        started = self._started.pop(outcome.run_id)
        run = started.run
        if outcome.lost:
            self._take_lost(run, outcome.lost)
        elif outcome.state is None:
            self._elsewhere[run.id] = run
        elif self._may_retry_alone(started, outcome.state):
            self._alone.add(run.id)
            reason = (
                f"It ran out of memory beside {started.neighbors} other runs; it is tried again "
                "alone."
            )
            self._queue_again(run, outcome.state, reason)
        else:
            if self._folder(run).state().status in (Status.QUEUED, Status.RUNNING):
                self._write(run, outcome.state)
            self._end(run, outcome.state)

    def _may_retry_alone(self, started: _Started, state: State) -> bool:
        """Return whether a run has died of the memory that its neighbors used, for the first time.

        One that has used more than its own limit would do so again.
        """
        limit = started.run.memory_bytes or math.inf
        is_first = started.run.id not in self._alone
        few = state.peak_memory_bytes <= limit
        return state.out_of_memory and few and is_first and started.neighbors > 0

    def _take_lost(self, run: Run, worker: str) -> None:
        """Queue the run of a worker that was lost, unless it has ended after all."""
        folder = self._folder(run)
        with folder.locked() as is_ours:
            state = folder.state()
        if not is_ours:
            self._elsewhere[run.id] = run
        elif state.status not in (Status.QUEUED, Status.RUNNING):
            self._end(run, state)
        else:
            self._losses[run.id] += 1
            if self._losses[run.id] < _MAX_LOSSES:
                self._queue_again(run, state, f"The worker {worker} was lost; it is tried again.")
                return
            reason = (
                f"Its worker was lost {_MAX_LOSSES} times, at last {worker}. Look at the log of "
                "the run, and give it more memory."
            )
            state = replace(state, status=Status.KILLED, reason=reason)
            self._write(run, state)
            self._end(run, state)

    def _queue_again(self, run: Run, state: State, reason: str) -> None:
        self._attempts[run.id] = state.attempt
        self._write(run, State(Status.QUEUED, reason, state.attempt))
        self.ready.append(run)
        self._notify(f"{run.id}: {reason}")

    def _end(self, run: Run, state: State) -> None:
        """Keep what a run that has ended tells of others."""
        self.ended.add(run.id)
        self._attempts.pop(run.id, None)
        if state.peak_memory_bytes > self._peaks.get(run.name, 0):
            self._peaks[run.name] = state.peak_memory_bytes
        if self._source:
            self._source.finish(run, self._folder(run), state)

    def _look_elsewhere(self) -> None:
        """Queue the runs that another process does not execute any longer."""
        for run in list(self._elsewhere.values()):
            if not self._folder(run).is_locked():
                del self._elsewhere[run.id]
                self.ready.append(run)

    def _write(self, run: Run, state: State) -> None:
        """Write the state of a run that no process executes."""
        with suppress(Unavailable), self._folder(run).locked() as is_ours:
            if is_ours:
                self._folder(run).write_state(state)

    def _cancel(self, backend: Backend) -> None:
        """End the runs that are executed now."""
        stopped = list(self._started)
        stop(self._out, stopped)
        end = time.monotonic() + _STOP_SECONDS
        while self._started and time.monotonic() < end:
            for outcome in backend.outcomes(_POLL_SECONDS):
                self._started.pop(outcome.run_id)
        forget_stops(self._out, stopped)

    def _tell(self, sentence: str) -> None:
        """Tell the user something once."""
        if sentence not in self._told:
            self._told.add(sentence)
            self._notify(sentence)
