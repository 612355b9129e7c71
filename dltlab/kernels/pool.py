"""The zygotes of this user: their files, and how to start, list and stop them.

Each zygote has three files whose names begin with the name of its key: `.lock` is locked as long as
it lives and holds its process ID, `.socket` exists as soon as it can fork, `.log` is its output.
"""

import fcntl
import os
import signal
import stat
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from dltlab.errors import Unavailable
from dltlab.files import cannot_write
from dltlab.kernels import protocol
from dltlab.kernels.key import Key
from dltlab.paths import RUN_MARK

FILE_SUFFIXES = (".socket", ".log", ".lock")
MAX_ZYGOTES = 3  # at a time
IDLE_SECONDS = 1200  # without a kernel, after which a zygote ends
WARM_UP_SECONDS = 300  # an import that takes longer hangs
RETRY_SECONDS = 60.0  # after which a key whose zygote failed to start is tried again
ANSWER_SECONDS = 5.0  # for a zygote to answer
NO_MARK = 16 * "0"  # in the environment of a zygote: a kernel of a run puts its mark there


@dataclass(frozen=True)
class ZygoteState:
    """What is known of a running zygote.

    Attributes:
        stem: The path that its files begin with.
        pid: Its process ID.
        ready: Whether it answers; otherwise it is warming up, or hangs.
        since: When it became ready, in seconds since 1970.
        kernels: The process IDs of its kernels.
        retired: Whether it forks no more kernels and ends with its last one.
    """

    stem: Path
    pid: int
    ready: bool = False
    since: float = 0.0
    kernels: Sequence[int] = ()
    retired: bool = False

    @property
    def memory_bytes(self) -> int:
        """Proportional set size: memory shared with its kernels counts by its share of it."""
        usage = Path(f"/proc/{self.pid}/smaps_rollup").read_text()
        return int(usage.partition("Pss:")[2].split()[0]) * 1024


def runtime_folder() -> Path:
    """Return the folder of the zygotes' files, which only this user may enter; create it.

    Raises:
        Unavailable: It cannot be created, another user may enter it, or it is not a folder.
    """
    from jupyter_core.paths import jupyter_runtime_dir

    path = Path(os.environ.get("XDG_RUNTIME_DIR") or jupyter_runtime_dir()) / "dltlab-kernels"
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(path, error) from error
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise Unavailable(f"{path} must be your own folder and closed to others: chmod 700 {path}")
    return path


def stem_of(key: Key) -> Path:
    """Return the path that the files of the zygote for `key` begin with."""
    return runtime_folder() / key.name


def start_zygote(key: Key, interpreter: Sequence[str]) -> None:
    """Start the zygote for `key` unless it is running; return before it is ready.

    Raises:
        Unavailable: There are too many zygotes with kernels, or the last one for `key` failed to
            start less than `RETRY_SECONDS` ago.
        OSError: The process cannot be started.
    """
    stem = stem_of(key)
    lock = _acquire_lock(stem)
    if lock is None:
        return
    try:
        if _has_failed(stem):
            raise Unavailable(f"The last zygote failed to start, see {stem}.log")
        _make_room(key)
        stem.with_suffix(".socket").unlink(missing_ok=True)
        command = [*interpreter, "-m", "dltlab.kernels.zygote"]
        command += map(str, (stem, lock, IDLE_SECONDS, WARM_UP_SECONDS))
        with stem.with_suffix(".log").open("wb") as log:
            launcher = subprocess.Popen(
                command,
                cwd="/",
                env={**key.variables, RUN_MARK: NO_MARK},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[lock],
                start_new_session=True,
            )
        launcher.wait()  # it forks the zygote and ends at once
    finally:
        os.close(lock)


def list_zygotes() -> list[ZygoteState]:
    """Return the running zygotes, the oldest first.

    Raises:
        Unavailable: As `runtime_folder` does.
    """
    states = []
    for path in runtime_folder().glob("*.lock"):
        stem = path.with_suffix("")
        lock = _acquire_lock(stem)
        if lock is None:
            states += _send(stem, "status")
            continue
        if not _has_failed(stem):  # it was killed and could not remove its files
            for suffix in FILE_SUFFIXES:
                stem.with_suffix(suffix).unlink(missing_ok=True)
        os.close(lock)
    return sorted(states, key=lambda state: state.since)


def stop_zygotes() -> list[ZygoteState]:
    """Retire every zygote: one without kernels ends at once, the others with their last kernel.

    A zygote that does not answer is killed. Kernels go on in either case.

    Returns:
        The zygotes that were running.

    Raises:
        Unavailable: As `runtime_folder` does.
    """
    states = [state for zygote in list_zygotes() for state in _send(zygote.stem, "retire")]
    for state in states:
        if not state.ready:
            with suppress(ProcessLookupError):
                os.kill(state.pid, signal.SIGKILL)
    return states


def warming_up(stem: Path) -> int | None:
    """Return the process ID of the zygote if it still imports its libraries, else None."""
    try:
        pid = int(stem.with_suffix(".lock").read_text())
        os.kill(pid, 0)
    except (OSError, ValueError):
        return None
    return None if stem.with_suffix(".socket").exists() else pid


def _has_failed(stem: Path) -> bool:
    """Return whether a zygote has ended a short while ago without getting ready."""
    try:
        last_output = stem.with_suffix(".log").stat().st_mtime
    except FileNotFoundError:
        return False
    return not stem.with_suffix(".socket").exists() and time.time() - last_output < RETRY_SECONDS


def _make_room(key: Key) -> None:
    """Retire the zygotes that `key` makes obsolete, and idle ones where there are too many."""
    others = [state for state in list_zygotes() if state.stem.name != key.name]
    obsolete = [state for state in others if state.stem.name.startswith(key.identity)]
    idle = [state for state in others if state.ready and not state.kernels]
    for state in [*obsolete, *idle]:
        if state in obsolete or len(others) >= MAX_ZYGOTES:
            _send(state.stem, "retire")
            others = [other for other in others if other is not state or other.kernels]
    if len(others) >= MAX_ZYGOTES:
        raise Unavailable(f"There are {len(others)} zygotes with kernels already.")


def _send(stem: Path, action: str) -> list[ZygoteState]:
    """Send "status" or "retire" to a zygote; return its state, or nothing if it has just ended."""
    try:
        pid = int(stem.with_suffix(".lock").read_text())
    except (FileNotFoundError, ValueError):
        return []
    try:
        with protocol.connect(stem.with_suffix(".socket"), ANSWER_SECONDS) as connection:
            protocol.send(connection, {"ask": action})
            return [ZygoteState(stem, ready=True, **protocol.receive(connection)[0])]
    except (OSError, EOFError, Unavailable):
        return [ZygoteState(stem, pid)]


def _acquire_lock(stem: Path) -> int | None:
    """Return a descriptor that holds the lock, or None where a zygote holds it."""
    while True:
        lock = os.open(stem.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return None
        if os.fstat(lock).st_nlink:
            return lock
        os.close(lock)  # its previous owner has removed the file meanwhile
