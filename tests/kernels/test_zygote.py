"""A zygote as a process: what its kernels get, and what it reports."""

import os
import signal
from pathlib import Path

from tests.deadlines import HANG_SECONDS, wait_until


def test_a_kernel_takes_the_variables_of_its_own_start(zygote, launch):
    kernel = launch(variables={"COURSE": "mine", "TZ": "Asia/Kathmandu"})

    kernel.run("import os, time")

    assert kernel.evaluate("(os.environ['COURSE'], time.tzname[0])") == ("mine", "+0545")


def test_a_zygote_reports_its_kernels(zygote, launch):
    kernels = [launch(), launch()]

    assert zygote().kernels == [kernel.pid for kernel in kernels]

    for kernel in kernels:
        kernel.shut_down()
    wait_until(lambda: not zygote().kernels)


def test_the_exit_code_of_a_kernel_reaches_the_server(zygote, launch):
    kernel = launch()

    os.kill(kernel.pid, signal.SIGKILL)

    assert kernel.process.wait(timeout=HANG_SECONDS) == -signal.SIGKILL
    wait_until(lambda: not zygote().kernels)


def test_a_zygote_holds_no_variable_that_libraries_do_not_read(zygote):
    environment = Path(f"/proc/{zygote().pid}/environ").read_text().split("\0")

    names = {entry.partition("=")[0] for entry in environment if entry}
    assert "PYTHONPATH" in names
    assert not names & {"XDG_RUNTIME_DIR", "DLTLAB_PROGRESS", "PYTEST_CURRENT_TEST"}
