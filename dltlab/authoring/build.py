"""Turn each source into its two notebooks, and tell whether what is on disk is what it makes."""

import hashlib
import os
import re
import sys
import tempfile
from pathlib import Path

from nbformat import NotebookNode

from dltlab.course.catalog import Course
from dltlab.course.front_matter import SourceError
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
from dltlab.paths import short_path

_NOT_PASSED = re.compile(r'class="dltlab-card" data-outcome="(not yet|error|broken check)"')


def stale(course: Course, labs: list[Lab]) -> list[Lab]:
    """Those of `labs` whose executed twin was not made from their present code and checks.

    Raises:
        LabError: A lab's checks are not there.
    """
    return [lab for lab in labs if _reused(course, lab) is None]


def write_without_executing(course: Course, lab: Lab) -> None:
    """Write the learner's notebook, and the executed twin where only prose has changed.

    A file that is right already is left alone.
    """
    texts = {_learner_path(course, lab): dumps(learner_notebook(lab))}
    if reused := _reused(course, lab):
        texts[_twin_path(course, lab)] = dumps(reused)
    for path, text in texts.items():
        if _text(path) != text:
            write_atomically(path, text)


def execute_solutions(course: Course, lab: Lab) -> Path:
    """Run a lab with its answers in and write `solutions/NN_topic.ipynb`, outputs kept.

    The author's own progress is left alone.

    Raises:
        SourceError: A cell raised, the kernel died, or an answer did not pass in the lab itself,
            where precision and seeds are the lab's; the old twin stays as it was.
        LabError: The notebook cannot be written.
    """
    path = _twin_path(course, lab)
    _require_writable(path.parent)
    with tempfile.TemporaryDirectory(prefix="dltlab-progress-") as folder:
        environment = {"DLTLAB_PROGRESS": str(Path(folder) / "progress.jsonl")}
        notebook = execute(_solved(course, lab), lab, environment | course.environment)
    if said := _not_passed(notebook):
        raise SourceError(lab.path, 1, f"an answer of its own does not pass in the lab: {said}")
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
            found.append(f"{short_path(path)} is not what {lab.path.name} makes; run: dltlab build")
        if reason := _twin_difference(course, lab):
            found.append(f"{short_path(_twin_path(course, lab))} {reason}; run: dltlab build")
    return found


def orphans(course: Course) -> list[str]:
    """One sentence for each notebook that has no source."""
    names = course.lab_names()
    return [
        f"{short_path(path)} has no source in solutions/; delete it or write one"
        for folder in (course.labs, course.solutions)
        for path in sorted(folder.glob("*.ipynb"))
        if path.stem not in names
    ]


def _twin_difference(course: Course, lab: Lab) -> str | None:
    twin = load(_twin_path(course, lab))
    if twin is None:
        return "is missing or not a notebook"
    if dumps(without_outputs(twin)) != dumps(_solved(course, lab)):
        return f"is not what {lab.path.name} makes"
    return _incomplete(twin)


def _incomplete(twin: NotebookNode) -> str | None:
    if any(cell.execution_count is None for cell in _code(twin) if cell.source):
        return "was not executed to its end"
    if any(output.output_type == "error" for cell in _code(twin) for output in cell.outputs):
        return "holds an error"
    if said := _not_passed(twin):
        return f"holds an answer that does not pass: {said}"
    return None


def _not_passed(twin: NotebookNode) -> str | None:
    """What the check of an exercise or question says that did not pass."""
    for cell in _code(twin):
        for output in cell.outputs:
            data = output.get("data", {})
            if _NOT_PASSED.search(data.get("text/html", "")):
                return str(data["text/plain"])
    return None


def _reused(course: Course, lab: Lab) -> NotebookNode | None:
    """The twin with its old outputs and today's prose; None where it must be executed."""
    twin, solved = load(_twin_path(course, lab)), _solved(course, lab)
    if twin is None or _incomplete(twin) or twin.metadata != solved.metadata:
        return None
    if _code(without_outputs(twin)) != _code(solved):
        return None
    for cell, executed in zip(_code(solved), _code(twin), strict=True):
        cell.update(executed)
    return solved


def _solved(course: Course, lab: Lab) -> NotebookNode:
    """The twin before it runs; it tells by which checks its answers will have passed."""
    notebook = solution_notebook(lab)
    if lab.exercise_module:
        content = _checks(course, lab).read_bytes()
        notebook.metadata.dltlab["checks"] = hashlib.sha256(content).hexdigest()[:12]
    return notebook


def _checks(course: Course, lab: Lab) -> Path:
    """The file of the module that holds the lab's exercises, found without importing it."""
    module = str(lab.exercise_module)
    stem = module.replace(".", "/")
    for folder in (course.root, *map(Path, sys.path)):
        for name in (f"{stem}.py", f"{stem}/__init__.py"):
            if (folder / name).is_file():
                return folder / name
    raise LabError(
        f"{short_path(lab.path)} takes its exercises from {module}: there is no such module."
    )


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
        raise LabError(
            f"{short_path(folder)} is not writable; build a course in a folder of your own."
        )
