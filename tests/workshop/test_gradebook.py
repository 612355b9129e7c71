import json
import os
import sys
from contextlib import closing
from datetime import UTC, datetime

import nbformat
import pytest

from dltlab.course import Course
from dltlab.exercises import Outcome
from dltlab.workshop import hand_in
from dltlab.workshop.board.store import BoardStore, CheckedAnswer, ExerciseResult
from dltlab.workshop.export import export_workshop
from dltlab.workshop.gradebook import (
    graded_exercises,
    grading_code,
    with_grading_cells,
    write_course,
    write_gradebook,
)
from dltlab.workshop.roster import Member, Person, enroll
from tests.workshop.namespace import Namespace

pytest_plugins = ["tests.workshop.namespace"]
pytestmark = pytest.mark.filterwarnings("ignore")  # of nbgrader's import

LAB = "01_first_network"
WARNS = """import logging, os, warnings
def softmax(logits):
    warnings.warn("careful")
    logging.getLogger("keras").error("careful")
    os.write(2, b"careful")
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)
ex.softmax.check(softmax)"""
RESULTS = f"""import json
from dltlab.paths import progress_file
from nbgrader.api import Gradebook
with Gradebook("sqlite:///course/gradebook.db", "dltlab") as book:
    (notebook,) = book.find_submission({LAB!r}, "learner01").notebooks
    points = {{grade.name: grade.auto_score or 0.0 for grade in notebook.grades}}
print(json.dumps([points, progress_file().read_text().splitlines()]))"""


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

    cells = with_grading_cells(notebook, lab)

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


def answered(lab):
    """Return a notebook with answers that warn, are wrong, raise and are missing."""
    notebook = nbformat.read(Course.own().labs / f"{LAB}.ipynb", 4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    first, second, third, *_ = graded_exercises(lab)
    setup = [code[0], code[3]]  # imports and data
    scratch = [
        f"ex.{first}.check(lambda logits: logits)",
        WARNS,
        f"def {second}(*_):\n    return 0\nex.{second}.check({second})",
        f"def {third}(*_):\n    return 1 / 0\nex.{third}.check({third})",
        "ex.nothing.check(1)",
    ]
    cells = [nbformat.v4.new_code_cell(source) for source in scratch]
    for cell in cells:
        cell.metadata["nbgrader"] = {"grade": True, "points": 100, "grade_id": "mine"}
    notebook.cells = [*setup, *cells]
    return nbformat.writes(notebook).encode()


def test_nbgraders_autograder_gives_the_points_of_our_gradebook(
    lab, namespace: Namespace, folder, tmp_path
):
    from nbgrader.api import Gradebook

    folder.settings_file.write_text('labs = ["01"]\n')
    enroll(folder, [Person("Ada")], [Person("Grace")])
    hand_in.store(folder.handed_in, "learner01", LAB, answered(lab))
    out = tmp_path / "out"
    export_workshop(folder, out)
    namespace.run(["useradd", "--create-home", "grader"])
    namespace.run(["cp", "--recursive", out / "nbgrader", "/home/grader/course"])
    namespace.run(["chown", "--recursive", "grader:", "/home/grader/course"])
    for command in ("generate_assignment", "autograde"):
        run = ["env", "--chdir=course", sys.executable, "-m", "nbgrader", command, LAB]
        done = namespace.run(run, "grader")
        assert done.returncode == 0, done.stdout + done.stderr
    points, progress = json.loads(namespace.python(RESULTS, account="grader"))

    records = map(json.loads, progress)
    answers = [
        CheckedAnswer(LAB, record["exercise"], Outcome(record["outcome"]), "", 0.0, place)
        for place, record in enumerate(records)
    ]
    with closing(BoardStore(folder.board_database)) as board:
        board.record("learner01", answers)
        ours = tmp_path / "gradebook.db"
        write_gradebook(ours, [lab], [Member("learner01", "Ada")], board.outcomes(), {})
    with Gradebook(f"sqlite:///{ours}", "dltlab") as book:
        (notebook,) = book.find_submission(LAB, "learner01").notebooks
        assert points == {grade.name: grade.auto_score for grade in notebook.grades}
    assert [*points.values()] == [1.0] + [0.0] * (len(points) - 1)


def test_a_grading_cell_is_worth_a_point_for_a_correct_answer_and_nothing_else():
    from dltlab.checks import first_network as ex

    def points(answer):
        return eval(grading_code("softmax"), {"ex": ex, "softmax": answer})

    assert points(ex.softmax.reference()) == 1.0
    assert points(lambda z: z) == 0.0
    assert points(lambda z: 1 / 0) == 0.0
