"""The zygotes of this user: where their files are, how one is started, seen and stopped."""

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

from dltlab.kernels import protocol
from dltlab.kernels.key import Key

MOST = 3  # zygotes at a time
IDLE = 1200  # seconds without a kernel after which a zygote ends
WARM_UP = 300  # seconds; an import that takes longer hangs
AGAIN = 60.0  # seconds after which a zygote that did not get ready is tried again
_PATIENCE = 5.0  # seconds for a zygote to answer


@dataclass(frozen=True)
class State:
    """What `dltlab kernels status` tells of a zygote.

    Attributes:
        files: The path that its files begin with.
        pid: Its process ID.
        ready: It answers; else it warms up, or hangs.
        since: When it became ready, in seconds since 1970.
        kernels: The process IDs of its kernels.
        retired: It takes no more kernels, and ends with its last.
    """

    files: Path
    pid: int
    ready: bool = False
    since: float = 0.0
    kernels: Sequence[int] = ()
    retired: bool = False

    @property
    def memory(self) -> int:
        """What it takes, in bytes; of what it has in common with its kernels, its share."""
        usage = Path(f"/proc/{self.pid}/smaps_rollup").read_text()
        return int(usage.partition("Pss:")[2].split()[0]) * 1024


def folder() -> Path:
    """Where zygotes have their files: a folder that only this user may enter.

    Raises:
        protocol.Refused: It is not.
        OSError: It cannot be made.
    """
    from jupyter_core.paths import jupyter_runtime_dir

    path = Path(os.environ.get("XDG_RUNTIME_DIR") or jupyter_runtime_dir()) / "dltlab-kernels"
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    about = path.lstat()
    if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.geteuid() or about.st_mode & 0o077:
        raise protocol.Refused(f"{path} must be a folder of your own that nobody else may enter")
    return path


def files_of(key: Key) -> Path:
    """The path that the files of the zygote for `key` begin with."""
    return folder() / key.name


def start(key: Key, interpreter: Sequence[str]) -> None:
    """Start the zygote for `key`, unless one is there.

    Raises:
        protocol.Refused: There are too many with kernels, or the last one did not get ready.
        OSError: It cannot be started.
    """
    files = files_of(key)
    lock = _lock(files)
    if lock is None:
        return
    try:
        if _has_failed(files):
            raise protocol.Refused(f"the last zygote did not get ready, see {files}.log")
        _make_room(key)
        files.with_suffix(".socket").unlink(missing_ok=True)
        command = [*interpreter, "-m", "dltlab.kernels.zygote"]
        command += map(str, (files, lock, IDLE, WARM_UP))
        with files.with_suffix(".log").open("wb") as log:
            launched = subprocess.Popen(
                command,
                cwd="/",
                env=dict(key.variables),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[lock],
                start_new_session=True,
            )
        launched.wait()
    finally:
        os.close(lock)


def zygotes() -> list[State]:
    """Those that are there, the oldest first."""
    found = []
    for path in folder().glob("*.lock"):
        files = path.with_suffix("")
        lock = _lock(files)
        if lock is None:
            found += _ask(files, "status")
            continue
        if not _has_failed(files):  # it has died without a chance to tidy up
            for suffix in (".socket", ".log", ".lock"):
                files.with_suffix(suffix).unlink(missing_ok=True)
        os.close(lock)
    return sorted(found, key=lambda state: state.since)


def stop() -> list[State]:
    """Retire every zygote: one without kernels ends at once, the others with their last kernel.

    One that does not answer is killed; kernels survive that too.
    """
    states = [state for each in zygotes() for state in _ask(each.files, "retire")]
    for each in states:
        if not each.ready:
            with suppress(ProcessLookupError):
                os.kill(each.pid, signal.SIGKILL)
    return states


def _has_failed(files: Path) -> bool:
    """Whether a zygote has ended a moment ago without getting ready."""
    try:
        last_words = files.with_suffix(".log").stat().st_mtime
    except FileNotFoundError:
        return False
    return not files.with_suffix(".socket").exists() and time.time() - last_words < AGAIN


def _make_room(key: Key) -> None:
    """Retire the zygotes that `key` makes obsolete, and idle ones where there are too many."""
    others = [each for each in zygotes() if each.files.name != key.name]
    obsolete = [each for each in others if each.files.name.startswith(key.identity)]
    idle = [each for each in others if each.ready and not each.kernels]
    room = MOST - 1
    for each in [*obsolete, *idle]:
        if each in obsolete or len(others) > room:
            _ask(each.files, "retire")
            others = [other for other in others if other is not each or other.kernels]
    if len(others) > room:
        raise protocol.Refused(f"{len(others)} zygotes with kernels are there already")


def _ask(files: Path, what: str) -> list[State]:
    """The zygote as it says it is; none where it has just ended."""
    try:
        pid = int(files.with_suffix(".lock").read_text())
    except (FileNotFoundError, ValueError):
        return []
    try:
        with protocol.connect(files.with_suffix(".socket"), _PATIENCE) as connection:
            protocol.send(connection, {"ask": what})
            return [State(ready=True, **{**protocol.receive(connection)[0], "files": files})]
    except (OSError, EOFError, protocol.Refused):
        return [State(files, pid)]


def _lock(files: Path) -> int | None:
    """A descriptor that holds the lock, or None where a zygote does."""
    while True:
        lock = os.open(files.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return None
        if os.fstat(lock).st_nlink:
            return lock
        os.close(lock)  # whoever held it has tidied up meanwhile
