"""One process of root imports modules once, and forks processes of other accounts.

It reads no request itself, so that no fork inherits what was sent for another account: a fork reads
its request, and becomes the account.
"""

import gc
import os
import pwd
import resource
import signal
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from dltlab.kernels import protocol
from dltlab.kernels.home import HomeVariables
from dltlab.kernels.preload import fork_hazard, prepare_to_fork
from dltlab.kernels.privileges import Account, become, keep_capabilities_to_become_others

_REQUEST_SECONDS = 15.0  # for a request to come, also on a busy machine
_REPLY_SECONDS = 30.0  # many may be asked for at once


def fork_as(
    account: str,
    path: Path,
    arguments: Sequence[str],
    environment: Mapping[str, str],
    limits: Mapping[str, int],
    groups: Path | None,
) -> int:
    """Start a process of an account, as a fork of the process that listens; return its ID.

    Args:
        account: Any but root.
        path: Where `become_forks` listens; only root can reach it.
        arguments: What `become_forks` returns in the fork.
        environment: All variables of the fork.
        limits: Of its resources, by the names of `resource` without `RLIMIT_`, as "DATA".
        groups: A folder with a control group for each account, by its name.

    Raises:
        OSError: Nothing listens, or it cannot start the process.
        Unavailable: The listener belongs to another user.
    """
    request = {
        "account": account,
        "arguments": list(arguments),
        "environment": dict(environment),
        "limits": dict(limits),
        "groups": [str(groups)] if groups else [],
    }
    with protocol.connect(path, _REPLY_SECONDS) as connection:
        protocol.send(connection, request)
        try:
            reply, _ = protocol.receive(connection)
        except EOFError as error:
            raise ConnectionResetError("the fork has ended") from error
    if "refused" in reply:
        raise OSError(reply["refused"])
    return int(reply["pid"])


def become_forks(path: Path) -> list[str]:
    """Give up privileges, print "ready", and listen; return in each fork, with its arguments.

    The fork has the account, the limits, the environment and the home folder that were asked for.
    Call it when all that forks have in common is imported, in a process whose HOME is a folder of
    its own.

    Args:
        path: Of the socket; an older one is replaced.

    Raises:
        RuntimeError: A fork would not be safe.
    """
    prepare_to_fork()
    if reason := fork_hazard():
        raise RuntimeError(f"A fork would not be safe: {reason}.")
    home = HomeVariables(os.environ["HOME"])
    path.unlink(missing_ok=True)
    listener = protocol.listen(path)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks
    gc.freeze()
    keep_capabilities_to_become_others()
    print("ready", flush=True)  # noqa: T201
    with _next_fork(listener) as connection:
        return _become(connection, home)


def _next_fork(listener: socket.socket) -> socket.socket:
    """Fork for each connection of root; return it in the fork."""
    while True:
        connection, _ = listener.accept()
        try:
            if protocol.peer_user(connection) == os.getuid() and os.fork() == 0:
                listener.close()
                return connection
        except OSError as error:
            _refuse(connection, error)
        connection.close()


def _become(connection: socket.socket, home: HomeVariables) -> list[str]:
    """Become what the request asks for, and return its arguments."""
    try:
        connection.settimeout(_REQUEST_SECONDS)
        request, _ = protocol.receive(connection)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        os.umask(0o077)
        account = Account.of_user(pwd.getpwnam(request["account"]).pw_uid)
        limits = {
            getattr(resource, f"RLIMIT_{name}"): value for name, value in request["limits"].items()
        }
        become(account, limits, [Path(group) for group in request["groups"]])
        os.chdir(account.home)
        home.replace(account.home)
        os.environ.clear()
        os.environ.update(request["environment"])
        protocol.send(connection, {"pid": os.getpid()})
        return list(request["arguments"])
    except BaseException as error:
        _refuse(connection, error)
        os._exit(1)


def _refuse(connection: socket.socket, error: BaseException) -> None:
    with suppress(OSError):
        protocol.send(connection, {"refused": f"{type(error).__name__}: {error}"})
