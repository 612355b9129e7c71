"""Messages between a Jupyter server and a zygote: JSON and file descriptors on a Unix socket.

Both ends check to whom the other one belongs.
"""

import json
import os
import socket
import struct
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dltlab.errors import Unavailable

_MAX_MESSAGE_BYTES = 1 << 20  # an environment takes a few thousand bytes
_MAX_DESCRIPTORS = 3

Message = dict[str, Any]


def listen(path: Path) -> socket.socket:
    """Return a listening socket at `path` that only this user can reach."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with short_address(path) as address:
        listener.bind(address)
    path.chmod(0o600)
    listener.listen(128)
    return listener


def connect(path: Path, timeout: float, owner: int | None = None) -> socket.socket:
    """Connect to the process that listens at `path`.

    Args:
        path: Of the socket.
        timeout: Seconds for the connection, and for each message on it.
        owner: The user ID of that process; this user's by default.

    Raises:
        Unavailable: The listener belongs to another user.
        OSError: No process listens there, or it does not answer within `timeout` seconds.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        connection.settimeout(timeout)
        with short_address(path) as address:
            connection.connect(address)
        if peer_user(connection) != (os.geteuid() if owner is None else owner):
            raise Unavailable(f"The socket {path} belongs to another user.")
    except BaseException:
        connection.close()
        raise
    return connection


def peer_user(connection: socket.socket) -> int:
    """Return the user ID of the process at the other end."""
    credentials = struct.Struct("3i")
    packed = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, credentials.size)
    return int(credentials.unpack(packed)[1])


def send(
    connection: socket.socket, message: Message, descriptors: Sequence[int] = (), flags: int = 0
) -> None:
    """Send `message` with copies of the file descriptors."""
    copies = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", descriptors))
    # `socket.send_fds` ignores the flags.
    connection.sendmsg([json.dumps(message).encode()], [copies] if descriptors else [], flags)


def receive(connection: socket.socket) -> tuple[Message, list[int]]:
    """Return the next message and the file descriptors that came with it.

    Raises:
        EOFError: The other end has closed the connection.
        OSError: No message came within the connection's timeout.
    """
    data, descriptors, _, _ = socket.recv_fds(connection, _MAX_MESSAGE_BYTES, _MAX_DESCRIPTORS)
    if not data:
        raise EOFError("the other end has closed the connection")
    return json.loads(data), descriptors


@contextmanager
def short_address(path: Path) -> Iterator[str]:
    """Yield a name for `path` that fits into the 107 bytes of a Unix socket's address."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
