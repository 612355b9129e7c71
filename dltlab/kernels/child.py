"""From a fork of the zygote to a kernel that behaves as one that was started by itself."""

import atexit
import ctypes
import importlib.util
import logging
import os
import resource
import select
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from dltlab.kernels import protocol
from dltlab.kernels.preload import Preloaded

GO = b"go"  # what a server says when it takes the kernel; from then on there is no way back


@dataclass(frozen=True)
class Launch:
    """A server's request for a kernel.

    Attributes:
        connection: To the server.
        request: What `provisioner.request` has made.
        descriptors: The server's pidfd, and the kernel's stdout and stderr.
        preloaded: What the zygote has imported.
        handlers: The log handlers of that.
    """

    connection: socket.socket
    request: Mapping[str, Any]
    descriptors: Sequence[int]
    preloaded: Preloaded
    handlers: Sequence["logging.StreamHandler[Any]"]


def run(launch: Launch) -> None:
    """Be a kernel until it ends. Until the server says `GO`, give way to a cold one."""
    try:
        server = _prepare(launch)
        me = os.pidfd_open(os.getpid())
        protocol.send(launch.connection, {"pid": os.getpid()}, [me])
        os.close(me)
        launch.connection.settimeout(None)
        if launch.connection.recv(len(GO)) != GO:
            os._exit(0)
    except BaseException as error:
        _give_way(launch.connection, error)
    _start(server, launch)


def _give_way(connection: socket.socket, error: BaseException) -> None:
    try:
        protocol.send(connection, {"refused": f"{type(error).__name__}: {error}"})
    finally:
        os._exit(1)


def _prepare(launch: Launch) -> int:
    """Take over what a new process has from its parent; return the server's pidfd."""
    request = launch.request
    os.setsid()
    server = _take_over_files(launch.connection, launch.descriptors)
    _restore_signals(request["ignored"], request["blocked"])
    for number, soft in request["limits"]:
        resource.setrlimit(number, (soft, resource.getrlimit(number)[1]))
    os.umask(request["umask"])
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update({**launch.preloaded.variables, **request["env"]})
    sys.argv = [_launcher(), *request["argv"]]
    sys.orig_argv = request["command"]
    _forget_the_zygote()
    return server


def _take_over_files(connection: socket.socket, descriptors: Sequence[int]) -> int:
    server, out, err = descriptors
    silent, nobody = os.pipe()  # reads as ended, as a cold kernel's stdin does
    os.close(nobody)
    for number, descriptor in enumerate((silent, out, err)):
        os.dup2(descriptor, number)
    sys.stdout.reconfigure(line_buffering=os.isatty(1))  # type: ignore[union-attr]
    keep = {0, 1, 2, server, connection.fileno()}
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in keep:
            try:
                os.close(int(name))
            except OSError:
                continue  # the descriptor that listed the folder
    return server


def _restore_signals(ignored: Sequence[int], blocked: Sequence[int]) -> None:
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN if number in ignored else signal.SIG_DFL)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_IGN)  # as Python has it
    if signal.SIGINT not in ignored:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _forget_the_zygote() -> None:
    """Undo what libraries have remembered from the process that imported them."""
    time.tzset()
    tempfile.tempdir = None
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed()
    if process := sys.modules.get("multiprocessing.process"):
        process.ORIGINAL_DIR = os.getcwd()  # type: ignore[attr-defined]
        process.current_process().authkey = os.urandom(32)


def _launcher() -> str:
    spec = importlib.util.find_spec("ipykernel_launcher")
    assert spec
    assert spec.origin
    return spec.origin


def _start(server: int, launch: Launch) -> None:
    """What `python -m ipykernel_launcher` does."""
    from ipykernel import ipkernel
    from ipykernel.kernelapp import IPKernelApp

    app = IPKernelApp.instance(parent_handle=int(os.environ["JPY_PARENT_PID"]))

    def listening() -> None:
        """Once its sockets are bound a client need not knock twice, which takes it 0.1 s."""
        IPKernelApp.log_connection_info(app)
        protocol.send(launch.connection, {"listening": True})
        launch.connection.close()

    app.log_connection_info = listening
    ipkernel.sys = _SystemOf(launch.preloaded.modules)
    app.initialize()
    ipkernel.sys = sys
    del app.log_connection_info
    app.poller = _ServerWatch(server)  # ipykernel's own would watch the zygote
    for handler in launch.handlers:
        handler.setStream(sys.stdout if handler.stream is sys.__stdout__ else sys.stderr)
    app.start()
    # It may still flush, which takes 10 s once an exit function has stopped the thread that sends.
    app.control_thread.stop()
    app.control_thread.join()
    _end()


class _SystemOf:
    """The module `sys` as a cold kernel finds it at its start, with few modules loaded.

    The debugger leaves out the files of these. To go through all that is loaded also takes long.
    """

    def __init__(self, names: Collection[str]) -> None:
        self.modules = {name: sys.modules[name] for name in names if name in sys.modules}

    def __getattr__(self, name: str) -> Any:
        return getattr(sys, name)


def _end() -> None:
    """End as Python does, except for taking modules apart, which takes ten times as long."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError, ValueError):
            stream.flush()
    ctypes.PyDLL(None).fflush(None)
    os._exit(0)


class _ServerWatch(threading.Thread):
    """Ends the kernel as soon as its server is gone."""

    def __init__(self, server: int) -> None:
        super().__init__(daemon=True)
        self._server = server

    def run(self) -> None:
        poll = select.poll()
        poll.register(self._server, select.POLLIN)
        poll.poll()
        os._exit(1)
