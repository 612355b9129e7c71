"""A process that outlives a launcher, and then ends what is left of its workers.

It is run as a script, so that it starts in a few milliseconds: `python -I -S launching_guard.py
MARK`. When its standard input is closed, because the launcher closed it or was killed, all
processes whose environment contains `MARK` are killed, also those that workers have started and
that have left their process groups.
"""

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_MAX_ROUNDS = 500  # a process may start another one while the list is read
_PAUSE_SECONDS = 0.01


def main() -> None:
    """Wait for the end of the launcher, then kill the marked processes."""
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
