"""A room: learners' accounts in a namespace, their zygote, and their kernels."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from dltlab.kernels import PROVISIONER
from dltlab.paths import ROOM
from tests.deadlines import HANG_SECONDS
from tests.kernel_fixtures import write_empty_libraries
from tests.workshop.namespace import REPOSITORY, Namespace, namespaces, reason_without

FOLDER = "/run/room"
ACCOUNTS = ("learner01", "learner02", "learner03")
ADMIT = f"""
import sys
from pathlib import Path
from dltlab.kernels import admit
from dltlab.workshop.accounts import create_account
Path("{FOLDER}").mkdir(exist_ok=True)
for name in sys.argv[1:]:
    admit(Path("{FOLDER}"), create_account(name, "test"))
"""


class Learner:
    """A learner's server with one kernel.

    Attributes:
        account: Whose.
        process: The server, seen from outside.
        kernel: What the server printed about its kernel.
    """

    def __init__(self, account: str, process: "subprocess.Popen[str]") -> None:
        assert process.stdin
        assert process.stdout
        self.account = account
        self.process = process
        self._stdin, self._stdout = process.stdin, process.stdout
        self.kernel = self._read()

    def _read(self) -> dict[str, Any]:
        line = self._stdout.readline()
        assert line, "the learner's server has ended"
        return dict(json.loads(line))

    def try_to_run(self, code: str) -> dict[str, Any]:
        """Run a cell; return its status, its output and the name of its error."""
        self._stdin.write(json.dumps(code) + "\n")
        self._stdin.flush()
        return self._read()

    def run(self, code: str) -> str:
        """Run a cell that must not raise; return its output."""
        result = self.try_to_run(code)
        assert result["status"] == "ok", result
        return str(result["output"]).strip()

    def close(self) -> None:
        """Shut the kernel and the server down; a second call does nothing."""
        self._stdin.close()
        self.process.wait(HANG_SECONDS)
        self._stdout.close()


@dataclass
class Room:
    """A room whose zygote runs.

    Attributes:
        namespace: Where.
        variables: Of the zygote's and the learners' environment.
        stack: Ends what runs.
        log: The output of the zygotes and of the learners' servers.
        zygotes: All that were started.
        learners: All that have signed in.
    """

    namespace: Namespace
    variables: dict[str, str]
    stack: ExitStack
    log: Path
    zygotes: list["subprocess.Popen[str]"] = field(default_factory=list)
    learners: list[Learner] = field(default_factory=list)

    def admit(self, *accounts: str) -> None:
        """Create accounts and let them have kernels."""
        self.namespace.python(ADMIT, *accounts)

    @property
    def zygote(self) -> int:
        """The process ID, inside, of the zygote that was started last."""
        return self.inner_pid(self.zygotes[-1])

    def start_zygote(self, *options: str, variables: dict[str, str] | None = None) -> None:
        """Start a zygote and wait until it is ready."""
        command = [sys.executable, "-m", "dltlab.kernels.room_zygote", FOLDER, *options]
        with self.log.open("a") as log:
            process = self.namespace.start(
                command,
                variables={**self.variables, **(variables or {})},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        self.zygotes.append(process)
        self.stack.enter_context(process)
        self.stack.callback(process.kill)
        assert process.stdout
        assert process.stdout.readline() == "ready\n", self.log.read_text()

    def inner_pid(self, process: "subprocess.Popen[str]") -> int:
        """Return the ID that a process started by the namespace has inside."""
        (inner,) = psutil.Process(process.pid).children()
        status = Path(f"/proc/{inner.pid}/status").read_text()
        return int(status.partition("NSpid:")[2].splitlines()[0].split()[-1])

    def sign_in(self, account: str, **variables: str) -> Learner:
        """Start a learner's server and its kernel."""
        environment = {
            **self.variables,
            ROOM: FOLDER,
            "JUPYTER_DEFAULT_PROVISIONER_NAME": PROVISIONER,
            "JUPYTER_PATH": str(REPOSITORY / "dltlab" / "course" / "jupyter"),
            **variables,
        }
        with self.log.open("a") as log:
            process = self.namespace.start(
                [sys.executable, "-m", "tests.kernels.learner_server"],
                account,
                environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        learner = Learner(account, process)
        self.learners.append(learner)
        self.stack.callback(learner.close)
        return learner

    def user(self, account: str) -> int:
        """Return the user ID of an account."""
        return int(self.namespace.run(["id", "-u", account]).stdout)

    def open_doors(self) -> list[str]:
        """Return the users whose sockets exist."""
        listed = self.namespace.run(["find", FOLDER, "-name", "kernels.socket"]).stdout
        return [Path(line).parent.name for line in listed.splitlines()]


@contextmanager
def open_room(variables: dict[str, str]) -> Iterator[Room]:
    """Yield a room without a zygote, with the learners `ACCOUNTS`."""
    if reason := reason_without():
        pytest.skip(reason)
    with namespaces() as namespace, tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        room = Room(namespace, variables, stack, Path(folder) / "log")
        room.admit(*ACCOUNTS)
        yield room


@contextmanager
def open_light_room() -> Iterator[Room]:
    """Yield a room without a zygote. In its zygotes, the large libraries are empty modules."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        write_empty_libraries(Path(folder))
        with open_room({"PYTHONPATH": f"{folder}:{REPOSITORY}"}) as room:
            yield room
