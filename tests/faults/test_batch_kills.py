"""Batches whose processes are killed at any moment: the same command goes on."""

import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from dltlab.batch.run_folder import RunFolder, State, Status, run_folders
from tests.batch.notebooks import light_kernels, write_notebook
from tests.deadlines import HANG_SECONDS, spawn, wait_until

NUM_RUNS = 24
BAD_INPUT_OR_FAULT = 2  # the exit code of the command
KILLS = [*["kernel"] * 36, *["worker"] * 7, *["runner"] * 5, *["scheduler"] * 2]
# The lock tells of a second kernel that executes the run at the same time.
NOTEBOOK = """
import fcntl, os, time
from pathlib import Path
import dltlab
lock = open("../../../locks/" + str(number), "a+")
fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
with open("../../../kernels", "a") as file:
    file.write(f"{os.getpid()}\\n")
time.sleep(0.05)
dltlab.record("square", number ** 2)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder with a sweep, whose kernels start at once and write their ids to `kernels`."""
    (tmp_path / "locks").mkdir()
    (tmp_path / "kernels").touch()
    write_notebook(tmp_path / "square.ipynb", NOTEBOOK, parameters="number = 0")
    write_sweep(tmp_path, NUM_RUNS)
    with light_kernels(tmp_path / "warm"):
        yield tmp_path
    assert not any(map(is_alive, kernels(tmp_path)))


def write_sweep(folder: Path, num_runs: int) -> None:
    numbers = list(range(num_runs))
    text = f'notebook = "square.ipynb"\n[grid]\nnumber = {numbers}\n'
    (folder / "SWEEP.toml").write_text(text)


def kernels(folder: Path) -> list[int]:
    """Return the process ids of all kernels that have started."""
    return [int(line) for line in (folder / "kernels").read_text().split()]


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def states(folder: Path) -> dict[str, State]:
    return {run.path.name: run.state() for run in run_folders(folder / "runs")}


def metrics(folder: Path) -> dict[int, list[object]]:
    """Return what each run has recorded, by its number."""
    return {
        run.run().parameters["number"]: [metric.value for metric in run.metrics()]
        for run in run_folders(folder / "runs")
    }


def sweep(folder: Path, *options: str) -> "subprocess.Popen[str]":
    """Start the command, in a process group of its own, as a terminal does."""
    script = str(Path(sys.executable).with_name("dltlab"))
    command = [script, "sweep", "SWEEP.toml", *options]
    with (folder / "log").open("a") as log:
        return spawn(command, cwd=folder, stdout=log, stderr=log, start_new_session=True)


class Cluster:
    """A Dask scheduler and two workers, each in a process of its own.

    Args:
        folder: For its files.
    """

    def __init__(self, folder: Path) -> None:
        address = folder / "address.json"
        address.unlink(missing_ok=True)
        # Threads of BLAS that Dask would set belong to the key of a zygote.
        environment = os.environ | {"DASK_DISTRIBUTED__NANNY__PRE_SPAWN_ENVIRON": "{}"}
        common = ["--scheduler-file", str(address), "--no-dashboard"]
        worker = ["dask_worker", "--nthreads", "1", "--local-directory", str(folder), *common]
        self._processes = [
            spawn(
                [sys.executable, "-m", f"distributed.cli.{name}", *options],
                env=environment,
                stderr=subprocess.DEVNULL,
            )
            for name, *options in (
                ["dask_scheduler", "--host", "127.0.0.1", "--port", "0", *common],
                [*worker, "--nworkers", "2"],
            )
        ]
        wait_until(lambda: address.exists() and address.read_text().endswith("}"))
        self.address = json.loads(address.read_text())["address"]

    def workers(self) -> list[psutil.Process]:
        """Return the processes that execute runs; another process starts them again."""
        try:
            children = psutil.Process(self._processes[1].pid).children()
            return [child for child in children if "spawn_main" in "".join(child.cmdline())]
        except psutil.Error:
            return []

    def kill_scheduler(self) -> None:
        self._processes[0].kill()
        self._processes[0].wait()

    def close(self) -> None:
        for process in self._processes:
            process.kill()  # without a scheduler, workers take long to end by themselves
        for process in self._processes:
            process.wait(HANG_SECONDS)


class Chaos:
    """A sweep on a cluster, whose processes are killed and started again.

    Attributes:
        killed: How often each kind of process was killed.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.killed: Counter[str] = Counter()
        self._folder = folder
        self._random = random.Random(seed)
        self._attempts: dict[str, int] = {}
        self._cluster = Cluster(folder)
        self._runner = self._start()

    def __enter__(self) -> "Chaos":
        return self

    def __exit__(self, *error: object) -> None:
        self._runner.kill()
        self._runner.wait()
        self._cluster.close()

    def kill(self, kind: str) -> None:
        """Wait until a run is executed, then for a random time, and kill a process."""
        wait_until(self._is_executing)
        wait_until(lambda: self._random.random() < 0.2)  # looks again every 0.02 s
        if kind == "kernel":
            alive = [pid for pid in kernels(self._folder)[-4:] if is_alive(pid)]
            if not alive:  # those that were there have ended meanwhile
                return self.kill(kind)
            os.kill(self._random.choice(alive), signal.SIGKILL)
        elif kind == "worker" and (workers := self._cluster.workers()):
            self._random.choice(workers).kill()
        elif kind == "runner":
            self._runner.kill()
            self._runner.wait()
        elif kind == "scheduler":
            self._cluster.kill_scheduler()
            code = self._runner.wait(HANG_SECONDS)
            self._cluster.close()
            self._cluster = Cluster(self._folder)
            if code != BAD_INPUT_OR_FAULT:  # the batch had ended before it noticed
                return self.kill(kind)
        self.killed[kind] += 1
        self.check()
        return None

    def finish(self) -> None:
        """Run the command until it succeeds."""
        while self._runner.wait(HANG_SECONDS) != 0:
            self._runner = self._start()
        self.check()

    def check(self) -> None:
        """Check that no run has been executed again after it was done."""
        for name, state in states(self._folder).items():
            if name in self._attempts:
                assert (state.status, state.attempt) == (Status.DONE, self._attempts[name])
            elif state.status is Status.DONE:
                self._attempts[name] = state.attempt

    def _start(self) -> "subprocess.Popen[str]":
        return sweep(self._folder, "--scheduler", self._cluster.address)

    def _is_executing(self) -> bool:
        """Return whether a run is executed; start the command, or add runs, where it has ended."""
        if self._runner.poll() is not None:
            if self._runner.returncode == 0:
                write_sweep(self._folder, len(states(self._folder)) + NUM_RUNS // 2)
            self._runner = self._start()
        return any(state.status is Status.RUNNING for state in states(self._folder).values())


def test_no_run_is_lost_or_done_twice_after_50_kills(folder):
    with Chaos(folder, seed=50) as chaos:
        for kind in random.Random(1).sample(KILLS, len(KILLS)):
            chaos.kill(kind)
        chaos.finish()

    assert chaos.killed == Counter(KILLS)
    final = states(folder)
    assert {state.status for state in final.values()} == {Status.DONE}
    assert metrics(folder) == {number: [number**2] for number in range(len(final))}
    log = (folder / "log").read_text()
    assert "was lost; it is tried again." in log
    assert "The Dask scheduler at" in log
    assert "Traceback" not in log


def test_ctrl_c_and_a_killed_command_leave_no_process_and_the_command_goes_on(folder):
    write_sweep(folder, 6)
    slow = NOTEBOOK.replace("sleep(0.05)", "sleep(0.05 if number == 0 else 1000)")
    write_notebook(folder / "square.ipynb", slow, parameters="number = 0")

    interrupted = sweep(folder, "--jobs", "2")
    wait_until(lambda: len(kernels(folder)) == 3)
    processes = psutil.Process(interrupted.pid).children(recursive=True)
    os.killpg(interrupted.pid, signal.SIGINT)
    assert interrupted.wait(HANG_SECONDS) == 130
    assert not any(map(is_alive, kernels(folder)))
    wait_until(lambda: not any(is_alive(process.pid) for process in processes))
    counts = Counter(state.status for state in states(folder).values())
    assert counts == {Status.DONE: 1, Status.CANCELLED: 2, Status.QUEUED: 3}

    killed = sweep(folder, "--jobs", "2")
    wait_until(lambda: len(kernels(folder)) == 5)
    processes = psutil.Process(killed.pid).children(recursive=True)
    killed.kill()
    killed.wait()
    wait_until(lambda: not any(is_alive(process.pid) for process in processes))
    wait_until(lambda: not any(map(is_alive, kernels(folder))))
    counts = Counter(state.status for state in states(folder).values())
    assert counts == {Status.DONE: 1, Status.KILLED: 2, Status.QUEUED: 3}

    (done,) = [name for name, state in states(folder).items() if state.status is Status.DONE]
    for name in states(folder).keys() - {done}:
        RunFolder(folder / "runs" / name).write_state(State(Status.DONE, attempt=1))
    assert sweep(folder, "--jobs", "1").wait(HANG_SECONDS) == 0
    assert len(kernels(folder)) == 5
    assert "dltlab: stopped; what was finished is kept." in (folder / "log").read_text()
