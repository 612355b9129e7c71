"""Launchers are played by this process, on channels of their own."""

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from dltlab.distribute.launching_channel import Channel
from dltlab.distribute.launching_child import LOST_PEER
from dltlab.distribute.launching_coordinator import Coordinator
from tests.deadlines import HANG_SECONDS

TOKEN = "a secret of the job"
HELLO = {
    "nodes": 2,
    "address": "",
    "ports": [1, 2],
    "cores": [0],
    "gpus": [],
    "versions": {"Python": "3.11", "TensorFlow": "2.21.0", "dltlab": "0.1.0"},
    "script": ("train.py", "digest"),
}


class Job:
    """A coordinator and the channels to it."""

    def __init__(self, **options: Any) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.local, remote = socket.socketpair()
        coordinator = Coordinator(
            nodes=2,
            token=TOKEN,
            local=remote,
            listener=self.listener,
            host="127.0.0.1",
            **{"start_timeout": HANG_SECONDS, "max_restarts": 0, **options},
        )
        self.thread = threading.Thread(target=coordinator.run, daemon=True)
        self.thread.start()
        self.channels: list[Channel] = []

    def join(self, node: int, token: str = TOKEN, **hello: Any) -> Channel:
        """Join as a launcher; that of node 0 is local."""
        connection = self.local
        if node or hello.pop("remote", False):
            connection = socket.create_connection(self.listener.getsockname())
        channel = Channel(connection, token, server=False)
        channel.send({"hello": {**HELLO, "node_rank": node, "host": f"host{node}", **hello}})
        self.channels.append(channel)
        return channel


@pytest.fixture
def make_job() -> Iterator[Any]:
    jobs: list[Job] = []

    def make(**options: Any) -> Job:
        jobs.append(Job(**options))
        return jobs[-1]

    yield make
    for job in jobs:
        for channel in job.channels:
            channel.close()
        job.local.close()
        job.thread.join(HANG_SECONDS)
        assert not job.thread.is_alive()


def next_message(channel: Channel, key: str) -> Any:
    """Return the value of the next message with this key."""
    message = channel.receive()
    while message is not None and key not in message:
        message = channel.receive()
    assert message is not None
    return message[key]


def finish(channels: list[Channel]) -> list[int]:
    for channel in channels:
        channel.send({"ended": True})
    return [next_message(channel, "finish") for channel in channels]


def test_all_launchers_get_the_same_plan(make_job):
    job = make_job()
    channels = [job.join(1), job.join(0)]

    plans = [next_message(channel, "start") for channel in channels]

    assert plans[0] == plans[1]
    assert [worker["address"] for worker in plans[0]] == ["127.0.0.1:1", "127.0.0.1:1"]
    assert finish(channels) == [0, 0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"nodes": 3}, "Node 1 (host1) was started for 3 nodes, node 0 (host0) for 2"),
        (
            {"versions": {**HELLO["versions"], "TensorFlow": "2.20.0"}},  # type: ignore[dict-item]
            "Node 1 (host1) has TensorFlow 2.20.0, node 0 (host0) has 2.21.0",
        ),
        (
            {"versions": {**HELLO["versions"], "Python": "3.12"}},  # type: ignore[dict-item]
            "Node 1 (host1) has Python 3.12, node 0 (host0) has 3.11",
        ),
        ({"script": ("train.py", "x")}, "Node 1 (host1) was started with another train.py"),
    ],
)
def test_launchers_that_do_not_match_are_refused(make_job, changes, message):
    job = make_job()
    first = job.join(0)
    second = job.join(1, **changes)

    refusal = next_message(first, "refused")
    assert next_message(second, "refused") == refusal
    assert message in refusal


def test_a_rank_of_two_launchers_is_refused(make_job):
    job = make_job()
    channels = [job.join(0), job.join(0, remote=True)]

    for channel in channels:
        assert "two launchers with the node rank 0" in next_message(channel, "refused")


def test_a_launcher_that_does_not_come_is_named(make_job):
    job = make_job(start_timeout=0.2)
    assert "Node 1 of 2 did not come to 127.0.0.1:" in next_message(job.join(0), "refused")


def test_strangers_do_not_disturb(make_job):
    job = make_job()
    first = job.join(0)
    job.join(1, token="another secret")
    with socket.create_connection(job.listener.getsockname()) as stranger:
        stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
    with socket.create_connection(job.listener.getsockname()) as stranger:
        confused = Channel(stranger, TOKEN, server=False)
        confused.send({"hello": {"node_rank": 1}})
        assert confused.receive() is None

    second = job.join(1)
    assert next_message(first, "start") == next_message(second, "start")
    late = job.join(1)
    assert "has started without" in next_message(late, "refused")
    assert finish([first, second]) == [0, 0]


def test_the_first_failure_decides(make_job):
    job = make_job()
    first, second = job.join(0), job.join(1)
    next_message(first, "start")
    second.send({"exit": 1, "code": 3, "how": "failed"})

    failure = next_message(first, "stop")
    assert (failure["rank"], failure["node"]) == (1, 1)
    assert failure["reason"] == "Rank 1 on host1 failed."
    first.send({"exit": 0, "code": 143, "how": "was ended"})
    assert finish([first, second]) == [3, 3]


def test_a_lost_peer_is_the_cause_only_if_nothing_else_is(make_job):
    job = make_job()
    first, second = job.join(0), job.join(1)
    next_message(first, "start")
    first.send({"exit": 0, "code": LOST_PEER, "how": "lost its peer"})
    assert next_message(first, "stop")["rank"] == 0
    second.send({"exit": 1, "code": 9, "how": "came too late"})

    assert finish([first, second]) == [LOST_PEER, LOST_PEER]


def test_a_failed_attempt_is_repeated(make_job):
    job = make_job(max_restarts=1)
    channels = [job.join(0), job.join(1)]
    for attempt in range(2):
        assert [next_message(channel, "attempt") for channel in channels] == [attempt] * 2
        channels[1].send({"exit": 1, "code": 3, "how": "failed"})
        next_message(channels[0], "stop")
        if attempt == 0:
            for channel in channels:
                channel.send({"ended": True})

    assert finish(channels) == [3, 3]


def test_a_lost_launcher_ends_the_job(make_job):
    job = make_job(max_restarts=5)
    first, second = job.join(0), job.join(1)
    next_message(second, "start")
    second.close()

    assert "Node 1 (host1) is lost" in next_message(first, "stop")["reason"]
    assert finish([first]) == [1]
