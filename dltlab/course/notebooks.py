"""A lab as notebooks: the learner's, and the author's executed twin."""

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

from dltlab.course.front_matter import SourceError
from dltlab.course.source import Cell, Lab

KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}

CELL_TIMEOUT = 1800  # seconds

# A notebook keeps no widget state, so a front end could only say that it cannot show the widget.
_WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"


def learner_notebook(lab: Lab) -> NotebookNode:
    """The notebook a learner opens: answers out, no outputs."""
    cells = (cell for cell in lab.cells if "solution" not in cell.tags)
    return _notebook(lab, ((cell, cell.stub) for cell in cells))


def solution_notebook(lab: Lab) -> NotebookNode:
    """The notebook with the answers in, not executed yet."""
    return _notebook(lab, ((cell, cell.solution) for cell in lab.cells))


def profiled(notebook: NotebookNode, values: dict[str, Any]) -> NotebookNode:
    """A copy of `notebook` with `values` set behind its cell tagged `parameters`.

    papermill does the same, but only to a notebook that it has read from a file.
    """
    copy = nbformat.from_dict(notebook)
    tags = [cell.metadata.get("tags", ()) for cell in copy.cells]
    place = next(number for number, each in enumerate(tags) if "parameters" in each) + 1
    source = "\n".join(f"{name} = {value!r}" for name, value in values.items())
    metadata = {"tags": ["injected-parameters"]}
    cell = nbformat.v4.new_code_cell(source, id="injected-parameters", metadata=metadata)
    copy.cells.insert(place, cell)
    return copy


def execute(notebook: NotebookNode, lab: Lab, environment: dict[str, str]) -> NotebookNode:
    """Run every cell of `notebook` in a folder of its own, and keep the outputs.

    Args:
        notebook: Made from `lab`.
        lab: Names the file and the line when a cell fails.
        environment: Variables set for the kernel on top of this process's own.

    Raises:
        SourceError: A cell raised or took too long, or the kernel died.
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
            # What libraries write past Python, such as TensorFlow's greeting, is not the lab's.
            extra_arguments=["--IPKernelApp.capture_fd_output=False"],
        )
        variables = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **environment}
        # Not `client.execute`, which handles Ctrl-C itself and fails in doing so: `asyncio.run`
        # cancels what it runs, at a place where that is safe.
        asyncio.run(_run_cells(client, lab, variables))
    notebook.metadata = metadata  # without what the kernel says of itself
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            output.get("data", {}).pop(_WIDGET_VIEW, None)
    return notebook


def without_outputs(notebook: NotebookNode) -> NotebookNode:
    """A copy of `notebook` as it was before it ran."""
    copy = nbformat.from_dict(notebook)
    for cell in copy.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return copy


def dumps(notebook: NotebookNode) -> str:
    """The bytes of a notebook file: the same notebook always gives the same text."""
    nbformat.validate(notebook)
    return str(nbformat.writes(notebook, indent=1)).rstrip("\n") + "\n"


def load(path: Path) -> NotebookNode | None:
    """The notebook at `path`, or None where there is no valid one."""
    try:
        notebook = nbformat.v4.reads(path.read_text(encoding="utf-8"))
        nbformat.validate(notebook)
    except (OSError, ValueError, TypeError, AttributeError, nbformat.ValidationError):
        return None
    return notebook


async def _run_cells(client: NotebookClient, lab: Lab, variables: dict[str, str]) -> None:
    """Run the cells of a client's notebook, one after the other, in a kernel of their own.

    Raises:
        SourceError: As for `execute`.
    """
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
        if (task := asyncio.current_task()) and task.cancelling():  # nbclient takes that for it
            raise asyncio.CancelledError from error
        raise SourceError(lab.path, line, "the kernel died here") from error


@asynccontextmanager
async def _kernel(client: NotebookClient, variables: dict[str, str]) -> AsyncIterator[None]:
    """Start a client's kernel, and shut it down whatever happens."""
    manager = client.create_kernel_manager()
    try:
        # A cell's errors come as messages; this is what the kernel says when it is stopped.
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
    nodes = [nbformat.v4.new_markdown_cell(_opening(lab), id="opening")]
    for cell, source in cells:
        new = {"code": nbformat.v4.new_code_cell, "markdown": nbformat.v4.new_markdown_cell}
        metadata = {"tags": list(cell.tags)} if cell.tags else {}
        nodes.append(new[cell.kind](source, id=cell.id, metadata=metadata))
    return nbformat.v4.new_notebook(cells=nodes, metadata=_metadata(lab))


def _metadata(lab: Lab) -> NotebookNode:
    return nbformat.from_dict(
        {
            "dltlab": {"lab": lab.name},
            "kernelspec": KERNEL,
            "language_info": {"name": "python"},
        }
    )


def _opening(lab: Lab) -> str:
    """The first cell, told from the front matter so that nothing is written twice."""
    about = lab.front_matter
    gpu = {"none": "no GPU needed", "optional": "faster on a GPU", "required": "needs a GPU"}
    minutes = about.minutes
    lines = [
        f"# {lab.number} · {about.title}",
        "",
        about.summary,
        "",
        "**After this lab you can**",
        "",
        *(f"- {objective}" for objective in about.objectives),
        "",
        f"**Time**: {minutes.read} minutes to read, {minutes.exercise} for the exercises; "
        f"the machine computes for about {minutes.compute} "
        f"minute{'s' if minutes.compute > 1 else ''}. "
        f"**Machine**: {about.memory_gb:g} GB of memory, {gpu[about.devices.gpu]}.",
    ]
    if about.requires:
        lines += ["", f"**Before it**: {', '.join(about.requires)}."]
    return "\n".join(lines)
