"""A learner's progress: one line of JSON for each checked answer, kept on this machine."""

import errno
import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import TypeAdapter, ValidationError

from dltlab.course import Course, Lab
from dltlab.errors import LabError, Unavailable
from dltlab.exercises.messages import Message, Outcome
from dltlab.paths import PROGRESS, progress_file

ALL_EXERCISES = "*"  # in a record: the lab was started over, and what came before does not count
_MESSAGE_CHARACTERS = 500


@dataclass(frozen=True)
class ProgressRecord:
    """One checked answer.

    Attributes:
        time: When it was checked, in UTC, as in "2017-06-27T09:30:00+00:00".
        lab: Name of the lab, as in "01_first_network".
        exercise: Name of the exercise or question; `ALL_EXERCISES` where the lab was started over.
        outcome: Outcome of the check.
        message: What a learner who did not pass was told, or the wrong option that was chosen.
    """

    time: str
    lab: str
    exercise: str
    outcome: Outcome
    message: str = ""


_RECORD = TypeAdapter(ProgressRecord)


@dataclass(frozen=True)
class LabProgress:
    """A learner's progress in one lab.

    Attributes:
        lab: Name of the lab.
        title: Title of the lab.
        outcomes: Outcome of each exercise and question; passed once is passed.
        last: When an answer was last checked, or None.
    """

    lab: str
    title: str
    outcomes: dict[str, Outcome]
    last: str | None

    @property
    def passed(self) -> int:
        """Number of exercises and questions that have been passed."""
        return sum(outcome is Outcome.PASSED for outcome in self.outcomes.values())

    @property
    def still_open(self) -> dict[str, Outcome]:
        """Outcomes of the exercises and questions that have not been passed."""
        return {
            name: outcome
            for name, outcome in self.outcomes.items()
            if outcome is not Outcome.PASSED
        }

    def as_dict(self) -> dict[str, Any]:
        """Return the fields and the number passed as plain values, ready for JSON."""
        return asdict(self) | {"passed": self.passed}


def record_outcome(lab: str, exercise: str, outcome: Outcome, message: str = "") -> None:
    """Append one record to the learner's progress.

    Several kernels may append at once: a record is one write in append mode. A partial line, left
    by a machine that lost power, is ended first, so that no other record is damaged.

    Raises:
        Unavailable: The file cannot be written.
    """
    path = progress_file()
    now = datetime.now(UTC).isoformat(timespec="seconds")
    record = ProgressRecord(now, lab, exercise, outcome, message[:_MESSAGE_CHARACTERS])
    line = json.dumps(asdict(record)).encode() + b"\n"
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
        raise Unavailable(
            f"Your progress could not be saved in {path} ({error.strerror}). Free some space, or "
            f"set {PROGRESS} to a file that you may write."
        ) from error


def restart_lab(lab: str) -> None:
    """Start the progress in a lab over; the earlier records stay in the file.

    Raises:
        Unavailable: The file cannot be written.
    """
    record_outcome(lab, ALL_EXERCISES, Outcome.UNATTEMPTED)


def try_record_outcome(lab: str, exercise: str, outcome: Outcome, message: str = "") -> None:
    """Append one record; where that fails, show a message and go on."""
    try:
        record_outcome(lab, exercise, outcome, message)
    except LabError as error:
        Message(exercise, "not saved", str(error)).show()


def read_records() -> list[ProgressRecord]:
    """Return every record, oldest first, without the damaged lines.

    Raises:
        Unavailable: The file cannot be read.
    """
    path = progress_file()
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise Unavailable(f"{path} cannot be read ({error.strerror}).") from error
    records = []
    for line in lines:
        with suppress(ValidationError):
            records.append(_RECORD.validate_json(line))
    return records


def has_passed(lab: str, exercise: str) -> bool:
    """Return whether an exercise was ever passed on this machine."""
    with suppress(LabError):
        return any(
            (record.lab, record.exercise, record.outcome) == (lab, exercise, Outcome.PASSED)
            for record in read_records()
        )
    return False


def course_progress(course: Course) -> list[LabProgress]:
    """Return the learner's progress in each valid lab of a course.

    Raises:
        Unavailable: The file of the progress cannot be read.
    """
    records = read_records()
    return [
        _lab_progress(lab, [record for record in records if record.lab == lab.name])
        for lab in course.outlines()[0]
    ]


def lab_to_continue(labs: list[LabProgress]) -> LabProgress | None:
    """Return the lab where the learner stopped, else the next with open exercises, else None."""
    last = max(labs, key=lambda lab: lab.last or "", default=None)
    position = labs.index(last) if last else 0
    return next((lab for lab in labs[position:] + labs[:position] if lab.still_open), None)


def _lab_progress(lab: Lab, records: list[ProgressRecord]) -> LabProgress:
    """Return the progress in one lab, given its records."""
    outcomes, last = dict.fromkeys(lab.exercises, Outcome.UNATTEMPTED), None
    for record in records:
        if record.exercise == ALL_EXERCISES:
            outcomes, last = dict.fromkeys(lab.exercises, Outcome.UNATTEMPTED), None
        elif record.exercise in outcomes:
            if record.outcome is not Outcome.UNATTEMPTED:
                last = record.time
            if outcomes[record.exercise] is not Outcome.PASSED:
                outcomes[record.exercise] = record.outcome
    return LabProgress(lab.name, lab.front_matter.title, outcomes, last)
