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
import traceback
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from dltlab.kernels import protocol
from dltlab.kernels.late_variables import LateVariables
from dltlab.kernels.messages import handle_messages_in_order
from dltlab.kernels.pool import NO_MARK
from dltlab.kernels.ports import end_where_port_is_taken
from dltlab.kernels.preload import Preloaded
from dltlab.paths import RUN_MARK

# The server's second message: it takes the fork, which then starts the kernel. Until then the fork
# has done nothing, and the server may start a cold kernel instead.
GO = b"go"


@dataclass(frozen=True)
class Launch:
    """A server's request for a kernel.

    Attributes:
        connection: To the server.
        request: The message of `request.KernelRequest`.
        descriptors: The server's pidfd, and the kernel's stdout and stderr.
        preloaded: What the zygote has imported.
        handlers: The log handlers of the preloaded libraries.
    """

    connection: socket.socket
    request: Mapping[str, Any]
    descriptors: Sequence[int]
    preloaded: Preloaded
    handlers: Sequence["logging.StreamHandler[Any]"]


def run(launch: Launch) -> NoReturn:
    """Run the kernel until it ends; end at once unless the server says `GO`."""
    try:
        server = _prepare(launch)
        own_pidfd = os.pidfd_open(os.getpid())
        protocol.send(launch.connection, {"pid": os.getpid()}, [own_pidfd])
        os.close(own_pidfd)
        launch.connection.settimeout(None)
        if launch.connection.recv(len(GO)) != GO:
            os._exit(0)
    except BaseException as error:
        refuse(launch.connection, error)
    try:
        _run_kernel(server, launch)
    except BaseException:  # such as a port that is taken; threads would keep the process alive
        traceback.print_exc()
        _exit(1)


def refuse(connection: socket.socket, error: BaseException) -> NoReturn:
    """Tell the server why there is no kernel, and end."""
    try:
        protocol.send(connection, {"refused": f"{type(error).__name__}: {error}"})
    finally:
        os._exit(1)


def _prepare(launch: Launch) -> int:
    """Take over what a new process inherits from its parent; return the server's pidfd."""
    request = launch.request
    os.setsid()
    server = _take_over_files(launch.connection, launch.descriptors)
    _restore_signals(request["ignored"], request["blocked"])
    for number, soft in request["limits"]:
        hard = resource.getrlimit(number)[1]
        is_above = hard != resource.RLIM_INFINITY and not 0 <= soft <= hard
        resource.setrlimit(number, (hard if is_above else soft, hard))
    os.umask(request["umask"])
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update({**launch.preloaded.variables, **request["env"]})
    if mark := os.environ.get(RUN_MARK):
        _show_mark(mark)
    sys.argv = [_ipykernel_launcher(), *request["argv"]]
    sys.orig_argv = request["command"]
    _reset_library_state()
    return server


def _take_over_files(connection: socket.socket, descriptors: Sequence[int]) -> int:
    server, out, err = descriptors
    stdin, write_end = os.pipe()  # at its end from the start, as a cold kernel's stdin
    os.close(write_end)
    for number, descriptor in enumerate((stdin, out, err)):
        os.dup2(descriptor, number)
    sys.stdout.reconfigure(line_buffering=os.isatty(1))  # type: ignore[union-attr]
    used = {0, 1, 2, server, connection.fileno()}
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in used:
            with suppress(OSError):  # the descriptor that listed the folder is closed
                os.close(int(name))
    return server


def _restore_signals(ignored: Sequence[int], blocked: Sequence[int]) -> None:
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN if number in ignored else signal.SIG_DFL)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_IGN)  # as Python does when it starts
    if signal.SIGINT not in ignored:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _show_mark(mark: str) -> None:
    """Write the mark of a batch's run to where `/proc` shows the environment of a process.

    There, a fork has what the zygote was started with. By the mark, the kernel and whatever it
    forks are found when the run ends.
    """
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    start, end = int(fields[47]), int(fields[48])  # env_start, env_end: numbers 50 and 51
    old, new = (f"{RUN_MARK}={value}".encode() for value in (NO_MARK, mark))
    offset = ctypes.string_at(start, end - start).find(old)
    if offset >= 0 and len(new) == len(old):
        ctypes.memmove(start + offset, new, len(new))


def _reset_library_state() -> None:
    """Reset what libraries have stored about the process that imported them."""
    time.tzset()
    tempfile.tempdir = None
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed()
    if process := sys.modules.get("multiprocessing.process"):
        process.ORIGINAL_DIR = os.getcwd()  # type: ignore[attr-defined]
        process.current_process().authkey = os.urandom(32)


def _ipykernel_launcher() -> str:
    spec = importlib.util.find_spec("ipykernel_launcher")
    assert spec
    assert spec.origin
    return spec.origin


def _run_kernel(server: int, launch: Launch) -> NoReturn:
    """Do what `python -m ipykernel_launcher` does."""
    from ipykernel import ipkernel
    from ipykernel.kernelapp import IPKernelApp

    app = IPKernelApp.instance(parent_handle=int(os.environ["JPY_PARENT_PID"]))

    def report_listening() -> None:
        """Tell the server that the sockets are bound: a client that retries would lose 0.1 s."""
        IPKernelApp.log_connection_info(app)
        protocol.send(launch.connection, {"listening": True})
        launch.connection.close()

    app.log_connection_info = report_listening
    end_where_port_is_taken(app)
    handle_messages_in_order(app)
    ipkernel.sys = _EarlySys(launch.preloaded.modules)
    app.initialize()
    ipkernel.sys = sys
    del app.log_connection_info
    app.poller = ServerWatch(server)  # ipykernel's own would watch the zygote
    app.shell.events.register("post_run_cell", LateVariables(app.shell).check)
    for handler in launch.handlers:
        handler.setStream(sys.stdout if handler.stream is sys.__stdout__ else sys.stderr)
    app.start()
    # The kernel may still flush, which takes 10 s once an exit function has stopped this thread.
    app.control_thread.stop()
    app.control_thread.join()
    _finalize()
    _exit(0)


class _EarlySys:
    """The module `sys` as a cold kernel sees it at its start, with few modules loaded.

    The debugger leaves out the files of these modules, and takes long to go through all that a
    zygote has loaded.
    """

    def __init__(self, names: Collection[str]) -> None:
        self.modules = {name: sys.modules[name] for name in names if name in sys.modules}

    def __getattr__(self, name: str) -> Any:
        return getattr(sys, name)


def _finalize() -> None:
    """Do what Python does at exit, except for unloading modules, which takes ten times as long."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()


def _exit(code: int) -> NoReturn:
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError, ValueError):
            stream.flush()
    ctypes.PyDLL(None).fflush(None)
    os._exit(code)


class ServerWatch(threading.Thread):
    """Ends the kernel as soon as its server has ended."""

    def __init__(self, server: int) -> None:
        super().__init__(daemon=True)
        self._server = server

    def run(self) -> None:
        """Wait for the end of the server."""
        poll = select.poll()
        poll.register(self._server, select.POLLIN)
        poll.poll()
        os._exit(1)
