"""Namespaces of a test's own, in which it may create accounts, take any port and kill processes.

Inside, `/etc` is a private copy, `/home`, `/run` and `/dev/shm` are empty, there is no network but
loopback, and the only processes are those that the test started. The interpreter and the repository
are where they are outside, and every account can read them. All of it ends with the namespace.

`python -m tests.workshop.namespace COMMAND ...` runs a command in such namespaces.
"""

import os
import random
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.deadlines import HANG_SECONDS, spawn

REPOSITORY = Path(__file__).resolve().parents[2]
PROGRAMS = ("unshare", "nsenter", "setpriv", "mount", "ip", "useradd")
UNSHARE = ["unshare", "--mount", "--pid", "--net", "--ipc", "--fork", "--kill-child"]
EMPTY = {"/home": "0755", "/run": "0755", "/dev/shm": "1777"}
VARIABLES = {
    "LANG": "C.UTF-8",
    "PATH": f"{Path(sys.executable).parent}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/bin",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONPATH": str(REPOSITORY),
    "TF_CPP_MIN_LOG_LEVEL": "3",
}


class Namespace:
    """A running namespace; `namespaces` starts it.

    Attributes:
        pid: Of its first process, seen from outside.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def start(
        self,
        command: Sequence[str | Path],
        account: str = "root",
        variables: Mapping[str, str] | None = None,
        **options: Any,
    ) -> "subprocess.Popen[str]":
        """Start a process inside, in the home folder of its account.

        `Popen.kill` kills it; send other signals from inside.

        Args:
            command: The program and its arguments.
            account: Who runs it, with the groups of that account.
            variables: Its environment, beside `VARIABLES` and what a login sets.
            options: For `subprocess.Popen`.
        """
        environment = [
            f"{name}={value}" for name, value in {**VARIABLES, **(variables or {})}.items()
        ]
        user = [f"--reuid={account}", f"--regid={account}", "--init-groups", "--reset-env"]
        enter = [f"--target={self.pid}", "--mount", "--pid", "--net", "--ipc"]
        shell = ["sh", "-c", 'cd && exec "$@"', "sh"]
        prefix = ["nsenter", *enter, "setpriv", "--pdeathsig=KILL", *user, "env", *environment]
        return spawn([*prefix, *shell, *command], **options)

    def run(
        self, command: Sequence[str | Path], account: str = "root", **options: Any
    ) -> "subprocess.CompletedProcess[str]":
        """Run a process inside until it ends, and return its output and exit code.

        Args:
            command: The program and its arguments.
            account: Who runs it.
            options: As `start` takes them, `input`, and `timeout` in seconds.
        """
        timeout = options.pop("timeout", HANG_SECONDS)
        text = options.pop("input", None)
        stdin = subprocess.DEVNULL if text is None else subprocess.PIPE
        pipes = {"stdin": stdin, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        with self.start(command, account, **pipes) as process:
            out, err = process.communicate(text, timeout=timeout)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def python(self, code: str, *arguments: str, account: str = "root", **options: Any) -> str:
        """Run Python code inside; return what it prints, without the last line break.

        Raises:
            AssertionError: It fails; the message is its output.
        """
        done = self.run([sys.executable, "-c", code, *arguments], account, **options)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.removesuffix("\n")


@contextmanager
def namespaces(*visible: Path) -> Iterator[Namespace]:
    """Yield a namespace, and end it and all of its processes with the block.

    Args:
        visible: Other folders that are the same inside as outside.
    """
    with tempfile.TemporaryDirectory() as staging:
        script = f"{_mounts(Path(staging), visible)}\necho ready\ncat >/dev/null"
        # The shell is the first process inside. While it waits for `cat`, it reaps the orphans.
        pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        with spawn([*UNSHARE, "sh", "-ec", script], **pipes) as process:
            assert process.stdout
            if process.stdout.readline() != "ready\n":
                pytest.skip(f"no namespaces here: {process.communicate()[1].strip()}")
            (first,) = psutil.Process(process.pid).children()
            yield Namespace(first.pid)
            process.kill()


def _mounts(staging: Path, visible: Sequence[Path]) -> str:
    """Return the shell commands that make the private folders.

    A folder above the interpreter that other accounts may not enter, as `/root`, becomes an empty
    one that they may.
    """
    needed = [REPOSITORY, Path(sys.prefix), Path(sys.base_prefix), *visible]
    empty = dict(EMPTY)
    for folder in needed:
        closed = [path for path in reversed(folder.parents) if not path.stat().st_mode & 0o001]
        empty.update({str(path): "0711" for path in closed[:1]})
    first = random.randrange(2000, 59000, 100)
    kept = [path for path in needed if any(path.is_relative_to(folder) for folder in empty)]
    commands = [
        "umask 022",
        "mount -t proc proc /proc",
        "ip link set lo up",
        f"mount -t tmpfs -o mode=0700 tmpfs {staging}",
        f"mkdir {staging}/etc",
        f"cp -a /etc/. {staging}/etc",
        # The limit of an account's processes counts those with the same ID outside, too.
        f"sed -Ei 's/^[UG]ID_MIN.*/#&/' {staging}/etc/login.defs",
        f"printf '%s\n' 'UID_MIN {first}' 'GID_MIN {first}' >> {staging}/etc/login.defs",
        f"mount --bind {staging}/etc /etc",
    ]
    for number, path in enumerate(kept):
        commands += [
            f"mkdir {staging}/{number}",
            f"mount --bind {shlex.quote(str(path))} {staging}/{number}",
        ]
    commands += [f"mount -t tmpfs -o mode={mode} tmpfs {path}" for path, mode in empty.items()]
    for number, path in enumerate(kept):
        name = shlex.quote(str(path))
        commands += [f"mkdir -p {name}", f"mount --bind {staging}/{number} {name}"]
    return "\n".join(commands)


def reason_without() -> str | None:
    """Return why there can be no namespaces here, or None."""
    if os.geteuid() != 0:
        return "system accounts and namespaces need root"
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    return f"not installed: {', '.join(missing)}" if missing else None


@pytest.fixture(scope="module")
def namespace() -> Iterator[Namespace]:
    """Namespaces that the tests of a module share."""
    if reason := reason_without():
        pytest.skip(reason)
    with namespaces() as inside:
        yield inside


if __name__ == "__main__":
    if reason := reason_without():
        raise SystemExit(reason)
    with namespaces() as own:
        sys.exit(own.start(sys.argv[1:]).wait())
