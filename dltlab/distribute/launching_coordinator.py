"""The rendezvous: where launchers meet, and what decides when a job starts, restarts and ends."""

import os
import queue
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from itertools import count
from pathlib import Path
from time import monotonic
from typing import Any

from dltlab.distribute.launching_channel import Channel
from dltlab.distribute.launching_child import LOST_PEER
from dltlab.distribute.launching_plan import Member, assign, join_address
from dltlab.errors import LabError

BEAT_SECONDS = 2.0
SILENCE_SECONDS = 20.0  # after which a launcher counts as lost
_CAUSE_SECONDS = 1.0  # to wait for the failure that made a worker lose its peer
_HANDSHAKE_SECONDS = 10.0
_FAREWELL_SECONDS = 3.0
_NEVER = float("inf")

Message = dict[str, Any]


@dataclass(frozen=True)
class _Failure:
    """Why all workers are ended: the exit code, a sentence, and who knows more."""

    code: int
    reason: str
    rank: int | None = None
    node: int = 0
    signal: int | None = None
    final: bool = False  # no restart helps


class Coordinator:
    """Runs in a thread of the launcher of node 0 and speaks with all launchers.

    It makes every decision, so that all launchers agree: which rank failed first, whether to
    restart, and the exit code.

    Args:
        nodes: The number of launchers.
        token: The secret of the job.
        local: A socket whose other end has the launcher of node 0.
        listener: Where the other launchers connect; None where there are none.
        host: The address of node 0 for the others.
        start_timeout: Seconds to wait for all launchers.
        max_restarts: How often to restart all workers after a failure.
    """

    def __init__(
        self,
        *,
        nodes: int,
        token: str,
        local: socket.socket,
        listener: socket.socket | None,
        host: str,
        start_timeout: float,
        max_restarts: int,
    ) -> None:
        self._nodes, self._token = nodes, token
        self._local, self._listener, self._host = local, listener, host
        self._start_timeout, self._max_restarts = start_timeout, max_restarts
        self._events: queue.SimpleQueue[tuple[Any, Message | None, Channel]] = queue.SimpleQueue()
        self._channels: dict[int, Channel] = {}
        self._members: dict[int, Member] = {}
        self._last_beat = monotonic()
        self._readers: list[threading.Thread] = []

    def run(self) -> None:
        """Run the job to its end."""
        self._start_reader(self._local, self._host)
        if self._listener is not None:
            threading.Thread(target=self._accept, args=[self._listener], daemon=True).start()
        try:
            self._broadcast(self._meet() or self._run_attempts())
        finally:
            for channel in self._channels.values():
                channel.finish()
        deadline = monotonic() + _FAREWELL_SECONDS
        for reader in self._readers:
            reader.join(max(0.0, deadline - monotonic()))
        if self._listener is not None:
            self._listener.close()

    def _meet(self) -> Message | None:
        """Wait for all launchers; return a last message if the job cannot start."""
        deadline = _NEVER  # until this launcher itself is ready
        while len(self._members) < self._nodes:
            for node, message, channel in self._next_events(deadline - monotonic()):
                if node is None:
                    assert message is not None
                    problem = self._admit(message, channel)
                elif message is None:
                    problem = f"{self._name(node)} went away before all had come."
                elif "signal" in message:
                    return {"finish": 128 + message["signal"]}
                else:
                    continue
                if problem:
                    return {"refused": problem}
                if 0 in self._members:
                    deadline = min(deadline, monotonic() + self._start_timeout)
            if monotonic() >= deadline:
                return {"refused": self._missing()}
        return None

    def _admit(self, message: Message, channel: Channel) -> str | None:
        """Take in a launcher; return why it cannot take part."""
        member: Member = message["hello"]
        node = member["node_rank"]
        if node in self._members:
            problem = f"There are two launchers with the node rank {node}."
            _send(channel, {"refused": problem})
            return problem
        self._members[node], self._channels[node] = member, channel
        other = next(iter(self._members.values()))
        return _difference(*sorted((other, member), key=lambda member: member["node_rank"]))

    def _missing(self) -> str:
        missing = [node for node in range(self._nodes) if node not in self._members]
        nodes = "Nodes " if len(missing) > 1 else "Node "
        nodes += ", ".join(map(str, missing))
        assert self._listener is not None
        address = join_address(self._host, self._listener.getsockname()[1])
        return (
            f"{nodes} of {self._nodes} did not come to {address} within {self._start_timeout:g} s: "
            "check that the launcher runs there and can reach this address."
        )

    def _run_attempts(self) -> Message:
        members = [self._members[node] for node in range(self._nodes)]
        assignments = assign(members)
        first = members[0]
        rendezvous = join_address(first["address"], first["ports"][-1])
        start = {
            "start": assignments,
            "rendezvous": rendezvous,
            "name": f"{datetime.now():%Y%m%d-%H%M%S}-{Path(first['script'][0]).stem}-{os.getpid()}",
        }
        for attempt in count():
            self._broadcast({**start, "attempt": attempt})
            failure = self._supervise()
            if failure is None:
                return {"finish": 0}
            if failure.final or attempt == self._max_restarts:
                return {"finish": failure.code}
            number = f"{attempt + 1} of {self._max_restarts}"
            self._broadcast({"note": f"Restarting all ranks: restart {number}."})
        raise AssertionError  # not reached

    def _supervise(self) -> _Failure | None:
        """Wait until every launcher's workers have ended; return the first failure."""
        running = set(self._channels)
        failure: _Failure | None = None
        stop_at = _NEVER
        stopped = False
        while running:
            for node, message, channel in self._next_events(stop_at - monotonic()):
                if node is None:
                    _send(channel, {"refused": "The job has started without this launcher."})
                    continue
                if message is None or "ended" in message:
                    running.discard(node)
                new = self._failure_in(node, message)
                if new is None:
                    continue
                if failure is None or (failure.code == LOST_PEER != new.code and not stopped):
                    failure = new
                    delay = _CAUSE_SECONDS if new.code == LOST_PEER else 0.0
                    stop_at = min(stop_at, monotonic() + delay)
                elif new.final:
                    failure = replace(failure, final=True)
            if failure and monotonic() >= stop_at:
                stopped, stop_at = True, _NEVER
                self._broadcast({"stop": asdict(failure)})
        return failure

    def _failure_in(self, node: int, message: Message | None) -> _Failure | None:
        if message is None:
            self._channels.pop(node, None)
            reason = f"{self._name(node)} is lost: its launcher was killed or cannot be reached."
            return _Failure(1, reason, node=node, final=True)
        if "signal" in message:
            number = message["signal"]
            return _Failure(128 + number, "", node=node, signal=number, final=True)
        if message.get("code"):
            rank, code = message["exit"], message["code"]
            where = f" on {self._members[node]['host']}" if self._nodes > 1 else ""
            return _Failure(code, f"Rank {rank}{where} {message['how']}.", rank, node)
        return None

    def _next_events(self, seconds: float) -> Iterator[tuple[Any, Message | None, Channel]]:
        """Yield what has happened, after at most `seconds` and the time of a beat."""
        with suppress(queue.Empty):
            node, message, channel = self._events.get(timeout=max(0, min(seconds, BEAT_SECONDS)))
            if node is None or self._channels.get(node) is channel:
                yield node, message, channel
        if monotonic() >= self._last_beat + BEAT_SECONDS:
            self._last_beat = monotonic()
            self._broadcast({})

    def _broadcast(self, message: Message) -> None:
        for channel in list(self._channels.values()):
            _send(channel, message)

    def _name(self, node: int) -> str:
        return f"Node {node} ({self._members[node]['host']})"

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):  # closed at the end
            while True:
                connection, address = listener.accept()
                connection.settimeout(_HANDSHAKE_SECONDS)
                self._start_reader(connection, address[0])

    def _start_reader(self, connection: socket.socket, host: str) -> None:
        threading.Thread(target=self._read, args=[connection, host], daemon=True).start()

    def _read(self, connection: socket.socket, host: str) -> None:
        """Turn what a launcher sends into events; one without the token is only told so."""
        node = None
        try:
            channel = Channel(connection, self._token, server=True)
            try:
                hello = channel.receive()
            except LabError:
                channel.send({})  # with another signature than the other side expects
                raise
            if hello is None or not Member.__required_keys__ <= hello["hello"].keys():
                return
            hello["hello"]["address"] = host
            node = int(hello["hello"]["node_rank"])
            channel.set_timeout(None if connection is self._local else SILENCE_SECONDS)
            self._readers.append(threading.current_thread())
            self._events.put((None, hello, channel))
            while (message := channel.receive()) is not None:
                self._events.put((node, message, channel))
        except (OSError, LabError, ValueError, KeyError, TypeError, AttributeError):
            pass
        finally:
            connection.close()
            if node is not None:
                self._events.put((node, None, channel))


def _send(channel: Channel, message: Message) -> None:
    with suppress(OSError):  # its reader notices the loss
        channel.send(message)


def _difference(first: Member, other: Member) -> str | None:
    """Return what makes it impossible that two launchers work together."""
    names = [f"node {member['node_rank']} ({member['host']})" for member in (first, other)]
    if first["nodes"] != other["nodes"]:
        return (
            f"{names[1].capitalize()} was started for {other['nodes']} nodes, {names[0]} for "
            f"{first['nodes']}: give all of them the same --nodes."
        )
    for program, version in first["versions"].items():
        if version != other["versions"].get(program):
            return (
                f"{names[1].capitalize()} has {program} {other['versions'].get(program)}, "
                f"{names[0]} has {version}: install the same version on every node."
            )
    if list(first["script"]) != list(other["script"]):
        return (
            f"{names[1].capitalize()} was started with another {other['script'][0]} than "
            f"{names[0]}: copy the same files to every node."
        )
    return None
