import os
from datetime import UTC, datetime

import nbformat
import pytest

from dltlab.course import Course
from dltlab.exercises import Outcome
from dltlab.workshop.board.store import ExerciseResult
from dltlab.workshop.gradebook import (
    graded_exercises,
    grading_code,
    with_grading_cells,
    write_course,
    write_gradebook,
)
from dltlab.workshop.roster import Member

pytestmark = pytest.mark.filterwarnings("ignore")  # of nbgrader's import

LAB = "01_first_network"


@pytest.fixture(scope="module")
def lab():
    (lab,) = Course.own().read([LAB])
    return lab


def graded(notebook):
    return {
        cell.metadata["nbgrader"]["grade_id"]: cell
        for cell in notebook.cells
        if "nbgrader" in cell.metadata
    }


def test_each_exercise_is_followed_by_a_locked_cell_of_one_point(lab):
    notebook = nbformat.read(Course.own().labs / f"{LAB}.ipynb", 4)
    checked = graded_exercises(lab)

    cells = with_grading_cells(notebook)

    assert len(checked) >= 5
    nbformat.validate(cells)
    assert len(cells.cells) == len(notebook.cells) + len(checked)
    for name in checked:
        answer, grade = graded(cells)[f"answer-{name}"], graded(cells)[f"grade-{name}"]
        assert cells.cells.index(grade) == cells.cells.index(answer) + 1
        assert answer.metadata["nbgrader"]["solution"]
        assert (
            grade.metadata["nbgrader"] | {"points": 1, "locked": True, "grade": True}
            == (grade.metadata["nbgrader"])
        )
        assert grade.source == grading_code(name)
    assert not any("nbgrader" in cell.metadata for cell in notebook.cells)


def test_a_course_has_a_source_for_each_lab_that_is_built(lab, tmp_path):
    write_course(tmp_path, [lab], Course.own().labs)
    write_course(tmp_path / "empty", [lab], tmp_path)

    assert graded(nbformat.read(tmp_path / "source" / LAB / f"{LAB}.ipynb", 4))
    assert (tmp_path / "nbgrader_config.py").exists()
    assert not (tmp_path / "empty" / "source").exists()


def test_the_gradebook_has_a_point_for_each_exercise_that_is_passed(lab, tmp_path, monkeypatch):
    from nbgrader.api import Gradebook

    first, second = graded_exercises(lab)[:2]
    results = [
        ExerciseResult("learner01", LAB, first, Outcome.PASSED, 2, 5.0, 5.0),
        ExerciseResult("learner01", LAB, second, Outcome.NOT_YET, 1, 6.0, None),
        ExerciseResult("learner02", LAB, first, Outcome.ERROR, 1, 7.0, None),
    ]
    members = [
        Member("learner01", "Zoë", "zoe@example.org"),
        Member("learner02", "مريم"),
        Member("learner03", "=1"),
    ]
    path = tmp_path / "gradebook.db"
    time = datetime(2026, 11, 29, 12, tzinfo=UTC)

    monkeypatch.setenv("PATH", os.defpath)  # as with `.venv/bin/dltlab`
    write_gradebook(path, [lab], members, results, {("learner01", LAB): time})

    with Gradebook(f"sqlite:///{path}", "dltlab") as book:
        submissions = {s.student.id: s for s in book.assignment_submissions(LAB)}
        assert {account: s.score for account, s in submissions.items()} == {
            "learner01": 1,
            "learner02": 0,
        }
        assert submissions["learner01"].max_score == len(graded_exercises(lab))
        assert submissions["learner01"].timestamp == time.replace(tzinfo=None)
        assert not any(s.needs_manual_grade for s in submissions.values())
        assert {s.first_name for s in book.students} == {"Zoë", "مريم", "=1"}


def test_a_grading_cell_is_worth_a_point_for_a_correct_answer_and_nothing_else():
    from dltlab.checks import first_network as ex

    def points(answer):
        return eval(grading_code("softmax"), {"ex": ex, "softmax": answer})

    assert points(ex.softmax.reference()) == 1.0
    assert points(lambda z: z) == 0.0
    assert points(lambda z: 1 / 0) == 0.0
