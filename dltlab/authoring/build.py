"""Build the two notebooks of each source, and report files that differ from their source."""

import hashlib
import os
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

from nbformat import NotebookNode

from dltlab.authoring.verify import require_verified
from dltlab.course import (
    Course,
    Lab,
    SourceError,
    execute_notebook,
    learner_notebook,
    notebook_text,
    read_notebook,
    solution_notebook,
    without_outputs,
)
from dltlab.errors import Invalid, NotFound, Unavailable
from dltlab.files import write_atomically
from dltlab.paths import PROGRESS, short_path

_NOT_PASSED = re.compile(r'class="dltlab-card" data-outcome="(not yet|error|broken check)"')


def build(course: Course, labs: list[Lab], report: Callable[[str], None] = print) -> int:
    """Write both notebooks of `labs`; execute those whose code or checks have changed.

    Args:
        course: The course of the labs.
        labs: The labs to build.
        report: Called with a line of text before and after each execution.

    Returns:
        How many labs were executed.

    Raises:
        SourceError: A cell raised an error, the kernel died, or an answer did not pass its check.
        NotFound: The module of a lab's exercises does not exist.
        LabError: The exercises of a lab fail their verification.
        Invalid: A notebook in the place of one of a lab was not made by a build.
        Unavailable: A notebook cannot be written.
    """
    for lab in labs:
        _require_generated(_learner_path(course, lab), _solution_path(course, lab))
    changed = [lab for lab in labs if _reusable(course, lab) is None]
    for lab in labs:
        if lab in changed:
            report(f"{lab.name}: verifying its exercises and executing it …")
            start = perf_counter()
            _require_writable(course.solutions)
            if lab.exercise_module:
                with course.import_path():
                    require_verified(lab.exercise_module)
            _write_if_changed(_solution_path(course, lab), _executed(course, lab))
            report(f"{lab.name}: done in {perf_counter() - start:.0f} s")
        elif notebook := _reusable(course, lab):
            _write_if_changed(_solution_path(course, lab), notebook)
        _write_if_changed(_learner_path(course, lab), learner_notebook(lab))
    return len(changed)


def differences(course: Course, labs: list[Lab]) -> list[str]:
    """Return a message for each notebook that is not what `build` would write.

    Nothing is executed: outputs are not compared, but they must be complete and without errors. A
    notebook without a source, of any lab, is reported, too.

    Raises:
        NotFound: The module of a lab's exercises does not exist.
    """
    messages = []
    command = course.command("build")
    for lab in labs:
        path = _learner_path(course, lab)
        if _text(path) != notebook_text(learner_notebook(lab)):
            messages.append(
                f"{short_path(path)} differs from its source {lab.path.name}; run: {command}"
            )
        if reason := _solution_difference(course, lab):
            path = _solution_path(course, lab)
            messages.append(f"{short_path(path)} {reason}; run: {command}")
    strays = course.without_source().items()
    return messages + [f"{short_path(path)} {fault}" for path, fault in strays]


def _solution_difference(course: Course, lab: Lab) -> str | None:
    notebook = read_notebook(_solution_path(course, lab))
    if notebook is None:
        return "is missing or not a notebook"
    if notebook_text(without_outputs(notebook)) != notebook_text(_unexecuted(course, lab)):
        return f"differs from its source {lab.path.name} or from the checks"
    return _incomplete(notebook)


def _incomplete(notebook: NotebookNode) -> str | None:
    if any(cell.execution_count is None for cell in _code(notebook) if cell.source):
        return "was not executed to its end"
    if any(output.output_type == "error" for cell in _code(notebook) for output in cell.outputs):
        return "contains an error"
    if message := _not_passed(notebook):
        return f"contains an answer that does not pass: {message}"
    return None


def _not_passed(notebook: NotebookNode) -> str | None:
    """Return the message of the first exercise or question whose check did not pass."""
    for cell in _code(notebook):
        for output in cell.outputs:
            data = output.get("data", {})
            if _NOT_PASSED.search(data.get("text/html", "")):
                return str(data["text/plain"])
    return None


def _reusable(course: Course, lab: Lab) -> NotebookNode | None:
    """Return the new prose with the old outputs; None if the code must be executed."""
    notebook, new = read_notebook(_solution_path(course, lab)), _unexecuted(course, lab)
    if notebook is None or _incomplete(notebook) or notebook.metadata != new.metadata:
        return None
    if _code(without_outputs(notebook)) != _code(new):
        return None
    for cell, executed in zip(_code(new), _code(notebook), strict=True):
        cell.update(executed)
    return new


def _executed(course: Course, lab: Lab) -> NotebookNode:
    """Return the solution notebook with its outputs; the author's own progress is not changed.

    The answers must pass once more in the lab itself, with the lab's precision and seeds.
    """
    with tempfile.TemporaryDirectory(prefix="dltlab-progress-") as folder:
        environment = {PROGRESS: str(Path(folder) / "progress.jsonl")} | course.environment
        notebook = execute_notebook(_unexecuted(course, lab), lab, environment)
    if message := _not_passed(notebook):
        raise SourceError(lab.path, 1, f"an answer of the lab does not pass: {message}")
    return notebook


def _unexecuted(course: Course, lab: Lab) -> NotebookNode:
    """Return the solution notebook without outputs; its metadata names the checks' version."""
    notebook = solution_notebook(lab)
    if lab.exercise_module:
        content = _checks(course, lab).read_bytes()
        notebook.metadata.dltlab["checks"] = hashlib.sha256(content).hexdigest()[:12]
    return notebook


def _checks(course: Course, lab: Lab) -> Path:
    """Return the file of the module with the lab's exercises, without importing it."""
    module = str(lab.exercise_module)
    stem = module.replace(".", "/")
    for folder in (course.root, *map(Path, sys.path)):
        for name in (f"{stem}.py", f"{stem}/__init__.py"):
            if (folder / name).is_file():
                return folder / name
    raise NotFound(
        f"{short_path(lab.path)} imports its exercises from {module}, which does not exist."
    )


def _code(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def _learner_path(course: Course, lab: Lab) -> Path:
    return course.labs / f"{lab.name}.ipynb"


def _solution_path(course: Course, lab: Lab) -> Path:
    return course.solutions / f"{lab.name}.ipynb"


def _write_if_changed(path: Path, notebook: NotebookNode) -> None:
    text = notebook_text(notebook)
    if _text(path) != text:
        write_atomically(path, text)


def _text(path: Path) -> str | None:
    try:
        return path.read_bytes().decode()
    except (OSError, UnicodeDecodeError):
        return None


def _require_generated(*paths: Path) -> None:
    """Raise before a notebook is overwritten that somebody has written by hand."""
    for path in paths:
        notebook = read_notebook(path)
        if notebook and "dltlab" not in notebook.metadata:
            raise Invalid(
                f"{short_path(path)} was not made by a build, which would overwrite it; move it "
                "elsewhere."
            )


def _require_writable(folder: Path) -> None:
    """Raise before minutes of computing, not after."""
    if not os.access(folder, os.W_OK):
        raise Unavailable(
            f"{short_path(folder)} is not writable; build a course in a folder of your own."
        )
