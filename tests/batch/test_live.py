"""The display of a batch that runs."""

import json

import pytest

from dltlab.batch.control import pause
from dltlab.batch.live import BatchWatch, last_metric, live_display
from dltlab.batch.run_folder import State, Status
from tests.batch.fabricated_runs import STARTED, fabricate
from tests.deadlines import wait_until


@pytest.fixture
def printed(capsys):
    """Return a function that returns all that has been printed in the test."""
    parts: list[str] = []

    def read() -> str:
        parts.append(capsys.readouterr().err)
        return "".join(parts)

    return read


def test_a_watch_reports_starts_and_ends_once(tmp_path):
    fabricate(tmp_path, {"lr": 0})  # has ended before
    queued = fabricate(tmp_path, {"lr": 1}, status=Status.QUEUED)
    watch = BatchWatch(tmp_path)
    assert watch.poll() == []
    assert (watch.counts, watch.num_kept) == ({Status.QUEUED: 1}, 1)

    with queued.locked():
        queued.write_state(State(Status.RUNNING, attempt=1, started=STARTED))
        assert [state.status for *_, state in watch.poll()] == [Status.RUNNING]
        queued.write_state(State(Status.RUNNING, attempt=1, started=STARTED, cell=2))
        assert watch.poll() == []
        assert [state.cell for *_, state in watch.running] == [2]
    assert [state.status for *_, state in watch.poll()] == [Status.KILLED]
    later = fabricate(tmp_path, {"lr": 2})
    started, ended = watch.poll()
    assert (started[0].path, ended[0].path) == (later.path, later.path)
    assert (started[2].status, ended[2].status) == (Status.RUNNING, Status.DONE)
    assert watch.poll() == []
    assert watch.counts == {Status.KILLED: 1, Status.DONE: 1}


def test_a_run_that_failed_before_counts_when_it_is_run_again(tmp_path):
    failed = fabricate(tmp_path, {"lr": 0}, status=Status.FAILED)
    watch = BatchWatch(tmp_path)
    watch.poll()
    assert watch.counts == {}

    failed.write_state(State(Status.FAILED, attempt=2, started=STARTED + 5, ended=STARTED + 6))

    assert [state.status for *_, state in watch.poll()] == [Status.RUNNING, Status.FAILED]
    assert watch.counts == {Status.FAILED: 1}


def test_a_watch_of_some_runs_ignores_the_others(tmp_path):
    first = fabricate(tmp_path, {"lr": 0}, status=Status.QUEUED)
    fabricate(tmp_path, {"lr": 1}, status=Status.QUEUED)
    watch = BatchWatch(tmp_path, [first.path.name])
    watch.poll()

    assert watch.counts == {Status.QUEUED: 1}


def test_the_time_left_is_estimated_from_runs_that_are_done(tmp_path):
    watch = BatchWatch(tmp_path)
    watch.poll()
    for rate in range(4):
        fabricate(tmp_path, {"lr": rate}, status=Status.QUEUED)
    running = fabricate(tmp_path, {"lr": 5}, status=Status.RUNNING)  # for longer than the others
    with running.locked():
        watch.poll()
        assert watch.seconds_left is None
        fabricate(tmp_path, {"lr": 6}, seconds=10)
        fabricate(tmp_path, {"lr": 7}, seconds=20)
        watch.poll()
        assert watch.seconds_left == pytest.approx(4 * 15)


def test_a_folder_that_is_removed_meanwhile_does_not_matter(tmp_path):
    folder = fabricate(tmp_path, status=Status.QUEUED)
    (folder.path / "state.json").write_text("{")
    watch = BatchWatch(tmp_path)

    assert watch.poll() == []


def test_without_a_terminal_there_is_one_line_for_each_start_and_end(
    tmp_path, printed, monkeypatch
):
    monkeypatch.setenv("FORCE_COLOR", "1")  # as Jupyter does in a kernel
    with live_display(tmp_path) as print_line:
        print_line("The dashboard: [http://localhost]")
        folder = fabricate(tmp_path, {"tag": "[red]"}, {"loss": [0.5]}, status=Status.QUEUED)
        with folder.locked():
            folder.write_state(State(Status.RUNNING, attempt=1, started=STARTED))
            wait_until(lambda: "started" in printed())
            state = State(Status.DONE, attempt=1, started=STARTED, ended=STARTED + 2)
            folder.write_state(state)
        reason = "Cell 3 raised ValueError."
        short = fabricate(tmp_path, {"tag": "b"}, status=Status.FAILED, reason=reason, seconds=3)

    lines = printed().splitlines()
    name = folder.path.name
    assert lines[:2] == ["The dashboard: [http://localhost]", f"started {name} (tag=[red])"]
    assert sorted(lines[2:]) == [
        f"done {name} after 2.0 s: loss 0.5 at step 1",
        f"failed {short.path.name} after 3.0 s: Cell 3 raised ValueError.",
        f"started {short.path.name} (tag=b)",
    ]
    assert (tmp_path / "report.html").exists()
    assert len(list(tmp_path.glob("*/*tfevents*"))) == 2


def test_a_terminal_shows_the_queue_the_cell_and_the_metric(tmp_path, printed, monkeypatch):
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("COLUMNS", "160")
    done = fabricate(tmp_path, {"lr": 1}, status=Status.QUEUED)
    fabricate(tmp_path, {"lr": 2}, status=Status.QUEUED)
    running = fabricate(tmp_path, {"lr": 3}, {"loss": [0.5, 0.25]}, status=Status.RUNNING)
    with running.locked(), live_display(tmp_path):
        state = State(Status.DONE, attempt=1, started=STARTED, ended=STARTED + 90)
        done.write_state(state)
        pause(tmp_path)
        wait_until(lambda: "paused" in printed())

    text = printed()
    assert "cell 3 of 5" in text
    assert "loss 0.25 at step 2" in text
    assert f"{running.path.name} (lr=3)" in text
    assert "1 queued · 1 running · 1 done · about 1 min 30 s left · paused" in text
    assert "memory" in text


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path, printed):
    with live_display(tmp_path):
        fabricate(tmp_path)
        (tmp_path / "report.html").mkdir()
        (tmp_path / "report.html" / "file").touch()

    assert "report.html cannot be written" in printed()


def test_a_folder_without_runs_gets_no_report(tmp_path):
    with live_display(tmp_path / "runs"):
        pass

    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("content", ["", "{", json.dumps({"name": "loss"}) + "\n", "[]\n"])
def test_a_metric_that_cannot_be_read_is_not_shown(tmp_path, content):
    folder = fabricate(tmp_path)
    folder.metrics_file.write_text(content)

    assert last_metric(folder) == ""
