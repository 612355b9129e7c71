import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from dltlab.distribute.launching_channel import MAX_LINE_BYTES, Channel, WrongToken
from dltlab.errors import Damaged

TOKEN = "a secret of the job"


Pair = tuple[Channel, Channel]


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    server, client = socket.socketpair()
    with server, client:
        yield server, client


@pytest.fixture
def connect(sockets) -> Callable[..., Pair]:
    """Return the channels of the server and of the client."""

    def make(client_token: str = TOKEN) -> Pair:
        channels: list[Channel] = []
        thread = threading.Thread(
            target=lambda: channels.append(Channel(sockets[0], TOKEN, server=True))
        )
        thread.start()
        client = Channel(sockets[1], client_token, server=False)
        thread.join()
        return channels[0], client

    return make


def test_messages_arrive_in_order_in_both_directions(connect):
    server, client = connect()
    messages = [{"number": number, "text": "ü\n" * number} for number in range(5)]
    for message in messages:
        server.send(message)
        client.send(message)

    assert [client.receive() for _ in messages] == messages
    assert [server.receive() for _ in messages] == messages


def test_what_was_sent_before_the_end_is_read(connect):
    server, client = connect()
    server.send({"last": True})
    server.finish()

    assert client.receive() == {"last": True}
    assert client.receive() is None
    client.send({"still": "open"})
    assert server.receive() == {"still": "open"}
    client.close()
    assert server.receive() is None


def test_another_token_is_noticed(connect):
    server, client = connect("another secret")
    client.send({})

    with pytest.raises(WrongToken):
        server.receive()


def test_a_message_without_its_signature_is_refused(connect, sockets):
    server, client = connect()
    client.send({"x": 1})
    sockets[1].sendall(b"0" * 64 + b'{"x": 2}\n')

    assert server.receive() == {"x": 1}
    with pytest.raises(WrongToken):
        server.receive()


def test_equal_messages_have_different_signatures(sockets):
    own, other = sockets
    lines: list[bytes] = []
    thread = threading.Thread(target=lambda: lines.append(other.recv(100)))
    other.sendall(b"0" * 64 + b"\n")
    thread.start()
    client = Channel(own, TOKEN, server=False)
    thread.join()
    client.send({"x": 1})
    message = other.recv(1000)

    assert message.endswith(b'{"x": 1}\n')
    client.send({"x": 1})
    assert other.recv(1000) != message


def test_a_message_that_is_too_long_is_refused(connect, sockets):
    server, _ = connect()

    def send() -> None:
        with suppress(OSError):
            sockets[1].sendall(b"x" * (2 * MAX_LINE_BYTES))

    thread = threading.Thread(target=send)
    thread.start()

    with pytest.raises(Damaged, match="too long"):
        server.receive()
    server.close()
    thread.join()


@pytest.mark.parametrize("greeting", [b"HTTP/1.1 400 Bad Request\r\n", b"", b"-" * 64 + b"\n"])
def test_another_program_is_noticed(sockets, greeting):
    own, other = sockets
    other.sendall(greeting)
    other.shutdown(socket.SHUT_WR)

    with pytest.raises(Damaged, match="not a launcher"):
        Channel(own, TOKEN, server=False)


def test_a_connection_to_itself_is_none(sockets):
    own, other = sockets
    thread = threading.Thread(target=lambda: other.sendall(other.recv(100)))
    thread.start()

    with pytest.raises(ConnectionRefusedError):
        Channel(own, TOKEN, server=False)
    thread.join()


def test_silence_is_an_error(connect):
    server, _ = connect()
    server.set_timeout(0.01)

    with pytest.raises(TimeoutError):
        server.receive()
