"""Where runs are executed: in this process, on a local Dask cluster, another one, or Slurm's."""

import importlib
import inspect
import logging
import os
import queue
import secrets
import shutil
import signal
import socket
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from dltlab.batch.execution import execute_run
from dltlab.batch.run_folder import Run, RunFolder, State, Status
from dltlab.errors import Invalid, LabError, Unavailable

CONNECT_SECONDS = 10.0
_LOOK_SECONDS = 1.0  # between two looks at the workers of a cluster
_MEMORY_SHARE = 0.9  # of what is free when a worker is first seen
_DEFAULT_MEMORY = 4_000_000_000  # of a job of Slurm whose runs do not say what they need
_HASH_SEED = "PYTHONHASHSEED"
_DASK = {
    "distributed.nanny.pre-spawn-environ": {},  # kernels would inherit its thread counts
    "distributed.scheduler.allowed-failures": 0,  # the runner starts a run again, not Dask
    "distributed.worker.profile.enabled": False,
    "distributed.diagnostics.computations.max-history": 1,
    "distributed.diagnostics.erred-tasks.max-history": 1,
}


@dataclass(frozen=True)
class Host:
    """What the workers of one host, or of one job of Slurm on it, share.

    Attributes:
        name: The name of the host.
        cores: The cores for runs.
        memory_bytes: The memory for runs.
        gpus: The GPUs as CUDA_VISIBLE_DEVICES names them.
        sees_folder: Whether the folder of the runs is there.
    """

    name: str
    cores: float
    memory_bytes: int
    gpus: tuple[str, ...]
    sees_folder: bool = True


_UNUSABLE = Host("", 0, 0, (), sees_folder=False)


@dataclass(frozen=True)
class Task:
    """A run to execute now.

    Attributes:
        run: The run.
        path: Its folder.
        attempt: The number of its last attempt that is known. Where another runner has made a
            later one, that one's result is the result.
        gpus: Its GPUs, as CUDA_VISIBLE_DEVICES names them.
    """

    run: Run
    path: Path
    attempt: int
    gpus: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """How a task ended.

    Attributes:
        run_id: The run.
        state: Its state; None if another process executes it, or its worker was lost.
        lost: The name of the worker that was lost; empty if none was.
    """

    run_id: str
    state: State | None
    lost: str = ""


class Backend(Protocol):
    """What executes runs."""

    def workers(self) -> Mapping[str, Host]:
        """Return the workers that can execute a run, and the host of each."""

    def start(self, worker: str, task: Task) -> None:
        """Let a worker execute a run; it must have none."""

    def outcomes(self, seconds: float) -> list[Outcome]:
        """Wait for a task that has ended, at most so long, and return those that have."""

    def close(self) -> None:
        """End the workers that the backend has started."""


def execute(task: Task) -> State | None:
    """Execute a run in this process, unless that is done or another process does it.

    Returns:
        The state at the end; None if another process executes the run.
    """
    folder = RunFolder(task.path)
    try:
        with folder.locked() as is_ours:
            if not is_ours:
                return None
            state = folder.state()
            ended = state.status not in (Status.QUEUED, Status.RUNNING)
            if state.status.is_final or (ended and state.attempt > task.attempt):
                return state
            with _visible(task.gpus):
                return execute_run(replace(task.run, gpus=len(task.gpus)), folder)
    except LabError as error:
        return State(Status.FAILED, str(error), attempt=task.attempt + 1)


def this_host(out: Path) -> Host:
    """Return what the workers on this host share.

    Args:
        out: The folder of the runs.
    """
    from dltlab.devices import cpu_info, memory_info
    from dltlab.distribute import usable_gpus

    job = os.environ.get("SLURM_JOB_ID", "")
    return Host(
        f"{socket.gethostname()}{f' (job {job})' if job else ''}",
        cpu_info().cores,
        int(memory_info().available * _MEMORY_SHARE),
        tuple(usable_gpus()),
        out.is_dir(),
    )


def dask_setup(worker: object) -> None:
    """Prepare a worker on this host; Dask calls it when the worker starts.

    Ctrl-C in a terminal reaches all processes, but the runner ends what the workers execute.
    """
    if not os.environ.get(_HASH_SEED):
        os.environ.pop(_HASH_SEED, None)
    signal.signal(signal.SIGINT, lambda *_: None)


class ThisProcess:
    """Executes one run after the other in this process."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._outcomes: list[Outcome] = []

    def workers(self) -> Mapping[str, Host]:
        """Return one worker."""
        return {"this process": self._host}

    def start(self, worker: str, task: Task) -> None:
        """Execute a run now."""
        state = None
        try:
            state = execute(task)
        finally:
            self._outcomes.append(Outcome(task.run.id, state))

    def outcomes(self, seconds: float) -> list[Outcome]:
        """Return what has ended."""
        if not self._outcomes:
            time.sleep(seconds)
        outcomes, self._outcomes = self._outcomes, []
        return outcomes

    def close(self) -> None:
        """Do nothing: there is no other process."""


class DaskWorkers:
    """Executes runs on the workers of a Dask cluster, one at a time on each.

    The runner chooses the worker: Dask knows the resources of a worker, but the workers of a host
    share its cores, memory and GPUs.

    Args:
        client: A client of the cluster; it is closed with the backend.
        out: The folder of the runs.
        close: Ends the cluster.
        notify: Called with a sentence for the user.
        restore: Starts the workers of the cluster that are lost for good.
    """

    def __init__(
        self,
        client: Any,  # distributed.Client, which has no annotations
        out: Path,
        close: Callable[[], object],
        notify: Callable[[str], object],
        restore: Callable[[], object] = lambda: None,
    ) -> None:
        self._client = client
        self._address = client.scheduler.address
        self._out = out
        self._close = close
        self._notify = notify
        self._restore = restore
        self._hosts: dict[str, Host] = {}
        self._names: dict[str, Host] = {}  # as they were first seen, before runs took memory
        self._tasks: dict[str, tuple[Any, str, str]] = {}  # future, worker, name of its host
        self._ended: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._next_look = 0.0

    def workers(self) -> Mapping[str, Host]:
        """Return the workers of the cluster that see the folder of the runs.

        Raises:
            Unavailable: The scheduler was lost.
        """
        if time.monotonic() >= self._next_look:
            self._restore()
            with self._scheduler():
                # `scheduler_info` at times returns none: it reads what another thread replaces.
                identity = self._client.sync(self._client.scheduler.identity, n_workers=-1)
                present = identity["workers"]
                new = [address for address in present if address not in self._hosts]
                hosts: dict[str, Any] = {}
                if new:
                    hosts = self._client.run(this_host, self._out, workers=new, on_error="return")
            self._hosts = {a: host for a, host in self._hosts.items() if a in present}
            for address, host in hosts.items():
                if isinstance(host, OSError):  # it has ended meanwhile
                    continue
                if isinstance(host, Exception):
                    self._notify(f"The worker {address} cannot be used: {host!r}")
                    host = _UNUSABLE
                elif not host.sees_folder:
                    self._notify(f"{host.name} does not see {self._out}; its worker is not used.")
                self._hosts[address] = self._names.setdefault(host.name, host)
            self._next_look = time.monotonic() + _LOOK_SECONDS
        return {address: host for address, host in self._hosts.items() if host.sees_folder}

    def start(self, worker: str, task: Task) -> None:
        """Let a worker execute a run."""
        run_id, ended = task.run.id, self._ended
        with self._scheduler():
            future = self._client.submit(
                execute,
                task,
                key=f"run-{uuid.uuid4().hex}",
                workers=[worker],
                allow_other_workers=False,
                pure=False,
            )
        self._tasks[run_id] = future, worker, self._hosts[worker].name
        future.add_done_callback(lambda _: ended.put(run_id))

    def outcomes(self, seconds: float) -> list[Outcome]:
        """Return what has ended, and the runs whose workers are lost."""
        ended = set()
        with suppress(queue.Empty):
            ended.add(self._ended.get(timeout=seconds))
            while True:
                ended.add(self._ended.get_nowait())
        outcomes = [self._outcome(run_id) for run_id in ended if run_id in self._tasks]
        workers = self.workers()
        lost = [run_id for run_id, (_, worker, _) in self._tasks.items() if worker not in workers]
        return [*outcomes, *map(self._outcome, lost)]

    def close(self) -> None:
        """Disconnect, and end the cluster if it is ours."""
        for future, *_ in self._tasks.values():
            with suppress(Exception):
                future.cancel()
        self._client.close()
        self._close()

    def _outcome(self, run_id: str) -> Outcome:
        from distributed.client import FutureCancelledError
        from distributed.scheduler import KilledWorker, NoValidWorkerError

        future, worker, host = self._tasks.pop(run_id)
        try:
            if future.done():
                return Outcome(run_id, future.result())
            future.cancel()
        except (KilledWorker, FutureCancelledError, NoValidWorkerError):
            self._next_look = 0
        except Exception as error:  # whatever another installation of dltlab raises
            reason = f"The worker {worker} on {host} could not execute it: {error!r}"
            return Outcome(run_id, State(Status.FAILED, reason))
        return Outcome(run_id, None, f"{worker} on {host}")

    @contextmanager
    def _scheduler(self) -> Iterator[None]:
        try:
            if self._client.status not in ("running", "connecting"):
                raise OSError("no connection")
            yield
        except (OSError, TimeoutError) as error:
            raise Unavailable(
                f"The Dask scheduler at {self._address} was lost. What is finished is kept: run "
                "the same command again."
            ) from error


def local_cluster(jobs: int, out: Path, notify: Callable[[str], object]) -> DaskWorkers:
    """Start a Dask cluster on this host, a process for each job; TLS keeps other users out.

    Args:
        jobs: The number of runs at a time.
        out: The folder of the runs.
        notify: Called with a sentence for the user.
    """
    dask, distributed, _ = packages("dask", "distributed", "cryptography")
    cluster = distributed.LocalCluster(
        n_workers=jobs,
        threads_per_worker=1,
        memory_limit=None,
        security=True,
        scheduler_kwargs=_set_up(dask),
        silence_logs=logging.CRITICAL,
        preload=__name__,
        env={_HASH_SEED: os.environ.get(_HASH_SEED, "")},  # Dask's own would reach the kernels
    )
    notify(f"{jobs} jobs at a time; the dashboard of Dask is {cluster.dashboard_link}")
    return DaskWorkers(
        distributed.Client(cluster), out, cluster.close, notify, lambda: cluster.scale(jobs)
    )


def existing_cluster(address: str, out: Path, notify: Callable[[str], object]) -> DaskWorkers:
    """Connect to a Dask cluster that exists.

    Args:
        address: Of its scheduler, as in tcp://host:8786.
        out: The folder of the runs, which its workers must see.
        notify: Called with a sentence for the user.

    Raises:
        Unavailable: There is no scheduler at the address.
    """
    (distributed,) = packages("distributed")
    _be_quiet()
    try:
        client = distributed.Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:
        raise Unavailable(
            f"There is no Dask scheduler at {address} ({error}). Start one with: dask scheduler"
        ) from error
    notify(f"The dashboard of Dask is {client.dashboard_link}")
    return DaskWorkers(client, out, lambda: None, notify)


def slurm_cluster(
    jobs: int,
    runs: Sequence[Run],
    out: Path,
    options: Mapping[str, Any],
    notify: Callable[[str], object],
) -> DaskWorkers:
    """Submit jobs to Slurm, each with one worker.

    Args:
        jobs: The number of jobs.
        runs: What they execute: they ask for the most cores, GPUs and memory of any.
        out: The folder of the runs, which the nodes must see.
        options: Arguments of `dask_jobqueue.SLURMCluster`, as queue, account or walltime.
        notify: Called with a sentence for the user.

    Raises:
        Unavailable: Slurm or dask-jobqueue is not installed.
        Invalid: An option does not exist.
    """
    distributed, jobqueue, dask, _ = packages(
        "distributed", "dask_jobqueue", "dask", "cryptography"
    )
    if shutil.which("sbatch") is None:
        raise Unavailable("sbatch is not installed. Run the command on a login node of Slurm.")
    options = {"scheduler_options": _set_up(dask), **options}
    (out / "slurm").mkdir(parents=True, exist_ok=True)
    cluster = jobqueue.SLURMCluster(**slurm_arguments(runs, out, options))
    cluster.adapt(minimum=jobs, maximum=jobs)
    notify(f"{jobs} jobs are submitted to Slurm; the dashboard of Dask is {cluster.dashboard_link}")
    return DaskWorkers(distributed.Client(cluster), out, cluster.close, notify)


def slurm_arguments(runs: Sequence[Run], out: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of `dask_jobqueue.SLURMCluster` for some runs.

    Raises:
        Invalid: An option does not exist.
    """
    core, slurm = packages("dask_jobqueue.core", "dask_jobqueue.slurm")
    makers = (core.JobQueueCluster, core.Job, slurm.SLURMJob)
    known = {name for maker in makers for name in inspect.signature(maker.__init__).parameters}
    unknown = set(options) - known
    if unknown:
        raise Invalid(
            f"dask_jobqueue.SLURMCluster has no argument {', '.join(sorted(unknown))}. It has "
            "queue, account, walltime, memory, job_extra_directives and others."
        )
    gpus = max(len(run.gpus) if isinstance(run.gpus, tuple) else run.gpus for run in runs)
    memory = max(run.memory_bytes or 0 for run in runs) or _DEFAULT_MEMORY
    return {
        "job_name": "dltlab",
        "cores": max(run.cores for run in runs),
        "processes": 1,
        "memory": f"{memory}B",
        "job_extra_directives": [f"--gpus={gpus}"] if gpus else [],
        "log_directory": str(out / "slurm"),
        "security": True,
        "shared_temp_directory": str(out / "slurm"),  # of the keys, which only this user can read
        **options,
    }


@contextmanager
def _visible(gpus: Sequence[str]) -> Iterator[None]:
    """Let the kernels that are started meanwhile see only these GPUs, if any are chosen."""
    if not gpus:
        yield
        return
    before = os.environ.get("CUDA_VISIBLE_DEVICES")
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
    try:
        yield
    finally:
        if before is None:
            del os.environ["CUDA_VISIBLE_DEVICES"]
        else:
            os.environ["CUDA_VISIBLE_DEVICES"] = before


def packages(*names: str) -> list[Any]:
    """Import packages of the extra `batch`.

    Raises:
        Unavailable: One is not installed.
    """
    try:
        return [importlib.import_module(name) for name in names]
    except ImportError as error:
        raise Unavailable(
            f"{error.name} is not installed. Run: pip install 'dltlab[batch]'"
        ) from error


def _set_up(dask: Any) -> dict[str, str]:
    """Configure Dask for a cluster of ours; return the options of its scheduler.

    The dashboard has a secret in its address, because Dask has no other protection for it.
    """
    _be_quiet()
    secret = secrets.token_urlsafe(16)
    link = f"http://127.0.0.1:{{port}}/{secret}/status"
    dask.config.set({**_DASK, "distributed.dashboard.link": link})
    return {"dashboard_address": "127.0.0.1:0", "http_prefix": f"/{secret}"}


def _be_quiet() -> None:
    """Keep from the user what Dask logs of its dashboard, and of lost workers: they are named."""
    for name in ("distributed", "distributed.client", "distributed.scheduler", "tornado"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
