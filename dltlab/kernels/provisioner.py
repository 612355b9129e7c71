"""A Jupyter kernel provisioner: a fork of a zygote where there is one, else a cold start."""

import asyncio
import os
import resource
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from socket import socket
from typing import Any

from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.provisioning import LocalProvisioner

from dltlab.kernels import pool, protocol
from dltlab.kernels.child import GO
from dltlab.kernels.key import Key, key_of
from dltlab.paths import cold_kernels

PROVISIONER = "dltlab-warm"  # the name under which Jupyter finds `WarmProvisioner`
_PATIENCE = 5.0  # seconds for a zygote to fork
_LAST_WORDS = 1.0  # seconds for a zygote to tell an exit code
_LOST = 1  # the exit code of a kernel whose zygote cannot tell it any more

# What a cold kernel would find in its folder before what a zygote has loaded.
_OWN = ("matplotlibrc", "tensorflow.py", "keras.py", "numpy.py", "matplotlib.py")
_UNDERSTOOD = {"env", "cwd", "stdout", "stderr", "kernel_id"}


class WarmProvisioner(LocalProvisioner):  # type: ignore[misc]
    """Starts a Python kernel from a zygote, or cold: never both.

    The hand-over is the one message of `WarmKernel.accept`. A fork that has not got it waits and
    does nothing, and ends when its connection is closed.
    """

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        """Launch the kernel `cmd`."""
        wanted = self._wanted(cmd, kwargs)
        if wanted and await self._launch_warm(wanted):
            return self.connection_info
        await super().launch_kernel(cmd, **kwargs)
        if wanted:
            threading.Thread(target=self._warm_up, args=[wanted], daemon=True).start()
        return self.connection_info

    def _wanted(self, cmd: list[str], options: dict[str, Any]) -> "Wanted | None":
        try:
            return None if _turned_off() else Wanted.read(cmd, options)
        except OSError as error:  # /proc is not as it is on Linux elsewhere
            self._say(error)
            return None

    async def _launch_warm(self, wanted: "Wanted") -> bool:
        try:
            kernel = await asyncio.to_thread(_ask, wanted)
            if not kernel:
                return False
            kernel.accept()
        except (OSError, EOFError, protocol.Refused) as error:
            self._say(error)
            return False
        self.process = kernel
        self.pid = self.pgid = kernel.pid
        self.cwd = wanted.request["cwd"]
        await asyncio.to_thread(kernel.wait_until_listening)
        return True

    def _warm_up(self, wanted: "Wanted") -> None:
        """Start a zygote for the kernels to come."""
        try:
            pool.start(wanted.key, wanted.interpreter)
        except (OSError, protocol.Refused) as error:
            self._say(error)

    def _say(self, reason: Exception) -> None:
        """Tell a reason once, however many kernels start."""
        sentence = f"A kernel starts cold: {reason}."
        if sentence not in _said:
            _said.add(sentence)
            self.log.warning(sentence)


@dataclass(frozen=True)
class Wanted:
    """A kernel that a zygote can make.

    Attributes:
        key: Of the zygote.
        interpreter: Python and its options.
        request: What the zygote and the kernel are told.
        streams: Where its stdout and stderr go, as `subprocess.Popen` takes them.
    """

    key: Key
    interpreter: Sequence[str]
    request: Mapping[str, Any]
    streams: tuple[Any, Any]

    @classmethod
    def read(cls, command: Sequence[str], options: Mapping[str, Any]) -> "Wanted | None":
        """The kernel that `command` would start; None where only a cold start does."""
        module = command.index("-m") if "-m" in command else 0
        interpreter, program = command[:module], command[module + 1 :]
        folder = os.path.abspath(options.get("cwd") or os.getcwd())
        streams = (options.get("stdout"), options.get("stderr"))
        if (
            not interpreter
            or interpreter[0] != sys.executable
            or not all(option.startswith("-X") for option in interpreter[1:])
            or program[:2] != ["ipykernel_launcher", "-f"]
            or not options.keys() <= _UNDERSTOOD
            or any(stream in (subprocess.PIPE, subprocess.STDOUT) for stream in streams)
            or any(os.path.exists(os.path.join(folder, name)) for name in _OWN)
        ):
            return None
        environment = {**options["env"], "JPY_PARENT_PID": str(os.getpid())}
        status = dict(
            line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines()
        )
        limits = {getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")}
        request = {
            "ask": "kernel",
            "argv": [os.path.expanduser(each) for each in program[1:]],
            "command": list(command),
            "env": environment,
            "cwd": folder,
            "umask": int(status["Umask"], 8),
            "limits": [[each, resource.getrlimit(each)[0]] for each in limits],
            "ignored": _signals(status["SigIgn"]),
            "blocked": _signals(status["SigBlk"]),
        }
        return cls(key_of(interpreter, environment), interpreter, request, streams)


class WarmKernel:
    """A kernel that a zygote has forked, with what is used of `subprocess.Popen`."""

    stdin = stdout = stderr = None

    def __init__(self, pid: int, pidfd: int, connection: socket) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._pidfd = pidfd
        self._connection = connection
        self._last_words: protocol.Message = {}

    def accept(self) -> None:
        """Take the kernel. From here on it runs, and nothing else may start in its place.

        Raises:
            OSError: It has gone; nothing runs.
        """
        self._connection.sendall(GO)

    def wait_until_listening(self) -> None:
        """Wait until clients can connect, or the kernel has ended."""
        with suppress(OSError, EOFError):
            self._last_words = protocol.receive(self._connection)[0]

    def poll(self) -> int | None:
        """Its exit code; None while it runs."""
        return self._poll(0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; its exit code.

        Raises:
            subprocess.TimeoutExpired: It still runs after `timeout` seconds.
        """
        code = self._poll(timeout)
        if code is None:
            raise subprocess.TimeoutExpired("kernel", timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal to the kernel alone, not to its group."""
        if self.poll() is None:
            signal.pidfd_send_signal(self._pidfd, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
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
        self._connection.settimeout(_LAST_WORDS)
        with suppress(OSError, EOFError):
            while "exit" not in self._last_words:
                self._last_words = protocol.receive(self._connection)[0]
        return int(self._last_words.get("exit", _LOST))

    def _close(self) -> None:
        self._connection.close()
        os.close(self._pidfd)

    def __del__(self) -> None:
        if self.returncode is None:
            self._close()


_said: set[str] = set()
_silent: set[int] = set()


def _turned_off() -> bool:
    on_binder = any(name.startswith("BINDER_") for name in os.environ)
    able = sys.platform == "linux" and hasattr(os, "pidfd_open")
    return not able or on_binder or cold_kernels()


def _ask(wanted: Wanted) -> WarmKernel | None:
    """Have a zygote fork a kernel, which then waits for `accept`; None where there is no zygote.

    Raises:
        OSError, EOFError, protocol.Refused: It cannot.
    """
    path = pool.files_of(wanted.key).with_suffix(".socket")
    try:
        file = path.stat().st_ino
    except FileNotFoundError:
        return None
    if file in _silent:
        return None
    try:
        with ExitStack() as on_failure, ExitStack() as sent:
            connection = on_failure.enter_context(protocol.connect(path, _PATIENCE))
            descriptors = [os.pidfd_open(os.getpid())]
            sent.callback(os.close, descriptors[0])
            for number, stream in enumerate(wanted.streams, start=1):
                opened = _opened(stream, number)
                sent.callback(os.close, opened)
                descriptors.append(opened)
            protocol.send(connection, dict(wanted.request), descriptors)
            answer, received = protocol.receive(connection)
            if "pid" not in answer or not received:
                raise protocol.Refused(answer.get("refused", "the fork of the zygote has died"))
            on_failure.pop_all()
            return WarmKernel(answer["pid"], received[0], connection)
    except ConnectionRefusedError as error:
        raise protocol.Refused("the last zygote has died") from error
    except TimeoutError as error:
        _silent.add(file)
        raise protocol.Refused("the zygote does not answer") from error


def _opened(stream: Any, number: int) -> int:
    """A new descriptor for a stream as `subprocess.Popen` takes it."""
    if stream is None:
        return os.dup(number)
    if stream == subprocess.DEVNULL:
        return os.open(os.devnull, os.O_RDWR)
    return os.dup(stream if isinstance(stream, int) else stream.fileno())


def _signals(mask: str) -> list[int]:
    """The signals in a mask as /proc tells it."""
    bits = int(mask, 16)
    return [number for number in range(1, 65) if bits >> (number - 1) & 1]
