"""Make the notebooks of a lab, execute, read and write them."""

import asyncio
import os
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import nbformat
from jupyter_core.utils import ensure_async
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode

from dltlab.course.catalog import Course
from dltlab.course.front_matter import SourceError
from dltlab.course.source import Cell, Lab
from dltlab.display import RUN_AGAIN

KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}

CELL_TIMEOUT = 1800  # seconds

# The first code cell of a lab with checks or data sets in a course of one's own.
_ENTER_COURSE = """\
import dltlab.course

dltlab.course.enter_course()  # so that the checks and data sets of this course are found"""

# The cell after the parameters of a lab.
_CHECK_PARAMETERS = """\
from dltlab.course import check_parameters

check_parameters({})  # of a run with papermill"""

# A saved notebook has no widget state, so a front end would report that it cannot show the widget.
_WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"


def learner_notebook(lab: Lab) -> NotebookNode:
    """Return the notebook that a learner opens, with stubs in the place of the answers."""
    cells = (cell for cell in lab.cells if "solution" not in cell.tags)
    return _notebook(lab, ((cell, cell.stub) for cell in cells))


def solution_notebook(lab: Lab) -> NotebookNode:
    """Return the notebook with the answers, not executed yet."""
    return _notebook(lab, ((cell, cell.solution) for cell in lab.cells))


def execute_notebook(notebook: NotebookNode, lab: Lab, environment: dict[str, str]) -> NotebookNode:
    """Run every cell of `notebook` in a temporary folder, and store the outputs in it.

    Args:
        notebook: A notebook of `lab`.
        lab: The lab, whose file and line an error names.
        environment: Environment variables of the kernel, in addition to those of this process.

    Raises:
        SourceError: A cell raised an error or took too long, or the kernel died.
    """
    metadata = nbformat.from_dict(notebook.metadata)
    with tempfile.TemporaryDirectory(prefix="dltlab-build-") as folder:
        client = NotebookClient(
            notebook,
            timeout=CELL_TIMEOUT,
            kernel_name=KERNEL["name"],
            resources={"metadata": {"path": folder}},
            coalesce_streams=True,
            record_timing=False,
            # Leave out what libraries write to the file descriptors, such as TensorFlow's greeting.
            extra_arguments=["--IPKernelApp.capture_fd_output=False"],
        )
        variables = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **environment}
        # Not `client.execute`, whose own handling of Ctrl-C fails: `asyncio.run` cancels the task
        # at an `await`, where that is safe.
        asyncio.run(_run_cells(client, lab, variables))
    notebook.metadata = metadata  # without the kernel's additions
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if not _is_run_again(output)]
            for output in cell.outputs:
                output.get("data", {}).pop(_WIDGET_VIEW, None)
    return notebook


def _is_run_again(output: NotebookNode) -> bool:
    """Return whether an output is shown in the place of a widget; its plain text is there, too."""
    return bool(output.get("data", {}).get("text/plain") == RUN_AGAIN)


def without_outputs(notebook: NotebookNode) -> NotebookNode:
    """Return a copy of `notebook` without outputs and execution counts."""
    copy = nbformat.from_dict(notebook)
    for cell in copy.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return copy


def notebook_text(notebook: NotebookNode) -> str:
    """Return the text of a notebook's file; equal notebooks give equal text."""
    nbformat.validate(notebook)
    return str(nbformat.writes(notebook, indent=1)).rstrip("\n") + "\n"


def read_notebook(path: Path) -> NotebookNode | None:
    """Return the notebook in the file `path`, or None if there is no valid notebook."""
    try:
        notebook = nbformat.v4.reads(path.read_text(encoding="utf-8"))
        nbformat.validate(notebook)
    except (OSError, ValueError, TypeError, AttributeError, nbformat.ValidationError):
        return None
    return notebook


async def _run_cells(client: NotebookClient, lab: Lab, variables: dict[str, str]) -> None:
    """Run the cells of a client's notebook in a new kernel; raise as `execute_notebook` does."""
    lines = {cell.id: cell.line for cell in lab.cells}
    line = 1
    try:
        async with _kernel(client, variables):
            for index, cell in enumerate(client.nb.cells):
                line = lines.get(cell.id, line)
                count = client.code_cells_executed + 1
                await client.async_execute_cell(cell, index, execution_count=count)
    except CellExecutionError as error:
        reason = f"raised {error.ename}: {error.evalue}".strip()
        raise SourceError(lab.path, line, reason) from error
    except CellTimeoutError as error:
        raise SourceError(lab.path, line, f"ran longer than {CELL_TIMEOUT} s") from error
    except DeadKernelError as error:
        if (task := asyncio.current_task()) and task.cancelling():  # nbclient reports it as this
            raise asyncio.CancelledError from error
        raise SourceError(lab.path, line, "the kernel died here") from error


@asynccontextmanager
async def _kernel(client: NotebookClient, variables: dict[str, str]) -> AsyncIterator[None]:
    """Start a client's kernel, and shut it down when the block ends or raises."""
    manager = client.create_kernel_manager()
    try:
        # Errors of cells come as messages; stderr has only what a stopped kernel prints.
        await client.async_start_new_kernel(
            env=variables, stderr=subprocess.DEVNULL, transport_encryption="auto"
        )
        await client.async_start_new_kernel_client()
        yield
    finally:
        if client.kc:
            client.kc.stop_channels()
        if manager.has_kernel:
            await ensure_async(manager.shutdown_kernel())


def _notebook(lab: Lab, cells: Iterable[tuple[Cell, str]]) -> NotebookNode:
    course = Course(lab.path.parents[1])
    nodes = [nbformat.v4.new_markdown_cell(_opening(lab), id="opening")]
    needs_course = lab.exercise_module or lab.front_matter.datasets
    enters_course = bool(needs_course) and not course.is_own
    for cell, source in cells:
        if enters_course and cell.kind == "code":
            nodes.append(_hidden_cell(_ENTER_COURSE, "course"))
            enters_course = False
        new = {"code": nbformat.v4.new_code_cell, "markdown": nbformat.v4.new_markdown_cell}
        metadata = {"tags": list(cell.tags)} if cell.tags else {}
        nodes.append(new[cell.kind](source, id=cell.id, metadata=metadata))
        if "parameters" in cell.tags:
            types = ", ".join(map(_with_type, lab.parameters, lab.parameters.values()))
            nodes.append(_hidden_cell(_CHECK_PARAMETERS.format(types), "check-parameters"))
    if following := [name for name in course.lab_names() if name > lab.name]:
        text = f"**Next lab**: {_link(following[0])}"
        nodes.append(nbformat.v4.new_markdown_cell(text, id="next"))
    return nbformat.v4.new_notebook(cells=nodes, metadata=_metadata(lab))


def _with_type(name: str, value: Any) -> str:
    """Return the argument of `check_parameters` for a parameter with this default."""
    return f"{name}={None if value is None else type(value).__name__}"


def _hidden_cell(source: str, cell_id: str) -> NotebookNode:
    hidden = {"jupyter": {"source_hidden": True}}
    return nbformat.v4.new_code_cell(source, id=cell_id, metadata=hidden)


def _metadata(lab: Lab) -> NotebookNode:
    return nbformat.from_dict(
        {
            "dltlab": {"lab": lab.name},
            "kernelspec": KERNEL,
            "language_info": {"name": "python"},
        }
    )


def _link(name: str) -> str:
    """Return a link to another lab; `Workspace` removes it where there is none."""
    return f"[{name}]({name}.ipynb)"


def _opening(lab: Lab) -> str:
    """Return the first cell's text, made from the front matter."""
    front_matter = lab.front_matter
    gpu = {"none": "no GPU needed", "optional": "faster on a GPU", "required": "needs a GPU"}
    minutes = front_matter.minutes
    exercises = f", {minutes.exercise} for the exercises" if minutes.exercise else ""
    lines = [
        f"# {lab.number} · {front_matter.title}",
        "",
        front_matter.summary,
        "",
        "**After this lab you can**",
        "",
        *(f"- {objective}" for objective in front_matter.objectives),
        "",
        f"**Time**: {minutes.read} minutes to read{exercises}; "
        f"the machine computes for about {minutes.compute} "
        f"minute{'s' if minutes.compute > 1 else ''}. "
        f"**Machine**: {front_matter.memory_gb:g} GB of memory, {gpu[front_matter.devices.gpu]}.",
    ]
    if front_matter.requires:
        lines += ["", f"**Before it**: {', '.join(map(_link, front_matter.requires))}."]
    return "\n".join(lines)
