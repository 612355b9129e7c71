"""Collectives over TCP for workers that are connected in a ring: `SocketRing`."""

import contextlib
import hashlib
import hmac
import itertools
import json
import queue
import selectors
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import numpy as np

from dltlab.errors import Unavailable, WorkerLost

_INLINE_BYTES = 1 << 14  # the buffers of a connection hold so much, so sending does not block
_CHUNK_BYTES = 1 << 18  # is still in the cache when it is added
_BEAT_SECONDS = 1.0
_HELLO = struct.Struct("!32sBI")  # digest of the token, kind of connection, rank
_DATA, _CONTROL = 0, 1
_HELLO_SECONDS = 5.0
_MAX_LINE = 4096
_BYE = "bye"

Address = tuple[str, int]


class SocketRing:
    """Sums and gathers arrays of all workers of a job.

    Each worker is connected to the next one by two connections: one for data, and one over which
    both say every second that they are there, so that a worker that has ended, was stopped or
    cannot be reached is noticed. All workers must call the same methods in the same order, with
    arrays of the same shape and dtype. An array is reduced in two rounds of `size` - 1 steps, in
    which a worker sends 2 (size - 1) / size of its bytes: the least possible (Patarasu and Yuan,
    2009).

    Args:
        rank: The number of this worker, from 0.
        size: The number of workers.
        exchange: Called once with the address at which this worker listens; returns those of all
            workers, in the order of their ranks.
        token: A secret that the workers share; connections without it are refused.
        host: The address of this host for the others.
        timeout: Seconds to wait for the neighbors at the start.
        patience: Seconds without a sign of life after which a worker counts as lost.

    Attributes:
        rank: The number of this worker.
        size: The number of workers.
        host: The address of this host for the others.
        patience: Seconds without a sign of life after which a worker counts as lost.

    Raises:
        Unavailable: A neighbor does not come in time.
    """

    def __init__(
        self,
        rank: int,
        size: int,
        exchange: Callable[[Address], Sequence[Address]],
        token: str,
        *,
        host: str = "127.0.0.1",
        timeout: float = 60.0,
        patience: float = 20.0,
    ) -> None:
        self.rank, self.size = rank, size
        self.host, self.patience = host, patience
        self._failure = ""
        self._ended = threading.Event()
        self._callbacks: list[Callable[[str], None]] = []
        if size == 1:
            return
        key = hashlib.sha256(token.encode()).digest()
        deadline = monotonic() + timeout
        next_rank, previous_rank = (rank + 1) % size, (rank - 1) % size
        with contextlib.ExitStack() as stack, socket.create_server((host, 0)) as listener:
            addresses = exchange((host, listener.getsockname()[1]))
            self._next, next_control = (
                stack.enter_context(
                    _connect(addresses[next_rank], _HELLO.pack(key, kind, rank), deadline)
                )
                for kind in (_DATA, _CONTROL)
            )
            self._previous, previous_control = (
                stack.enter_context(
                    _accept(listener, _HELLO.pack(key, kind, previous_rank), deadline)
                )
                for kind in (_DATA, _CONTROL)
            )
            self._connections = stack.pop_all()
        self._outgoing: queue.SimpleQueue[memoryview | None] = queue.SimpleQueue()
        self._sent: queue.SimpleQueue[OSError | None] = queue.SimpleQueue()
        self._neighbors = [
            _Neighbor(next_rank, next_control),
            _Neighbor(previous_rank, previous_control),
        ]
        self._closing = threading.Event()
        threading.Thread(target=self._send_queued, name="ring sender", daemon=True).start()
        self._monitor = threading.Thread(target=self._watch, name="ring monitor", daemon=True)
        self._monitor.start()

    def all_reduce(self, array: np.ndarray) -> None:
        """Replace an array, one-dimensional and contiguous, by the sum of those of all workers.

        The sum is the same on every worker, to the bit.

        Raises:
            WorkerLost: A worker was lost; the message names it.
        """
        cuts = [index * len(array) // self.size for index in range(self.size + 1)]
        pieces = [array[start:stop] for start, stop in itertools.pairwise(cuts)]
        spare = np.empty(_CHUNK_BYTES // array.itemsize, array.dtype)
        for step in range(self.size - 1):
            with self._sending(pieces[(self.rank - step) % self.size]):
                self._receive_and_add(pieces[(self.rank - step - 1) % self.size], spare)
        for step in range(self.size - 1):
            with self._sending(pieces[(self.rank - step + 1) % self.size]):
                self._receive(pieces[(self.rank - step) % self.size])

    def all_gather(self, array: np.ndarray) -> list[np.ndarray]:
        """Return the one-dimensional arrays of all workers, in the order of their ranks.

        They may differ in length.

        Raises:
            WorkerLost: A worker was lost; the message names it.
        """
        arrays = [np.ascontiguousarray(array)]
        for _ in range(self.size - 1):
            with self._sending(np.array([len(arrays[-1])], np.int64)):
                length = np.empty(1, np.int64)
                self._receive(length)
            with self._sending(arrays[-1]):
                received = np.empty(length[0], array.dtype)
                self._receive(received)
            arrays.append(received)
        return [arrays[(self.rank - rank) % self.size] for rank in range(self.size)]

    def exchange(self, value: Any) -> list[Any]:
        """Return the values of all workers, JSON, in the order of their ranks.

        Raises:
            WorkerLost: A worker was lost; the message names it.
        """
        text = np.frombuffer(json.dumps(value).encode(), np.uint8)
        return [json.loads(part.tobytes()) for part in self.all_gather(text)]

    def call_when_lost(self, function: Callable[[str], None]) -> None:
        """Call a function, in a thread, with the sentence about the first loss of a worker."""
        self._callbacks.append(function)

    @property
    def has_ended(self) -> bool:
        """Whether a worker was lost, or a neighbor has left the ring."""
        return self._ended.is_set()

    def wait_for_loss(self, seconds: float) -> None:
        """Wait until a worker is lost or has left the ring, but no longer than some seconds."""
        self._ended.wait(seconds)

    def close(self) -> None:
        """Leave the ring; the others may go on, but not reduce any more."""
        if self.size > 1 and not self._closing.is_set():
            self._closing.set()
            self._outgoing.put(None)
            self._monitor.join()
            self._connections.close()

    @contextlib.contextmanager
    def _sending(self, piece: np.ndarray) -> Iterator[None]:
        """Send `piece` to the next worker; its memory is free again when the block ends."""
        view = piece.view(np.uint8).data
        queued = view.nbytes > _INLINE_BYTES
        if queued:
            self._outgoing.put(view)
        else:
            self._checked(self._next.sendall, view)
        yield
        if queued and (error := self._sent.get()):
            raise self.lost() from error

    def _send_queued(self) -> None:
        while (view := self._outgoing.get()) is not None:
            try:
                self._next.sendall(view)
                self._sent.put(None)
            except OSError as error:
                self._sent.put(error)

    def _receive_and_add(self, piece: np.ndarray, spare: np.ndarray) -> None:
        for start in range(0, len(piece), len(spare)):
            part = piece[start : start + len(spare)]
            self._receive(spare[: len(part)])
            part += spare[: len(part)]

    def _receive(self, array: np.ndarray) -> None:
        view = array.view(np.uint8).data
        while view.nbytes:
            count = self._checked(self._previous.recv_into, view)
            if not count:
                raise self.lost()
            view = view[count:]

    def _checked(self, call: Callable[[memoryview], int | None], view: memoryview) -> int:
        try:
            return call(view) or 0
        except OSError as error:
            raise self.lost() from error

    def lost(self) -> WorkerLost:
        """Return the error of a broken connection, once the monitor knows whose fault it is."""
        self._ended.wait(self.patience)
        left = next((neighbor.rank for neighbor in self._neighbors if neighbor.has_left), None)
        if left is not None and not self._failure:
            self._failure = (
                f"Worker {left} has finished, but worker {self.rank} has not: let all workers make "
                "the same number of steps."
            )
        return WorkerLost(self._failure or "The connection to another worker broke.")

    @property
    def failure(self) -> str:
        """Why the ring is broken; empty while it is not."""
        return self._failure

    def _watch(self) -> None:
        """Tell the neighbors every second that this worker is there, and hear the same of them."""
        next_beat = monotonic()
        with selectors.DefaultSelector() as selector:
            for neighbor in self._neighbors:
                neighbor.connection.setblocking(False)
                selector.register(neighbor.connection, selectors.EVENT_READ, neighbor)
            while not self._failure and not self._closing.is_set():
                if monotonic() >= next_beat:
                    self._tell("")
                    next_beat = monotonic() + _BEAT_SECONDS
                for key, _ in selector.select(_BEAT_SECONDS / 4):
                    self._hear(key.data)
                    if key.data.has_left:
                        selector.unregister(key.fileobj)
                self._check_silence()
        self._tell(self._failure or _BYE)
        if self._failure:
            self._ended.set()
            for connection in (self._next, self._previous):
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)  # wakes who waits for it
            for function in self._callbacks:
                function(self._failure)

    def _tell(self, line: str) -> None:
        for neighbor in self._neighbors:
            with contextlib.suppress(OSError):
                neighbor.connection.send(line.encode() + b"\n")

    def _hear(self, neighbor: "_Neighbor") -> None:
        try:
            received = neighbor.connection.recv(_MAX_LINE)
        except BlockingIOError:
            return
        except OSError:
            received = b""
        if not received:
            self._failure = self._failure or f"Worker {neighbor.rank} has ended."
        *lines, neighbor.unread = (neighbor.unread + received).split(b"\n")
        neighbor.last_heard = monotonic()
        for line in filter(None, lines):
            if line == _BYE.encode():
                neighbor.has_left = True
                self._ended.set()
                continue
            self._failure = self._failure or line.decode(errors="replace")

    def _check_silence(self) -> None:
        for neighbor in self._neighbors:
            seconds = monotonic() - neighbor.last_heard
            if seconds > self.patience and not neighbor.has_left:
                self._failure = self._failure or (
                    f"Worker {neighbor.rank} has not answered for {self.patience:g} s: it was "
                    "stopped, or its host cannot be reached."
                )


@dataclass
class _Neighbor:
    rank: int
    connection: socket.socket
    last_heard: float = field(default_factory=monotonic)
    unread: bytes = b""
    has_left: bool = False


def _connect(address: Address, hello: bytes, deadline: float) -> socket.socket:
    """Connect to the next worker, which listens already."""
    try:
        connection = socket.create_connection(address, max(0.01, deadline - monotonic()))
    except OSError as error:
        raise Unavailable(
            f"No worker can be reached at {address[0]}:{address[1]}: {error}"
        ) from error
    connection.settimeout(None)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(hello)
    return connection


def _accept(listener: socket.socket, hello: bytes, deadline: float) -> socket.socket:
    """Return the connection that begins with `hello`; others before it are closed."""
    while True:
        listener.settimeout(max(0.01, deadline - monotonic()))
        try:
            connection, _ = listener.accept()
        except TimeoutError:
            _, _, rank = _HELLO.unpack(hello)
            raise Unavailable(f"Worker {rank} did not connect in time.") from None
        if hmac.compare_digest(_read_hello(connection), hello):
            connection.settimeout(None)
            return connection
        connection.close()


def _read_hello(connection: socket.socket) -> bytes:
    """Return the first bytes of a connection, fewer if it ends or stalls."""
    connection.settimeout(_HELLO_SECONDS)
    received = b""
    with contextlib.suppress(OSError):
        while part := connection.recv(_HELLO.size - len(received)):
            received += part
    return received
