import os
import signal
import subprocess
import sys

import pytest

from dltlab import process_guard
from tests.deadlines import HANG_SECONDS

MARK = "DLTLAB_TEST_MARK"
SLEEP = [sys.executable, "-S", "-c", "import time; print(flush=True); time.sleep(1000)"]


@pytest.fixture
def process():
    """A process with a mark of its own, in a session of its own."""
    variables = {**os.environ, MARK: "own"}
    process = subprocess.Popen(SLEEP, env=variables, stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None
    process.stdout.read(1)
    yield process
    process.kill()
    process.communicate()


def test_marked_processes_are_killed_and_others_are_not(process):
    process_guard.kill_marked(f"{MARK}=ow")
    assert process.poll() is None

    process_guard.kill_marked(f"{MARK}=own")
    assert process.wait(HANG_SECONDS) == -signal.SIGKILL


def test_the_guard_kills_them_when_its_launcher_has_gone(process):
    guard = subprocess.Popen(
        [sys.executable, "-I", "-S", process_guard.__file__, f"{MARK}=own"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert guard.stdout is not None
    assert guard.stdin is not None
    assert guard.stdout.read(1) == b"\n"
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        guard.send_signal(number)
    assert process.poll() is None

    guard.communicate(timeout=HANG_SECONDS)
    assert guard.returncode == 0
    assert process.wait(HANG_SECONDS) == -signal.SIGKILL
