import asyncio
import json
import os

import nbformat
import pytest

from dltlab.batch import RunFolder, Status
from dltlab.batch.execution import kernel_environment
from dltlab.errors import Unavailable
from dltlab.paths import COURSE
from tests.batch.notebooks import execute, light_kernels, read_run, write_notebook

CELLS = (
    "print('rate', rate, 'epochs', epochs)",
    "",  # no kernel gets it
    """
from dltlab import record
for step in range(epochs):
    record("loss", rate / (step + 1), step=step)
record("accuracy", 0.75)
""",
    """
import base64
from IPython.display import Image, display
PNG = ("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5E"
       "rkJggg==")
display(Image(base64.b64decode(PNG), format="png"))
""",
    "import helper, os; print(helper.NAME, os.getcwd()); open('written.txt', 'w').close()",
    "print({name: os.environ[name] for name in ('OMP_NUM_THREADS', 'DLTLAB_PROGRESS')})",
)


@pytest.fixture(scope="module")
def kernels(tmp_path_factory):
    with light_kernels(tmp_path_factory.mktemp("kernels")):
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory, kernels):
    """A run with two parameters."""
    folder = tmp_path_factory.mktemp("notebooks")
    (folder / "helper.py").write_text("NAME = 'beside the notebook'\n")
    notebook = write_notebook(folder / "train.ipynb", *CELLS, parameters="rate = 0.5\nepochs = 1")
    return read_run(notebook, {"epochs": 3})


@pytest.fixture(scope="module")
def done(run, tmp_path_factory):
    """The folder of the run, executed."""
    out = tmp_path_factory.mktemp("runs")
    execute(run, out)
    return RunFolder(out / run.id)


def test_the_state_says_when_where_and_how_it_ended(done):
    state = done.state()

    assert (state.status, state.reason, state.attempt) == (Status.DONE, "", 1)
    assert (state.cell, state.num_cells, state.pid) == (7, 7, os.getpid())
    assert state.started < state.ended


def test_the_output_notebook_is_one_of_papermill(done, run):
    notebook = nbformat.read(done.notebook, 4)

    nbformat.validate(notebook)
    assert notebook.cells[1].metadata.tags == ["injected-parameters"]
    assert notebook.metadata.papermill.parameters == {"epochs": 3}
    assert notebook.metadata.papermill.input_path == run.notebook
    assert notebook.metadata.papermill.output_path == str(done.notebook)
    assert {cell.metadata.papermill.status for cell in notebook.cells} == {"completed"}
    assert notebook.cells[2].outputs[0].text == "rate 0.5 epochs 3\n"


def test_the_log_has_what_the_cells_print(done):
    assert done.log.read_text().startswith("rate 0.5 epochs 3\n")


def test_what_the_notebook_records_is_in_the_folder_and_as_a_scrap_in_the_notebook(done):
    assert done.final_metrics() == {"loss": 0.5 / 3, "accuracy": 0.75}
    assert [metric.step for metric in done.metrics()] == [0, 1, 2, None]
    (output,) = nbformat.read(done.notebook, 4).cells[4].outputs
    scrap = output.data["application/scrapbook.scrap.json+json"]
    assert scrap == {"name": "accuracy", "data": 0.75, "encoder": "json", "version": 1}


def test_figures_are_files(done):
    (image,) = done.images.iterdir()
    assert image.name == "cell-05-1.png"
    assert image.read_bytes().startswith(b"\x89PNG")


def test_the_kernel_works_in_a_folder_of_its_own_and_imports_what_is_beside_the_notebook(done):
    assert f"beside the notebook {done.files}\n" in done.log.read_text()
    assert os.listdir(done.files) == ["written.txt"]


def test_the_kernel_has_its_share_of_the_cores_and_changes_no_progress(done):
    variables = {"OMP_NUM_THREADS": "1", "DLTLAB_PROGRESS": str(done.path / "progress.jsonl")}
    assert str(variables) in done.log.read_text()


def test_versions_are_written(done):
    versions = done.versions()

    assert versions["packages"]["dltlab"]
    assert versions["python"].startswith("3.")


def test_a_run_that_is_executed_again_begins_with_an_empty_folder(run, tmp_path):
    folder = RunFolder(tmp_path / run.id)
    execute(run, tmp_path)
    (folder.files / "stale.txt").touch()

    state = execute(run, tmp_path)

    assert (state.status, state.attempt) == (Status.DONE, 2)
    assert len(folder.metrics()) == 4
    assert os.listdir(folder.files) == ["written.txt"]


def test_another_working_directory(kernels, tmp_path):
    notebook = write_notebook(tmp_path / "where.ipynb", "import os; print(os.getcwd())")
    run = read_run(notebook, cwd=str(tmp_path))

    execute(run, tmp_path / "runs")

    assert RunFolder(tmp_path / "runs" / run.id).log.read_text() == f"{tmp_path}\n"


def test_a_notebook_that_has_changed_meanwhile_is_not_executed(kernels, tmp_path):
    notebook = write_notebook(tmp_path / "changed.ipynb", "print(1)")
    run = read_run(notebook)
    write_notebook(notebook, "print(2)")

    state = execute(run, tmp_path / "runs")

    assert state.status is Status.FAILED
    assert "the notebook has changed after the batch was started" in state.reason


def test_a_search_that_prunes_a_run_ends_it(kernels, tmp_path):
    prune = "import os, pathlib; pathlib.Path(os.environ['DLTLAB_RUN_DIR'], 'prune').touch()"
    report = "from dltlab import record; record('loss', 0.5, step=1)"
    run = read_run(write_notebook(tmp_path / "search.ipynb", prune, report, "print('never')"))

    state = execute(run, tmp_path / "runs")

    assert state.status is Status.PRUNED
    assert state.reason == "Cell 2 of 3: The search ends this run at step 1, where loss is 0.5."
    notebook = nbformat.read(RunFolder(tmp_path / "runs" / run.id).notebook, 4)
    statuses = [cell.metadata.papermill.status for cell in notebook.cells]
    assert statuses == ["completed", "failed", "pending"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "runs").touch()
    run = read_run(write_notebook(tmp_path / "trivial.ipynb", "1"))

    with pytest.raises(Unavailable, match=r"runs/trivial-\w+ cannot be written"):
        execute(run, tmp_path / "runs")


@pytest.mark.parametrize(("gpus", "visible"), [((0, 1), "0,1"), ((), "-1"), (2, "unset")])
def test_the_kernel_sees_the_gpus_of_its_run(tmp_path, monkeypatch, gpus, visible):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "unset")
    run = read_run(write_notebook(tmp_path / "trivial.ipynb", "1"), gpus=gpus, cores=3)

    environment = kernel_environment(run, RunFolder(tmp_path / run.id))

    assert environment["CUDA_VISIBLE_DEVICES"] == visible
    assert environment["TF_NUM_INTRAOP_THREADS"] == "3"


def test_the_kernel_of_a_lab_finds_its_course(tmp_path):
    (tmp_path / "solutions").mkdir()
    lab = write_notebook(tmp_path / "labs" / "01_my_topic.ipynb", "1")

    assert kernel_environment(read_run(lab), RunFolder(tmp_path))[COURSE] == str(tmp_path)


def test_a_run_can_be_executed_where_an_event_loop_runs_as_in_a_notebook(tmp_path, kernels):
    run = read_run(write_notebook(tmp_path / "trivial.ipynb", "print('here')"))

    async def cell():
        return execute(run, tmp_path / "runs")

    assert asyncio.run(cell()).status is Status.DONE


def test_the_run_is_written_as_json(done, run):
    values = json.loads((done.path / "run.json").read_text())

    assert values["parameters"] == {"epochs": 3}
    assert done.run() == run
