import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dltlab.distribute import launching_child


def run(command: list[str], folder: Path, launcher: int | None = None) -> tuple[int, str, str]:
    """Run a worker as the launcher does; return its exit code, its report and its stderr."""
    report, report_end = os.pipe()
    options = {
        "launcher": os.getpid() if launcher is None else launcher,
        "cores": sorted(os.sched_getaffinity(0))[:1],
        "report": report_end,
        "notebook": "",
    }
    done = subprocess.run(
        [sys.executable, "-P", launching_child.__file__, json.dumps(options), *command],
        cwd=folder,
        pass_fds=[report_end],
        capture_output=True,
        text=True,
    )
    os.close(report_end)
    with os.fdopen(report) as pipe:
        return done.returncode, pipe.read(), done.stderr


@pytest.mark.parametrize(
    ("text", "code", "report"),
    [
        ("print('fine')", 0, ""),
        ("import sys; sys.exit(3)", 3, "3\n\0"),
        ("import sys; sys.exit('no data')", 1, "1\n\0"),
        ("import sys; sys.exit(-1)", 255, "255\n\0"),
        ("import sys; sys.exit()", 0, ""),
        ("raise KeyboardInterrupt", 130, "130\n\0"),
    ],
)
def test_the_exit_code_is_reported(tmp_path, text, code, report):
    (tmp_path / "script.py").write_text(text)
    assert run(["script.py"], tmp_path)[:2] == (code, report)


@pytest.mark.parametrize("text", ["def f():\n    1 / 0\nf()", "x = (", "import missing"])
def test_a_traceback_is_that_of_python(tmp_path, text):
    (tmp_path / "script.py").write_text(text)
    python = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True
    )
    code, report, err = run(["script.py"], tmp_path)

    assert (code, err) == (1, "")
    ours = report.removeprefix("1\n").removesuffix("\0").splitlines()
    theirs = python.stderr.replace(str(tmp_path) + "/", "").splitlines()
    assert [line for line in ours if line != "Traceback (most recent call last):"] == [
        line for line in theirs if line != "Traceback (most recent call last):"
    ]


def test_of_a_long_report_the_end_is_kept(tmp_path):
    (tmp_path / "script.py").write_text("raise ValueError('x' * 10**6 + 'end')")
    report = run(["script.py"], tmp_path)[1]

    assert report.endswith("end\n\0")
    assert len(report) < 2 * launching_child.MAX_REPORT_BYTES


def test_a_worker_runs_on_its_cores(tmp_path):
    (tmp_path / "script.py").write_text("import os, sys; sys.exit(len(os.sched_getaffinity(0)))")
    assert run(["script.py"], tmp_path)[0] == 1


def test_a_worker_whose_launcher_has_gone_does_nothing(tmp_path):
    (tmp_path / "script.py").write_text("open('done', 'w')")

    assert run(["script.py"], tmp_path, launcher=1)[0] == 1
    assert not (tmp_path / "done").exists()


def test_a_crash_shows_where_it_happened(tmp_path):
    (tmp_path / "script.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    code, _, err = run(["script.py"], tmp_path)

    assert code == -signal.SIGSEGV
    assert 'File "script.py", line 1' in err


def test_a_process_that_a_worker_has_forked_does_not_hold_its_report(tmp_path):
    (tmp_path / "script.py").write_text(
        """
import os, time
if os.fork() == 0:
    if os.fork() == 0:
        with open("child", "w") as file:
            file.write(str(os.getpid()))
        os.rename("child", "ready")
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 1), os.dup2(null, 2)
        time.sleep(1000)
    os._exit(0)
while not os.path.exists("ready"):
    time.sleep(0.01)
"""
    )
    try:
        assert run(["script.py"], tmp_path)[:2] == (0, "")
    finally:
        os.kill(int((tmp_path / "ready").read_text()), signal.SIGKILL)
