"""Learners and the ports that other learners open."""

import shutil
import subprocess

import pytest

from dltlab.workshop.loopback import separate_loopback

LISTEN = """
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
server = socket.create_server((sys.argv[1], 0), family=family)
print(server.getsockname()[1], flush=True)
while True:
    connection, _ = server.accept()
    connection.sendall(b"hello")
    connection.close()
"""
CONNECT = """
import socket, sys
try:
    with socket.create_connection((sys.argv[1], int(sys.argv[2])), 5) as connection:
        print(connection.recv(5).decode() or "closed")
except OSError as error:
    print(type(error).__name__)
"""
SEPARATE = """
import pwd, sys
from dltlab.workshop.loopback import join_loopback, separate_loopback
users = [pwd.getpwnam(name).pw_uid for name in sys.argv[2:]]
print(separate_loopback(users, sys.argv[1]) if users else join_loopback(sys.argv[1]))
"""


@pytest.fixture
def answers(namespace):
    """Return what each account gets from a port that ada opens: an address for each family."""

    def ask(address: str) -> dict[str, str]:
        command = ["python", "-c", LISTEN, address]
        with namespace.start(command, "ada", stdout=subprocess.PIPE) as server:
            port = server.stdout.readline().strip()
            try:
                return {
                    account: namespace.python(CONNECT, address, port, account=account)
                    for account in ("ada", "bob", "root")
                }
            finally:
                server.kill()

    return ask


@pytest.fixture(scope="module")
def separated(namespace):
    if not shutil.which("nft", path="/usr/sbin:/sbin:/usr/bin"):
        pytest.skip("nft is not installed")
    for name in ("ada", "bob"):
        namespace.run(["useradd", "--create-home", name])
    before = namespace.python(SEPARATE, "dltlab-test", "ada", "bob")
    if before != "None":
        pytest.skip(before)
    return namespace


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_port_answers_its_owner_and_root_and_no_other_learner(separated, answers, address):
    assert answers(address) == {"ada": "hello", "bob": "TimeoutError", "root": "hello"}


def test_a_learner_reaches_the_ports_of_the_system(separated):
    command = ["python", "-c", LISTEN, "127.0.0.1"]
    with separated.start(command, stdout=subprocess.PIPE) as server:
        port = server.stdout.readline().strip()
        try:
            answer = separated.python(CONNECT, "127.0.0.1", port, account="bob")
        finally:
            server.kill()

    assert answer == "hello"


def test_the_rules_can_be_replaced_and_removed(separated, answers):
    assert separated.python(SEPARATE, "dltlab-test", "ada") == "None"
    assert answers("127.0.0.1")["bob"] == "hello"  # bob is no learner any more

    assert separated.python(SEPARATE, "dltlab-test", "ada", "bob") == "None"
    assert separated.python(SEPARATE, "dltlab-test") == "None"
    assert answers("127.0.0.1")["bob"] == "hello"
    assert separated.run(["nft", "list", "ruleset"]).stdout == ""


def test_it_says_where_the_packet_filter_is_missing(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name, path=None: None)

    note = separate_loopback([1000], "dltlab-test")

    assert note is not None
    assert "nft is not installed" in note
