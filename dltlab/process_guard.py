"""A process that outlives the one that started it, and then ends what is left of its children.

It is run as a script, so that it starts in a few milliseconds: `python -I -S process_guard.py
MARK`. When its standard input is closed, because its parent closed it or was killed, all processes
whose environment contains `MARK` are killed, also those that children have started and that have
left their process groups.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_MAX_ROUNDS = 500  # a process may start another one while the list is read
_PAUSE_SECONDS = 0.01


def start_guard(mark: str) -> "subprocess.Popen[bytes]":
    """Start the process that kills what is left with `mark` once this one has ended.

    Closing its standard input has it kill them now. Its own environment is empty: the guard of
    another mark does not end it.
    """
    return subprocess.Popen(
        [sys.executable, "-I", "-S", __file__, mark],
        env={},
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )


def marked(name: str, mark: str) -> dict[str, str]:
    """Return the environment variables that let processes be found by `NAME=mark`.

    Dask and other programs change their titles with setproctitle where it is installed. It writes
    them over the environment, unless SPT_NOENV is set.
    """
    return {name: mark, "SPT_NOENV": "1"}


def main() -> None:
    """Wait for the end of the parent, then kill the marked processes."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    print(flush=True)  # ready  # noqa: T201
    sys.stdin.buffer.read()
    kill_marked(sys.argv[1])


def kill_marked(mark: str) -> None:
    """Kill all processes whose environment contains the variable `mark` (`NAME=value`)."""
    for _ in range(_MAX_ROUNDS):
        pids = list(_marked(mark.encode()))
        if not pids:
            return
        for pid in pids:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(_PAUSE_SECONDS)


def _marked(mark: bytes) -> Iterator[int]:
    for path in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if mark in path.read_bytes().split(b"\0"):
                yield int(path.parent.name)


if __name__ == "__main__":
    main()
