import asyncio
import time

import pytest

from dltlab.workshop.servers import ServerKeeper, stop_servers

LONG_AGO = "2020-01-01T00:00:00+00:00"


class FakeHub:
    """The Hub's interface, with servers that start when a test says so."""

    def __init__(self):
        self.states: dict[str, str] = {}
        self.broken: set[str] = set()
        self.last_activity = LONG_AGO

    async def add_users(self, names):
        self.states |= dict.fromkeys(names, "inactive")

    async def users(self, state=""):
        matching = {"active": ("ready", "pending"), "": ("ready", "pending", "inactive")}
        return [
            {"name": name, "servers": {"": {"last_activity": self.last_activity}}}
            for name, own in self.states.items()
            if own in matching.get(state, (state,))
        ]

    async def start(self, name):
        self.states[name] = "inactive" if name in self.broken else "pending"

    async def stop(self, name):
        self.states[name] = "inactive"

    async def delete_user(self, name):
        del self.states[name]

    def finish(self):
        for name, state in self.states.items():
            self.states[name] = "ready" if state == "pending" else state


@pytest.fixture
def hub():
    return FakeHub()


@pytest.fixture
def reports():
    return []


@pytest.fixture
def keeper(hub, reports):
    keeper = ServerKeeper(hub, reports.append, start_at_once=2, idle_minutes=0)
    keeper.members = frozenset({"a", "b", "c"})
    return keeper


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test moves."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def step(keeper):
    asyncio.run(keeper.step())


def test_servers_are_started_a_few_at_a_time(keeper, hub):
    step(keeper)
    assert sorted(hub.states.values()) == ["inactive", "pending", "pending"]

    for _ in range(2):
        hub.finish()
        step(keeper)
    hub.finish()

    assert set(hub.states.values()) == {"ready"}


def test_a_server_that_ended_is_started_again(keeper, hub):
    for _ in range(3):
        step(keeper)
        hub.finish()

    hub.states["b"] = "inactive"
    step(keeper)

    assert hub.states["b"] == "pending"


def test_who_is_not_on_the_roster_has_no_server(keeper, hub):
    hub.states["old"] = "inactive"

    for _ in range(3):
        step(keeper)
        hub.finish()

    assert hub.states.pop("old") == "inactive"
    assert set(hub.states.values()) == {"ready"}


def test_who_leaves_the_roster_is_no_user_any_more(keeper, hub):
    step(keeper)
    hub.finish()

    keeper.members = frozenset({"b", "d"})
    step(keeper)

    assert set(hub.states) == {"b", "d"}


def test_a_server_that_does_not_start_keeps_nobody_waiting_and_is_reported_once(
    keeper, hub, reports, clock
):
    hub.broken = {"a"}

    for _ in range(60):
        step(keeper)
        hub.finish()
        clock[0] += 1
    assert [hub.states[name] for name in "abc"] == ["inactive", "ready", "ready"]
    assert reports == ["The server of a did not start; it is tried again."]

    hub.broken = set()
    for _ in range(70):
        step(keeper)
        hub.finish()
        clock[0] += 1
    assert hub.states["a"] == "ready"


def test_an_idle_server_is_stopped_until_its_learner_returns(hub, clock):
    keeper = ServerKeeper(hub, print, start_at_once=3, idle_minutes=30)
    keeper.members = frozenset({"a"})
    for _ in range(3):
        step(keeper)
        hub.finish()
        clock[0] += 100
    assert hub.states["a"] == "inactive"
    step(keeper)
    assert hub.states["a"] == "inactive"

    hub.states["a"] = "ready"  # the learner has started it
    hub.last_activity = "2999-01-01T00:00:00+00:00"
    clock[0] += 100
    step(keeper)
    hub.states["a"] = "inactive"  # and it crashed
    step(keeper)

    assert hub.states["a"] == "pending"


def test_all_servers_are_stopped_at_the_end(keeper, hub):
    step(keeper)
    hub.finish()

    asyncio.run(stop_servers(hub, seconds=60))

    assert set(hub.states.values()) == {"inactive"}
