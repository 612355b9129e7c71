"""The zygote of a room: one process of root forks the kernels of all learners of a workshop.

It runs as `python -m dltlab.kernels.room_zygote ROOM`, prints "ready", and serves each account that
`room.admit` has admitted, also later. It reads nothing that a learner sends: the system says who
has connected, and a fork becomes that account before it reads the request.
"""

import argparse
import gc
import os
import resource
import selectors
import socket
import stat
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from dltlab.kernels import protocol
from dltlab.kernels.child import Launch, refuse, run
from dltlab.kernels.forked_kernels import ForkedKernels
from dltlab.kernels.home import HomeVariables
from dltlab.kernels.key import is_read_on_import, variables_read_on_import
from dltlab.kernels.preload import (
    Preloaded,
    fork_hazard,
    preload,
    prepare_to_fork,
    stream_handlers,
)
from dltlab.kernels.privileges import Account, become, keep_capabilities_to_become_others
from dltlab.kernels.room import FOLDER, socket_of, turn_debugger_off

MAX_KERNELS = 8  # of an account at a time
BURST = 8  # kernels that an account may start at once ...
SECONDS_PER_KERNEL = 2.0  # ... and from then on, one in this time
_MAX_ENDED = 8  # kernels of an account that have ended, and whose exit code it has not taken
_REQUEST_SECONDS = 15.0  # for a server to send its request, also on a busy machine
_LOOK_SECONDS = 1.0  # how often the folder is searched for accounts


@dataclass(frozen=True)
class Setup:
    """What all forks of a room have in common.

    Attributes:
        preloaded: What the zygote has imported.
        home: The variables that contain the zygote's home folder.
        limits: Of `resource`, for each kernel.
        cgroups: Folders with a control group for each account.
    """

    preloaded: Preloaded
    home: HomeVariables
    limits: Mapping[int, int] = field(default_factory=dict)
    cgroups: Sequence[Path] = ()


@dataclass(eq=False)
class Door:
    """Where the servers of one account ask for kernels.

    Attributes:
        account: Whose.
        listener: The socket.
        inode: Of the socket's file.
        allowance: How many kernels may start now.
        since: When that was computed.
    """

    account: Account
    listener: socket.socket
    inode: int
    allowance: float = BURST
    since: float = field(default_factory=time.monotonic)

    def seconds_to_wait(self) -> float:
        """Return how long it takes until a kernel may start."""
        now = time.monotonic()
        earned = (now - self.since) / SECONDS_PER_KERNEL
        self.allowance, self.since = min(BURST, self.allowance + earned), now
        return max(0.0, 1 - self.allowance) * SECONDS_PER_KERNEL


class RoomZygote:
    """Listens at the door of each account, forks kernels, and reports their exit codes.

    Args:
        room: The folder of the room.
        setup: Of the forks.
    """

    def __init__(self, room: Path, setup: Setup) -> None:
        self._room = room
        self._setup = setup
        self._selector = selectors.DefaultSelector()
        self._kernels = ForkedKernels(self._selector)
        self._doors: dict[int, Door] = {}
        self._shut: dict[Door, float] = {}  # until when those without allowance do not listen
        self._reported: set[str] = set()
        self._is_replaced = False
        self._look()

    def serve(self) -> Launch | None:
        """Answer requests until another zygote has replaced this one; in a fork, return its launch.

        A zygote that is replaced ends with its last kernel.
        """
        while self._kernels or not self._is_replaced:
            for key, _ in self._selector.select(self._seconds_to_next_event()):
                if not isinstance(key.data, Door):
                    self._kernels.handle(key.data)
                elif launch := self._answer(key.data):
                    return launch
            now = time.monotonic()
            for door in [door for door, until in self._shut.items() if until <= now]:
                del self._shut[door]
                self._selector.register(door.listener, selectors.EVENT_READ, door)
            if now >= self._next_look:
                self._look()
        return None

    def _seconds_to_next_event(self) -> float:
        return max(0.0, min([self._next_look, *self._shut.values()]) - time.monotonic())

    def _look(self) -> None:
        """Open a door for each account that has been admitted; close the others."""
        self._next_look = time.monotonic() + _LOOK_SECONDS
        admitted = {*self._admitted()}
        for user, door in list(self._doors.items()):
            path = socket_of(self._room, user)
            if path.exists() and path.stat().st_ino != door.inode:
                self._is_replaced = True
            if user not in admitted or self._is_replaced:
                self._close(self._doors.pop(user))
        for user in admitted - self._doors.keys() if not self._is_replaced else ():
            try:
                self._doors[user] = self._open(user)
            except (OSError, KeyError) as error:
                self._report(f"no kernels for the user {user}: {error!r}")

    def _admitted(self) -> Iterator[int]:
        """Yield the users whose folder only root can write to."""
        for path in (self._room / FOLDER).iterdir():
            status = path.lstat()
            is_closed = stat.S_ISDIR(status.st_mode) and not status.st_mode & 0o022
            if path.name.isdecimal() and is_closed and status.st_uid == 0:
                yield int(path.name)

    def _open(self, user: int) -> Door:
        account = Account.of_user(user)
        path = socket_of(self._room, user)
        temporary = path.with_suffix(f".{os.getpid()}")
        temporary.unlink(missing_ok=True)
        listener = protocol.listen(temporary)
        temporary.chmod(0o666)  # who may not enter the folder cannot reach it
        listener.setblocking(False)
        door = Door(account, listener, temporary.stat().st_ino)
        temporary.rename(path)
        self._selector.register(listener, selectors.EVENT_READ, door)
        return door

    def _close(self, door: Door) -> None:
        if self._shut.pop(door, None) is None:
            self._selector.unregister(door.listener)
        door.listener.close()

    def _report(self, text: str) -> None:
        """Write a line to the log, once."""
        if text not in self._reported:
            self._reported.add(text)
            print(text, file=sys.stderr, flush=True)  # noqa: T201

    def _answer(self, door: Door) -> Launch | None:
        """Fork a kernel for the next connection; return its launch in the fork."""
        if seconds := door.seconds_to_wait():
            self._selector.unregister(door.listener)
            self._shut[door] = time.monotonic() + seconds
            return None
        try:
            connection, _ = door.listener.accept()
        except OSError:
            return None
        connection.setblocking(False)
        answer = self._refusal(door, connection)
        try:
            pid = None if answer else os.fork()
        except OSError as error:
            pid, answer = None, {"refused": f"the zygote cannot fork: {error}"}
        if pid == 0:
            return self._prepare(connection, door.account)
        if pid is None:
            with connection, suppress(OSError):
                protocol.send(connection, answer)
        else:
            self._kernels.add(pid, connection, door.account.user)
        return None

    def _refusal(self, door: Door, connection: socket.socket) -> protocol.Message:
        """Return the answer to a request that gets no kernel; else take it from the allowance."""
        user = door.account.user
        if protocol.peer_user(connection) != user:
            return {"refused": "this is the socket of another account"}
        door.allowance -= 1
        kernels = [kernel for kernel in self._kernels if kernel.user == user]
        ended = [kernel for kernel in kernels if kernel.has_ended]
        for kernel in ended[:-_MAX_ENDED]:
            self._kernels.forget(kernel)
        if len(kernels) - len(ended) >= MAX_KERNELS:
            return {
                "denied": f"You have {MAX_KERNELS} kernels already. Shut one down first: "
                "in the File menu of a notebook, or under Running Terminals and Kernels."
            }
        if reason := fork_hazard():
            return {"refused": f"the zygote cannot fork: {reason}"}
        return {}

    def _prepare(self, connection: socket.socket, account: Account) -> Launch:
        """In a fork: become the account, and only then read what it has sent."""
        try:
            self._close_all()
            become(account, self._setup.limits, self._setup.cgroups)
            connection.settimeout(_REQUEST_SECONDS)
            request, descriptors = protocol.receive(connection)
            if reason := _mismatch(request, self._setup.preloaded):
                protocol.send(connection, {"refused": reason})
                os._exit(1)
            self._setup.home.replace(request["env"].get("HOME", account.home))
            preloaded = self._setup.preloaded
            return Launch(connection, request, descriptors, preloaded, stream_handlers())
        except BaseException as error:
            refuse(connection, error)

    def _close_all(self) -> None:
        self._selector.close()
        for door in self._doors.values():
            door.listener.close()
        self._kernels.close()


def _mismatch(request: protocol.Message, preloaded: Preloaded) -> str | None:
    """Return why a cold kernel would differ from a fork of this zygote, or None."""
    command, interpreter = request["command"], [sys.executable, *_python_options()]
    if command[: command.index("-m")] != interpreter:
        return f"the kernels of the room run {' '.join(interpreter)}"
    here, there = os.environ, request["env"]
    for name in sorted({*here, *there} - {*preloaded.variables}):
        if (is_read_on_import(name) or name == "PYTHONPATH") and here.get(name) != there.get(name):
            return f"{name} differs from that of the room"
    return None


def _python_options() -> list[str]:
    """Return the options of Python itself, with which this process was started."""
    return sys.orig_argv[1 : sys.orig_argv.index("-m")]


def main() -> None:
    """Import the libraries, give up privileges, then serve; in a fork, run its kernel."""
    arguments = _arguments()
    room = arguments.room.absolute()
    home = room / "zygote"
    home.mkdir(mode=0o700, exist_ok=True)
    (room / FOLDER).mkdir(mode=0o711, exist_ok=True)
    if os.environ.get("HOME") != str(home):
        _start_again(home)
    if sys.path[0] in ("", os.getcwd()):
        del sys.path[0]
    os.chdir("/")
    os.umask(0o022)
    preloaded = preload()
    turn_debugger_off()
    prepare_to_fork()
    if reason := fork_hazard():
        raise SystemExit(f"a fork would not be safe: {reason}")
    setup = Setup(preloaded, HomeVariables(str(home)), dict(arguments.limit), arguments.cgroups)
    gc.freeze()
    keep_capabilities_to_become_others()
    zygote = RoomZygote(room, setup)
    print("ready", flush=True)  # noqa: T201
    for name in [name for name in sys.modules if name.partition(".")[0] == "dltlab"]:
        del sys.modules[name]  # each kernel imports dltlab as it is on disk
    if launch := zygote.serve():
        del zygote
        run(launch)


def _start_again(home: Path) -> NoReturn:
    """Start this program with few variables: each kernel can read those that it started with."""
    variables = variables_read_on_import(os.environ)
    environment = {name: variables[name] for name in variables if not name.startswith("XDG_")}
    environment["HOME"] = str(home)
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)  # noqa: S606


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="dltlab.kernels.room_zygote", description=__doc__)
    parser.add_argument("room", type=Path, help="the folder that DLTLAB_ROOM names")
    parser.add_argument(
        "--limit",
        type=_limit,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a resource limit of each kernel, such as DATA=4000000000 or NPROC=512",
    )
    parser.add_argument(
        "--cgroups",
        type=Path,
        action="append",
        default=[],
        metavar="FOLDER",
        help="a folder with a control group for each account, by its name",
    )
    return parser.parse_args()


def _limit(text: str) -> tuple[int, int]:
    name, _, value = text.partition("=")
    return int(getattr(resource, f"RLIMIT_{name}")), int(value)


if __name__ == "__main__":
    main()
