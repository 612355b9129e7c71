"""The folder of a run."""

import pytest

from dltlab.batch.run_folder import Status, run_folders
from dltlab.errors import Damaged
from tests.batch.fabricated_runs import fabricate


def test_a_line_that_is_not_a_metric_is_skipped(tmp_path):
    folder = fabricate(tmp_path, metrics={"loss": [0.5, float("nan")]})
    with folder.metrics_file.open("a") as file:
        file.write('{"name": "loss", "va{"name": "loss"}\n[1]\n{"x": 1}\n{"name": "lo')

    assert [metric.step for metric in folder.metrics()] == [1, 2]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"status": "lost"}', '{"unknown": 1}'])
@pytest.mark.parametrize("name", ["run.json", "state.json"])
def test_a_damaged_file_is_named(tmp_path, name, content):
    folder = fabricate(tmp_path)
    (folder.path / name).write_text(content)

    with pytest.raises(Damaged, match=rf"{name} .* Remove the folder train-\w+ to run it again"):
        folder.run() if name == "run.json" else folder.state()


def test_a_run_without_its_process_was_killed(tmp_path):
    folder = fabricate(tmp_path, status=Status.RUNNING)

    with folder.locked():
        assert folder.state().status is Status.RUNNING
    assert folder.state().status is Status.KILLED
    assert folder.state().ended == (folder.path / "state.json").stat().st_mtime


def test_only_folders_of_runs_are_listed(tmp_path):
    folder = fabricate(tmp_path)
    (tmp_path / "launch").mkdir()
    (tmp_path / "report.html").touch()

    assert [listed.path for listed in run_folders(tmp_path)] == [folder.path]
    assert run_folders(tmp_path / "missing") == []
