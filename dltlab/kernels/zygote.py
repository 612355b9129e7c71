"""The zygote: it imports TensorFlow once, touches no device, and forks a kernel when asked to.

It runs as `python -m dltlab.kernels.zygote FILES LOCK IDLE WARM_UP`: the path that its files begin
with, a descriptor that holds their lock, the seconds without a kernel after which it ends, and the
seconds after which it gives up an import.
"""

import gc
import os
import selectors
import signal
import socket
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from dltlab.kernels import protocol
from dltlab.kernels.child import Launch, run
from dltlab.kernels.preload import Preloaded, preload, settle, stream_handlers, unfit

_PATIENCE = 1.0  # seconds for a server to say what it wants


@dataclass(frozen=True)
class Kernel:
    """A kernel that this zygote has forked, and the connection of the server that asked for it."""

    pid: int
    pidfd: int
    connection: socket.socket


class Zygote:
    """Serves one socket: forks kernels, and tells their exit codes."""

    def __init__(self, files: Path, idle: int, preloaded: Preloaded) -> None:
        self._files = files
        self._idle = idle
        self._preloaded = preloaded
        self._since = time.time()
        self._free_since = time.monotonic()
        self._kernels: dict[int, Kernel] = {}
        self._retired = False
        self._selector = selectors.DefaultSelector()
        # Whoever finds the socket under its name finds a zygote that is ready.
        beside = files.with_suffix(f".{os.getpid()}")
        beside.unlink(missing_ok=True)
        self._listener = protocol.listen(beside)
        self._selector.register(self._listener, selectors.EVENT_READ)
        beside.rename(files.with_suffix(".socket"))

    def serve(self) -> Launch | None:
        """Answer until retired or idle. In a forked kernel, return what it was forked for."""
        while self._kernels or not self._retired:
            left = self._free_since + self._idle - time.monotonic()
            if not self._kernels and left <= 0:
                break
            ready = self._selector.select(None if self._kernels else left)
            for key, _ in ready:
                if key.fileobj is self._listener:
                    if launch := self._answer():
                        return launch
                elif key.data.pidfd == key.fd:
                    self._tell_exit_code(key.data)
                else:
                    self._release(key.data)
        for suffix in (".socket", ".log", ".lock"):
            self._files.with_suffix(suffix).unlink(missing_ok=True)
        return None

    def _answer(self) -> Launch | None:
        connection, _ = self._listener.accept()
        connection.settimeout(_PATIENCE)
        try:
            if protocol.user(connection) != os.geteuid():
                raise PermissionError("another user asks")
            message, descriptors = protocol.receive(connection)
            if message["ask"] != "kernel":
                if message["ask"] == "retire":
                    self._retire()
                protocol.send(connection, self._status())
        except (OSError, EOFError, ValueError, KeyError) as error:
            print(f"not answered: {error!r}", file=sys.stderr, flush=True)  # noqa: T201
        else:
            if message["ask"] == "kernel":
                return self._fork(connection, message, descriptors)
        connection.close()
        return None

    def _fork(
        self, connection: socket.socket, request: protocol.Message, descriptors: list[int]
    ) -> Launch | None:
        """Fork a kernel; return in it what to do, and None in the zygote."""
        reason = unfit()
        try:
            pid = None if reason else os.fork()
        except OSError as error:
            pid, reason = None, str(error)
        if pid == 0:
            self._leave()
            return Launch(connection, request, descriptors, self._preloaded, stream_handlers())
        for descriptor in descriptors:
            os.close(descriptor)
        if pid is None:
            self._refuse(connection, f"the zygote cannot fork: {reason}")
        else:
            kernel = Kernel(pid, os.pidfd_open(pid), connection)
            self._kernels[pid] = kernel
            self._selector.register(kernel.pidfd, selectors.EVENT_READ, kernel)
        return None

    def _refuse(self, connection: socket.socket, reason: str) -> None:
        self._retire()  # the next may do better
        with connection, suppress(OSError):
            protocol.send(connection, {"refused": reason})

    def _leave(self) -> None:
        """In a fork: let go of all that is the zygote's, before the numbers are used anew."""
        self._selector.close()
        self._listener.close()
        for kernel in self._kernels.values():
            os.close(kernel.pidfd)
            kernel.connection.close()

    def _tell_exit_code(self, kernel: Kernel) -> None:
        """Tell the server, and keep the process ID from being used again until it has heard."""
        self._selector.unregister(kernel.pidfd)
        end = os.waitid(os.P_PIDFD, kernel.pidfd, os.WEXITED | os.WNOWAIT)
        assert end
        code = end.si_status if end.si_code == os.CLD_EXITED else -end.si_status
        try:
            protocol.send(kernel.connection, {"exit": code})
        except OSError:
            self._forget(kernel)
        else:
            self._selector.register(kernel.connection, selectors.EVENT_READ, kernel)

    def _release(self, kernel: Kernel) -> None:
        try:
            over = not kernel.connection.recv(1)
        except OSError:
            over = True
        if over:
            self._selector.unregister(kernel.connection)
            self._forget(kernel)

    def _forget(self, kernel: Kernel) -> None:
        os.close(kernel.pidfd)
        kernel.connection.close()
        os.waitpid(kernel.pid, 0)
        del self._kernels[kernel.pid]
        self._free_since = time.monotonic()

    def _retire(self) -> None:
        """Fork no more kernels, and make place for a successor under the same name."""
        if self._retired:
            return
        self._retired = True
        retired = self._files.with_name(f"{self._files.name}-{os.getpid()}")
        for suffix in (".socket", ".log", ".lock"):
            path = self._files.with_suffix(suffix)
            if path.exists():
                path.rename(retired.with_suffix(suffix))
        self._files = retired

    def _status(self) -> protocol.Message:
        return {
            "pid": os.getpid(),
            "since": self._since,
            "kernels": list(self._kernels),
            "retired": self._retired,
        }


def main() -> None:
    """Load the libraries, then serve; in a forked kernel, be that kernel."""
    files, lock, idle, warm_up = Path(sys.argv[1]), *map(int, sys.argv[2:])
    if os.fork():
        os._exit(0)  # the server has no child to wait for
    os.set_inheritable(lock, False)
    os.ftruncate(lock, 0)
    os.pwrite(lock, str(os.getpid()).encode(), 0)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(warm_up)
    if sys.path[0] in ("", os.getcwd()):
        del sys.path[0]
    preloaded = preload()
    settle()
    if reason := unfit():
        raise SystemExit(f"a fork would not be safe: {reason}")
    gc.freeze()
    signal.alarm(0)
    zygote = Zygote(files, idle, preloaded)
    _forget_dltlab()
    if launch := zygote.serve():
        del zygote
        run(launch)


def _forget_dltlab() -> None:
    """A kernel imports dltlab as it is on disk then."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "dltlab"]:
        del sys.modules[name]


if __name__ == "__main__":
    main()
