"""The system accounts of a workshop's learners.

The comment field of an account says which workshop made it. Other accounts are never changed.
"""

import os
import pwd
import re
import shutil
import stat
import subprocess
from contextlib import suppress
from pathlib import Path

import psutil

from dltlab.errors import Invalid, Unavailable

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,30}")
_COMMENT = "dltlab workshop {}"
_SEARCH_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
# Where every account may leave files.
_SHARED_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm", "/dev/mqueue")  # noqa: S108


def create_account(name: str, workshop: str) -> pwd.struct_passwd:
    """Create a learner's account, with a home folder that is closed to others, and return it.

    An account that this workshop has made before is returned as it is.

    Args:
        name: Lowercase letters, digits, hyphens and underscores, beginning with a letter.
        workshop: Identifies the workshop, in letters, digits and hyphens.

    Raises:
        Invalid: The name is not allowed, or belongs to an account or a home folder that this
            workshop did not make.
        Unavailable: The system cannot make accounts.
    """
    if not _NAME.fullmatch(name):
        raise Invalid(
            f"{name!r} cannot be the name of an account: use up to 31 lowercase letters, digits, "
            "hyphens and underscores, beginning with a letter."
        )
    account = _find(name)
    if account is None:
        comment = _COMMENT.format(workshop)
        options = ["--create-home", "--user-group", "--no-log-init", "--key=HOME_MODE=0700"]
        _run("useradd", *options, "--shell=/bin/bash", f"--comment={comment}", name)
        account = pwd.getpwnam(name)
    elif not _is_of(account, workshop):
        raise Invalid(
            f"There is already an account {name} on this machine, which this workshop did not "
            f"make. Remove it with `userdel {name}` if nobody needs it."
        )
    home = Path(account.pw_dir).lstat()
    if not stat.S_ISDIR(home.st_mode) or home.st_uid != account.pw_uid or home.st_mode & 0o077:
        raise Invalid(
            f"{account.pw_dir} must belong to {name} and be closed to others. Rename it, then "
            "start the workshop again."
        )
    return account


def require_account(name: str) -> None:
    """Raise unless the system has an account of this name.

    Raises:
        Invalid: It has none.
    """
    if _find(name) is None:
        raise Invalid(
            f"There is no account {name} on this machine, and people sign in with the system's "
            "accounts. Correct the roster, or make the account."
        )


def remove_account(name: str, workshop: str) -> None:
    """End what runs as an account of the workshop, and remove the account with all of its files.

    Nothing happens where there is no such account.

    Raises:
        Invalid: The workshop did not make the account.
        Unavailable: The system cannot remove it.
    """
    account = _find(name)
    if account is None:
        return
    if not _is_of(account, workshop):
        raise Invalid(f"This workshop did not make the account {name}, and does not remove it.")
    _run("usermod", "--lock", "--expiredate=1", name)  # nothing can be started meanwhile
    while processes := [process for process in psutil.process_iter() if _runs_as(process, account)]:
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(processes, timeout=1)
    for path in (path for folder in _SHARED_FOLDERS for path in _owned(Path(folder), account)):
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    _run("userdel", "--remove", name)


def _is_of(account: pwd.struct_passwd, workshop: str) -> bool:
    """Return whether the workshop has made the account."""
    return account.pw_gecos.rstrip(",") == _COMMENT.format(workshop) and account.pw_uid != 0


def _find(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


def _runs_as(process: psutil.Process, account: pwd.struct_passwd) -> bool:
    try:
        return account.pw_uid in process.uids() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _owned(folder: Path, account: pwd.struct_passwd) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if path.lstat().st_uid == account.pw_uid]
    except OSError:
        return []


def _run(program: str, *arguments: str) -> None:
    path = shutil.which(program, path=_SEARCH_PATH)
    if path is None:
        raise Unavailable(
            f"{program} is not installed; install the package passwd or shadow-utils."
        )
    done = subprocess.run([path, *arguments], capture_output=True, text=True)
    if done.returncode:
        raise Unavailable(f"{program} failed: {done.stderr.strip() or done.returncode}")
