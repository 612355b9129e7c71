"""The command `dltlab sweep`."""

import json

import pytest

from dltlab.batch.run_folder import State, Status
from tests.batch.notebooks import write_notebook


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_notebook(tmp_path / "train.ipynb", "print(units)", parameters="units = 8")
    (tmp_path / "SWEEP.toml").write_text('notebook = "train.ipynb"\n[grid]\nunits = [8, 16]\n')
    return tmp_path / "SWEEP.toml"


@pytest.mark.parametrize(("status", "code"), [(Status.DONE, 0), (Status.FAILED, 1)])
def test_the_exit_code_says_whether_all_runs_ended_well(
    file, dltlab, monkeypatch, tmp_path, status, code
):
    def execute(run, folder):
        folder.write_state(State(status, attempt=1))
        return State(status, attempt=1)

    monkeypatch.setattr("dltlab.batch.scheduling.execute_run", execute)

    result = dltlab("sweep", file, "--jobs", "1", "--out", tmp_path / "out", "--json")

    assert result.code == code, result.err
    assert json.loads(result.out)["counts"] == {status: 2}
    assert len(list((tmp_path / "out").glob("train-*/run.json"))) == 2


def test_a_file_that_is_not_valid_is_exit_code_2(file, dltlab):
    file.write_text(file.read_text().replace("units", "unit"))

    result = dltlab("sweep", file)

    assert result.code == 2
    assert "SWEEP.toml:3: train has no parameter 'unit'; it has: units." in result.err
