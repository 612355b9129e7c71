import json
import os
import subprocess
import sys

import pytest

from dltlab.errors import LabError
from dltlab.exercises import progress as progress_module
from dltlab.exercises.progress import note, progress, record, records
from dltlab.exercises.result import Outcome

LAB, NAME = "01_my_topic", "mean_squared_error"

APPEND = """
import sys
from dltlab.exercises.progress import record
from dltlab.exercises.result import Outcome
print("ready", flush=True)
sys.stdin.readline()
for number in range(200):
    record(sys.argv[1], "x" * number, Outcome.PASSED)
"""


@pytest.fixture
def summary(course):
    """How far the learner is in the course's one lab."""

    def of():
        (lab,) = progress(course)
        return lab

    return of


def test_without_a_file_nothing_is_attempted(summary, progress_file):
    assert records() == []
    assert summary().outcomes == {NAME: Outcome.UNATTEMPTED}
    assert summary().last is None
    assert not progress_file.exists()


def test_a_record_is_one_line_of_json_with_the_time_in_utc(progress_file):
    record(LAB, NAME, Outcome.NOT_YET)

    entry = json.loads(progress_file.read_text())
    assert entry.pop("time").endswith("+00:00")
    assert entry == {"lab": LAB, "exercise": NAME, "outcome": "not yet"}
    assert progress_file.read_bytes().count(b"\n") == 1


def test_the_last_outcome_counts_until_one_has_passed(summary):
    for outcome, stands in [
        (Outcome.UNATTEMPTED, Outcome.UNATTEMPTED),
        (Outcome.ERROR, Outcome.ERROR),
        (Outcome.NOT_YET, Outcome.NOT_YET),
        (Outcome.PASSED, Outcome.PASSED),
        (Outcome.ERROR, Outcome.PASSED),
    ]:
        record(LAB, NAME, outcome)
        assert summary().outcomes == {NAME: stands}


def test_a_summary_tells_what_passed_what_is_open_and_when_it_was_tried_last(summary):
    record(LAB, NAME, Outcome.UNATTEMPTED)
    assert summary().last is None
    assert summary().still_open == {NAME: Outcome.UNATTEMPTED}

    record(LAB, NAME, Outcome.PASSED)
    assert summary().still_open == {}
    assert summary().as_dict() == {
        "lab": LAB,
        "title": "My topic",
        "outcomes": {NAME: "passed"},
        "last": records()[-1].time,
        "passed": 1,
    }


def test_other_labs_and_exercises_that_are_gone_do_not_count(summary):
    record("02_other", NAME, Outcome.PASSED)
    record(LAB, "gone", Outcome.PASSED)

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
def test_a_damaged_line_costs_no_other(summary, progress_file, damage):
    record(LAB, NAME, Outcome.NOT_YET)
    with progress_file.open("ab") as file:
        file.write(damage + b"\r\n")
    record(LAB, NAME, Outcome.PASSED)

    assert [entry.outcome for entry in records()] == [Outcome.NOT_YET, Outcome.PASSED]
    assert summary().passed == 1


def test_half_a_line_at_the_end_is_closed_before_the_next(progress_file):
    record(LAB, "first", Outcome.PASSED)
    whole = progress_file.read_bytes()
    progress_file.write_bytes(whole + whole[:30])

    record(LAB, "second", Outcome.PASSED)
    record(LAB, "third", Outcome.PASSED)

    assert [entry.exercise for entry in records()] == ["first", "second", "third"]
    assert progress_file.read_bytes().startswith(whole + whole[:30] + b"\n")


def test_two_processes_that_append_at_once_lose_nothing():
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
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        writer.stdin.write("\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate()
        assert writer.returncode == 0

    for lab in ("one", "two"):
        assert [len(each.exercise) for each in records() if each.lab == lab] == [*range(200)]


def test_a_full_disk_is_told_with_what_to_do_and_the_learner_goes_on(monkeypatch, capsys):
    monkeypatch.setenv("DLTLAB_PROGRESS", "/dev/full")

    with pytest.raises(LabError) as caught:
        record(LAB, NAME, Outcome.PASSED)
    assert str(caught.value) == (
        "Your progress could not be saved in /dev/full (No space left on device); make room there "
        "or set DLTLAB_PROGRESS to a file you may write."
    )
    note(LAB, NAME, Outcome.PASSED)
    assert capsys.readouterr().out == f"{NAME}: not saved. {caught.value}\n"


@pytest.mark.parametrize("place", ["file/progress.jsonl", "folder"])
def test_a_place_that_cannot_be_written_is_told(tmp_path, monkeypatch, place):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    monkeypatch.setenv("DLTLAB_PROGRESS", str(tmp_path / place))

    with pytest.raises(LabError, match=r"could not be saved in .* set DLTLAB_PROGRESS"):
        record(LAB, NAME, Outcome.PASSED)
    with pytest.raises(LabError, match=rf"{place} cannot be read \("):
        records()


def test_progress_lies_in_the_users_data_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("DLTLAB_PROGRESS")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))

    assert progress_module.progress_file() == tmp_path / "dltlab" / "progress.jsonl"
    assert not os.listdir(tmp_path)
