import os
import signal
import sys
import threading

import numpy as np
import psutil
import pytest

from dltlab.exercises.answers import AnswerRaised, NotYet, guard
from dltlab.exercises.isolated import MAX_MB, run_here, run_isolated
from tests.deadlines import HANG_SECONDS

LIMITS = {"seconds": HANG_SECONDS, "memory_gb": 4}


def call(answer):
    return {"value": guard(answer)()}


def run(answer, **limits):
    return run_isolated(call, answer, **(LIMITS | limits))["value"]


def test_an_answer_runs_in_another_process_and_may_use_what_the_notebook_defines():
    scale = 3

    def helper():
        return scale * os.getpid()

    value = run(lambda: helper())

    assert value % scale == 0
    assert value // scale != os.getpid()


def test_an_answer_may_use_modules_that_are_imported_lazily():
    from dltlab import data, inference

    assert len(run(lambda: [data.info("digits").splits["test"].size, len(inference.BACKENDS)])) == 2


def test_its_folders_are_empty_and_gone_afterwards(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for runner in (lambda answer: run(answer), lambda answer: run_here(call, answer)["value"]):
        folder = str(
            runner(lambda: [os.getcwd(), *(os.environ[f"DLTLAB_{n}_DIR"] for n in ("DATA",))])[0]
        )

        assert folder != str(tmp_path)
        assert not os.path.exists(folder)
    assert os.getcwd() == str(tmp_path)


def test_what_the_answer_raises_or_is_rejected_for_reaches_the_caller():
    def fails():
        return int("missing")

    with pytest.raises(AnswerRaised, match=r"Line 2 of your function .*ValueError"):
        run(fails)
    with pytest.raises(NotYet, match="returns nothing"):
        run(lambda: None)


@pytest.mark.parametrize("new_session", [False, True])
def test_an_answer_that_takes_too_long_is_killed_with_what_it_started(tmp_path, new_session):
    def hangs():
        import subprocess
        import time

        child = subprocess.Popen(["sleep", "1000"], start_new_session=new_session)
        (tmp_path / "pid").write_text(str(child.pid))
        time.sleep(1000)

    with pytest.raises(NotYet, match="took longer than 3 s"):
        run(hangs, seconds=3)

    pid = int((tmp_path / "pid").read_text())
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_an_answer_that_needs_too_much_memory_says_so():
    with pytest.raises((NotYet, AnswerRaised), match=r"[Mm]emory"):
        run(lambda: np.ones(10**9), memory_gb=1)


def test_an_answer_that_ends_its_process_says_so():
    with pytest.raises(NotYet, match="exit code -9 and no result"):
        run(lambda: os.kill(os.getpid(), signal.SIGKILL))


def test_what_cannot_be_sent_is_named():
    lock = threading.Lock()
    large = np.zeros((MAX_MB + 1, 1_000_000), np.uint8)

    with pytest.raises(NotYet, match=r"cannot be sent to another process .*lock"):
        run(lambda: lock)
    with pytest.raises(NotYet, match="51 MB of the notebook's objects"):
        run(lambda: large)


def test_objects_are_never_unpickled_in_the_callers_process():
    with pytest.raises(NotYet, match="not made of numbers"):
        run(lambda: np.array([object()], dtype=object))


def link_to_a_secret() -> None:
    os.symlink("/etc/hostname", "rejected.json")


def pipe() -> None:
    os.mkfifo("arrays.npz")


def folder() -> None:
    os.mkdir("arrays.npz")


def garbage() -> None:
    with open("arrays.npz", "wb") as file:
        file.write(b"PK\x03\x04 and so on")


def other_json() -> None:
    with open("rejected.json", "w") as file:
        file.write("[]")


@pytest.mark.parametrize("leave", [link_to_a_secret, pipe, folder, garbage, other_json])
def test_whatever_an_answer_leaves_as_its_result_is_read_safely(leave):
    def answer():
        os.chdir(sys.argv[1])  # where its caller looks for the result
        leave()
        os.execvp("true", ["true"])  # it ends, and writes no result over that one

    with pytest.raises(NotYet, match="not made of numbers"):
        run(answer)


def test_an_answer_can_run_as_another_account_in_a_folder_of_its_own(namespace):
    code = """
import os, pwd
import numpy as np
from dltlab.exercises.isolated import run_as, run_isolated

def answer():
    open("mine", "w").close()
    return {"ids": np.array([os.getuid(), os.getgid(), *os.getgroups()])}

nobody = pwd.getpwnam("nobody")
with run_as(nobody):
    ids = run_isolated(answer, seconds=100, memory_gb=4)["ids"].tolist()
assert ids == [nobody.pw_uid, nobody.pw_gid], ids
print(run_isolated(answer, seconds=100, memory_gb=4)["ids"][0])
"""
    assert namespace.python(code) == "0"
