"""A sweep from its file to the folders of its runs: the same wherever they are executed."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dltlab.batch.run_folder import Run, RunFolder, State, Status
from dltlab.batch.sweep import run_sweep
from dltlab.course import Course
from dltlab.errors import Invalid, NotFound
from tests.batch.notebooks import light_kernels, write_notebook
from tests.deadlines import HANG_SECONDS, spawn, wait_until

PARAMETERS = "rate = 0.1\nunits = 8\nkind = 'a'\nseed = 0\nmissing: int"
CODE = """
import random
import dltlab
random.seed(seed)
for step in range(3):
    dltlab.record("score", rate * units * random.random(), step=step)
"""
SWEEP = """notebook = "train.ipynb"
repeats = 2
timeout = 500
memory_gb = 0.5

[parameters]
missing = 1

[grid]
units = [8, 16]

[random]
runs = 1
rate = {low = 0.001, high = 1.0, log = true}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write_notebook(tmp_path / "train.ipynb", CODE, parameters=PARAMETERS)
    (tmp_path / "SWEEP.toml").write_text(SWEEP)
    return tmp_path / "SWEEP.toml"


@pytest.fixture
def executed(monkeypatch) -> list[Run]:
    """The runs that would have been executed."""
    runs: list[Run] = []

    def execute(run: Run, folder: RunFolder) -> State:
        runs.append(run)
        folder.write_state(State(Status.DONE))
        return State(Status.DONE)

    monkeypatch.setattr("dltlab.batch.scheduling.execute_run", execute)
    return runs


def sweep(file: Path, **options) -> int:
    return run_sweep(file, file.parent / "runs", Course.own(), jobs=1, **options).exit_code


def test_the_runs_have_the_parameters_and_the_needs_of_the_file(file, executed):
    assert sweep(file) == 0

    assert len(executed) == 4
    for run in executed:
        assert run.notebook == str(file.parent / "train.ipynb")
        assert set(run.parameters) == {"missing", "units", "rate", "seed"}
        assert (run.timeout, run.memory_bytes, run.cores, run.gpus) == (500, 500_000_000, 1, 0)


def test_a_lab_is_run_with_its_profile(tmp_path, built, executed):
    (tmp_path / "SWEEP.toml").write_text('lab = "01"\nprofile = "smoke"\n')

    run_sweep(tmp_path / "SWEEP.toml", tmp_path / "runs", built, jobs=1)

    (run,) = executed
    assert run.name == "01_my_topic"
    assert run.parameters == dict(built.read(["01"])[0].front_matter.profiles.smoke)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("units = [8, 16]", 'units = [8, "x"]', r":10: Parameter units of train must be of type"),
        ("rate = {", "rates = {", r":14: train has no parameter 'rates'; it has: rate, units"),
        ("missing = 1", "", "train needs a value for missing"),
        ("low = 0.001", "low = 0", "log takes a low above 0"),
    ],
)
def test_values_that_do_not_fit_the_notebook_are_refused_before_anything_starts(
    file, executed, old, new, message
):
    assert old in SWEEP
    file.write_text(SWEEP.replace(old, new))

    with pytest.raises(Invalid, match=message):
        sweep(file)
    assert executed == []
    assert not (file.parent / "runs").exists()


def test_a_notebook_that_does_not_exist_is_named(file):
    file.write_text(SWEEP.replace("train.ipynb", "none.ipynb"))

    with pytest.raises(NotFound, match=r"no notebook .*none\.ipynb"):
        sweep(file)


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[str]:
    """The address of a Dask scheduler with a worker, in processes of their own."""
    address = tmp_path / "address.json"
    common = ["--scheduler-file", str(address), "--no-dashboard"]
    commands = [
        ["dask_scheduler", "--host", "127.0.0.1", "--port", "0", *common],
        ["dask_worker", "--nthreads", "1", "--local-directory", str(tmp_path), *common],
    ]
    processes = [
        spawn(
            [sys.executable, "-m", f"distributed.cli.{name}", *options], stderr=subprocess.DEVNULL
        )
        for name, *options in commands
    ]
    wait_until(lambda: address.exists() and address.read_text().endswith("}"))
    yield json.loads(address.read_text())["address"]
    for process in processes:
        process.terminate()
    for process in processes:
        process.wait(HANG_SECONDS)


def test_a_plan_gives_the_same_results_in_one_process_on_workers_and_on_a_cluster(
    file, scheduler, monkeypatch
):
    file.write_text(SWEEP.replace("repeats = 2", ""))
    ways = {
        "one process": {"jobs": 1},
        "local workers": {"jobs": 2},
        "a cluster": {"scheduler": scheduler},
    }
    values = {}
    with light_kernels(file.parent / "kernels"):
        for way, options in ways.items():
            out = file.parent / way
            told: list[str] = []
            result = run_sweep(file, out, Course.own(), notify=told.append, **options)
            assert result.exit_code == 0, [record.state for record in result.records]
            values[way] = {
                record.id: [
                    (metric.name, metric.value, metric.step) for metric in record.folder.metrics()
                ]
                for record in result.records
            }
            assert any("dashboard" in sentence for sentence in told) == (way != "one process")

    assert len(values["one process"]) == 2
    assert values["one process"] == values["local workers"] == values["a cluster"]
