"""The supervisor of a workshop: it starts the processes and brings each back when it ends."""

import asyncio
import ctypes
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import filelock

from dltlab.errors import LabError, Unavailable
from dltlab.files import write_atomically
from dltlab.paths import short_path
from dltlab.workshop.connection import read_connection
from dltlab.workshop.folder import WorkshopFolder
from dltlab.workshop.members import (
    enroll_members,
    require_separation,
    separate_members,
    undo_separation,
)
from dltlab.workshop.processes import Program, programs, require_free_port
from dltlab.workshop.servers import HUB_ERRORS, Hub, ServerKeeper, stop_servers
from dltlab.workshop.settings import read_settings

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_SHORT_LIFE = 10.0  # seconds: a process that ends sooner is started again later and later
_LONGEST_PAUSE = 30.0
_START_SECONDS = 120.0
_STOP_SECONDS = 20.0
_ROSTER_SECONDS = 2.0
_PAUSE_SECONDS = 0.2


class Supervisor:
    """The processes of one workshop.

    Args:
        folder: The workshop, with the folders that `WorkshopFolder.create` makes.
        report: Prints a sentence for the instructor.
        shared_account: Whether learners may share this process' account where it is not root.
    """

    def __init__(
        self, folder: WorkshopFolder, report: Callable[[str], None], shared_account: bool = False
    ) -> None:
        self._folder = folder
        self._report = report
        self._shared_account = shared_account
        self._settings = read_settings(folder).content
        self._connection = read_connection(folder)
        self._pids: dict[str, int | None] = {}
        self._notes: set[str] = set()
        self._restarts: dict[str, int] = {}

    async def run(self) -> None:
        """Start everything, keep it running, and stop it after SIGINT or SIGTERM.

        Raises:
            LabError: Something is missing, or the Hub does not start.
        """
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        require_free_port(self._settings)
        members = self._enroll()
        processes = [
            asyncio.create_task(self._keep(program))
            for program in programs(self._folder, self._settings, self._connection)
        ]
        async with Hub(self._connection) as hub:
            limits, servers = self._settings.limits, self._settings.servers
            keeper = ServerKeeper(hub, self._report, servers.start_at_once, limits.idle_minutes)
            keeper.members = members
            work = asyncio.gather(self._start(hub, keeper), self._follow_roster(keeper))
            stopped = asyncio.create_task(stop.wait())
            either: list[asyncio.Future[Any]] = [work, stopped]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            stopped.cancel()
            work.cancel()
            (reason,) = await asyncio.gather(work, return_exceptions=True)
            self._report("Stopping the servers; everyone's work is kept.")
            with suppress(*HUB_ERRORS):
                await stop_servers(hub, _STOP_SECONDS)
        for process in processes:
            process.cancel()
        await asyncio.gather(*processes, return_exceptions=True)
        undo_separation(self._folder, self._settings)
        if isinstance(reason, Exception):
            raise reason

    def _enroll(self) -> frozenset[str]:
        """Take the people of the roster, and return whose servers are started beforehand."""
        members, cards = enroll_members(self._folder, self._settings)
        require_separation(self._settings, members, self._shared_account)
        if cards:
            self._report(f"The cards are in {short_path(cards)}. Print it, then delete it.")
        for note in separate_members(self._folder, self._settings, members):
            if note not in self._notes:
                self._notes.add(note)
                self._report(note)
        return frozenset(member.account for member in members if member.enrolled)

    async def _start(self, hub: Hub, keeper: ServerKeeper) -> None:
        """Wait for the Hub, say where it is, then keep the servers."""
        end = time.monotonic() + _START_SECONDS
        while not await _answers(hub, self._settings.local_url):
            if time.monotonic() > end:
                log = self._folder.logs / "hub.log"
                raise Unavailable(f"The Hub does not start; {short_path(log)} says why.")
            await asyncio.sleep(_PAUSE_SECONDS)
        settings = self._settings
        self._report(
            f"Sign in at {settings.url}; the board is at {settings.board_url}. Ctrl-C stops."
        )
        await keeper.run()

    async def _follow_roster(self, keeper: ServerKeeper) -> None:
        """Take new people while the workshop runs."""
        path = self._folder.roster_file
        before = _modified(path)
        while True:
            await asyncio.sleep(_ROSTER_SECONDS)
            now = _modified(path)
            if now == before or now is None:
                continue
            before = now
            try:
                keeper.members = await asyncio.to_thread(self._enroll)
                self._report(f"{short_path(path)} was read again.")
            except LabError as error:
                self._report(f"{error}\nThe roster is used as it was.")

    async def _keep(self, program: Program) -> None:
        """Run a process, and start it again whenever it ends."""
        pause = 0.0
        with (self._folder.logs / f"{program.name}.log").open("ab", buffering=0) as log:
            while True:
                began = time.monotonic()
                process = await asyncio.create_subprocess_exec(
                    *program.command,
                    env=program.environment,
                    cwd="/",
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,  # Ctrl-C is for the supervisor
                    preexec_fn=_end_with_parent,
                )
                self._note(program.name, process.pid)
                try:
                    code = await process.wait()
                except asyncio.CancelledError:
                    await _end(process)
                    raise
                self._note(program.name, None)
                pause = 0.0 if time.monotonic() - began > _SHORT_LIFE else max(1.0, 2 * pause)
                self._report(f"The process {program.name} has ended ({_cause(code)}); restarting.")
                await asyncio.sleep(min(pause, _LONGEST_PAUSE))
                self._restarts[program.name] = self._restarts.get(program.name, 0) + 1

    def _note(self, name: str, pid: int | None) -> None:
        """Write what `status` shows."""
        self._pids[name] = pid
        processes = {
            name: {"pid": pid, "restarts": self._restarts.get(name, 0)}
            for name, pid in self._pids.items()
        }
        content = {"pid": os.getpid(), "url": self._settings.url, "processes": processes}
        write_atomically(status_file(self._folder), json.dumps(content, indent=1) + "\n")


def serve(folder: WorkshopFolder, report: Callable[[str], None], shared_account: bool) -> None:
    """Run a workshop until it is stopped.

    Args:
        folder: The workshop.
        report: Prints a sentence for the instructor.
        shared_account: Whether learners may share this process' account where it is not root.

    Raises:
        LabError: It cannot start.
    """
    folder.create()
    umask = os.umask(0o077)
    try:
        with _lock(folder):
            try:
                asyncio.run(Supervisor(folder, report, shared_account).run())
            finally:
                status_file(folder).unlink(missing_ok=True)
    finally:
        os.umask(umask)


def is_running(folder: WorkshopFolder) -> bool:
    """Return whether a workshop is being served.

    Raises:
        Unavailable: Another user serves it.
    """
    if not folder.state.is_dir():
        return False
    lock = filelock.FileLock(_lock_file(folder))
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        return True
    except PermissionError as error:
        raise Unavailable(
            f"{short_path(folder.state)} belongs to another user; run the command as that user, as "
            "with sudo."
        ) from error
    lock.release()
    return False


def status_file(folder: WorkshopFolder) -> Path:
    """Return the file in which a running workshop says what it consists of."""
    return folder.state / "supervisor.json"


async def read_status(folder: WorkshopFolder) -> dict[str, Any]:
    """Return what a workshop consists of now, ready for JSON."""
    if not is_running(folder):
        return {"running": False}
    status: dict[str, Any] = {"running": True}
    with suppress(OSError, ValueError):
        status |= json.loads(status_file(folder).read_bytes())
    async with Hub(read_connection(folder)) as hub:
        with suppress(*HUB_ERRORS):
            users = await hub.users()
            ready = [user["name"] for user in users if user["servers"].get("", {}).get("ready")]
            status["servers"] = {"ready": len(ready), "users": len(users)}
    return status


def stop(folder: WorkshopFolder) -> bool:
    """Stop a workshop, and wait until it has ended; return whether it was running.

    Raises:
        Unavailable: It does not stop.
    """
    end = time.monotonic() + 2 * _STOP_SECONDS
    running = is_running(folder)
    if running:
        with suppress(OSError, ValueError, ProcessLookupError):
            pid = int(json.loads(status_file(folder).read_bytes())["pid"])
            os.kill(pid, signal.SIGTERM)
    while is_running(folder):
        if time.monotonic() > end:
            raise Unavailable("The workshop does not stop. Press Ctrl-C where it was started.")
        time.sleep(_PAUSE_SECONDS)
    return running


def _lock_file(folder: WorkshopFolder) -> Path:
    return folder.state / ".serve.lock"


@contextmanager
def _lock(folder: WorkshopFolder) -> Iterator[None]:
    """Hold the lock of a workshop that is being served."""
    lock = filelock.FileLock(_lock_file(folder))
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise Unavailable(
            f"The workshop in {short_path(folder.path)} is already being served. Stop it with: "
            f"dltlab workshop stop {short_path(folder.roster_file)}"
        ) from None
    try:
        yield
    finally:
        lock.release()


async def _answers(hub: Hub, url: str) -> bool:
    with suppress(*HUB_ERRORS):
        return await hub.can_sign_in(url)
    return False


async def _end(process: "asyncio.subprocess.Process") -> None:
    """End a process, and kill it if it takes too long."""
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), _STOP_SECONDS / 2)
    except TimeoutError:
        process.kill()
        await process.wait()


def _end_with_parent() -> None:
    """Have the kernel end this process when its parent has ended, however it ended."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _cause(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _modified(path: Path) -> int | None:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None
