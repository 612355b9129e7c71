"""A run of the tests that is stopped names the tests that have not ended."""

import signal
import subprocess
import sys
from pathlib import Path

from tests.deadlines import HANG_SECONDS, spawn

REPOSITORY = Path(__file__).resolve().parents[1]

HANGS = """
from threading import Event

def test_ends():
    pass

def test_hangs():
    print("hangs", flush=True)
    Event().wait()
"""


def test_a_stopped_run_names_the_test_that_runs(tmp_path: Path) -> None:
    (tmp_path / "test_two.py").write_text(HANGS)
    options = ["-c", "/dev/null", "-p", "tests.stopped_run", "--capture=no", "test_two.py"]
    tests = spawn(
        [sys.executable, "-m", "pytest", *options],
        cwd=tmp_path,
        env={"PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
    )
    assert tests.stdout
    lines = iter(tests.stdout.readline, "")
    assert any("hangs\n" in line for line in lines)

    tests.send_signal(signal.SIGTERM)

    rest, _ = tests.communicate(timeout=HANG_SECONDS)
    assert "test_two.py::test_hangs" in rest
    assert "test_ends" not in rest
    assert tests.returncode == 128 + signal.SIGTERM
