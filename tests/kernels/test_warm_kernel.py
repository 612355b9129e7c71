"""Kernels that a zygote has forked, as a Jupyter server sees them."""

import dataclasses
import os
import signal
import subprocess

import pytest
from jupyter_client.manager import KernelManager

from dltlab.errors import Unavailable
from dltlab.kernels import list_zygotes, pool, prestart, warm_kernel
from dltlab.kernels.request import KernelRequest
from dltlab.kernels.warm_kernel import fork_kernel
from tests.deadlines import HANG_SECONDS, wait_until


@pytest.fixture
def blocked_import(runtime, monkeypatch):
    """A zygote that waits while it imports Keras: a function that lets it go on."""
    fifo = runtime.parent / "fifo"
    os.mkfifo(fifo)
    keras = runtime.parent / "libraries" / "keras" / "__init__.py"
    keras.write_text(f"open({str(fifo)!r}).read()")
    prestart(os.environ)
    return lambda: fifo.open("w").close()


def request() -> KernelRequest:
    command = KernelManager(connection_file="connection.json").format_kernel_cmd()
    request = KernelRequest.from_command(command, {"env": dict(os.environ)})
    assert request is not None
    return request


def test_without_a_zygote_there_is_no_warm_kernel(runtime):
    assert fork_kernel(request()) is None


def test_a_kernel_waits_for_a_zygote_that_is_warming_up(blocked_import, launch, monkeypatch):
    polls = []
    warming_up = pool.warming_up

    def release_after_one_poll(stem):
        polls.append(warming_up(stem))
        if len(polls) == 1:
            blocked_import()
        return polls[-1]

    monkeypatch.setattr(pool, "warming_up", release_after_one_poll)

    kernel = launch()

    assert kernel.is_warm
    assert polls[0] == list_zygotes()[0].pid
    assert list_zygotes()[0].kernels == [kernel.pid]


def test_a_kernel_starts_cold_where_the_zygote_takes_too_long(
    blocked_import, launch, monkeypatch, caplog
):
    monkeypatch.setattr(warm_kernel, "WARM_UP_WAIT_SECONDS", 0.1)

    assert not launch().is_warm

    monkeypatch.setattr(warm_kernel, "WARM_UP_WAIT_SECONDS", 2 * HANG_SECONDS)
    assert not launch().is_warm  # the second kernel does not wait for the same zygote
    assert caplog.text.count("A kernel starts cold: The zygote was not ready after 0.1 s") == 1

    blocked_import()
    wait_until(lambda: list_zygotes()[0].ready)
    assert list_zygotes()[0].kernels == []
    assert launch().is_warm


def test_a_kernel_starts_cold_at_once_where_the_zygote_dies_while_it_warms_up(
    blocked_import, launch
):
    (zygote,) = list_zygotes()
    os.kill(zygote.pid, signal.SIGKILL)

    assert not launch().is_warm


def test_a_fork_that_is_not_accepted_ends_by_itself(zygote):
    kernel = fork_kernel(request())
    assert zygote().kernels == [kernel.pid]

    del kernel

    wait_until(lambda: not zygote().kernels)


def test_a_fork_that_has_ended_cannot_be_accepted(zygote):
    kernel = fork_kernel(request())
    kernel.kill()
    kernel.wait(HANG_SECONDS)

    with pytest.raises(OSError, match="Bad file descriptor"):
        kernel.accept()


def test_a_warm_kernel_can_be_polled_and_signalled_like_a_process(zygote, launch):
    process = launch().process

    assert process.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=0.01)
    process.terminate()

    assert process.wait(timeout=HANG_SECONDS) == -signal.SIGTERM
    process.kill()  # it has ended: nothing happens
    assert process.poll() == -signal.SIGTERM


@pytest.mark.parametrize("kind", ["file", "descriptor", "null"])
def test_output_goes_to_the_streams_of_the_request(zygote, launch, tmp_path, kind):
    with (tmp_path / "output").open("w") as file:
        stream = {"file": file, "descriptor": file.fileno(), "null": subprocess.DEVNULL}[kind]
        kernel = launch(stdout=stream, extra_arguments=["--IPKernelApp.capture_fd_output=False"])
        kernel.run("import os; os.write(1, b'raw')")

    assert kernel.is_warm
    assert (tmp_path / "output").read_text() == ("" if kind == "null" else "raw")


def test_a_fork_reports_why_it_cannot_become_a_kernel(zygote):
    impossible = dataclasses.replace(request(), message={**request().message, "cwd": "/missing"})

    with pytest.raises(Unavailable, match="FileNotFoundError"):
        fork_kernel(impossible)

    wait_until(lambda: not zygote().kernels)
