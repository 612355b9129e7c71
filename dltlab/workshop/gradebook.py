"""Results in the form of nbgrader: its gradebook, and notebooks that its autograder grades."""

import os
import re
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dltlab.course import Lab
from dltlab.errors import Unavailable
from dltlab.exercises import Outcome

if TYPE_CHECKING:
    from nbformat import NotebookNode

    from dltlab.workshop.board.store import ExerciseResult
    from dltlab.workshop.roster import Member

_COURSE_ID = "dltlab"
_CHECK = re.compile(r"^ex\.(\w+)\.check\(", re.MULTILINE)
_CONFIG = f"""c = get_config()
c.CourseDirectory.course_id = "{_COURSE_ID}"
c.ClearSolutions.enforce_metadata = False
c.ExecutePreprocessor.timeout = 3600
"""


def with_grading_cells(notebook: "NotebookNode", lab: Lab) -> "NotebookNode":
    """Return a lab's notebook with nbgrader's metadata and a locked cell of a point per exercise.

    The cell follows the last one that checks the exercise. It checks the answer without showing or
    recording anything. The other cells stay unchanged, without the metadata of nbgrader.
    """
    import nbformat

    graded = nbformat.from_dict(notebook)
    last = {_checked(cell): number for number, cell in enumerate(graded.cells)}
    exercises = {last[name]: name for name in graded_exercises(lab) if name in last}
    cells: list[Any] = []
    for number, cell in enumerate(graded.cells):
        cell.metadata.pop("nbgrader", None)  # which the learner has written
        cells.append(cell)
        if name := exercises.get(number):
            cell.metadata["nbgrader"] = _metadata(f"answer-{name}", solution=True)
            grading = nbformat.v4.new_code_cell(grading_code(name))
            options = {"grade": True, "locked": True, "points": 1}
            grading.metadata["nbgrader"] = _metadata(f"grade-{name}", **options)
            cells.append(grading)
    graded.cells = cells
    return graded


def graded_exercises(lab: Lab) -> list[str]:
    """Return the exercises that count: neither questions nor what only runs if it is asked for."""
    matches = (_CHECK.search(cell.source) for cell in lab.code_cells())
    return [match[1] for match in matches if match]


def grading_code(name: str) -> str:
    """Return the code of the cell that grades an exercise: its value is the points."""
    return f"ex.{name}.points({name})"


def write_course(folder: Path, labs: Sequence[Lab], learner_notebooks: Path) -> None:
    """Write the configuration and the sources of a course of nbgrader."""
    import nbformat

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "nbgrader_config.py").write_text(_CONFIG)
    for lab in labs:
        path = learner_notebooks / f"{lab.name}.ipynb"
        if path.exists():
            source = folder / "source" / lab.name / path.name
            source.parent.mkdir(parents=True)
            nbformat.write(with_grading_cells(nbformat.read(path, 4), lab), source)


def write_gradebook(
    path: Path,
    labs: Sequence[Lab],
    members: Sequence["Member"],
    results: Sequence["ExerciseResult"],
    handed_in: Mapping[tuple[str, str], datetime],
) -> None:
    """Write what learners have reached into a new gradebook of nbgrader, a point per exercise.

    Args:
        path: The SQLite file.
        labs: With the exercises that count.
        members: The learners.
        results: What they have reached.
        handed_in: When a learner, by account, handed in a lab.

    Raises:
        Unavailable: nbgrader is not installed.
    """
    try:
        from nbgrader.api import Gradebook
    except ImportError as error:
        raise Unavailable("The gradebook needs nbgrader: pip install 'dltlab[workshop]'") from error
    passed = {
        (one.account, one.lab, one.exercise): one.last
        for one in results
        if one.outcome is Outcome.PASSED
    }
    tried = {(one.account, one.lab): one.last for one in results}
    with (
        _own_programs_found(),
        warnings.catch_warnings(action="ignore"),  # of SQLAlchemy, of what nbgrader does
        Gradebook(f"sqlite:///{path}", _COURSE_ID) as book,
    ):
        for lab in labs:
            _add_lab(book, lab)
        for member in members:
            details = {"first_name": member.name, "email": member.email}
            book.update_or_create_student(member.account, **details)
            for lab in labs:
                key = (member.account, lab.name)
                if key in tried or key in handed_in:
                    time = handed_in.get(key) or datetime.fromtimestamp(tried[key], UTC)
                    points = {name: float((*key, name) in passed) for name in graded_exercises(lab)}
                    _add_submission(book, lab, member.account, time, points)


@contextmanager
def _own_programs_found() -> Iterator[None]:
    """Let this process find the programs of its Python environment: nbgrader calls alembic."""
    before = os.environ.get("PATH", os.defpath)
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), before])
    try:
        yield
    finally:
        os.environ["PATH"] = before


def _add_lab(book: Any, lab: Lab) -> None:
    book.update_or_create_assignment(lab.name, course_id=_COURSE_ID)
    book.update_or_create_notebook(lab.name, lab.name)
    for name in graded_exercises(lab):
        place = (f"grade-{name}", lab.name, lab.name)
        book.update_or_create_grade_cell(*place, max_score=1, cell_type="code")
        book.update_or_create_source_cell(
            *place, cell_type="code", source=grading_code(name), locked=True
        )


def _add_submission(
    book: Any, lab: Lab, account: str, time: datetime, points: Mapping[str, float]
) -> None:
    book.update_or_create_submission(lab.name, account, timestamp=time.replace(tzinfo=None))
    for name, score in points.items():
        grade = book.find_grade(f"grade-{name}", lab.name, lab.name, account)
        grade.auto_score, grade.needs_manual_grade = score, False
    book.db.commit()


def _checked(cell: "NotebookNode") -> str | None:
    """Return the exercise that a cell checks."""
    match = _CHECK.search(cell.source) if cell.cell_type == "code" else None
    return match[1] if match else None


def _metadata(grade_id: str, **options: Any) -> dict[str, Any]:
    plain = {"grade": False, "solution": False, "locked": False, "task": False}
    return {"schema_version": 3, "grade_id": grade_id, "cell_type": "code", **plain, **options}
