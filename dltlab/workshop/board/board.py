"""The state of a workshop's board, and what instructors and learners are told of it."""

import asyncio
import datetime
import json
import secrets
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import Any

from pydantic import TypeAdapter, ValidationError

from dltlab.course import Course
from dltlab.errors import Invalid, NotFound, Unavailable
from dltlab.exercises import ALL_EXERCISES, ProgressRecord
from dltlab.files import write_atomically
from dltlab.workshop import hand_in
from dltlab.workshop.board.pace import median_share, pace_sentence, plan_of_day
from dltlab.workshop.board.store import BoardStore, CheckedAnswer, ExerciseResult
from dltlab.workshop.board.usage import Usage
from dltlab.workshop.folder import WorkshopFolder
from dltlab.workshop.roster import Member, read_members
from dltlab.workshop.settings import read_settings

_SECONDS_TO_SEND = 15  # for a learner's server that is asked for a notebook
_MOST_CONNECTIONS = 4  # of the servers of one account
_MOST_CHARACTERS = 500  # of a message
_RECORD = TypeAdapter(ProgressRecord)


class Board:
    """A workshop as its instructor sees it.

    Args:
        folder: Of the workshop.
        url: Where learners' servers reach the board.

    Attributes:
        settings: Of the workshop.
        labs: Of the workshop.
        usage: What the learners' processes use.
        num_changes: How often something has changed.

    Raises:
        LabError: The settings, the labs or the database cannot be read.
    """

    def __init__(self, folder: WorkshopFolder, url: str) -> None:
        course = Course.find()
        self.settings = read_settings(folder).content
        self.labs = course.read(self.settings.lab_names(course))
        self.usage = Usage()
        self.num_changes = 0
        self._starts = {
            course.resolve(name).stem: start for name, start in self.settings.starts.items()
        }
        self._folder, self._url = folder, url
        self._store = BoardStore(folder.board_database)
        self._exercises = {lab.name: {*lab.exercises, ALL_EXERCISES} for lab in self.labs}
        self._changed = asyncio.Event()
        self._links: dict[str, set[asyncio.Queue[dict[str, str]]]] = defaultdict(set)
        self._awaited: dict[str, tuple[str, asyncio.Future[bytes]]] = {}
        self._handed_in = {
            (receipt.account, receipt.lab): receipt
            for member in self.members
            for receipt in hand_in.last_receipts(folder.handed_in, member.account)
        }
        self._write_room_file()

    @property
    def members(self) -> list[Member]:
        """The people of the workshop now: the roster may be extended while it runs."""
        return [member for member in read_members(self._folder) if member.enrolled]

    @property
    def learners(self) -> list[Member]:
        """The members that are no instructors."""
        return [member for member in self.members if not member.instructor]

    @property
    def hidden_solutions(self) -> list[str]:
        """The labs whose solutions are not released yet."""
        if self.settings.solutions == "always":
            return []
        releases = self._store.releases()
        return [lab.name for lab in self.labs if lab.name not in releases]

    def close(self) -> None:
        """Close the database."""
        self._store.close()

    async def wait(self, seen: int, seconds: float) -> None:
        """Wait until there are more changes than the first `seen`, at most `seconds`."""
        if self.num_changes == seen:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), seconds)

    def notify(self) -> None:
        """Tell everybody who waits that something has changed."""
        self.num_changes += 1
        self._changed.set()
        self._changed = asyncio.Event()

    # What learners' servers send

    @property
    def identifier(self) -> int:
        """The number of the database: another one has to be sent everything again."""
        return self._store.identifier

    def record(self, account: str, records: Iterable[tuple[int, str]]) -> None:
        """Record checked answers: lines of the learner's file, with their positions.

        What is no record, or of no exercise of the workshop, is left out.
        """
        answers = (self._answer(place, line) for place, line in records)
        self._store.record(account, filter(None, answers))
        self.notify()

    def set_hand(self, account: str, lab: str, raised: bool) -> None:
        """Note that a learner asks for help, or no longer does."""
        if raised:
            self._store.raise_hand(account, lab[:_MOST_CHARACTERS], time.time())
        else:
            self._store.lower_hand(account)
        self.notify()

    def note_reader(self, account: str, number: int) -> None:
        """Note that a learner was shown the announcements up to `number`."""
        self._store.note_reader(account, number)
        self.notify()

    async def hand_in(self, account: str, lab: str, notebook: bytes) -> hand_in.Receipt:
        """Keep a notebook that a learner hands in.

        Raises:
            Invalid: The workshop has no such lab, or this is not a notebook.
            Unavailable: It cannot be written.
        """
        if lab not in self._exercises:
            raise Invalid(f"This workshop has no lab {lab[:100]!r}.")
        receipt = await asyncio.to_thread(
            hand_in.store, self._folder.handed_in, account, lab, notebook
        )
        self._handed_in[account, lab] = receipt
        self.notify()
        return receipt

    # What learners' servers are told

    @contextmanager
    def linked(self, account: str) -> Iterator["asyncio.Queue[dict[str, str]]"]:
        """Count a learner's server as connected in the block; yield what it is asked to do."""
        links = self._links[account]
        queue: asyncio.Queue[dict[str, str]] = asyncio.Queue(maxsize=_MOST_CONNECTIONS)
        links.add(queue)
        self.notify()
        try:
            yield queue
        finally:
            links.discard(queue)
            self.notify()

    def require_room_for_link(self, account: str) -> None:
        """Raise if an account has too many connections.

        Raises:
            Unavailable: It has.
        """
        if len(self._links[account]) >= _MOST_CONNECTIONS:
            raise Unavailable(f"{account} is connected {_MOST_CONNECTIONS} times already.")

    def news(self, account: str) -> dict[str, Any]:
        """Return what a learner is to know now."""
        seen = self._store.readers().get(account, 0)
        return {
            "title": self.settings.title,
            "announcements": [
                asdict(announcement)
                for announcement in self._store.announcements()
                if announcement.number > seen
            ],
            "hand_raised": any(hand.account == account for hand in self._store.hands()),
            "hidden_solutions": self.hidden_solutions,
        }

    # What the instructor does

    def announce(self, text: str) -> None:
        """Tell everybody something, also those who are away, when they come back.

        Raises:
            Invalid: The text is empty or too long.
        """
        text = " ".join(text.split())
        if not 0 < len(text) <= _MOST_CHARACTERS:
            raise Invalid(f"An announcement has 1 to {_MOST_CHARACTERS} characters.")
        self._store.announce(text, time.time())
        self._write_room_file()
        self.notify()

    def release(self, lab: str, released: bool) -> None:
        """Show or hide the solutions of a lab.

        Raises:
            Invalid: The workshop has no such lab.
        """
        if lab not in self._exercises:
            raise Invalid(f"This workshop has no lab {lab[:100]!r}.")
        if released:
            self._store.release(lab, time.time())
        else:
            self._store.withdraw(lab)
        self._write_room_file()
        self.notify()

    async def notebook(self, account: str, lab: str) -> bytes:
        """Return a learner's notebook: as their server sends it, else as it was handed in last.

        Raises:
            NotFound: There is no such learner, lab or notebook.
        """
        if lab not in self._exercises or account not in {member.account for member in self.members}:
            raise NotFound("There is no such learner or lab.")
        with suppress(TimeoutError):
            if self._links[account]:
                return await self._ask_for(account, lab)
        receipt = self._handed_in.get((account, lab))
        if receipt is None:
            raise NotFound(
                f"The server of {account} does not run, and nothing was handed in for {lab}."
            )
        return await asyncio.to_thread(receipt.path.read_bytes)

    def receive(self, account: str, ticket: str, notebook: bytes) -> None:
        """Take a notebook that a learner's server was asked for; none other is kept."""
        owner, future = self._awaited.get(ticket, ("", None))
        if owner == account and future and not future.done():
            future.set_result(notebook)

    def overview(self) -> dict[str, Any]:
        """Return all that the page shows, ready for JSON."""
        now = time.time()
        learners, results = self.learners, self._store.outcomes()
        reached = self._reached(learners, results)
        day = datetime.datetime.fromtimestamp(now).date()
        plan = plan_of_day(self.labs, self._starts, day)
        readers = self._store.readers()
        accounts = {member.account for member in learners}
        return {
            "title": self.settings.title,
            "now": now,
            "labs": [
                {
                    "name": lab.name,
                    "title": lab.front_matter.title,
                    "exercises": lab.exercises,
                    "hidden": lab.name in self.hidden_solutions,
                    "reached": reached[lab.name],
                    "planned": next((p.share(now) for p in plan if p.lab == lab.name), None),
                }
                for lab in self.labs
            ],
            "pace": pace_sentence(plan, reached, now),
            "learners": [self._learner(member, results) for member in learners],
            "hands": [asdict(hand) for hand in self._store.hands() if hand.account in accounts],
            "wrong": [asdict(answer) for answer in self._store.wrong_answers()],
            "announcements": [
                asdict(announcement)
                | {"readers": sum(readers.get(a, 0) >= announcement.number for a in accounts)}
                for announcement in self._store.announcements()
            ],
            "can_hide": self.settings.solutions == "released",
            "machine": {
                name: getattr(self.usage, name)
                for name in ("memory_used", "memory_total", "cores_used", "cores_total")
            },
        }

    def _learner(self, member: Member, results: list[ExerciseResult]) -> dict[str, Any]:
        own = [result for result in results if result.account == member.account]
        latest = max(own, key=lambda result: result.last, default=None)
        return {
            "account": member.account,
            "name": member.name,
            "group": member.group,
            "connected": bool(self._links[member.account]),
            "last": latest and latest.last,
            "lab": latest and latest.lab,
            "results": [
                [result.lab, result.exercise, result.outcome, result.attempts] for result in own
            ],
            "handed_in": {
                lab: receipt.time.timestamp()
                for (account, lab), receipt in self._handed_in.items()
                if account == member.account
            },
            "memory": self.usage.memory.get(member.account),
            "cores": self.usage.cores.get(member.account),
        }

    def _reached(self, learners: list[Member], results: list[ExerciseResult]) -> dict[str, float]:
        """Return which part of each lab's exercises the class has passed."""
        passed = {lab.name: {member.account: 0 for member in learners} for lab in self.labs}
        for result in results:
            counts = passed.get(result.lab, {})
            if result.passed is not None and result.account in counts:
                counts[result.account] += 1
        return {
            lab.name: median_share([*passed[lab.name].values()], len(lab.exercises))
            for lab in self.labs
        }

    def _answer(self, place: int, line: str) -> CheckedAnswer | None:
        with suppress(ValidationError, ValueError, OverflowError):
            record = _RECORD.validate_json(line)
            if record.exercise in self._exercises.get(record.lab, ()):
                at = datetime.datetime.fromisoformat(record.time).timestamp()
                message = record.message[:_MOST_CHARACTERS]
                return CheckedAnswer(
                    record.lab,
                    record.exercise,
                    record.outcome,
                    message,
                    min(max(at, 0.0), time.time()),
                    place,
                )
        return None

    async def _ask_for(self, account: str, lab: str) -> bytes:
        """Return a notebook that the learner's server sends.

        Raises:
            TimeoutError: It does not send any.
        """
        ticket = secrets.token_urlsafe(16)
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._awaited[ticket] = (account, future)
        try:
            for queue in self._links[account]:
                with suppress(asyncio.QueueFull):
                    queue.put_nowait({"lab": lab, "ticket": ticket})
            self.notify()
            return await asyncio.wait_for(future, _SECONDS_TO_SEND)
        finally:
            del self._awaited[ticket]

    def _write_room_file(self) -> None:
        """Write what kernels need to know, where all learners can read it."""
        content = {
            "title": self.settings.title,
            "board": self._url,
            "hidden_solutions": self.hidden_solutions,
            "announced": len(self._store.announcements()),
        }
        path = self._folder.runtime / "room.json"
        write_atomically(path, json.dumps(content, indent=1) + "\n")
        path.chmod(0o644)
