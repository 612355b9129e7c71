import os
import subprocess
import sys

import pytest

from dltlab.batch import RunFolder, Status, stop
from dltlab.batch.run_folder import Run
from dltlab.batch.run_watch import RunEnded, RunWatch, oom_kills

ALLOCATE = """
import sys, time
block = b"x" * int(sys.argv[1])
print(flush=True)
time.sleep(1000)
"""


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path / "runs" / "my-run")


@pytest.fixture
def parent():
    """A process of a shell whose child has allocated 100 MB."""
    command = [sys.executable, "-c", ALLOCATE, "100_000_000".replace("_", "")]
    process = subprocess.Popen(
        ["sh", "-c", '"$@"; true', "sh", *command], stdout=subprocess.PIPE, start_new_session=True
    )
    process.stdout.read(1)
    yield process
    os.killpg(process.pid, 9)
    process.communicate()


def test_without_limits_a_run_goes_on(folder):
    RunWatch(Run("any.ipynb"), folder).check(None)
    RunWatch(Run("any.ipynb", timeout=1000.0), folder).check(os.getpid())


def test_the_memory_of_child_processes_counts(folder, parent):
    watch = RunWatch(Run("any.ipynb"), folder)
    watch.check(parent.pid)
    peak = watch.peak_memory_bytes

    assert 100_000_000 < peak < 200_000_000
    watch.check(parent.pid)
    assert watch.peak_memory_bytes == peak


def test_a_run_that_uses_more_than_its_memory_ends(folder, parent):
    watch = RunWatch(Run("any.ipynb", memory_bytes=50_000_000), folder)

    with pytest.raises(RunEnded, match=r"the run used 0\.1\d GB of memory") as caught:
        watch.check(parent.pid)
    assert (caught.value.status, caught.value.out_of_memory) == (Status.KILLED, True)


def test_a_run_that_takes_too_long_ends(folder):
    with pytest.raises(RunEnded, match=r"took longer than its 0 seconds") as caught:
        RunWatch(Run("any.ipynb", timeout=0.0), folder).check(None)
    assert caught.value.status is Status.TIMEOUT


def test_a_run_that_a_user_stops_ends_and_no_other(folder):
    watch, other = (
        RunWatch(Run("any.ipynb"), RunFolder(folder.path.with_name(name)))
        for name in (folder.path.name, "another-run")
    )
    stop(folder.path.parent, [folder.path.name])

    other.check(None)
    with pytest.raises(RunEnded, match="the run was stopped") as caught:
        watch.check(None)
    assert caught.value.status is Status.CANCELLED


def test_a_process_that_has_ended_uses_no_memory(folder, parent):
    os.killpg(parent.pid, 9)
    parent.wait()
    watch = RunWatch(Run("any.ipynb", memory_bytes=1), folder)
    watch.check(parent.pid)

    assert watch.peak_memory_bytes == 0


def test_that_linux_kills_for_lack_of_memory_is_noticed(folder, monkeypatch):
    watch = RunWatch(Run("any.ipynb"), folder)
    assert not watch.machine_ran_out_of_memory()

    killed = oom_kills() + 1
    monkeypatch.setattr("dltlab.batch.run_watch.oom_kills", lambda: killed)
    assert watch.machine_ran_out_of_memory()
