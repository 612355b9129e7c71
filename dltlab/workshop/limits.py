"""What a learner may use of the machine, so that others can go on working.

Each process has resource limits. All processes of an account together are limited where the system
allows it: their memory by a control group, their files by a quota of the file system.
"""

import os
import pwd
import resource
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from dltlab.workshop.settings import Limits

_KILOBYTE = 1024  # the unit of quotas
_LIMIT_FILES = ("memory.max", "memory.limit_in_bytes")  # of control groups, versions 2 and 1


class LearnerLimits:
    """The limits of a workshop's learners.

    Args:
        limits: From the settings.
        workshop: Identifies the workshop.
        groups: The control group in which those of learners are made; by default that of this
            process, if it may make others.
    """

    def __init__(self, limits: Limits, workshop: str, groups: Path | None = None) -> None:
        self._disk_bytes = round(limits.disk_gb * 1e9)
        self._memory_bytes = round(limits.memory_gb * 1e9)
        self._processes = limits.processes
        parent = groups or next(_own_control_groups(), None)
        self._groups = parent / workshop if parent else None

    def set_up(self, accounts: Sequence[pwd.struct_passwd]) -> list[str]:
        """Limit the accounts as a whole.

        Returns:
            A sentence for each limit that the system does not allow.
        """
        notes = []
        try:
            self._make_groups(accounts)
        except OSError as error:
            self.tear_down()
            notes.append(
                f"Memory is limited for each process, not for each learner ({error}): the control "
                "group of this process is not delegated to it."
            )
        if reason := self._set_quotas(accounts):
            notes.append(
                f"Disk space is limited for each file, not for each learner ({reason}): the file "
                "system of the home folders has no quotas."
            )
        return notes

    def zygote_options(self) -> list[str]:
        """Return the options of the room's zygote."""
        options = [f"--limit={name}={value}" for name, value in self.resources().items()]
        if self.groups:
            options.append(f"--cgroups={self.groups}")
        return options

    @property
    def groups(self) -> Path | None:
        """The folder with a control group for each account, where the system allows that."""
        return self._groups if self._groups and self._groups.is_dir() else None

    def enter(self, account: str) -> None:
        """Limit this process and all that it will start; call it before root is given up."""
        if self._groups and (self._groups / account).is_dir():
            (self._groups / account / "cgroup.procs").write_text("0")
        for name, value in self.resources().items():
            resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (value, value))

    def tear_down(self) -> None:
        """Remove the control groups in which nothing runs."""
        if self._groups and self._groups.is_dir():
            for path in [*(path for path in self._groups.iterdir() if path.is_dir()), self._groups]:
                with suppress(OSError):
                    path.rmdir()

    def resources(self) -> dict[str, int]:
        """Return the limits of each process by the names that `resource` has for them.

        DATA makes NumPy and TensorFlow raise an error, which a kernel survives.
        """
        return {
            "CORE": 0,
            "DATA": self._memory_bytes,
            "FSIZE": self._disk_bytes,
            "NPROC": self._processes,
        }

    def _make_groups(self, accounts: Sequence[pwd.struct_passwd]) -> None:
        if self._groups is None:
            raise OSError("there are no control groups for memory")
        self._groups.mkdir(exist_ok=True)
        if (control := self._groups / "cgroup.subtree_control").exists():
            control.write_text("+memory")
        for account in accounts:
            group = self._groups / account.pw_name
            group.mkdir(exist_ok=True)
            for path in (group / name for name in _LIMIT_FILES):
                if path.exists():
                    path.write_text(str(self._memory_bytes))

    def _set_quotas(self, accounts: Sequence[pwd.struct_passwd]) -> str | None:
        """Limit the files of the accounts; return why that is not possible."""
        program = shutil.which("setquota", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
        if program is None:
            return "setquota is not installed"
        for account in accounts:
            blocks = str(self._disk_bytes // _KILOBYTE)
            quota = ["-u", account.pw_name, "0", blocks, "0", "0", _mount_point(account.pw_dir)]
            done = subprocess.run([program, *quota], capture_output=True, text=True)
            if done.returncode:
                return done.stderr.strip().partition("\n")[0] or f"exit code {done.returncode}"
        return None


def _own_control_groups() -> Iterator[Path]:
    """Yield the control groups of this process in which others with a memory limit can be made."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):  # version 1
            root = Path("/sys/fs/cgroup/memory")
            group = root / path.lstrip("/")
            yield group if group.is_dir() else root
        elif not controllers:  # version 2
            group = Path("/sys/fs/cgroup") / path.lstrip("/")
            with suppress(OSError):
                if "memory" in (group / "cgroup.subtree_control").read_text().split():
                    yield group


def _mount_point(path: str) -> str:
    folder = Path(path).resolve()
    return str(next(parent for parent in (folder, *folder.parents) if parent.is_mount()))
