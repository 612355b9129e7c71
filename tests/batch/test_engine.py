import nbformat
import pytest

from dltlab.batch import RunFolder, Status
from tests.batch.notebooks import execute_all, light_kernels, read_run, write_notebook

# Waits until a text is in a file of the run's folder: what is written while a cell runs.
WAIT = """
import os, time
from pathlib import Path

FOLDER = Path(os.environ["DLTLAB_RUN_DIR"])

def wait(name, text):
    while text not in (FOLDER / name).read_text():
        time.sleep(0.02)
"""
NOTEBOOKS = {
    "writes": [
        WAIT,
        "print('early')",
        "wait('notebook.ipynb', 'early\\\\n')\nwait('log.txt', 'early')",
        "print('part', flush=True)\nwait('notebook.ipynb', 'part\\\\n')",
        "wait('state.json', '\"cell\": 5')\nprint((FOLDER / 'state.json').read_text())",
    ],
    "clears": [
        "from IPython.display import clear_output\n"
        "for _ in range(3):\n    print('x' * 900_000)\n    clear_output(wait=True)\nprint('last')"
    ],
    "large": [
        "from IPython.display import HTML, display\n"
        "for _ in range(3): display(HTML('x' * 9_000_000))"
    ],
    "updates": [
        "from IPython.display import display\nhandle = display('first', display_id=True)",
        "handle.update('second')",
    ],
    "silent": ["1", "x = 2"],
}


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    """A function that returns the state, the folder and the output cells of a notebook's run."""
    folder, out = tmp_path_factory.mktemp("notebooks"), tmp_path_factory.mktemp("runs")
    paths = {
        name: write_notebook(folder / f"{name}.ipynb", *cells) for name, cells in NOTEBOOKS.items()
    }
    paths["tags"] = folder / "tags.ipynb"
    code, text = nbformat.v4.new_code_cell, nbformat.v4.new_markdown_cell
    cells = [
        text("# Title"),
        code("print('not run')", metadata={"tags": ["skip-execution"]}),
        code("print('run')"),
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), paths["tags"])
    runs = {name: read_run(path) for name, path in paths.items()}
    with light_kernels(tmp_path_factory.mktemp("kernels")):
        states = execute_all(runs, out)

    def outcome(name):
        run_folder = RunFolder(out / runs[name].id)
        return states[name], run_folder, nbformat.read(run_folder.notebook, 4).cells

    return outcome


def test_files_are_written_while_cells_run(outcome):
    state, _, cells = outcome("writes")

    assert state.status is Status.DONE, state.reason
    assert '"status": "running"' in cells[4].outputs[0].text


def test_output_that_is_cleared_does_not_count(outcome):
    state, _, cells = outcome("clears")

    assert state.status is Status.DONE
    assert [output.text for output in cells[0].outputs] == ["last\n"]


def test_too_large_outputs_are_left_out(outcome):
    _, folder, cells = outcome("large")

    sizes = [len(output.data.get("text/html", "")) for output in cells[0].outputs]
    assert sizes == [9_000_000, 9_000_000, 0]
    note = cells[0].outputs[2].data["text/plain"]
    assert note.startswith("[an output of 9,000,")
    assert note in folder.log.read_text()


def test_outputs_can_be_updated_from_other_cells(outcome):
    _, _, cells = outcome("updates")

    assert cells[0].outputs[0].data["text/plain"] == "'second'"


def test_a_cell_may_be_skipped_and_a_notebook_needs_no_kernelspec(outcome):
    state, folder, cells = outcome("tags")

    assert (state.status, state.cell, state.num_cells) == (Status.DONE, 1, 1)
    assert [cell.get("execution_count") for cell in cells] == [None, None, 1]
    assert folder.log.read_text() == "run\n"


def test_without_output_there_is_no_log(outcome):
    state, folder, _ = outcome("silent")

    assert state.status is Status.DONE
    assert not folder.log.exists()
