"""The commands `dltlab runs …`: what they print and how they end."""

import io
import json
from pathlib import Path

import pytest

from dltlab.batch import Status
from tests.batch.fabricated_runs import fabricate

COMMANDS = (
    ["list"], ["show", "a"], ["compare"], ["pause"], ["resume"], ["stop"], ["remove", "a", "--yes"],
)  # fmt: skip


@pytest.fixture(autouse=True)
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder `runs` of an own working folder: done, failed and queued runs."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs"
    fabricate(folder, {"lr": 0.1, "tag": "[red]é"}, {"loss": float("nan")}, log="the end\n")
    reason = "Cell 3 failed."
    fabricate(folder, {"lr": 0.2, "tag": "b"}, status=Status.FAILED, reason=reason)
    fabricate(folder, {"lr": 0.3, "tag": "c"}, status=Status.QUEUED)
    return folder


def run_id(out: Path, status: str) -> str:
    (state,) = [path for path in out.glob("*/state.json") if f'"{status}"' in path.read_text()]
    return state.parent.name


def test_list_shows_failures_first_and_filters(dltlab, out):
    lines = dltlab("runs", "list").out.splitlines()
    assert lines[0].split() == ["status", "run", "lr", "tag", "loss", "time"]
    assert [line.split()[0] for line in lines[1:4]] == ["failed", "queued", "done"]
    assert "[red]é" in lines[3]
    assert "3 runs in runs: 1 failed, 1 queued, 1 done." in lines
    answer = dltlab("runs", "list", "--status", "done", "--status", "queued", "--json")
    assert [run["status"] for run in json.loads(answer.out)["runs"]] == ["queued", "done"]
    answer = dltlab("runs", "list", "--status", "lost")
    assert (answer.code, answer.out) == (2, "")
    assert "queued, running, done" in answer.err


def test_a_narrow_terminal_gets_the_columns_that_fit(dltlab, out, monkeypatch):
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("COLUMNS", "50")
    monkeypatch.setenv("NO_COLOR", "1")
    lines = dltlab("runs", "list").out.splitlines()
    assert lines[4] == "Left out here, but in --json: loss."
    assert lines[1].split()[2:] == ["0.2", "b", "12.5", "s"]


def test_show_prints_all_of_a_run(dltlab, out):
    name = run_id(out, "done")
    answer = dltlab("runs", "show", name.rpartition("-")[2][:5])
    assert answer.code == 0
    assert f"id: {name}" in answer.out
    assert "  lr   0.1" in answer.out
    assert "  loss  –" in answer.out
    assert "  the end" in answer.out
    main = ("dltlab", "keras", "numpy", "papermill", "tensorflow")
    packages = dict.fromkeys((*main, "attrs", "bokeh"), "1.0")
    (out / name / "versions.json").write_text(json.dumps({"packages": packages}))
    line = next(
        line for line in dltlab("runs", "show", name).out.splitlines() if "packages" in line
    )
    assert "tensorflow 1.0" in line
    assert line.endswith("and 2 more in versions.json")
    details = json.loads(dltlab("runs", "show", name, "--json").out)
    assert details["versions"]["packages"] == packages
    assert details["parameters"]["lr"] == 0.1


def test_compare_prints_a_table_or_json(dltlab, out):
    fabricate(out, {"lr": 0.4, "tag": "d"}, {"loss": 0.5})
    assert "0.5 *" in dltlab("runs", "compare").out
    groups = json.loads(dltlab("runs", "compare", "--json").out)["groups"]
    assert len(groups) == 2
    assert dltlab("runs", "compare", run_id(out, "failed")).code == 0


def test_pause_resume_and_stop_write_the_control_file(dltlab, out):
    assert "dltlab runs resume" in dltlab("runs", "pause").out
    assert json.loads((out / "control.json").read_text())["paused"] is True
    assert json.loads(dltlab("runs", "resume", "--json").out) == {"paused": False, "stop": []}
    queued = run_id(out, "queued")
    assert dltlab("runs", "stop", queued).out.startswith("1 run will end")
    assert json.loads((out / "control.json").read_text())["stop"] == [queued]
    assert run_id(out, "cancelled") == queued
    assert json.loads(dltlab("runs", "stop", "--json").out)["stop"] == "all"


def test_remove_refuses_a_running_run_and_needs_yes(dltlab, out, monkeypatch):
    running = fabricate(out, {"lr": 0.5, "tag": "e"}, status=Status.RUNNING)
    with running.locked():
        answer = dltlab("runs", "remove", running.path.name, "--yes")
        assert answer.code == 2
        assert "is running. End it first" in answer.err
    done = run_id(out, "done")
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    assert dltlab("runs", "remove", done).code != 0
    assert (out / done).exists()
    assert json.loads(dltlab("runs", "remove", done, "--yes", "--json").out) == {"removed": [done]}
    assert not (out / done).exists()


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("empty", [True, False])
def test_without_runs_there_is_one_sentence(dltlab, tmp_path, command, empty):
    folder = tmp_path / "none"
    if empty:
        folder.mkdir()
    answer = dltlab("runs", *command, "--out", folder)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("dltlab: There are no runs in none.")
    assert folder.exists() == empty


def test_a_model_is_promoted_and_rolled_back(dltlab, out):
    done = fabricate(out, {"lr": 0.4}, {"accuracy": 0.9}, name="shapes")
    later = fabricate(out, {"lr": 0.5}, {"accuracy": 0.8}, name="shapes")
    for folder in (done, later):
        folder.files.mkdir()
        (folder.files / "model.keras").write_text("weights")

    answer = dltlab("runs", "promote", done.path.name)
    path = Path("models", "shapes", "1", "model.keras")
    assert (answer.code, answer.out.splitlines()) == (
        0,
        [f"Version 1 of shapes is in use: {path}"],
    )
    version = json.loads(dltlab("runs", "promote", later.path.name, "--json").out)
    assert (version["number"], version["metrics"]) == (2, {"accuracy": 0.8})
    lines = dltlab("runs", "models").out.splitlines()
    assert lines[0].split() == ["model", "version", "run", "registered", "accuracy", "path"]
    assert [line.split()[:2] for line in lines[1:3]] == [["shapes", "2*"], ["shapes", "1"]]

    assert "Version 1 of shapes is in use" in dltlab("runs", "rollback", "shapes").out
    answer = dltlab("runs", "rollback", "shapes")
    assert (answer.code, answer.out) == (2, "")
    assert "is the first" in answer.err


def test_without_models_the_store_is_empty(dltlab):
    assert "Models in models: 0. Versions: 0" in dltlab("runs", "models").out
    answer = dltlab("runs", "rollback", "shapes")
    assert (answer.code, answer.out) == (2, "")
    assert "There is no model 'shapes'" in answer.err
