"""Messages between launchers: JSON in lines, each signed with a key that comes of the job's token.

At the start both sides send a random number, so that a recorded conversation is of no use later.
A line has a limited length, and nothing in it is executed or unpickled.
"""

import hashlib
import hmac
import json
import secrets
import socket
import threading
from typing import Any

from dltlab.errors import Damaged, Unavailable

MAX_LINE_BYTES = 1 << 20
_NONCE_BYTES = 32
_DIGEST_CHARACTERS = 64


class WrongToken(Unavailable):
    """The other side has another token."""


class Channel:
    """A connection to another launcher.

    Args:
        connection: A connected socket; its time-out is the longest silence.
        token: The secret of the job.
        server: Whether this side has accepted the connection.

    Raises:
        Damaged: The other side is no launcher.
        OSError: The connection is lost, or the other side is silent.
    """

    def __init__(self, connection: socket.socket, token: str, *, server: bool) -> None:
        self._connection = connection
        self._received = b""
        self._lock = threading.Lock()
        self._num_sent = self._num_read = 0
        own = secrets.token_hex(_NONCE_BYTES).encode()
        connection.sendall(own + b"\n")
        other = self._read_line()
        if len(other) != len(own) or not other.isalnum():
            raise Damaged("The other side of the connection is not a launcher of dltlab.")
        if other == own:  # Linux may connect a socket to itself where nobody listens
            raise ConnectionRefusedError("The connection leads back to this launcher.")
        nonces = own + other if server else other + own
        self._key = hmac.digest(token.encode(), nonces, "sha256")
        self._direction = b"01" if server else b"10"  # of what is sent, of what is read

    def send(self, message: dict[str, Any]) -> None:
        """Send a message.

        Raises:
            OSError: The connection is lost.
        """
        body = json.dumps(message).encode()
        with self._lock:
            signature = self._sign(self._direction[:1], self._num_sent, body)
            self._num_sent += 1
            self._connection.sendall(signature + body + b"\n")

    def receive(self) -> dict[str, Any] | None:
        """Return the next message, or None at the end of the connection.

        Raises:
            WrongToken: The message is not signed with the token of this job.
            Damaged: The message is too long or no JSON object.
            OSError: The connection is lost, or the other side has been silent for too long.
        """
        line = self._read_line()
        if not line:
            return None
        signature, body = line[:_DIGEST_CHARACTERS], line[_DIGEST_CHARACTERS:]
        expected = self._sign(self._direction[1:], self._num_read, body)
        if not hmac.compare_digest(signature, expected):
            raise WrongToken("The other side has another DLTLAB_JOB_TOKEN.")
        self._num_read += 1
        message = json.loads(body)
        if not isinstance(message, dict):
            raise Damaged("A message between launchers is not a JSON object.")
        return message

    def set_timeout(self, seconds: float | None) -> None:
        """Set the longest silence of the other side."""
        self._connection.settimeout(seconds)

    def finish(self) -> None:
        """Say that nothing will be sent any more; the other side can still read what was sent."""
        with self._lock:
            try:
                self._connection.shutdown(socket.SHUT_WR)
            except OSError:
                self._connection.close()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _sign(self, direction: bytes, number: int, body: bytes) -> bytes:
        content = direction + str(number).encode() + b":" + body
        return hmac.new(self._key, content, hashlib.sha256).hexdigest().encode()

    def _read_line(self) -> bytes:
        """Return the next line, or what there is of it at the end of the connection."""
        searched = 0
        while (end := self._received.find(b"\n", searched)) < 0:
            searched = len(self._received)
            if searched > MAX_LINE_BYTES:
                raise Damaged("A message between launchers is too long.")
            chunk = self._connection.recv(1 << 16)
            if not chunk:
                line, self._received = self._received, b""
                return line
            self._received += chunk
        line, self._received = self._received[:end], self._received[end + 1 :]
        return line
