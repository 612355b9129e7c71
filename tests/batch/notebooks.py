"""Notebooks for tests of batches, and runs of them with kernels that start at once."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat

from dltlab.batch import RunFolder, read_template
from dltlab.batch.execution import execute_run, kernel_environment
from dltlab.batch.run_folder import Run, State
from dltlab.course import Course
from dltlab.kernels import prestart
from tests.deadlines import wait_until
from tests.kernel_fixtures import a_zygote_is_ready, light_runtime

KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}


def write_notebook(path: Path, *cells: str, parameters: str | None = None, **metadata: Any) -> Path:
    """Write a notebook of code cells; `parameters` is the source of a first cell with that tag."""
    nodes = [nbformat.v4.new_code_cell(source) for source in cells]
    if parameters is not None:
        tags = {"tags": ["parameters"]}
        nodes.insert(0, nbformat.v4.new_code_cell(parameters, metadata=tags))
    notebook = nbformat.v4.new_notebook(cells=nodes, metadata={"kernelspec": KERNEL, **metadata})
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)
    return path


def read_run(notebook: Path, parameters: dict[str, Any] | None = None, **options: Any) -> Run:
    """Return a run of a notebook."""
    return read_template(str(notebook), Course.own()).run(parameters, **options)


def execute(run: Run, out: Path) -> State:
    """Execute a run, with its lock held."""
    folder = RunFolder(out / run.id)
    with folder.locked() as is_ours:
        assert is_ours
        return execute_run(run, folder)


@contextmanager
def light_kernels(folder: Path) -> Iterator[None]:
    """Let the kernels of runs be warm and light, see `light_runtime`."""
    with light_runtime(folder):
        prestart(kernel_environment(Run("any.ipynb"), RunFolder(folder)))
        wait_until(a_zygote_is_ready)
        yield


def execute_all(runs: dict[str, Run], out: Path) -> dict[str, State]:
    """Execute runs, a few at a time."""
    with ThreadPoolExecutor(2 * (os.cpu_count() or 1)) as pool:
        states = pool.map(lambda run: execute(run, out), runs.values())
        return dict(zip(runs, states, strict=True))
