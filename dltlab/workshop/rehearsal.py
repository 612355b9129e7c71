"""A dress rehearsal: simulated learners at a real Hub, all at once."""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dltlab.display import Result
from dltlab.errors import LabError, Unavailable
from dltlab.workshop.accounts import remove_account
from dltlab.workshop.codes import CodeBook
from dltlab.workshop.connection import free_ports
from dltlab.workshop.folder import WorkshopFolder
from dltlab.workshop.learner_client import LearnerClient
from dltlab.workshop.members import has_accounts
from dltlab.workshop.roster import read_members
from dltlab.workshop.servers import HUB_ERRORS
from dltlab.workshop.settings import Settings, read_settings
from dltlab.workshop.supervisor import read_status

if TYPE_CHECKING:
    import pandas as pd

_IMPORT = "import tensorflow as tf, keras, numpy as np, matplotlib.pyplot as plt\nprint('done')"
_PREFIX = "rehearsal-"
_SERVE = "from dltlab.cli import main; main()"
_PAUSE_SECONDS = 2.0
_START_SECONDS = 900.0


@dataclass(frozen=True)
class LearnerTimes:
    """How long a simulated learner waited, in seconds from typing the code.

    Attributes:
        account: Of the learner.
        signed_in: Until the code was accepted.
        server: Until JupyterLab answered.
        kernel: Until the first cell had run.
        imported: Until TensorFlow was imported.
        error: Why it ended before; empty if it did not.
    """

    account: str
    signed_in: float | None = None
    server: float | None = None
    kernel: float | None = None
    imported: float | None = None
    error: str = ""


@dataclass(frozen=True, repr=False)
class Rehearsal(Result):
    """What the simulated learners have seen.

    Attributes:
        learners: Each learner's times.
        start_seconds: Until all servers were ready, before anybody signed in.
    """

    _formats = dict.fromkeys(("median", "p95", "longest"), "{:.1f}".format)

    learners: tuple[LearnerTimes, ...]
    start_seconds: float

    @property
    def failures(self) -> list[LearnerTimes]:
        """Those who did not reach the end."""
        return [learner for learner in self.learners if learner.error]

    @property
    def summary(self) -> str:
        """How many reached the end."""
        count = len(self.learners)
        done = count - len(self.failures)
        errors = "".join(f" {learner.account}: {learner.error}" for learner in self.failures[:1])
        return (
            f"{done} of {count} simulated learners have imported TensorFlow, all starting at once; "
            f"their servers were ready after {self.start_seconds:.0f} s.{errors}"
        )

    @property
    def table(self) -> "pd.DataFrame":
        """Seconds from typing the code: median, 95th percentile and maximum of each step."""
        import numpy as np
        import pandas as pd

        rows = []
        for name, step in {
            "signed_in": "signed in",
            "server": "JupyterLab",
            "kernel": "kernel ready",
            "imported": "TensorFlow imported",
        }.items():
            times = [getattr(learner, name) for learner in self.learners]
            known = [seconds for seconds in times if seconds is not None]
            median, p95, longest = np.percentile(known, [50, 95, 100]) if known else [np.nan] * 3
            rows.append({"seconds until": step, "median": median, "p95": p95, "longest": longest})
        return pd.DataFrame(rows)


@dataclass(frozen=True)
class RehearsalRoom:
    """A running workshop with invented people.

    Attributes:
        folder: Of the workshop.
        url: Where they sign in.
        codes: The code of each learner, by account.
        pid: Of the supervisor.
        start_seconds: Until all servers were ready.
    """

    folder: WorkshopFolder
    url: str
    codes: Mapping[str, str]
    pid: int
    start_seconds: float


@contextmanager
def rehearsal_room(num_learners: int, settings: Settings) -> Iterator[RehearsalRoom]:
    """Run a workshop with invented people until the block ends; nothing of it is left.

    Args:
        num_learners: How many learners.
        settings: Of the workshop that is rehearsed.

    Raises:
        Unavailable: It does not start.
    """
    with tempfile.TemporaryDirectory(prefix="dltlab-") as path:
        folder = WorkshopFolder(Path(path))
        _write_workshop(folder, num_learners, settings)
        own = read_settings(folder).content
        log = folder.path / "serve.log"
        command = [sys.executable, "-c", _SERVE, "workshop", "serve", path]
        command += ["--let-learners-share-one-account"]
        began = time.monotonic()
        with log.open("w") as output:
            process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        try:
            _wait_for_servers(folder, process, log, began + _START_SECONDS)
            seconds = time.monotonic() - began
            learners = [m.account for m in read_members(folder) if not m.instructor]
            codes = CodeBook(folder).renew(learners)
            yield RehearsalRoom(folder, own.local_url, codes, process.pid, seconds)
        finally:
            process.terminate()
            process.wait()
            for member in read_members(folder) if has_accounts(own) else ():
                remove_account(member.account, folder.runtime.name)


async def rehearse(room: RehearsalRoom) -> Rehearsal:
    """Let all learners sign in at once, open JupyterLab, start a kernel and import TensorFlow."""
    learners = [_act(room.url, account, code) for account, code in room.codes.items()]
    return Rehearsal(tuple(await asyncio.gather(*learners)), room.start_seconds)


async def _act(url: str, account: str, code: str) -> LearnerTimes:
    times: dict[str, Any] = {}
    began = time.monotonic()

    def note(step: str) -> None:
        times[step] = time.monotonic() - began

    try:
        async with LearnerClient(url) as learner:
            await learner.sign_in(code)
            note("signed_in")
            await learner.open_server()
            note("server")
            socket = await learner.connect(await learner.start_kernel())
            await socket.run("1")
            note("kernel")
            await socket.run(_IMPORT)
            note("imported")
            await socket.close()
    except (LabError, *HUB_ERRORS) as error:
        return LearnerTimes(account, **times, error=str(error) or type(error).__name__)
    return LearnerTimes(account, **times)


def _write_workshop(folder: WorkshopFolder, num_learners: int, settings: Settings) -> None:
    """Write a roster of invented people, and what matters of the settings."""
    people = (f"Learner {number}" for number in range(1, num_learners + 1))
    folder.roster_file.write_text("\n".join(["name", *people, ""]))
    port, board_port = free_ports(2)
    tables = {
        "limits": settings.limits.model_dump(),
        "address": {"port": port, "board_port": board_port},
        "tls": {"self_signed": settings.tls.enabled},
        "servers": settings.servers.model_dump(include={"proxy", "start_at_once"}),
    }
    lines = [f"prefix = {json.dumps(_PREFIX)}"]
    if settings.labs:
        lines.append(f"labs = {json.dumps(settings.labs)}")
    for name, table in tables.items():
        lines += [f"[{name}]", *(f"{key} = {json.dumps(table[key])}" for key in table)]
    folder.settings_file.write_text("\n".join([*lines, ""]))


def _wait_for_servers(
    folder: WorkshopFolder, process: "subprocess.Popen[bytes]", log: Path, deadline: float
) -> None:
    while True:
        servers = asyncio.run(read_status(folder)).get("servers", {})
        if servers and servers["ready"] == servers["users"] > 1:
            return
        if process.poll() is not None or time.monotonic() > deadline:
            raise Unavailable(f"The rehearsal does not start: {log.read_text().strip()[-500:]}")
        time.sleep(_PAUSE_SECONDS)
