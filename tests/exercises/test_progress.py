import json
import subprocess
import sys

import pytest

from dltlab.errors import Unavailable
from dltlab.exercises import (
    LabProgress,
    Outcome,
    course_progress,
    lab_to_continue,
    restart_lab,
)
from dltlab.exercises.progress import read_records, record_outcome, try_record_outcome
from tests.deadlines import HANG_SECONDS

LAB, NAME = "01_my_topic", "mean_squared_error"
NUMBERS = ("01", "02", "03")

APPEND = """
import sys
from dltlab.exercises import Outcome
from dltlab.exercises.progress import record_outcome
print("ready", flush=True)
sys.stdin.readline()
for number in range(200):
    record_outcome(sys.argv[1], "x" * number, Outcome.PASSED)
"""


@pytest.fixture
def summary(course):
    """Return a function that reads the progress in the course's one lab."""

    def of():
        (lab,) = course_progress(course)
        return lab

    return of


def test_without_a_file_nothing_is_attempted(summary, progress_file):
    assert read_records() == []
    assert summary().outcomes == {NAME: Outcome.UNATTEMPTED}
    assert summary().last is None
    assert not progress_file.exists()


def test_a_record_is_one_line_of_json_with_the_time_in_utc(progress_file):
    record_outcome(LAB, NAME, Outcome.NOT_YET)

    entry = json.loads(progress_file.read_text())
    assert entry.pop("time").endswith("+00:00")
    assert entry == {"lab": LAB, "exercise": NAME, "outcome": "not yet", "message": ""}
    assert progress_file.read_bytes().count(b"\n") == 1


def test_a_record_has_the_beginning_of_the_message(progress_file):
    record_outcome(LAB, NAME, Outcome.NOT_YET, "é" * 10_000)
    progress_file.write_bytes(
        progress_file.read_bytes()
        + b'{"time": "2026-01-01", "lab": "01_my_topic", "exercise": "x", "outcome": "passed"}\n'
    )

    assert [record.message for record in read_records()] == ["é" * 500, ""]


def test_the_last_outcome_counts_until_one_has_passed(summary):
    for outcome, expected in [
        (Outcome.UNATTEMPTED, Outcome.UNATTEMPTED),
        (Outcome.ERROR, Outcome.ERROR),
        (Outcome.NOT_YET, Outcome.NOT_YET),
        (Outcome.PASSED, Outcome.PASSED),
        (Outcome.ERROR, Outcome.PASSED),
    ]:
        record_outcome(LAB, NAME, outcome)
        assert summary().outcomes == {NAME: expected}


def test_a_summary_has_the_passed_the_open_and_the_last_time(summary):
    record_outcome(LAB, NAME, Outcome.UNATTEMPTED)
    assert summary().last is None
    assert summary().still_open == {NAME: Outcome.UNATTEMPTED}

    record_outcome(LAB, NAME, Outcome.PASSED)
    assert summary().still_open == {}
    assert summary().as_dict() == {
        "lab": LAB,
        "title": "My topic",
        "outcomes": {NAME: "passed"},
        "last": read_records()[-1].time,
        "passed": 1,
    }


def test_a_lab_that_was_started_over_has_no_progress_and_keeps_its_records(summary):
    record_outcome(LAB, NAME, Outcome.PASSED)
    restart_lab("02_other")
    assert summary().passed == 1

    restart_lab(LAB)
    assert (summary().outcomes, summary().last) == ({NAME: Outcome.UNATTEMPTED}, None)
    assert Outcome.PASSED in [record.outcome for record in read_records()]

    record_outcome(LAB, NAME, Outcome.NOT_YET)
    assert summary().outcomes == {NAME: Outcome.NOT_YET}


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        ([], "01"),
        ([("01", Outcome.PASSED)], "02"),
        ([("02", Outcome.NOT_YET)], "02"),
        ([("02", Outcome.NOT_YET), ("03", Outcome.ERROR)], "03"),
        ([("03", Outcome.PASSED)], "01"),
        ([("01", Outcome.PASSED), ("02", Outcome.PASSED), ("03", Outcome.PASSED)], None),
    ],
    ids=["nothing", "first", "started", "last", "skipped", "all"],
)
def test_the_lab_to_continue_is_where_the_learner_stopped_or_the_next(records, expected):
    labs = [LabProgress(number, number, {NAME: Outcome.UNATTEMPTED}, None) for number in NUMBERS]
    for time, (number, outcome) in enumerate(records):
        labs[NUMBERS.index(number)] = LabProgress(number, number, {NAME: outcome}, str(time))

    lab = lab_to_continue(labs)

    assert (lab and lab.lab) == expected


def test_a_lab_without_exercises_is_never_the_one_to_continue():
    assert lab_to_continue([LabProgress("01", "", {}, None)]) is None
    assert lab_to_continue([]) is None


def test_other_labs_and_removed_exercises_do_not_count(summary):
    record_outcome("02_other", NAME, Outcome.PASSED)
    record_outcome(LAB, "gone", Outcome.PASSED)

    assert summary().outcomes == {NAME: Outcome.UNATTEMPTED}


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"not JSON",
        b'{"time": "2026-01-01", "lab": "01_my_to',
        b"\xff\xfe\x00",
        b"null",
        b"[]",
        b'"text"',
        b"{}",
        b'{"time": "", "lab": "01_my_topic", "exercise": [], "outcome": "passed"}',
        b'{"time": "", "lab": "01_my_topic", "exercise": "x", "outcome": "perfect"}',
        b'{"time": "", "lab": "01_my_topic", "exercise": "x", "outcome": []}',
        b"[" * 100_000,
        b"\x00" * 512,
    ],
)
def test_a_damaged_line_damages_no_other(summary, progress_file, damage):
    record_outcome(LAB, NAME, Outcome.NOT_YET)
    with progress_file.open("ab") as file:
        file.write(damage + b"\r\n")
    record_outcome(LAB, NAME, Outcome.PASSED)

    assert [entry.outcome for entry in read_records()] == [Outcome.NOT_YET, Outcome.PASSED]
    assert summary().passed == 1


def test_a_partial_last_line_is_ended_before_the_next_record(progress_file):
    record_outcome(LAB, "first", Outcome.PASSED)
    complete = progress_file.read_bytes()
    progress_file.write_bytes(complete + complete[:30])

    record_outcome(LAB, "second", Outcome.PASSED)
    record_outcome(LAB, "third", Outcome.PASSED)

    assert [entry.exercise for entry in read_records()] == ["first", "second", "third"]
    assert progress_file.read_bytes().startswith(complete + complete[:30] + b"\n")


def test_two_processes_that_append_at_once_lose_no_record():
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", APPEND, lab],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for lab in ("one", "two")
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate(timeout=HANG_SECONDS)
        assert writer.returncode == 0

    for lab in ("one", "two"):
        assert [len(record.exercise) for record in read_records() if record.lab == lab] == [
            *range(200)
        ]


def test_a_full_disk_is_an_error_with_its_fix_and_only_a_message_in_a_check(monkeypatch, capsys):
    monkeypatch.setenv("DLTLAB_PROGRESS", "/dev/full")

    with pytest.raises(Unavailable) as caught:
        record_outcome(LAB, NAME, Outcome.PASSED)
    assert str(caught.value) == (
        "Your progress could not be saved in /dev/full (No space left on device). Free some space, "
        "or set DLTLAB_PROGRESS to a file that you may write."
    )
    try_record_outcome(LAB, NAME, Outcome.PASSED)
    assert capsys.readouterr().out == f"{NAME}: not saved. {caught.value}\n"


@pytest.mark.parametrize("place", ["file/progress.jsonl", "folder"])
def test_a_file_that_cannot_be_written_is_an_error(tmp_path, monkeypatch, place):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    monkeypatch.setenv("DLTLAB_PROGRESS", str(tmp_path / place))

    with pytest.raises(Unavailable, match=r"could not be saved in .* set DLTLAB_PROGRESS"):
        record_outcome(LAB, NAME, Outcome.PASSED)
    with pytest.raises(Unavailable, match=rf"{place} cannot be read \("):
        read_records()


def test_progress_is_kept_in_the_users_data_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("DLTLAB_PROGRESS")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))

    record_outcome(LAB, NAME, Outcome.PASSED)

    assert (tmp_path / "dltlab" / "progress.jsonl").is_file()
