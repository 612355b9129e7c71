"""A kernel that a zygote has forked, as a Jupyter server sees it."""

import os
import select
import signal
import subprocess
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from socket import socket
from threading import Event
from typing import Any

from dltlab.errors import LabError, Unavailable
from dltlab.kernels import pool, protocol
from dltlab.kernels.child import GO
from dltlab.kernels.request import KernelRequest
from dltlab.kernels.room import socket_of

ANSWER_SECONDS = 5.0  # for a zygote to fork
# For a zygote to import its libraries. It began before the kernel that waits for it, which would
# import the same: so waiting is faster than a cold start, unless the zygote hangs.
WARM_UP_WAIT_SECONDS = 60.0
# For the zygote of a room: many may ask at once, and cold kernels would take longer still.
ROOM_ANSWER_SECONDS = 60.0
ROOM_WAIT_SECONDS = 30.0  # for it to be started, or started again
_EXIT_CODE_SECONDS = 1.0  # for a zygote to report an exit code
_POLL_SECONDS = 0.02
_UNKNOWN_EXIT_CODE = 1  # of a kernel whose zygote has ended before it

# Zygotes that did not answer, or did not get ready, in time: by the inode of the socket, and by
# process ID. No later kernel of this server waits for them.
silent_sockets: set[int] = set()
slow_zygotes: set[int] = set()


class TooManyKernels(LabError):
    """The account has as many kernels as its room allows, cold or warm."""


class WarmKernel:
    """A forked kernel, with the part of the interface of `subprocess.Popen` that Jupyter uses."""

    stdin = stdout = stderr = None

    def __init__(self, pid: int, pidfd: int, connection: socket) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._pidfd = pidfd
        self._connection = connection
        self._last_message: protocol.Message = {}

    def accept(self) -> None:
        """Take the kernel. From now on it runs, and nothing else may start in its place.

        Raises:
            OSError: It has ended; nothing runs.
        """
        self._connection.sendall(GO)

    def wait_until_listening(self) -> None:
        """Wait until clients can connect, or the kernel has ended."""
        with suppress(OSError, EOFError):
            self._last_message = protocol.receive(self._connection)[0]

    def poll(self) -> int | None:
        """Return its exit code, or None while it runs."""
        return self._poll(0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end and return its exit code.

        Raises:
            subprocess.TimeoutExpired: It still runs after `timeout` seconds.
        """
        code = self._poll(timeout)
        if code is None:
            raise subprocess.TimeoutExpired("kernel", timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal to the kernel, and not to the other processes of its group."""
        if self.poll() is None:
            signal.pidfd_send_signal(self._pidfd, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def _poll(self, timeout: float | None) -> int | None:
        if self.returncode is None:
            poll = select.poll()
            poll.register(self._pidfd, select.POLLIN)
            if poll.poll(None if timeout is None else timeout * 1000):
                self.returncode = self._exit_code()
                self._close()
        return self.returncode

    def _exit_code(self) -> int:
        self._connection.settimeout(_EXIT_CODE_SECONDS)
        with suppress(OSError, EOFError):
            while "exit" not in self._last_message:
                self._last_message = protocol.receive(self._connection)[0]
        return int(self._last_message.get("exit", _UNKNOWN_EXIT_CODE))

    def _close(self) -> None:
        self._connection.close()
        os.close(self._pidfd)

    def __del__(self) -> None:
        if self.returncode is None:
            self._close()


def fork_kernel(request: KernelRequest) -> WarmKernel | None:
    """Have a zygote fork a kernel, which then waits for `WarmKernel.accept`.

    Wait for a zygote that is warming up, for `WARM_UP_WAIT_SECONDS` at most.

    Returns:
        None where there is no zygote.

    Raises:
        Unavailable: The zygote cannot fork, does not answer, or did not get ready in time.
        OSError, EOFError: The zygote cannot be reached, or has ended.
    """
    stem = pool.stem_of(request.key)
    path = stem.with_suffix(".socket")
    _wait_for_warm_up(stem)
    try:
        inode = path.stat().st_ino
    except FileNotFoundError:
        return None
    if inode in silent_sockets:
        return None
    try:
        return _fork(path, request, ANSWER_SECONDS, owner=os.geteuid())
    except ConnectionRefusedError as error:
        raise Unavailable("The last zygote has died.") from error
    except TimeoutError as error:
        silent_sockets.add(inode)
        raise Unavailable("The zygote does not answer.") from error


def fork_kernel_in_room(room: Path, request: KernelRequest) -> WarmKernel:
    """Have the zygote of a room fork a kernel, which then waits for `WarmKernel.accept`.

    Wait `ROOM_WAIT_SECONDS` at most for a zygote.

    Raises:
        Unavailable: There is no zygote, or it cannot fork this kernel.
        TooManyKernels: The account has too many kernels.
        OSError, EOFError: The zygote does not answer, or has ended.
    """
    path = socket_of(room, os.geteuid())
    end = time.monotonic() + ROOM_WAIT_SECONDS
    while True:
        try:
            return _fork(path, request, ROOM_ANSWER_SECONDS, owner=0)
        except (FileNotFoundError, ConnectionRefusedError) as error:
            if time.monotonic() >= end:
                raise Unavailable("The zygote of the room does not run.") from error
        Event().wait(_POLL_SECONDS)


def _wait_for_warm_up(stem: Path) -> None:
    end = time.monotonic() + WARM_UP_WAIT_SECONDS
    while (pid := pool.warming_up(stem)) and pid not in slow_zygotes:
        if time.monotonic() >= end:
            slow_zygotes.add(pid)
            raise Unavailable(f"The zygote was not ready after {WARM_UP_WAIT_SECONDS:g} seconds.")
        Event().wait(_POLL_SECONDS)


def _fork(path: Path, request: KernelRequest, timeout: float, owner: int) -> WarmKernel:
    with ExitStack() as on_failure, ExitStack() as sent:
        connection = on_failure.enter_context(protocol.connect(path, timeout, owner))
        descriptors = [os.pidfd_open(os.getpid())]
        sent.callback(os.close, descriptors[0])
        for number, stream in enumerate(request.streams, start=1):
            descriptor = _open_stream(stream, number)
            sent.callback(os.close, descriptor)
            descriptors.append(descriptor)
        protocol.send(connection, dict(request.message), descriptors)
        answer, received = protocol.receive(connection)
        if "denied" in answer:
            raise TooManyKernels(answer["denied"])
        if "pid" not in answer or not received:
            raise Unavailable(answer.get("refused", "The fork of the zygote has died."))
        on_failure.pop_all()
        return WarmKernel(answer["pid"], received[0], connection)


def _open_stream(stream: Any, number: int) -> int:
    """Return a new descriptor for a stream as `subprocess.Popen` takes it."""
    if stream is None:
        return os.dup(number)
    if stream == subprocess.DEVNULL:
        return os.open(os.devnull, os.O_RDWR)
    return os.dup(stream if isinstance(stream, int) else stream.fileno())
