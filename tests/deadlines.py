"""How long tests wait before they call it a hang, and processes that tests may interrupt."""

import ctypes
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event
from typing import Any

# A busy machine slows a test by a factor of ten or more: only a hang takes this long. The limit of
# a whole test is `timeout` in pyproject.toml, which is longer.
HANG_SECONDS = 600.0


def wait_until(condition: Callable[[], object]) -> None:
    """Wait until `condition()` is true; fail after `HANG_SECONDS`."""
    deadline = time.monotonic() + HANG_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"still not true after {HANG_SECONDS:g} s"
        Event().wait(0.02)


def wait_for_port(port: int) -> None:
    """Wait until a server on this machine listens on a port; fail after `HANG_SECONDS`."""

    def is_open() -> bool:
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", port)) == 0

    wait_until(is_open)


def spawn(
    command: Sequence[str | Path], preexec_fn: Callable[[], object] | None = None, **options: Any
) -> "subprocess.Popen[str]":
    """Start a process that Ctrl-C stops, however the tests themselves were started.

    A shell starts what it runs in the background with SIGINT ignored, nohup with SIGHUP, and
    children inherit that.

    Args:
        command: The program and its arguments.
        preexec_fn: Called in the child before the program starts.
        options: For `subprocess.Popen`.
    """

    def prepare() -> None:
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        if preexec_fn:
            preexec_fn()

    return subprocess.Popen(command, preexec_fn=prepare, text=True, **options)


def drop_root_permissions() -> None:
    """Take from root the capability to write where the permissions forbid it: a `preexec_fn`."""
    drop_from_bounding_set, dac_override = 24, 1  # linux/prctl.h, linux/capability.h
    ctypes.CDLL(None).prctl(drop_from_bounding_set, dac_override, 0, 0, 0)
