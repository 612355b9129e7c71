"""Keep a server running for each member: started beforehand, back after a crash, culled if idle."""

import asyncio
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import aiohttp

from dltlab.workshop.connection import Connection

HUB_ERRORS = (aiohttp.ClientError, TimeoutError, ConnectionError)
_PAGE = 200  # users in one answer
_PAUSE_SECONDS = 1.0
_SECONDS_BETWEEN_CULLS = 60.0
_LONGEST_PAUSE = 60.0  # before a server that failed to start is tried again
_TIMEOUT = aiohttp.ClientTimeout(total=30)


class Hub:
    """The Hub's interface, for the workshop's own processes.

    Used as `async with Hub(connection) as hub`. Its methods raise one of `HUB_ERRORS` while the Hub
    is down.
    """

    def __init__(self, connection: Connection) -> None:
        self._url = connection.hub_api
        self._headers = {"Authorization": f"token {connection.hub_token}"}

    async def __aenter__(self) -> "Hub":
        self._session = aiohttp.ClientSession(headers=self._headers, timeout=_TIMEOUT)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def can_sign_in(self, url: str) -> bool:
        """Return whether the sign-in page is there, through the proxy at `url`."""
        async with self._session.get(f"{url}/hub/login", ssl=False) as response:
            return response.status == 200

    async def users(self, state: str = "") -> list[dict[str, Any]]:
        """Return the users, or those whose servers are all "inactive", "active" or "ready"."""
        users: list[dict[str, Any]] = []
        while True:
            query = f"limit={_PAGE}&offset={len(users)}" + (f"&state={state}" if state else "")
            page = await self._request("GET", f"/users?{query}")
            users += page
            if len(page) < _PAGE:
                return users

    async def add_users(self, names: Collection[str]) -> None:
        """Make the users that do not exist yet."""
        if names:
            await self._request("POST", "/users", {"usernames": list(names)}, accept=(409,))

    async def start(self, name: str) -> None:
        """Start a user's server, without waiting for it."""
        await self._request("POST", f"/users/{name}/server", {}, accept=(400,))

    async def stop(self, name: str) -> None:
        """Stop a user's server, without waiting for it."""
        await self._request("DELETE", f"/users/{name}/server", accept=(400, 404))

    async def delete_user(self, name: str) -> None:
        """Remove a user, with what the Hub knows of them."""
        await self._request("DELETE", f"/users/{name}", accept=(404,))

    async def _request(
        self, method: str, path: str, body: Any = None, accept: Collection[int] = ()
    ) -> Any:
        async with self._session.request(method, self._url + path, json=body) as response:
            text = await response.text()
            if response.status >= 400 and response.status not in accept:
                raise aiohttp.ClientError(f"{method} {path}: {response.status} {text[:200]}")
            return await response.json() if text.startswith(("{", "[")) else None


class ServerKeeper:
    """Starts the servers of members that have none, and removes users who are members no longer.

    Args:
        hub: The Hub.
        report: Prints a sentence for the instructor.
        start_at_once: How many servers may be starting at a time.
        idle_minutes: After how many minutes without activity a server is stopped; 0: never.
    """

    def __init__(
        self, hub: Hub, report: Callable[[str], None], start_at_once: int, idle_minutes: int
    ) -> None:
        self.members: frozenset[str] = frozenset()
        self._hub = hub
        self._report = report
        self._start_at_once = start_at_once
        self._idle_seconds = 60 * idle_minutes
        self._starting: dict[str, float] = {}  # since when
        self._failures: dict[str, tuple[int, float]] = {}  # how many, and when to try again
        self._culled: set[str] = set()
        self._known: frozenset[str] = frozenset()
        self._next_cull = 0.0

    async def run(self) -> None:
        """Keep the servers running until this is canceled."""
        while True:
            with suppress(*HUB_ERRORS):  # the supervisor starts the Hub anew
                await self.step()
            await asyncio.sleep(_PAUSE_SECONDS)

    async def step(self) -> None:
        """Start what is missing, and stop what is idle."""
        if self.members != self._known:
            await self._hub.add_users(self.members - self._known)
            for name in self._known - self.members:  # their server ends, and their sign-in
                await self._hub.delete_user(name)
            self._known = self.members
        now = time.monotonic()
        inactive = {user["name"] for user in await self._hub.users("inactive")}
        if self._starting:
            ready = {user["name"] for user in await self._hub.users("ready")}
            self._note_results(inactive, ready, now)
        self._culled &= inactive  # a server that runs again was asked for
        for name in sorted(self.members & inactive - self._culled - set(self._starting)):
            if len(self._starting) >= self._start_at_once:
                break
            if self._failures.get(name, (0, 0.0))[1] <= now:
                self._starting[name] = now
                await self._hub.start(name)
        if self._idle_seconds and now >= self._next_cull:
            self._next_cull = now + _SECONDS_BETWEEN_CULLS
            await self._cull()

    def _note_results(self, inactive: set[str], ready: set[str], now: float) -> None:
        for name, since in list(self._starting.items()):
            if name in ready:
                del self._starting[name]
                self._failures.pop(name, None)
            elif name in inactive and now - since > 2 * _PAUSE_SECONDS:
                del self._starting[name]
                count = self._failures.get(name, (0, 0.0))[0] + 1
                self._failures[name] = count, now + min(2.0**count, _LONGEST_PAUSE)
                if count == 1:
                    self._report(f"The server of {name} did not start; it is tried again.")

    async def _cull(self) -> None:
        for user in await self._hub.users("ready"):
            server = user["servers"].get("", {})
            last = server.get("last_activity") or server.get("started")
            if user["name"] not in self.members or not last:
                continue
            idle = datetime.now(UTC) - datetime.fromisoformat(last)
            if idle.total_seconds() > self._idle_seconds:
                self._culled.add(user["name"])
                await self._hub.stop(user["name"])


async def stop_servers(hub: Hub, seconds: float) -> None:
    """Stop all servers, and wait until they have ended, at most some seconds."""
    await asyncio.gather(*(hub.stop(user["name"]) for user in await hub.users("active")))
    end = time.monotonic() + seconds
    while time.monotonic() < end and await hub.users("active"):
        await asyncio.sleep(_PAUSE_SECONDS / 2)
