"""`dltlab launch` on two hosts, which are network namespaces, when their network breaks."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.deadlines import HANG_SECONDS, spawn, wait_until

WAIT = """
import os, time
from pathlib import Path
rank = os.environ["DLTLAB_RANK"]
Path(f"pid{rank}.tmp").write_text(str(os.getpid()))
Path(f"pid{rank}.tmp").rename(f"pid{rank}")
time.sleep(1000)
"""


def ip(*arguments: str, namespace: str = "") -> None:
    """Run a command of `ip`; skip the test where it is not permitted."""
    options = ["-n", namespace] if namespace else []
    try:
        subprocess.run(["ip", *options, *arguments], check=True, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("ip (iproute2) is not installed")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"network namespaces are not permitted: {error.stderr.strip()}")


@pytest.fixture
def hosts() -> Iterator[list[str]]:
    """Two network namespaces with the addresses 10.213.0.1 and 10.213.0.2, joined by a link."""
    names = [f"dlt{os.getpid()}{number}" for number in "ab"]
    created = []
    try:
        for name in names:
            ip("netns", "add", name)
            created.append(name)
            ip("link", "set", "lo", "up", namespace=name)
        ends = ["link", "add", "wire", "type", "veth", "peer", "name", "wire", "netns", names[1]]
        ip(*ends, namespace=names[0])
        for number, name in enumerate(names, 1):
            ip("address", "add", f"10.213.0.{number}/24", "dev", "wire", namespace=name)
            ip("link", "set", "wire", "up", namespace=name)
        yield names
    finally:
        for name in created:
            subprocess.run(["ip", "netns", "delete", name], check=False)


def test_a_network_that_breaks_ends_the_job_on_both_sides(
    hosts: list[str], tmp_path: Path, script: str
) -> None:
    (tmp_path / "train.py").write_text(WAIT)
    launchers = []
    for rank, host in enumerate(hosts):
        place = ["--nodes", "2", "--node-rank", str(rank), "--rendezvous", "10.213.0.1:29400"]
        launchers.append(
            spawn(
                ["ip", "netns", "exec", host, script, "launch", *place, "--", "train.py"],
                cwd=tmp_path,
                env=os.environ | {"DLTLAB_JOB_TOKEN": "0123456789abcdef"},
                stderr=subprocess.PIPE,
            )
        )
    pids = [tmp_path / f"pid{rank}" for rank in range(2)]
    wait_until(lambda: all(pid.exists() for pid in pids))

    ip("link", "set", "wire", "down", namespace=hosts[0])

    errors = [launcher.communicate(timeout=HANG_SECONDS)[1] for launcher in launchers]
    assert [launcher.returncode for launcher in launchers] == [1, 2], errors
    assert re.search(r"Node 1 .*is lost", errors[0])
    assert "Node 0 at 10.213.0.1:29400 is lost" in errors[1]
    assert not any(psutil.pid_exists(int(pid.read_text())) for pid in pids)
