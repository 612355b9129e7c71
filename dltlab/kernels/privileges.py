"""Give up the privileges of root: most of them in a zygote, all of them in its forks."""

import ctypes
import os
import pwd
import resource
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

# linux/prctl.h, linux/capability.h, linux/keyctl.h, asm/unistd.h
_SET_DUMPABLE, _CAPBSET_READ, _CAPBSET_DROP, _SET_NO_NEW_PRIVS, _CAP_AMBIENT = 4, 23, 24, 38, 47
_AMBIENT_CLEAR_ALL = 4
_CAPABILITY_VERSION_3 = 0x20080522
_SETGID, _SETUID, _SYS_RESOURCE = 6, 7, 24
_KEEP = (_SETGID, _SETUID, _SYS_RESOURCE)
_JOIN_SESSION_KEYRING = 1
_KEYCTL = {"x86_64": 250, "aarch64": 219}
_OOM_SCORE = 300  # of 1000: where memory runs out, kernels end before what the room needs

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Account:
    """Who gets a kernel.

    Attributes:
        name: The account's name.
        user: Its user ID.
        group: Its group ID.
        groups: The IDs of all of its groups.
        home: Its home folder.
    """

    name: str
    user: int
    group: int
    groups: Sequence[int]
    home: str

    @classmethod
    def of_user(cls, user: int) -> "Account":
        """Return an account by its user ID.

        Raises:
            KeyError: There is no such account.
        """
        entry = pwd.getpwuid(user)
        groups = os.getgrouplist(entry.pw_name, entry.pw_gid)
        return cls(entry.pw_name, entry.pw_uid, entry.pw_gid, groups, entry.pw_dir)


def keep_capabilities_to_become_others() -> None:
    """Keep of root's capabilities what `become` needs, for good, and hide this process's memory.

    Raises:
        OSError: The system forbids it.
    """
    for number in range(64):
        try:
            is_kept = number in _KEEP or not _prctl(_CAPBSET_READ, number)
        except OSError:
            break  # the last capability that the system knows
        if not is_kept:
            _prctl(_CAPBSET_DROP, number)
    permitted = int(_status()["CapPrm"], 16)  # in a container, root may lack some
    mask = permitted & sum(1 << number for number in _KEEP)
    header = struct.pack("<Ii", _CAPABILITY_VERSION_3, 0)
    if _libc.capset(header, struct.pack("<6I", mask, mask, 0, 0, 0, 0)):
        raise OSError(ctypes.get_errno(), "the capabilities of root cannot be reduced")
    _prctl(_SET_DUMPABLE, 0)


def become(account: Account, limits: Mapping[int, int], cgroups: Sequence[Path]) -> None:
    """Become the account for good: nothing of root is left in this process.

    Args:
        account: Any but root.
        limits: Of `resource`, soft and hard.
        cgroups: Folders with a control group for each account, by its name.

    Raises:
        OSError: A privilege may be left; this process must end.
    """
    if 0 in (account.user, account.group, *account.groups):
        raise PermissionError("root and its group get no processes here")
    for folder in cgroups:
        (folder / account.name / "cgroup.procs").write_text("0")
    Path("/proc/self/oom_score_adj").write_text(str(_OOM_SCORE))
    for number, value in {resource.RLIMIT_CORE: 0, **limits}.items():
        resource.setrlimit(number, (value, value))
    if number := _KEYCTL.get(os.uname().machine, 0):
        _libc.syscall(number, _JOIN_SESSION_KEYRING, None)  # a new one, without root's keys
    os.setgroups(account.groups)
    os.setresgid(*3 * [account.group])
    os.setresuid(*3 * [account.user])
    _prctl(_CAP_AMBIENT, _AMBIENT_CLEAR_ALL)
    _prctl(_SET_NO_NEW_PRIVS, 1)
    _check(account)
    _prctl(_SET_DUMPABLE, 1)  # as after a login: the account may look at its own processes


def _check(account: Account) -> None:
    """Raise unless the process is the account's, and cannot be anybody else's again."""
    status = _status()
    users = [str(account.user)] * 4
    groups = [str(account.group)] * 4
    if (
        status["Uid"].split() != users
        or status["Gid"].split() != groups
        or {*map(int, status["Groups"].split())} != {*account.groups}
        or any(int(status[f"Cap{kind}"], 16) for kind in ("Inh", "Prm", "Eff", "Amb"))
        or status["NoNewPrivs"] != "1"
    ):
        raise PermissionError("this process has kept privileges")
    try:
        os.setuid(0)
    except PermissionError:
        return
    raise PermissionError("this process can become root again")


def _status() -> dict[str, str]:
    lines = Path("/proc/self/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines)


def _prctl(option: int, *arguments: int) -> int:
    padded = [ctypes.c_ulong(number) for number in (*arguments, 0, 0, 0, 0)[:4]]
    result = int(_libc.prctl(option, *padded))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
