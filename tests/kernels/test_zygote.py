"""A zygote: what it answers, what its kernels get, and when it ends."""

import os
import signal
import socket
from contextlib import suppress
from pathlib import Path
from threading import Thread

import pytest

from dltlab.kernels import protocol
from dltlab.kernels.pool import FILE_SUFFIXES
from dltlab.kernels.preload import Preloaded
from dltlab.kernels.zygote import Zygote
from tests.deadlines import HANG_SECONDS, wait_until


@pytest.fixture
def served(tmp_path):
    """A zygote that serves in a thread of the tests' process: the path of its socket."""
    stem = tmp_path / "zygote"
    for suffix in FILE_SUFFIXES:
        stem.with_suffix(suffix).touch()
    zygote = Zygote(stem, 1000, Preloaded({}, ()))
    thread = Thread(target=zygote.serve, daemon=True)
    thread.start()
    yield stem.with_suffix(".socket")
    if thread.is_alive() and stem.with_suffix(".socket").exists():
        ask(stem.with_suffix(".socket"), {"ask": "retire"})
    thread.join(HANG_SECONDS)
    assert not thread.is_alive()


def ask(path: Path, message: protocol.Message) -> protocol.Message:
    with protocol.connect(path, HANG_SECONDS) as connection:
        protocol.send(connection, message)
        return protocol.receive(connection)[0]


def test_a_zygote_reports_its_state(served):
    state = ask(served, {"ask": "status"})

    assert (state["pid"], state["kernels"], state["retired"]) == (os.getpid(), [], False)


def test_a_retired_zygote_without_kernels_ends_and_removes_its_files(served):
    assert ask(served, {"ask": "retire"})["retired"]

    wait_until(lambda: list(served.parent.iterdir()) == [])


@pytest.mark.parametrize("request_bytes", [b"{}", b"nonsense", b""])
def test_a_malformed_request_is_not_answered_and_the_next_one_is(served, request_bytes, capfd):
    with protocol.connect(served, HANG_SECONDS) as connection:
        if request_bytes:
            connection.send(request_bytes)
        else:
            connection.shutdown(socket.SHUT_WR)
        with pytest.raises((EOFError, ConnectionResetError)):
            protocol.receive(connection)

    assert not ask(served, {"ask": "status"})["retired"]
    assert "not answered" in capfd.readouterr().err


def test_a_request_of_another_user_is_not_answered(served, monkeypatch, capfd):
    client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    client.settimeout(HANG_SECONDS)
    with monkeypatch.context() as patch, client, protocol.short_address(served) as address:
        patch.setattr(protocol, "peer_user", lambda connection: 12345)
        client.connect(address)
        with suppress(BrokenPipeError):  # the zygote may close before the request is sent
            protocol.send(client, {"ask": "retire"})
        with pytest.raises((EOFError, ConnectionResetError)):
            protocol.receive(client)

    assert not ask(served, {"ask": "status"})["retired"]
    assert "the request of another user" in capfd.readouterr().err


def test_a_zygote_that_cannot_fork_safely_refuses_and_ends(served, tmp_path):
    with (
        (tmp_path / "stream").open("w") as file,
        protocol.connect(served, HANG_SECONDS) as connection,
    ):
        protocol.send(connection, {"ask": "kernel"}, [file.fileno()] * 3)

        answer = protocol.receive(connection)[0]

    assert "the zygote cannot fork: it runs more than one thread" in answer["refused"]
    wait_until(lambda: not served.exists())


def test_an_idle_zygote_ends(tmp_path):
    zygote = Zygote(tmp_path / "zygote", 0, Preloaded({}, ()))

    assert zygote.serve() is None

    assert list(tmp_path.iterdir()) == []


def test_a_kernel_takes_the_variables_of_its_own_start(zygote, launch):
    kernel = launch(variables={"COURSE": "mine", "TZ": "Asia/Kathmandu"})

    kernel.run("import os, time")

    assert kernel.evaluate("(os.environ['COURSE'], time.tzname[0])") == ("mine", "+0545")


def test_a_zygote_lists_its_kernels(zygote, launch):
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
