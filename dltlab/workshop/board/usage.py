"""Memory and processor time of each learner's processes, and of the machine."""

import pwd
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

_PSS = re.compile(rb"^Pss:\s+(\d+) kB", re.MULTILINE)


@dataclass(frozen=True)
class Usage:
    """What is used at one time.

    Attributes:
        memory: Bytes by account; what processes share counts in parts where it can be read.
        cores: Processor time since the last sample, in cores, by account.
        memory_used: Bytes used on the machine.
        memory_total: Bytes of the machine.
        cores_used: Cores used on the machine since the last sample.
        cores_total: Cores of the machine.
    """

    memory: dict[str, int] = field(default_factory=dict)
    cores: dict[str, float] = field(default_factory=dict)
    memory_used: int = 0
    memory_total: int = 0
    cores_used: float = 0.0
    cores_total: int = 0


class UsageMeter:
    """Measures what the processes of system accounts use."""

    def __init__(self) -> None:
        self._seconds: dict[tuple[int, float], float] = {}
        self._time = time.monotonic()
        psutil.cpu_percent()  # which measures from one call to the next

    def sample(self, accounts: Iterable[str]) -> Usage:
        """Return what is used now; accounts that this machine does not have are left out."""
        users = _users(accounts)
        now, before = time.monotonic(), self._seconds
        elapsed = max(now - self._time, 1e-3)
        self._time, self._seconds = now, {}
        memory: dict[str, int] = dict.fromkeys(users.values(), 0)
        cores: dict[str, float] = dict.fromkeys(users.values(), 0.0)
        for process in psutil.process_iter():
            try:
                account = users.get(process.uids().real)
                if account is None:
                    continue
                key = (process.pid, process.create_time())
                seconds = sum(process.cpu_times()[:2])
                memory[account] += _memory(process)
            except psutil.Error:  # it has ended
                continue
            self._seconds[key] = seconds
            cores[account] += max(seconds - before.get(key, seconds), 0.0) / elapsed
        machine = psutil.virtual_memory()
        total = psutil.cpu_count() or 1
        return Usage(
            memory,
            cores,
            machine.total - machine.available,
            machine.total,
            psutil.cpu_percent() / 100 * total,
            total,
        )


def _users(accounts: Iterable[str]) -> dict[int, str]:
    """Return the accounts that this machine has, by their number."""
    users = {}
    for account in accounts:
        try:
            users[pwd.getpwnam(account).pw_uid] = account
        except KeyError:
            continue
    return users


def _memory(process: psutil.Process) -> int:
    """Return the memory of a process; of what it shares with others, its part."""
    try:
        pss = _PSS.search(Path(f"/proc/{process.pid}/smaps_rollup").read_bytes())
    except OSError:  # only root may read those of other accounts
        pss = None
    return int(pss[1]) * 1024 if pss else int(process.memory_info().rss)
