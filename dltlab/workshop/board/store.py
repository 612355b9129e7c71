"""What a workshop records, in SQLite: checked answers, raised hands, announcements, releases."""

import re
import secrets
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

from dltlab.errors import Damaged, Unavailable
from dltlab.exercises import ALL_EXERCISES, Outcome

_MAX_ANSWERS = 20_000  # of one account: a flood must not fill the disk
_SECONDS_TO_WAIT = 10  # for another process that writes

_SCHEMA = """
create table if not exists answers (
    number integer primary key,
    account text not null,
    lab text not null,
    exercise text not null,
    outcome text not null,
    message text not null,
    at real not null,
    place integer not null,
    unique (account, place, at, exercise, outcome)
) strict;
create table if not exists hands (
    account text primary key, lab text not null, at real not null
) strict;
create table if not exists announcements (
    number integer primary key autoincrement, text text not null, at real not null
) strict;
create table if not exists readers (
    account text primary key, number integer not null
) strict;
create table if not exists releases (lab text primary key, at real not null) strict;
"""
_TABLES_OF_ACCOUNTS = ("answers", "hands", "readers")


@dataclass(frozen=True)
class CheckedAnswer:
    """One checked answer, as a learner's server sends it.

    Attributes:
        lab: Name of the lab, as in "01_first_network".
        exercise: Name of the exercise or question; `ALL_EXERCISES` where the lab was started over.
        outcome: Outcome of the check.
        message: What a learner who did not pass was told.
        at: When it was checked, in seconds since 1970.
        place: Position of its record in the learner's file, which tells whether an answer was sent
            twice.
    """

    lab: str
    exercise: str
    outcome: Outcome
    message: str = ""
    at: float = 0.0
    place: int = 0


@dataclass(frozen=True)
class ExerciseResult:
    """What a learner has reached in one exercise or question.

    Attributes:
        account: The learner's account.
        lab: Name of the lab.
        exercise: Name of the exercise or question.
        outcome: Outcome of the last check; passed once is passed.
        attempts: Number of answers that were checked up to the first that passed.
        last: When an answer was last checked, in seconds since 1970.
        passed: When an answer first passed, or None.
    """

    account: str
    lab: str
    exercise: str
    outcome: Outcome
    attempts: int
    last: float
    passed: float | None


@dataclass(frozen=True)
class WrongAnswer:
    """A message that learners got for one exercise, and how many did.

    Attributes:
        lab: Name of the lab.
        exercise: Name of the exercise or question.
        message: What they were told.
        num_learners: How many learners were told it.
        num_stuck: How many of them have not passed since.
    """

    lab: str
    exercise: str
    message: str
    num_learners: int
    num_stuck: int


@dataclass(frozen=True)
class Hand:
    """A raised hand: a learner who asks for help.

    Attributes:
        account: The learner's account.
        lab: The lab that was open.
        at: When the hand was raised, in seconds since 1970.
    """

    account: str
    lab: str
    at: float


@dataclass(frozen=True)
class Announcement:
    """A message of the instructor to everybody.

    Attributes:
        number: Its number, from 1 on.
        text: What it says.
        at: When it was made, in seconds since 1970.
    """

    number: int
    text: str
    at: float


class BoardStore:
    """The database of a workshop's board.

    Several processes may use it at the same time. What a method has written survives a loss of
    power.

    Args:
        path: The file; it is created where it is missing.

    Raises:
        Damaged: The file is not such a database.
        Unavailable: It cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._version: int | None = None
        self._last_number = 0
        self._forget()
        try:
            self._connection = sqlite3.connect(path, timeout=_SECONDS_TO_WAIT)
            self._connection.execute("pragma journal_mode = wal")
            self._connection.execute("pragma synchronous = full")
            self._connection.executescript(_SCHEMA)
            if not self.identifier:
                number = 1 + secrets.randbelow(2**31 - 1)
                self._connection.execute(f"pragma user_version = {number}")
        except sqlite3.OperationalError as error:
            raise Unavailable(f"The board's database {path} cannot be opened ({error}).") from error
        except sqlite3.DatabaseError as error:
            raise Damaged(
                f"{path} is not a database of the board ({error}). Move it away; the results are "
                "sent again by the learners' servers."
            ) from error

    def close(self) -> None:
        """Close the database."""
        self._connection.close()

    @property
    def identifier(self) -> int:
        """A number that another database does not have: learners' servers send it everything."""
        ((number,),) = self._connection.execute("pragma user_version")
        return int(number)

    def record(self, account: str, answers: Iterable[CheckedAnswer]) -> None:
        """Record checked answers of one account; an answer that was sent before changes nothing.

        Answers beyond the first 20,000 of an account are dropped.
        """
        with self._connection:
            ((count,),) = self._connection.execute(
                "select count(*) from answers where account = ?", (account,)
            )
            self._connection.executemany(
                "insert or ignore into answers "
                "(account, lab, exercise, outcome, message, at, place) values (?,?,?,?,?,?,?)",
                [(account, *astuple(answer)) for answer in answers][: _MAX_ANSWERS - count],
            )

    def outcomes(self) -> list[ExerciseResult]:
        """Return what each learner has reached, by account, lab and the order of first attempts."""
        self._read_new()
        return sorted(self._results.values(), key=lambda result: (result.account, result.lab))

    def wrong_answers(self, most: int = 5) -> list[WrongAnswer]:
        """Return the commonest messages of each exercise, at most `most`, the commonest first.

        Messages that differ only in numbers, or in the line of code that they quote, are counted
        together, as the one that was given first.
        """
        self._read_new()
        wrong = [
            WrongAnswer(
                lab,
                exercise,
                message,
                len(accounts),
                sum(not self._has_passed(account, lab, exercise) for account in accounts),
            )
            for (lab, exercise, _), (message, accounts) in self._told.items()
        ]
        wrong.sort(key=lambda answer: (answer.lab, answer.exercise, -answer.num_learners))
        return _first_of_each(wrong, most)

    def raise_hand(self, account: str, lab: str, at: float) -> None:
        """Note that a learner asks for help; a hand that is up stays where it is in the order."""
        self._write("insert or ignore into hands values (?, ?, ?)", account, lab, at)

    def lower_hand(self, account: str) -> None:
        """Note that a learner was helped, or no longer asks for help."""
        self._write("delete from hands where account = ?", account)

    def hands(self) -> list[Hand]:
        """Return the raised hands, the first raised first."""
        rows = self._connection.execute("select account, lab, at from hands order by at")
        return [Hand(*row) for row in rows]

    def announce(self, text: str, at: float) -> None:
        """Keep a message to everybody."""
        self._write("insert into announcements (text, at) values (?, ?)", text, at)

    def announcements(self) -> list[Announcement]:
        """Return all messages, the oldest first."""
        rows = self._connection.execute(
            "select number, text, at from announcements order by number"
        )
        return [Announcement(*row) for row in rows]

    def note_reader(self, account: str, number: int) -> None:
        """Note that a learner was shown the announcements up to `number`."""
        self._write(
            "insert into readers values (?, ?) on conflict do update "
            "set number = max(number, excluded.number)",
            account,
            number,
        )

    def readers(self) -> dict[str, int]:
        """Return the number of the last announcement that each account was shown."""
        return dict(self._connection.execute("select account, number from readers"))

    def release(self, lab: str, at: float) -> None:
        """Show the solutions of a lab from now on."""
        self._write("insert or ignore into releases values (?, ?)", lab, at)

    def withdraw(self, lab: str) -> None:
        """Hide the solutions of a lab again."""
        self._write("delete from releases where lab = ?", lab)

    def releases(self) -> dict[str, float]:
        """Return when the solutions of each lab were released, in seconds since 1970."""
        return dict(self._connection.execute("select lab, at from releases"))

    def erase(self, account: str) -> None:
        """Delete everything about one account, also from the free pages of the file."""
        self._connection.execute("pragma secure_delete = on")
        with self._connection:
            for table in _TABLES_OF_ACCOUNTS:
                self._connection.execute(
                    f"delete from {table} where account = ?",  # noqa: S608 - a constant
                    (account,),
                )
        self._connection.execute("pragma wal_checkpoint(truncate)")
        self._forget()

    def _read_new(self) -> None:
        """Read the answers since the last time; all, where another process has changed some."""
        ((version,),) = self._connection.execute("pragma data_version")
        if version != self._version:
            self._forget()
            self._version = version
        for number, *answer in self._connection.execute(
            "select number, account, lab, exercise, outcome, at, message from answers "
            "where number > ? order by number",
            (self._last_number,),
        ):
            self._last_number = number
            self._add(*answer)

    def _add(
        self, account: str, lab: str, exercise: str, outcome: str, at: float, message: str
    ) -> None:
        if exercise == ALL_EXERCISES:
            for key in [key for key in self._results if key[:2] == (account, lab)]:
                del self._results[key]
            return
        key = (account, lab, exercise)
        self._results[key] = _continued(self._results.get(key), key, Outcome(outcome), at)
        if message and outcome in (Outcome.NOT_YET, Outcome.ERROR):
            place = (lab, exercise, _kind(message))
            self._told.setdefault(place, (message, set()))[1].add(account)

    def _has_passed(self, account: str, lab: str, exercise: str) -> bool:
        result = self._results.get((account, lab, exercise))
        return result is not None and result.passed is not None

    def _forget(self) -> None:
        self._results: dict[tuple[str, str, str], ExerciseResult] = {}
        self._told: dict[tuple[str, str, str], tuple[str, set[str]]] = {}
        self._last_number = 0

    def _write(self, statement: str, *values: object) -> None:
        with self._connection:
            self._connection.execute(statement, values)


def _continued(
    earlier: ExerciseResult | None, key: tuple[str, str, str], outcome: Outcome, at: float
) -> ExerciseResult:
    """Return the result in an exercise after one more answer."""
    if earlier is None:
        earlier = ExerciseResult(*key, Outcome.UNATTEMPTED, 0, at, None)
    attempted = outcome is not Outcome.UNATTEMPTED
    last = max(earlier.last, at)
    if earlier.passed is not None:
        return ExerciseResult(*key, earlier.outcome, earlier.attempts, last, earlier.passed)
    passed = at if outcome is Outcome.PASSED else None
    return ExerciseResult(*key, outcome, earlier.attempts + attempted, last, passed)


def _kind(message: str) -> str:
    """Return a message without what differs between learners who make the same mistake."""
    message = re.sub(r"^Line \d+ of your function( \(`.*`\))? raised", "raised", message)
    return re.sub(r"-?\d[\d.,]*(e[+-]?\d+)?", "#", message)


def _first_of_each(answers: Sequence[WrongAnswer], most: int) -> list[WrongAnswer]:
    """Return the first `most` answers of each exercise."""
    counts: dict[tuple[str, str], int] = {}
    chosen = []
    for answer in answers:
        key = (answer.lab, answer.exercise)
        counts[key] = counts.get(key, 0) + 1
        if counts[key] <= most:
            chosen.append(answer)
    return chosen
