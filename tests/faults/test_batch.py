"""Runs whose notebooks and kernels fail in every way: status, message, and what is left."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest

from dltlab.batch import RunFolder, Status
from dltlab.batch.run_output import MAX_CELL_TEXT, MAX_LOG
from dltlab.paths import COLD_KERNELS
from tests.batch.notebooks import (
    KERNEL,
    execute,
    execute_all,
    light_kernels,
    read_run,
    write_notebook,
)
from tests.deadlines import HANG_SECONDS, spawn, wait_until

# Of commands: their kernels start cold, which is faster than with a zygote of their own.
ENVIRONMENT = {**os.environ, COLD_KERNELS: "1"}

FORKS = """
import json, os, subprocess, sys, time
from multiprocessing import get_context

SLEEP = [sys.executable, "-c", "import time; time.sleep(1000)"]
detached = subprocess.Popen(SLEEP, start_new_session=True)
process = get_context("fork").Process(target=time.sleep, args=[1000])
process.start()
if not os.fork():  # a daemon
    os.setsid()
    if not os.fork():
        with open("daemon", "w") as file:
            file.write(str(os.getpid()))
        os.rename("daemon", "daemon.pid")
        time.sleep(1000)
    os._exit(0)
while not os.path.exists("daemon.pid"):
    time.sleep(0.01)
with open("daemon.pid") as file:
    pids = [detached.pid, process.pid, int(file.read())]
with open("pids.json", "w") as file:
    json.dump(pids, file)
os._exit(0)  # multiprocessing would wait for its process
"""
FAULTS = {
    "raises": ["print('epoch 3')", "raise ValueError('the rate\\nis negative')"],
    "exit code": ["print('last words')", "import os; os._exit(3)"],
    "segfault": ["import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"],
    "SIGKILL": ["import os, signal; os.kill(os.getpid(), signal.SIGKILL)"],
    "sys.exit": ["print(1)", "import sys; sys.exit(0)", "print(2)", "print(3)"],
    "sys.exit 3": ["import sys; sys.exit(3)"],
    "endless": ["print('begin')\nwhile True: pass"],
    "memory": ["blocks = [b'x' * 10_000_000 for _ in range(100)]\nwhile True: pass"],
    "prints": ["line = 'x' * 999\nfor _ in range(100_000): print(line)\nprint('the end')"],
    "removes": ["import os, shutil; shutil.rmtree(os.environ['DLTLAB_RUN_DIR'])", "print('on')"],
    "forks": [FORKS],
    "missing file": ["open('data.csv')"],
    "input": ["input('name?')"],
    "magic": ["%matplotlib_is_no_magic"],
}
OPTIONS: dict[str, dict[str, Any]] = {
    "endless": {"timeout": 4.0},
    "memory": {"memory_bytes": 600_000_000},
}


@pytest.fixture(scope="module")
def kernels(tmp_path_factory):
    with light_kernels(tmp_path_factory.mktemp("kernels")):
        yield


@pytest.fixture(scope="module")
def outcome(tmp_path_factory, kernels):
    """A function that returns the state and the folder of the run with a fault."""
    notebooks, out = tmp_path_factory.mktemp("notebooks"), tmp_path_factory.mktemp("runs")
    runs = {
        name: read_run(write_notebook(notebooks / f"{name}.ipynb", *cells), **OPTIONS.get(name, {}))
        for name, cells in FAULTS.items()
    }
    states = execute_all(runs, out)

    def outcome(name):
        folder = RunFolder(out / runs[name].id)
        assert folder.state() == states[name]
        return states[name], folder

    return outcome


def cell_statuses(folder):
    notebook = nbformat.read(folder.notebook, 4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [cell.metadata.papermill.status for cell in cells]


@pytest.mark.parametrize(
    ("fault", "status", "reason"),
    [
        (
            "raises",
            Status.FAILED,
            "Cell 2 of 2: ValueError: the rate. Its last output: 'epoch 3'. Correct it and run the "
            "same command again.",
        ),
        (
            "exit code",
            Status.FAILED,
            "Cell 2 of 2: the kernel ended with exit code 3. Its last output: 'last words'. Remove "
            "what ends the process, such as exit() or os._exit().",
        ),
        ("segfault", Status.FAILED, "Cell 1 of 1: the kernel crashed with SIGSEGV."),
        ("SIGKILL", Status.KILLED, "Cell 1 of 1: the kernel was killed with SIGKILL."),
        (
            "sys.exit",
            Status.DONE,
            "Cell 2 of 4: sys.exit(0) ended the notebook; 2 later cells did not run.",
        ),
        ("sys.exit 3", Status.FAILED, "Cell 1 of 1: SystemExit: 3."),
        (
            "endless",
            Status.TIMEOUT,
            "Cell 1 of 1: the run took longer than its 4 seconds. Its last output: 'begin'. Give "
            "it more time, or less to compute.",
        ),
        ("memory", Status.KILLED, "GB of memory; it may use 0.60. Give it more memory"),
        ("prints", Status.DONE, ""),
        (
            "removes",
            Status.DONE,
            "Cell 2 of 2: the notebook has removed the run's folder; only what came later is kept.",
        ),
        ("forks", Status.FAILED, "the kernel ended with exit code 0"),
        ("missing file", Status.FAILED, "Its working directory is the run's folder `files`; --cwd"),
        ("input", Status.FAILED, "Cell 1 of 1: StdinNotImplementedError: "),
        ("magic", Status.FAILED, "Cell 1 of 1: "),
    ],
)
def test_the_status_and_the_reason_are_right(outcome, fault, status, reason):
    state, _ = outcome(fault)

    assert (state.status, reason in state.reason) == (status, True), state


@pytest.mark.parametrize(
    ("fault", "statuses"),
    [
        ("raises", ["completed", "failed"]),
        ("exit code", ["completed", "failed"]),
        ("sys.exit", ["completed", "completed", "pending", "pending"]),
        ("endless", ["failed"]),
        ("memory", ["failed"]),
        ("removes", ["completed", "completed"]),
    ],
)
def test_cells_that_have_not_run_are_not_marked_as_completed(outcome, fault, statuses):
    _, folder = outcome(fault)

    assert cell_statuses(folder) == statuses


def test_a_limit_of_memory_is_told_from_other_ends(outcome):
    assert outcome("memory")[0].out_of_memory
    assert not outcome("SIGKILL")[0].out_of_memory
    assert outcome("memory")[0].peak_memory_bytes > 600_000_000


def test_of_much_output_the_beginning_and_the_end_are_kept(outcome):
    _, folder = outcome("prints")
    log = folder.log.read_text()
    (output,) = nbformat.read(folder.notebook, 4).cells[0].outputs

    assert MAX_LOG < len(log) < MAX_LOG + 20_000
    assert MAX_CELL_TEXT < len(output.text) < MAX_CELL_TEXT + 20_000
    for text in (log, output.text):
        assert "characters are left out here]" in text
        assert text.endswith("the end\n")


def test_no_process_survives(outcome):
    _, folder = outcome("forks")
    pids = json.loads((folder.files / "pids.json").read_text())

    assert len(pids) == 3
    assert [pid for pid in pids if Path(f"/proc/{pid}/exe").exists()] == []


def test_the_traceback_is_in_the_log(outcome):
    _, folder = outcome("raises")
    log = folder.log.read_text()

    assert "epoch 3\n" in log
    assert "ValueError: the rate\nis negative" in log
    assert "\x1b" not in log


def test_a_crash_leaves_the_message_of_the_kernel(outcome):
    _, folder = outcome("segfault")

    log = folder.kernel_log.read_text()
    assert "Segmentation fault" in log
    assert "line 1 in <module>" in log
    assert not outcome("raises")[1].kernel_log.exists()


def test_names_and_paths_may_be_in_any_script(kernels, tmp_path):
    folder = tmp_path / "Übungen {1} 日本語"
    notebook = write_notebook(folder / "Größe 100 %.ipynb", "import häfen; print('Größe', 'ñ')")
    (folder / "häfen.py").touch()
    run = read_run(notebook)

    assert execute(run, folder / "läufe").status is Status.DONE
    assert "Größe ñ" in RunFolder(folder / "läufe" / run.id).log.read_text()


def test_a_kernel_that_is_not_installed_is_named(kernels, tmp_path):
    kernelspec = {**KERNEL, "name": "ir", "language": "R"}
    notebook = write_notebook(tmp_path / "r.ipynb", "1", kernelspec=kernelspec)

    state = execute(read_run(notebook), tmp_path / "runs")

    assert state.status is Status.FAILED
    assert state.reason.startswith("Before the first cell: the kernel 'ir' is not installed.")


@pytest.fixture
def install_kernel(tmp_path, monkeypatch):
    """Install a kernel called `other`."""

    def install(*command, language):
        folder = tmp_path / "jupyter" / "kernels" / "other"
        folder.mkdir(parents=True)
        spec = {"argv": command, "display_name": "Other", "language": language}
        (folder / "kernel.json").write_text(json.dumps(spec))
        monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
        return {"name": "other", "display_name": "Other", "language": language}

    return install


def test_a_kernel_that_does_not_start_is_named_with_its_last_words(
    kernels, install_kernel, tmp_path
):
    command = [sys.executable, "-c", "import sys; sys.exit('no licence')", "{connection_file}"]
    kernelspec = install_kernel(*command, language="python")
    notebook = write_notebook(tmp_path / "other.ipynb", "1", kernelspec=kernelspec)

    state = execute(read_run(notebook), tmp_path / "runs")

    assert state.status is Status.FAILED
    assert state.reason.startswith(
        "Before the first cell: the kernel 'other' does not start: no licence."
    )


def test_a_kernel_of_another_language_is_used(kernels, install_kernel, tmp_path):
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    kernelspec = install_kernel(*command, language="R")
    cells = ["TRUE = True\nrate, last = 1, False", "print(rate, last)"]
    notebook = write_notebook(
        tmp_path / "other.ipynb", *cells[1:], parameters=cells[0], kernelspec=kernelspec
    )
    run = read_run(notebook, {"rate": 2, "last": True})

    state = execute(run, tmp_path / "runs")

    assert state.status is Status.DONE, state.reason
    assert RunFolder(tmp_path / "runs" / run.id).log.read_text() == "2 True\n"


def test_a_notebook_of_the_third_format_is_run(kernels, tmp_path):
    cells = [{"cell_type": "code", "input": "print(6 * 7)", "outputs": [], "language": "python"}]
    notebook = {"nbformat": 3, "nbformat_minor": 0, "metadata": {"name": ""}}
    path = tmp_path / "old.ipynb"
    path.write_text(json.dumps({**notebook, "worksheets": [{"cells": cells, "metadata": {}}]}))
    run = read_run(path)

    assert execute(run, tmp_path / "runs").status is Status.DONE
    assert RunFolder(tmp_path / "runs" / run.id).log.read_text() == "42\n"


def test_a_notebook_that_is_damaged_meanwhile_fails_with_a_sentence(kernels, tmp_path):
    notebook = write_notebook(tmp_path / "train.ipynb", "1")
    run = read_run(notebook)
    notebook.write_text(notebook.read_text()[:100])

    state = execute(run, tmp_path / "runs")

    assert state.status is Status.FAILED
    assert "train.ipynb is not a valid notebook" in state.reason


@pytest.fixture
def start(script, tmp_path):
    """Start `dltlab run` in a process of its own, and end it with the test."""
    started = []

    def run(notebook, *options, **popen_options):
        process = spawn(
            [script, "run", notebook, "--out", tmp_path / "runs", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            cwd=tmp_path,
            env=ENVIRONMENT,
            **popen_options,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def endless(tmp_path):
    """A notebook whose first run does not end; it writes the processes of the run to `pids`."""
    code = f"""
import os, subprocess, sys, time
if not os.path.exists({str(tmp_path / "pids")!r}):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
    with open({str(tmp_path / "writing")!r}, "w") as file:
        file.write(f"{{os.getpid()}} {{child.pid}}")
    os.rename({str(tmp_path / "writing")!r}, {str(tmp_path / "pids")!r})
    time.sleep(1000)
"""
    return write_notebook(tmp_path / "endless.ipynb", "print('first')", code)


def are_gone(pids: list[int]) -> bool:
    return not any(Path(f"/proc/{pid}/exe").exists() for pid in pids)


def test_no_kernel_survives_a_runner_that_is_killed_and_the_same_command_goes_on(
    start, endless, tmp_path
):
    runner = start(endless)
    wait_until((tmp_path / "pids").exists)
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    (folder,) = map(RunFolder, (tmp_path / "runs").glob("endless-*"))
    wait_until(lambda: folder.state().cell == 2)
    assert folder.state().status is Status.RUNNING

    runner.kill()
    runner.communicate(timeout=HANG_SECONDS)

    wait_until(lambda: are_gone(pids))
    assert folder.state().status is Status.KILLED
    assert "Run the same command again" in folder.state().reason
    again = start(endless)
    out, err = again.communicate(timeout=HANG_SECONDS)
    assert (again.returncode, "Traceback" in err) == (0, False), out + err
    assert (folder.state().status, folder.state().attempt) == (Status.DONE, 2)


def test_ctrl_c_cancels_the_run(start, endless, tmp_path):
    runner = start(endless)
    wait_until((tmp_path / "pids").exists)

    runner.send_signal(signal.SIGINT)
    _, err = runner.communicate(timeout=HANG_SECONDS)

    (folder,) = map(RunFolder, (tmp_path / "runs").glob("endless-*"))
    assert (runner.returncode, "Traceback" in err) == (130, False), err
    assert folder.state().status is Status.CANCELLED
    assert "Cell 2 of 2: Ctrl-C ended the run." in folder.state().reason
    assert are_gone([int(pid) for pid in (tmp_path / "pids").read_text().split()])


def test_runs_stop_cancels_the_run(start, endless, tmp_path, dltlab):
    runner = start(endless)
    wait_until((tmp_path / "pids").exists)

    assert dltlab("runs", "stop", "--out", tmp_path / "runs").code == 0
    runner.communicate(timeout=HANG_SECONDS)

    (folder,) = map(RunFolder, (tmp_path / "runs").glob("endless-*"))
    assert runner.returncode == 1
    assert folder.state().status is Status.CANCELLED


def test_a_full_disk_fails_the_run_with_a_sentence(start, tmp_path):
    notebook = write_notebook(tmp_path / "large.ipynb", "print(100_000 * 'x')", "1")
    run = start(
        notebook, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
    )
    run.communicate(timeout=HANG_SECONDS)

    (folder,) = map(RunFolder, (tmp_path / "runs").glob("large-*"))
    assert run.returncode == 1
    assert folder.state().status is Status.FAILED
    assert "cannot be written (File too large)" in folder.state().reason
    assert "Free some space" in folder.state().reason
    nbformat.validate(nbformat.read(folder.notebook, 4))  # an older version, not half of one


def test_a_folder_that_cannot_be_written_is_one_sentence(start, tmp_path):
    (tmp_path / "runs").touch()
    run = start(write_notebook(tmp_path / "trivial.ipynb", "1"))
    _, err = run.communicate(timeout=HANG_SECONDS)

    assert run.returncode == 2
    assert err.count("\n") == 1
    assert "cannot be written" in err


def test_a_damaged_notebook_is_one_sentence_and_nothing_starts(start, tmp_path):
    notebook = write_notebook(tmp_path / "train.ipynb", "1")
    notebook.write_text(notebook.read_text()[:100])
    run = start(notebook)
    _, err = run.communicate(timeout=HANG_SECONDS)

    assert run.returncode == 2
    assert "train.ipynb is not a valid notebook" in err
    assert not (tmp_path / "runs").exists()
    shutil.rmtree(tmp_path / "runs", ignore_errors=True)
    assert os.listdir(tmp_path) == ["train.ipynb"]
