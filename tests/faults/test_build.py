"""`dltlab build` that is stopped, killed, out of disk space, not permitted, and run twice."""

import ctypes
import os
import resource
import signal
import subprocess

import pytest

from tests.deadlines import HANG_SECONDS, spawn

LAB = "01_my_topic"
ENDLESS = """
# %%
from pathlib import Path
from threading import Event

Path("{reached}").open("w").close()
Event().wait()
"""


@pytest.fixture
def solution(built):
    """The executed notebook."""
    return built.solutions / f"{LAB}.ipynb"


@pytest.fixture
def start(script, built):
    """Start `dltlab build` in a process of its own, and end it with the test."""
    started = []

    def build(**options):
        process = spawn(
            [script, "build", "--course", built.root],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            **options,
        )
        started.append(process)
        return process

    yield build
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def running(start, source, tmp_path):
    """A build that has reached a cell that never ends."""
    reached = tmp_path / "reached"
    os.mkfifo(reached)
    source.write_text(source.read_text() + ENDLESS.format(reached=reached))
    process = start()
    reached.open().close()  # waits for the cell to open the other end
    return process


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_ctrl_c_ends_a_build_with_one_line_and_leaves_the_old_notebook(running, solution):
    before = solution.read_bytes()

    os.killpg(running.pid, signal.SIGINT)
    error = running.communicate(timeout=HANG_SECONDS)[1]

    assert (running.returncode, error) == (130, "dltlab: stopped; what was finished is kept.\n")
    assert solution.read_bytes() == before
    assert names(solution.parent) == [f"{LAB}.ipynb", f"{LAB}.py"]


def test_a_killed_build_leaves_the_old_notebook_and_the_next_build_finishes(
    running, solution, source, built, edit, dltlab
):
    before = solution.read_bytes()

    running.kill()
    running.wait(timeout=HANG_SECONDS)
    assert solution.read_bytes() == before

    source.write_text(source.read_text().partition("\n# %%\nfrom pathlib")[0])
    edit(source, "seed=0", "seed=1")
    assert dltlab("build", "--course", built.root).code == 0
    assert solution.read_bytes() != before
    assert names(solution.parent) == [f"{LAB}.ipynb", f"{LAB}.py"]


def test_a_full_disk_is_one_line_and_keeps_both_notebooks(start, solution, source, built, edit):
    edit(source, "## The question", "## The riddle")
    learner = built.labs / f"{LAB}.ipynb"
    before = solution.read_bytes(), learner.read_bytes()

    build = start(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)))
    error = build.communicate(timeout=HANG_SECONDS)[1]

    assert build.returncode == 2
    assert error.startswith(f"dltlab: {solution} cannot be written (File too large)")
    assert len(error.splitlines()) == 1
    assert (solution.read_bytes(), learner.read_bytes()) == before
    assert names(learner.parent) == [f"{LAB}.ipynb"]


def test_a_folder_without_write_permission_is_an_error_before_executing(start, built, source, edit):
    edit(source, "seed=0", "seed=1")
    built.solutions.chmod(0o500)

    build = start(preexec_fn=obey_permissions)
    error = build.communicate(timeout=HANG_SECONDS)[1]

    built.solutions.chmod(0o700)
    assert build.returncode == 2
    assert error.endswith("is not writable; build a course in a folder of your own.\n")
    assert len(error.splitlines()) == 1


def obey_permissions():
    """Drop root's capability to write where the permissions forbid it."""
    drop_from_bounding_set, dac_override = 24, 1  # linux/prctl.h, linux/capability.h
    ctypes.CDLL(None).prctl(drop_from_bounding_set, dac_override, 0, 0, 0)


def test_two_builds_at_once_both_succeed_and_leave_one_complete_notebook(
    start, solution, source, built, edit, dltlab
):
    edit(source, "seed=0", "seed=1")

    builds = start(), start()

    assert [build.wait(timeout=HANG_SECONDS) for build in builds] == [0, 0]
    assert dltlab("build", "--check", "--course", built.root).out == ""
    assert names(solution.parent) == [f"{LAB}.ipynb", f"{LAB}.py"]
