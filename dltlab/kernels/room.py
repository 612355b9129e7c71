"""The folder in which the zygote of a room and the servers of its accounts find each other.

A room is the learners of a workshop on one machine. Each account has a socket of its own, so that
it cannot keep others waiting: `kernels/UID/kernels.socket` in the folder of the room.
"""

import os
import pwd
from pathlib import Path

FOLDER = "kernels"
SOCKET = "kernels.socket"


def admit(room: Path, account: pwd.struct_passwd) -> None:
    """Let the account have kernels of the room's zygote, which may run already.

    Args:
        room: The folder of the room, which belongs to root and which all accounts may enter.
        account: Any account but root.

    Raises:
        OSError: The folder of the account cannot be made.
    """
    folder = socket_of(room, account.pw_uid).parent
    for path in (folder.parent, folder):
        path.mkdir(mode=0o700, exist_ok=True)
    folder.parent.chmod(0o711)
    os.chown(folder, 0, account.pw_gid)
    folder.chmod(0o710)


def socket_of(room: Path, user: int) -> Path:
    """Return the path of an account's socket."""
    return room / FOLDER / str(user) / SOCKET


def turn_debugger_off() -> None:
    """Let kernels say that they have no debugger: it would listen on a port that others reach."""
    from ipykernel import debugger

    debugger._is_debugpy_available = False
