"""The Hub's spawner: each learner's server runs in the learner's own account."""

import asyncio
import os
import pwd
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from jupyterhub.spawner import LocalProcessSpawner
from jupyterhub.utils import random_port
from traitlets import Instance, Unicode

from dltlab.errors import LabError
from dltlab.kernels import admit, fork_as
from dltlab.workshop.limits import LearnerLimits

LEARNER_SERVER = (sys.executable, "-m", "dltlab.workshop.learner_server")
_ZYGOTE_SECONDS = 15.0  # until it listens, after its start
_PAUSE_SECONDS = 0.1
_SECONDS_TO_STOP = 10  # after each of SIGINT and SIGTERM


class AccountSpawner(LocalProcessSpawner):  # type: ignore[misc]
    """Starts a server as a process of its learner's account.

    Where this process is not root, all servers run in its account, with home folders in `homes`.
    """

    homes = Unicode(config=True, help="The home folders, where all use one account.")
    limits = Instance(LearnerLimits, config=True, allow_none=True, help="Of each account.")
    room = Unicode(config=True, help="The folder of the room whose kernels each account gets.")
    zygote = Unicode(config=True, help="The socket of the zygote that forks servers, if any does.")

    def __init__(self, **options: Any) -> None:
        """Set how long a server may take to stop."""
        super().__init__(**options)
        self.interrupt_timeout = self.term_timeout = _SECONDS_TO_STOP

    async def start(self) -> tuple[str, int]:
        """Start the server: a fork of the zygote, or a process of its own where that fails."""
        self.port: int = self.port or random_port()
        if self.room:
            admit(Path(self.room), pwd.getpwnam(self.user.name))
        if self.zygote and self.limits and (*self.cmd[: len(LEARNER_SERVER)],) == LEARNER_SERVER:
            try:
                self.pid = await self._fork(self.limits)
                return self.ip or "127.0.0.1", self.port
            except (OSError, LabError) as error:
                self.log.warning("The server of %s is not a fork: %s", self.user.name, error)
        address: tuple[str, int] = await super().start()
        return address

    def make_preexec_fn(self, name: str) -> Callable[[], None]:
        """Return what the new process does first: it takes the account and its limits."""
        if self.homes:
            home = self._home(name)
            home.mkdir(mode=0o700, parents=True, exist_ok=True)
            return lambda: os.chdir(home)
        become: Callable[[], None] = super().make_preexec_fn(name)
        limits = self.limits

        def take_account() -> None:
            os.umask(0o077)
            if limits:
                limits.enter(name)
            become()

        return take_account

    def user_env(self, env: dict[str, str]) -> dict[str, str]:
        """Return the environment with the variables of a login."""
        if not self.homes:
            return {**super().user_env(env), "LOGNAME": self.user.name}
        return {**env, "USER": self.user.name, "HOME": str(self._home(self.user.name))}

    async def poll(self) -> int | None:
        """Return None while the server runs.

        Of a server that an earlier Hub has started, only the process ID is known. It is compared
        with the account: after a reboot it may be another process, and one that has ended and that
        nobody has waited for is still listed.
        """
        if self.proc is None and self.pid and not self._is_running(self.pid):
            self.clear_state()
            return 0
        status: int | None = await super().poll()
        return status

    def _is_running(self, pid: int) -> bool:
        try:
            process = psutil.Process(pid)
            if process.status() == psutil.STATUS_ZOMBIE:
                return False
            if self.homes:
                return bool(process.environ().get("JUPYTERHUB_USER") == self.user.name)
            return bool(process.uids().real == pwd.getpwnam(self.user.name).pw_uid)
        except psutil.Error:
            return False

    async def _fork(self, limits: LearnerLimits) -> int:
        """Ask the zygote for a server, once it listens; return the process ID."""
        arguments = [*self.cmd[len(LEARNER_SERVER) :], *self.get_args()]
        environment = self.get_env()
        end = time.monotonic() + _ZYGOTE_SECONDS
        while True:
            try:
                return await asyncio.to_thread(
                    fork_as,
                    self.user.name,
                    Path(self.zygote),
                    arguments,
                    environment,
                    limits.resources(),
                    limits.groups,
                )
            except (FileNotFoundError, ConnectionRefusedError):
                if time.monotonic() > end:
                    raise
            await asyncio.sleep(_PAUSE_SECONDS)

    def _home(self, name: str) -> Path:
        return Path(self.homes, name)
