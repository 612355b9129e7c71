"""A learner's progress: one line of JSON for each answer that was checked, kept on this machine."""

import errno
import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import TypeAdapter, ValidationError

from dltlab.course.catalog import Course
from dltlab.errors import LabError
from dltlab.exercises.result import Card, Outcome
from dltlab.paths import progress_file


@dataclass(frozen=True)
class Record:
    """One checked answer."""

    time: str
    lab: str
    exercise: str
    outcome: Outcome


_RECORD = TypeAdapter(Record)


@dataclass(frozen=True)
class LabProgress:
    """How far a learner is in one lab."""

    lab: str
    title: str
    outcomes: dict[str, Outcome]
    last: str | None

    @property
    def passed(self) -> int:
        """How many exercises and questions have been answered rightly."""
        return sum(outcome is Outcome.PASSED for outcome in self.outcomes.values())

    @property
    def still_open(self) -> dict[str, Outcome]:
        """The exercises and questions that are not passed, with how they stand."""
        return {n: how for n, how in self.outcomes.items() if how is not Outcome.PASSED}

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self) | {"passed": self.passed}


def record(lab: str, exercise: str, outcome: Outcome) -> None:
    """Append one record.

    Several kernels may append at once: a record is one write in append mode. A half line, left by a
    machine that went down, is closed first, so that it costs no other record.

    Raises:
        LabError: The file cannot be written.
    """
    path = progress_file()
    entry = Record(datetime.now(UTC).isoformat(timespec="seconds"), lab, exercise, outcome)
    line = json.dumps(asdict(entry)).encode() + b"\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab+", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            if size:
                file.seek(size - 1)
                line = line if file.read(1) == b"\n" else b"\n" + line
            if file.write(line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(file.fileno())
    except OSError as error:
        raise LabError(
            f"Your progress could not be saved in {path} ({error.strerror}); make room there or "
            "set DLTLAB_PROGRESS to a file you may write."
        ) from error


def note(lab: str, exercise: str, outcome: Outcome) -> None:
    """Record the outcome; where that fails, say so and let the learner go on."""
    try:
        record(lab, exercise, outcome)
    except LabError as error:
        Card(exercise, "not saved", str(error)).show()


def records() -> list[Record]:
    """Every record that can be read, oldest first; damaged lines are passed over."""
    path = progress_file()
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise LabError(f"{path} cannot be read ({error.strerror}).") from error
    found = []
    for line in lines:
        with suppress(ValidationError):
            found.append(_RECORD.validate_json(line))
    return found


def progress(course: Course) -> list[LabProgress]:
    """How far the learner is in each lab of `course`: passed once is passed."""
    kept = records()
    summary = []
    for lab in course.read():
        outcomes = dict.fromkeys(lab.exercises, Outcome.UNATTEMPTED)
        last = None
        for entry in kept:
            if entry.lab != lab.name or entry.exercise not in outcomes:
                continue
            if entry.outcome is not Outcome.UNATTEMPTED:
                last = entry.time
            if outcomes[entry.exercise] is not Outcome.PASSED:
                outcomes[entry.exercise] = entry.outcome
        summary.append(LabProgress(lab.name, lab.front_matter.title, outcomes, last))
    return summary
