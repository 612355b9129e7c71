"""A lab as notebooks: the learner's, and the author's executed twin."""

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbformat import NotebookNode

from dltlab.course.front_matter import SourceError
from dltlab.course.source import Cell, Lab

KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}

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
    """`notebook` with `values` set behind its cell tagged `parameters`, as papermill sets them."""
    from papermill.parameterize import parameterize_notebook

    return parameterize_notebook(notebook, values) if values else notebook


def execute(notebook: NotebookNode, lab: Lab, environment: dict[str, str]) -> NotebookNode:
    """Run every cell of `notebook` in a folder of its own, and keep the outputs.

    Args:
        notebook: Made from `lab`.
        lab: Names the file and the line when a cell fails.
        environment: Variables set for the kernel on top of this process's own.

    Raises:
        SourceError: A cell raised, or the kernel died.
    """
    with tempfile.TemporaryDirectory(prefix="dltlab-build-") as folder:
        client = NotebookClient(
            notebook,
            timeout=1800,
            kernel_name=KERNEL["name"],
            resources={"metadata": {"path": folder}},
            coalesce_streams=True,
            record_timing=False,
            store_widget_state=False,
        )
        try:
            client.execute(
                env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **environment},
                transport_encryption="auto",
            )
        except CellExecutionError as error:
            reason = f"{error.ename}: {error.evalue}".strip()
            raise SourceError(lab.path, _last_run(notebook, lab), f"raised {reason}") from error
        except DeadKernelError as error:
            raise SourceError(lab.path, _last_run(notebook, lab), "the kernel died here") from error
    notebook.metadata = _metadata(lab)
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
    """The notebook at `path`, or None where there is none that can be read."""
    try:
        return nbformat.read(path, as_version=4)
    except (OSError, ValueError, nbformat.ValidationError, AttributeError):
        return None


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


def _last_run(notebook: NotebookNode, lab: Lab) -> int:
    """The line of the cell that ran last."""
    ran = {cell.id for cell in notebook.cells if cell.get("execution_count")}
    lines = [cell.line for cell in lab.cells if cell.id in ran]
    return lines[-1] if lines else 1
