"""Messages on a Unix socket."""

import os
import socket
import stat
from contextlib import closing

import pytest

from dltlab.errors import Unavailable
from dltlab.kernels import protocol


@pytest.fixture
def listener(tmp_path):
    with protocol.listen(tmp_path / "socket") as listener:
        yield listener


@pytest.fixture
def ends(tmp_path, listener):
    """Both ends of a connection."""
    with protocol.connect(tmp_path / "socket", 0.1) as client:
        server, _ = listener.accept()
        with server:
            yield client, server


def test_a_message_arrives_with_file_descriptors(ends, tmp_path):
    client, server = ends
    with (tmp_path / "file").open("w") as file:
        protocol.send(client, {"ask": "kernel"}, [file.fileno()])

        message, (descriptor,) = protocol.receive(server)

        with closing(os.fdopen(descriptor, "w")) as copy:
            copy.write("written by the other end")
    assert message == {"ask": "kernel"}
    assert (tmp_path / "file").read_text() == "written by the other end"


def test_a_closed_connection_is_reported(ends):
    client, server = ends
    server.close()

    with pytest.raises(EOFError):
        protocol.receive(client)


def test_waiting_for_a_message_ends_after_the_timeout(ends):
    with pytest.raises(TimeoutError):
        protocol.receive(ends[0])


def test_both_ends_know_the_user_of_the_other_one(ends):
    assert [protocol.peer_user(end) for end in ends] == [os.geteuid()] * 2


def test_the_socket_of_another_user_is_refused(tmp_path, listener, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 12345)

    with pytest.raises(Unavailable, match="belongs to another user"):
        protocol.connect(tmp_path / "socket", 0.1)


def test_only_the_user_can_reach_the_socket(tmp_path, listener):
    assert stat.S_IMODE((tmp_path / "socket").stat().st_mode) == 0o600


def test_a_path_that_is_longer_than_a_sockets_address_works(tmp_path):
    folder = tmp_path / ("long" * 50)
    folder.mkdir()
    with protocol.listen(folder / "socket"), protocol.connect(folder / "socket", 0.1) as client:
        assert client.family == socket.AF_UNIX
