"""Pausing, resuming and stopping runs through the folder."""

import json

import pytest

from dltlab.batch.control import forget_stops, pause, read_control, resume, stop
from dltlab.batch.run_folder import Status
from tests.batch.fabricated_runs import fabricate


def test_pausing_and_resuming_keeps_what_is_stopped(tmp_path):
    stop(tmp_path, ["a-1"])
    pause(tmp_path)
    assert read_control(tmp_path).paused
    assert read_control(tmp_path).stops("a-1")
    assert not read_control(tmp_path).stops("b-2")

    resume(tmp_path)
    assert not read_control(tmp_path).paused
    assert read_control(tmp_path).stops("a-1")


def test_stopping_cancels_only_queued_runs_at_once(tmp_path):
    queued = fabricate(tmp_path, {"lr": 1}, status=Status.QUEUED)
    other = fabricate(tmp_path, {"lr": 2}, status=Status.QUEUED)
    done = fabricate(tmp_path, {"lr": 3})
    running = fabricate(tmp_path, {"lr": 4}, status=Status.RUNNING)

    with running.locked():
        stop(tmp_path, [queued.path.name, done.path.name, running.path.name])

        assert running.state().status is Status.RUNNING
    assert queued.state().status is Status.CANCELLED
    assert "same command" in queued.state().reason
    assert other.state().status is Status.QUEUED
    assert done.state().status is Status.DONE


def test_all_runs_can_be_stopped_and_that_forgotten(tmp_path):
    queued = [fabricate(tmp_path, {"lr": rate}, status=Status.QUEUED) for rate in range(3)]

    stop(tmp_path)
    stop(tmp_path, ["a-1"])

    assert json.loads((tmp_path / "control.json").read_text())["stop"] == "all"
    assert {folder.state().status for folder in queued} == {Status.CANCELLED}
    forget_stops(tmp_path)
    assert not read_control(tmp_path).stops(queued[0].path.name)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"stop": 3}', b"\xff"])
def test_a_file_that_is_not_valid_asks_for_nothing(tmp_path, content):
    (tmp_path / "control.json").write_bytes(content)

    assert not read_control(tmp_path).paused
    assert not read_control(tmp_path).stops("a-1")
