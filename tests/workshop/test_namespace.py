"""The namespaces of the tests: what is private inside, and what is not."""

import json
import sys
from pathlib import Path

import psutil

from tests.deadlines import wait_until
from tests.workshop.namespace import REPOSITORY

LOOK = """
import json, os
import dltlab
print(json.dumps({
    "processes": len([name for name in os.listdir("/proc") if name.isdecimal()]),
    "homes": os.listdir("/home"),
    "home": os.environ["HOME"],
    "cwd": os.getcwd(),
    "dltlab": dltlab.__file__,
}))
"""
CONNECT = """
import socket
with socket.create_server(("127.0.0.1", 0)) as server:
    with socket.create_connection(server.getsockname()):
        print([name for _, name in socket.if_nameindex()])
"""


def test_accounts_and_processes_are_private_and_the_interpreter_is_not(namespace):
    created = namespace.run(["useradd", "--create-home", "ada"])
    inside = json.loads(namespace.python(LOOK, account="ada"))

    assert created.returncode == 0, created.stderr
    assert (inside["homes"], inside["home"], inside["cwd"]) == (["ada"], "/home/ada", "/home/ada")
    assert inside["dltlab"] == str(REPOSITORY / "dltlab" / "__init__.py")
    assert inside["processes"] < 10
    assert "ada:" not in Path("/etc/passwd").read_text()
    assert not Path("/home/ada").exists()


def test_killing_a_process_ends_it_inside(namespace):
    with namespace.start([sys.executable, "-c", "import time; time.sleep(1000)"]) as process:
        wait_until(psutil.Process(process.pid).children)
        (inside,) = psutil.Process(process.pid).children()
        process.kill()

    wait_until(lambda: not inside.is_running())


def test_there_is_no_network_but_loopback(namespace):
    assert namespace.python(CONNECT) == "['lo']"
