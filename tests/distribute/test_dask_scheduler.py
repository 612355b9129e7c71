"""A scheduler and workers in processes of their own: who may connect, and that all of them end."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from dltlab.distribute import dask_scheduler
from dltlab.errors import Invalid, Unavailable
from tests.deadlines import HANG_SECONDS, wait_until

distributed = pytest.importorskip("distributed")


def is_alive(process: psutil.Process) -> bool:
    """Return whether a process has not ended; one that nobody has waited for has."""
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def test_tasks_run_in_other_processes_which_end_with_the_block() -> None:
    with dask_scheduler(2) as (address, security):
        assert address.startswith("tls://127.0.0.1:")
        with distributed.Client(address, security=security, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=HANG_SECONDS)
            pids = set(client.run(os.getpid).values())
            assert client.submit(sum, [1, 2, 3]).result(timeout=HANG_SECONDS) == 6
    assert len(pids) == 2
    assert os.getpid() not in pids
    wait_until(lambda: not any(map(psutil.pid_exists, pids)))


def test_a_client_without_the_certificate_is_refused() -> None:
    with dask_scheduler(1) as (address, _):
        other = distributed.Security.temporary()
        with pytest.raises(OSError, match=r"Timed out|certificate"):
            distributed.Client(address, security=other, timeout="2s", set_as_default=False)


def test_an_exception_in_the_block_ends_all_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    children: list[psutil.Process] = []

    def fail_in_the_block() -> None:
        with dask_scheduler(1):
            (folder,) = tmp_path.iterdir()
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700  # the key is in it
            children.extend(psutil.Process().children(recursive=True))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_in_the_block()
    assert children
    assert not list(tmp_path.iterdir())
    wait_until(lambda: not any(map(is_alive, children)))


def test_a_killed_process_leaves_no_scheduler_and_no_workers() -> None:
    script = """
import time
from distributed import Client
from dltlab.distribute import dask_scheduler
if __name__ == "__main__":
    with dask_scheduler(1) as (address, security):
        with Client(address, security=security) as client:
            client.wait_for_workers(1)
            print("ready", flush=True)
            time.sleep(600)
"""
    owner = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    with owner.stdout:
        assert owner.stdout.readline() == "ready\n"
        children = psutil.Process(owner.pid).children(recursive=True)
        assert len(children) >= 3  # the scheduler, the worker, and the guard of both
        # Without this variable, setproctitle would overwrite those by which the guard finds them.
        environments = [child.environ() for child in children]
        assert [variables.get("SPT_NOENV") for variables in environments].count("1") == 2
        owner.kill()
        owner.wait()
    wait_until(lambda: not any(map(is_alive, children)))


def test_a_scheduler_that_does_not_start_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(Unavailable, match="`dask scheduler` did not start"), dask_scheduler(1):
        pass


def test_no_workers_are_refused() -> None:
    with pytest.raises(Invalid, match="at least 1, not 0"), dask_scheduler(0):
        pass
