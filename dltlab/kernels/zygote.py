"""The zygote: it imports TensorFlow once, touches no device, and forks a kernel on request.

It runs as `python -m dltlab.kernels.zygote STEM LOCK IDLE WARM_UP`: the path that its files begin
with, a descriptor that holds their lock, the seconds without a kernel after which it ends, and the
seconds after which it gives up importing.
"""

import gc
import os
import selectors
import signal
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path

from dltlab.kernels import protocol
from dltlab.kernels.child import Launch, run
from dltlab.kernels.forked_kernels import ForkedKernels
from dltlab.kernels.pool import FILE_SUFFIXES
from dltlab.kernels.preload import (
    Preloaded,
    fork_hazard,
    preload,
    prepare_to_fork,
    stream_handlers,
)

_REQUEST_SECONDS = 1.0  # for a server to send its request


class Zygote:
    """Listens on a socket, forks kernels, and reports their exit codes.

    Args:
        stem: The path that its files begin with.
        idle_seconds: Without a kernel, after which it ends.
        preloaded: What it has imported.
    """

    def __init__(self, stem: Path, idle_seconds: int, preloaded: Preloaded) -> None:
        self._stem = stem
        self._idle_seconds = idle_seconds
        self._preloaded = preloaded
        self._since = time.time()
        self._idle_since = time.monotonic()
        self._retired = False
        self._selector = selectors.DefaultSelector()
        self._kernels = ForkedKernels(self._selector)
        # The rename is atomic: who finds the socket under its name finds a zygote that is ready.
        temporary = stem.with_suffix(f".{os.getpid()}")
        temporary.unlink(missing_ok=True)
        self._listener = protocol.listen(temporary)
        self._selector.register(self._listener, selectors.EVENT_READ)
        temporary.rename(stem.with_suffix(".socket"))

    def serve(self) -> Launch | None:
        """Answer requests until retired or idle; in a forked kernel, return its launch."""
        while self._kernels or not self._retired:
            remaining = self._idle_since + self._idle_seconds - time.monotonic()
            if not self._kernels and remaining <= 0:
                break
            ready = self._selector.select(None if self._kernels else remaining)
            for key, _ in ready:
                if key.fileobj is self._listener:
                    if launch := self._answer():
                        return launch
                else:
                    self._kernels.handle(key.data)
                    self._idle_since = time.monotonic()
        self._close_all()
        for suffix in FILE_SUFFIXES:
            self._stem.with_suffix(suffix).unlink(missing_ok=True)
        return None

    def _answer(self) -> Launch | None:
        connection, _ = self._listener.accept()
        connection.settimeout(_REQUEST_SECONDS)
        try:
            if protocol.peer_user(connection) != os.geteuid():
                raise PermissionError("the request of another user")
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
        """Fork a kernel; return its launch in the fork, and None in the zygote."""
        reason = fork_hazard()
        try:
            pid = None if reason else os.fork()
        except OSError as error:
            pid, reason = None, str(error)
        if pid == 0:
            self._close_all()
            return Launch(connection, request, descriptors, self._preloaded, stream_handlers())
        for descriptor in descriptors:
            os.close(descriptor)
        if pid is None:
            self._refuse(connection, f"the zygote cannot fork: {reason}")
        else:
            self._kernels.add(pid, connection, os.geteuid())
        return None

    def _refuse(self, connection: socket.socket, reason: str) -> None:
        self._retire()  # a new zygote may be able to fork
        with connection, suppress(OSError):
            protocol.send(connection, {"refused": reason})

    def _close_all(self) -> None:
        """Close the zygote's descriptors; in a fork, before their numbers are used again."""
        self._selector.close()
        self._listener.close()
        self._kernels.close()

    def _retire(self) -> None:
        """Fork no more kernels, and leave the names of the files to a successor."""
        if self._retired:
            return
        self._retired = True
        retired = self._stem.with_name(f"{self._stem.name}-{os.getpid()}")
        for suffix in FILE_SUFFIXES:
            path = self._stem.with_suffix(suffix)
            if path.exists():
                path.rename(retired.with_suffix(suffix))
        self._stem = retired

    def _status(self) -> protocol.Message:
        return {
            "pid": os.getpid(),
            "since": self._since,
            "kernels": [kernel.pid for kernel in self._kernels],
            "retired": self._retired,
        }


def main() -> None:
    """Import the libraries, then serve; in a forked kernel, run that kernel."""
    stem, lock, idle_seconds, warm_up_seconds = Path(sys.argv[1]), *map(int, sys.argv[2:])
    if pid := os.fork():
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(pid).encode(), 0)
        os._exit(0)  # so that the server has no child to wait for
    os.set_inheritable(lock, False)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(warm_up_seconds)
    if sys.path[0] in ("", os.getcwd()):
        del sys.path[0]
    preloaded = preload()
    prepare_to_fork()
    if reason := fork_hazard():
        raise SystemExit(f"a fork would not be safe: {reason}")
    gc.freeze()
    signal.alarm(0)
    zygote = Zygote(stem, idle_seconds, preloaded)
    _unload_dltlab()
    if launch := zygote.serve():
        del zygote
        run(launch)


def _unload_dltlab() -> None:
    """Let each kernel import dltlab as it is on disk when the kernel starts."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "dltlab"]:
        del sys.modules[name]


if __name__ == "__main__":
    main()
