"""A search with Optuna: its samplers and pruners, and how it goes on after an interruption."""

import json
from pathlib import Path

import pytest

from dltlab.batch.batch import run_batch
from dltlab.batch.comparison import compare
from dltlab.batch.records import read_records
from dltlab.batch.report import Report
from dltlab.batch.run_folder import Run, RunFolder, State, Status
from dltlab.batch.search import Search
from dltlab.batch.sweep_file import read_sweep
from dltlab.errors import Invalid

TEXT = """notebook = "train.ipynb"
[search]
trials = 6
objective = "score"
direction = "maximize"
sampler = "RandomSampler"
rate = {low = 1e-3, high = 1.0, log = true}
units = {low = 4, high = 64, step = 4}
kind = {choices = ["a", "b"]}
"""


def search_in(out: Path, text: str = TEXT, source_hash: str = "") -> Search:
    path = out.parent / "SWEEP.toml"
    path.write_text(text)
    return Search(
        read_sweep(path), out, lambda values: Run("train.ipynb", values, "train", source_hash)
    )


def record(folder: RunFolder, name: str, value: object, step: int | None = None) -> None:
    folder.path.mkdir(parents=True, exist_ok=True)
    with folder.metrics_file.open("a") as file:
        file.write(json.dumps({"name": name, "value": value, "step": step, "time": 0.0}) + "\n")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.fixture
def executed(monkeypatch) -> list[Run]:
    """The runs that were executed; each records a score and is done."""
    runs: list[Run] = []

    def execute(run: Run, folder: RunFolder) -> State:
        runs.append(run)
        record(folder, "score", -abs(run.parameters["rate"] - 0.1))
        state = State(Status.DONE, attempt=folder.state().attempt + 1)
        folder.write_state(state)
        return state

    monkeypatch.setattr("dltlab.batch.scheduling.execute_run", execute)
    return runs


def next_of(search: Search) -> Run:
    """Return the next run of a search, which must have one."""
    run = search.next_run()
    assert run is not None
    return run


def run_search(out: Path, search: Search) -> None:
    run_batch([search.example], out, jobs=1, source=search, notify=lambda sentence: None)


def test_a_search_runs_its_trials_and_no_more_when_it_is_started_again(out, executed):
    run_search(out, search_in(out))
    assert len(executed) == 6
    for run in executed:
        assert 1e-3 <= run.parameters["rate"] <= 1
        assert run.parameters["units"] in range(4, 65, 4)
        assert run.parameters["kind"] in ("a", "b")

    run_search(out, search_in(out))
    assert len(executed) == 6

    run_search(out, search_in(out, TEXT.replace("trials = 6", "trials = 8")))
    assert len(executed) == 8
    assert len({run.id for run in executed}) == 8


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_its_direction_decides_which_run_is_best(out, executed, direction):
    run_search(out, search_in(out, TEXT.replace("maximize", direction)))

    best = compare(read_records(out)).groups[0]

    scores = [record.values["score"] for record in read_records(out)]
    assert best.metrics["score"].mean == (min if direction == "minimize" else max)(scores)
    assert f'"lower":[{str(direction == "minimize").lower()}]' in Report(out).write().read_text()


def test_an_interrupted_search_goes_on_with_the_trials_that_are_not_finished(out, executed):
    search = search_in(out)
    first, second = next_of(search), next_of(search)
    RunFolder(out / first.id).create(first)
    record(RunFolder(out / first.id), "score", 1.0)
    search.finish(first, RunFolder(out / first.id), State(Status.DONE))
    search.finish(second, RunFolder(out / second.id), State(Status.KILLED))

    again = search_in(out)

    assert again.next_run() == second
    assert len({next_of(again).id for _ in range(4)} | {first.id, second.id}) == 6
    assert again.next_run() is None


def test_a_sampler_with_a_seed_proposes_the_same_runs(out, tmp_path):
    searches = [search_in(tmp_path / name) for name in ("a", "b")]

    first, second = ([next_of(search).parameters for _ in range(6)] for search in searches)

    assert first == second


def test_the_pruner_ends_a_run_that_is_worse_than_the_others(out):
    text = TEXT.replace(
        "[search]", '[search]\npruner = {name = "MedianPruner", n_startup_trials = 1}'
    )
    search = search_in(out, text)
    good, bad = next_of(search), next_of(search)
    folders = {run.id: RunFolder(out / run.id) for run in (good, bad)}
    record(folders[good.id], "score", 0.9, step=0)
    search.watch(folders)
    search.finish(good, folders[good.id], State(Status.DONE))
    assert not (folders[good.id].path / "prune").exists()

    record(folders[bad.id], "loss", 5.0, step=0)
    search.watch({bad.id: folders[bad.id]})
    assert not (folders[bad.id].path / "prune").exists()
    record(folders[bad.id], "score", 0.1, step=0)
    search.watch({bad.id: folders[bad.id]})
    assert (folders[bad.id].path / "prune").exists()

    search.finish(bad, folders[bad.id], State(Status.PRUNED))
    again = search_in(out, text)
    assert good.id not in {next_of(again).id for _ in range(4)}
    assert again.next_run() is None


def test_the_objective_must_be_recorded(out):
    search = search_in(out)
    run = next_of(search)
    folder = RunFolder(out / run.id)
    record(folder, "loss", 0.5)

    with pytest.raises(Invalid, match=r"SWEEP\.toml:4: .*no.* record a number 'score'; .*loss"):
        search.finish(run, folder, State(Status.DONE))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('sampler = "TPE"', r":6: Optuna has no sampler 'TPE'; it has: .*TPESampler"),
        ('sampler = "BaseSampler"', "Optuna has no sampler 'BaseSampler'"),
        ('sampler = {name = "TPESampler", x = 1}', r":6: TPESampler cannot be made: .*'x'"),
        ('sampler = "GridSampler"', r":6: GridSampler cannot be made: .*search_space"),
        ('pruner = "Median"', r":6: Optuna has no pruner 'Median'; it has: .*MedianPruner"),
    ],
)
def test_a_sampler_or_pruner_that_does_not_exist_is_named(out, text, message):
    with pytest.raises(Invalid, match=message):
        search_in(out, TEXT.replace('sampler = "RandomSampler"', text))


def test_another_search_in_the_same_folder_is_refused(out):
    search = search_in(out)
    next_of(search)

    for other in (TEXT.replace('"score"', '"loss"'), TEXT.replace("maximize", "minimize")):
        with pytest.raises(Invalid, match="has another search"):
            search_in(out, other)
    with pytest.raises(Invalid, match="has another search"):
        search_in(out, source_hash="changed")
    with pytest.raises(Invalid, match="has another search"):
        search_in(out, TEXT.replace('"a", "b"', '"a", "c"')).next_run()
