"""Messages between a Jupyter server and a zygote: JSON and file descriptors on a Unix socket.

Both ends see to it that the other belongs to the same user.
"""

import json
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_LARGEST = 1 << 20  # bytes in a message; an environment takes a few thousand
_MOST_DESCRIPTORS = 3

Message = dict[str, Any]


class Refused(Exception):
    """No warm kernel, and the reason."""


def listen(path: Path) -> socket.socket:
    """A socket at `path` that only this user can reach."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with _short(path) as address:
        listener.bind(address)
    path.chmod(0o600)
    listener.listen(128)
    return listener


def connect(path: Path, timeout: float) -> socket.socket:
    """A connection to whoever of this user listens at `path`.

    Raises:
        Refused: Somebody else does.
        OSError: Nobody does, or not within `timeout` seconds.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        connection.settimeout(timeout)
        with _short(path) as address:
            connection.connect(address)
        if user(connection) != os.geteuid():
            raise Refused(f"{path} belongs to another user")
    except BaseException:
        connection.close()
        raise
    return connection


def user(connection: socket.socket) -> int:
    """The user at the other end."""
    credentials = struct.Struct("3i")
    packed = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, credentials.size)
    return int(credentials.unpack(packed)[1])


def send(connection: socket.socket, message: Message, descriptors: Sequence[int] = ()) -> None:
    """Send `message`, and copies of `descriptors` with it."""
    socket.send_fds(connection, [json.dumps(message).encode()], list(descriptors))


def receive(connection: socket.socket) -> tuple[Message, list[int]]:
    """The next message and the descriptors that came with it.

    Raises:
        EOFError: The other end has closed.
        OSError: Nothing came in time.
    """
    data, descriptors, _, _ = socket.recv_fds(connection, _LARGEST, _MOST_DESCRIPTORS)
    if not data:
        raise EOFError("the other end has closed")
    return json.loads(data), descriptors


@contextmanager
def _short(path: Path) -> Iterator[str]:
    """A name for `path` that fits the 107 bytes of a socket's address."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
