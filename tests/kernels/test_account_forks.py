"""A process of root forks those of other accounts, which inherit nothing of each other."""

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.workshop.namespace import Namespace

SOCKET = "/run/forks.socket"
HOME = "/run/forks"
# Each fork writes down what it is, runs a program, and waits for its end.
SERVE = f"""
import json, os, re, resource, subprocess, sys, time
from pathlib import Path
from types import ModuleType
from dltlab.kernels import become_forks

sys.modules["remembering"] = module = ModuleType("remembering")
module.path = Path(os.environ["HOME"], "file")
arguments = become_forks(Path({SOCKET!r}))
status = dict(line.split(":\\t") for line in Path("/proc/self/status").read_text().splitlines())
memory, pieces = open("/proc/self/mem", "rb", 0), []
for line in open("/proc/self/maps"):
    span, mode, *rest = line.split()
    if mode.startswith("rw") and "[v" not in line:
        start, end = (int(number, 16) for number in span.split("-"))
        memory.seek(start)
        pieces.append(memory.read(end - start))
facts = {{
    "arguments": arguments,
    "users": status["Uid"].split(),
    "capabilities": {{int(status[name], 16) for name in ("CapPrm", "CapEff")}} == {{0}},
    "environment": dict(os.environ),
    "home": [os.getcwd(), str(module.path)],
    "data": resource.getrlimit(resource.RLIMIT_DATA)[0],
    "umask": os.umask(0),
    "session": os.getsid(0) == os.getpid(),
    "program": subprocess.run(["sh", "-c", "exit 7"]).returncode,
    "others": sum(len(re.findall(b"secret-of-[a]da", piece)) for piece in pieces),
}}
Path(arguments[0]).write_text(json.dumps(facts))
time.sleep(1000)
"""
FORK = f"""
import os, sys, time
from pathlib import Path
from dltlab.kernels import fork_as

account, *arguments = sys.argv[1:]
environment = {{"PATH": os.environ["PATH"], "TOKEN": f"secret-of-{{account}}"}}
try:
    pid = fork_as(account, Path({SOCKET!r}), arguments, environment, {{"DATA": 10**9}}, None)
except OSError as error:
    sys.exit(str(error))
path = Path("/home", account, *arguments)
while not (path.exists() and path.stat().st_size):
    os.kill(pid, 0)
    time.sleep(0.05)
print(path.read_text())
"""


def start(namespace: Namespace) -> "subprocess.Popen[str]":
    process = namespace.start(
        [sys.executable, "-c", SERVE],
        variables={"HOME": HOME},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.fixture(scope="module")
def forking(namespace: Namespace) -> Iterator[Namespace]:
    """A namespace with two accounts, and the process that forks."""
    for account in ("ada", "bob"):
        namespace.run(["useradd", "--create-home", account])
    namespace.run(["mkdir", "--mode=0700", HOME])
    with start(namespace) as process:
        yield namespace
        process.kill()


def test_a_fork_is_what_was_asked_for(forking):
    facts = json.loads(forking.python(FORK, "ada", "facts"))

    user = forking.run(["id", "-u", "ada"]).stdout.strip()
    assert facts.pop("environment")["TOKEN"] == "secret-of-ada"
    assert facts.pop("others") > 0
    assert facts == {
        "arguments": ["facts"],
        "users": 4 * [user],
        "capabilities": True,
        "home": ["/home/ada", "/home/ada/file"],
        "data": 10**9,
        "umask": 0o077,
        "session": True,
        "program": 7,
    }


def test_a_fork_has_nothing_of_what_another_account_was_sent(forking):
    forking.python(FORK, "ada", "first")

    assert json.loads(forking.python(FORK, "bob", "second"))["others"] == 0


@pytest.mark.parametrize(
    ("account", "message"), [("root", "root and its group get no processes"), ("eve", "KeyError")]
)
def test_what_cannot_be_forked_is_refused(forking, account, message):
    done = forking.run([sys.executable, "-c", FORK, account, "facts"])

    assert message in done.stderr


def test_only_root_reaches_it(forking):
    done = forking.run([sys.executable, "-c", FORK, "bob", "facts"], "ada")

    assert "Permission denied" in done.stderr


def test_garbage_and_silence_end_a_fork_only(forking):
    code = f"""
import socket
for data in (b"", b"garbage", b"[]", b"{{}}"):
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.connect({SOCKET!r})
        if data:
            connection.send(data)
            print(connection.recv(4096).decode())
"""
    assert forking.python(code).count("refused") == 3
    assert json.loads(forking.python(FORK, "bob", "after"))["program"] == 7


def test_where_nothing_listens_the_caller_is_told(forking):
    done = forking.run([sys.executable, "-c", FORK.replace(SOCKET, "/run/none"), "bob", "facts"])

    assert "No such file" in done.stderr
