"""Turn each source into its two notebooks, and tell whether what is on disk is what it makes."""

import os
import tempfile
from pathlib import Path

from nbformat import NotebookNode

from dltlab.course.catalogue import Course
from dltlab.course.front_matter import shown
from dltlab.course.notebooks import (
    dumps,
    execute,
    learner_notebook,
    load,
    solution_notebook,
    without_outputs,
)
from dltlab.course.source import Lab
from dltlab.errors import LabError
from dltlab.files import write_atomically


def stale(course: Course, labs: list[Lab]) -> list[Lab]:
    """Those of `labs` whose executed twin was not made from their present source."""
    return [lab for lab in labs if _twin_difference(course, lab)]


def write_without_executing(course: Course, labs: list[Lab]) -> None:
    """Write each learner's notebook, and each executed twin of which only prose has changed."""
    for lab in labs:
        write_atomically(_learner_path(course, lab), dumps(learner_notebook(lab)))
        path = _twin_path(course, lab)
        twin, made = load(path), solution_notebook(lab)
        if twin and _code(without_outputs(twin)) == _code(made):
            for cell, executed in zip(_code(made), _code(twin), strict=True):
                cell.update(executed)
            write_atomically(path, dumps(made))


def execute_solutions(course: Course, lab: Lab) -> Path:
    """Run a lab with its answers in and write `solutions/NN_topic.ipynb`, outputs kept.

    The author's own progress is left alone.

    Raises:
        SourceError: A cell raised, or the kernel died; the old twin stays as it was.
        LabError: The notebook cannot be written.
    """
    path = _twin_path(course, lab)
    _require_writable(path.parent)
    with tempfile.TemporaryDirectory(prefix="dltlab-progress-") as folder:
        environment = {"DLTLAB_PROGRESS": str(Path(folder) / "progress.jsonl")}
        notebook = execute(solution_notebook(lab), lab, environment | course.environment)
    write_atomically(path, dumps(notebook))
    return path


def differences(course: Course, labs: list[Lab]) -> list[str]:
    """One sentence for each notebook on disk that differs from what its source makes.

    Nothing is executed: of an executed twin all but the outputs is compared, and that it ran.
    """
    found = []
    for lab in labs:
        path = _learner_path(course, lab)
        if _text(path) != dumps(learner_notebook(lab)):
            found.append(f"{shown(path)} is not what {lab.path.name} makes; run: dltlab build")
        if reason := _twin_difference(course, lab):
            found.append(f"{shown(_twin_path(course, lab))} {reason}; run: dltlab build")
    return found


def orphans(course: Course) -> list[str]:
    """One sentence for each notebook that has no source."""
    names = course.lab_names()
    return [
        f"{shown(path)} has no source in solutions/; delete it or write one"
        for folder in (course.labs, course.solutions)
        for path in sorted(folder.glob("*.ipynb"))
        if path.stem not in names
    ]


def _twin_difference(course: Course, lab: Lab) -> str | None:
    twin = load(_twin_path(course, lab))
    if twin is None:
        return "is missing or not a notebook"
    if dumps(without_outputs(twin)) != dumps(solution_notebook(lab)):
        return f"is not what {lab.path.name} makes"
    if any(cell.execution_count is None for cell in _code(twin) if cell.source):
        return "was not executed to its end"
    if any(output.output_type == "error" for cell in _code(twin) for output in cell.outputs):
        return "holds an error"
    return None


def _code(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def _learner_path(course: Course, lab: Lab) -> Path:
    return course.labs / f"{lab.name}.ipynb"


def _twin_path(course: Course, lab: Lab) -> Path:
    return course.solutions / f"{lab.name}.ipynb"


def _text(path: Path) -> str | None:
    try:
        return path.read_bytes().decode()
    except (OSError, UnicodeDecodeError):
        return None


def _require_writable(folder: Path) -> None:
    """Fail before minutes of compute, not after."""
    if not os.access(folder, os.W_OK):
        raise LabError(f"{shown(folder)} is not writable; build a course in a folder of your own.")
