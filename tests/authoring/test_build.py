import importlib
import json
from pathlib import Path

import nbformat
import pytest

from dltlab.authoring import build, differences, new_lab
from dltlab.course import SourceError
from dltlab.errors import Invalid, NotFound
from dltlab.exercises import Outcome, Verdict
from dltlab.exercises.progress import record_outcome
from dltlab.paths import short_path

NAME = "01_my_topic"
NOT_YET = Verdict("square", "not yet", "No.", Outcome.NOT_YET)._repr_html_()


@pytest.fixture
def learner(built):
    """The learner's notebook."""
    return built.labs / f"{NAME}.ipynb"


@pytest.fixture
def solution(built):
    """The executed notebook."""
    return built.solutions / f"{NAME}.ipynb"


@pytest.fixture
def change():
    """Return a function that changes the notebook in a file."""

    def apply(path, edit):
        notebook = json.loads(path.read_text())
        edit(notebook)
        path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")

    return apply


@pytest.fixture
def executed(monkeypatch):
    """Names of the labs that are executed, without running their cells."""
    names = []

    def pretend(notebook, lab, environment):
        names.append(lab.name)
        notebook = nbformat.from_dict(notebook)
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.execution_count = 1
        return notebook

    module = importlib.import_module("dltlab.authoring.build")
    monkeypatch.setattr(module, "execute_notebook", pretend)
    return names


def last_code(notebook):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"][-1]


def exercise(notebook):
    return next(c for c in notebook["cells"] if "exercise" in c["metadata"].get("tags", ()))


def outputs(path):
    cells = json.loads(path.read_text())["cells"]
    return [cell["outputs"] for cell in cells if cell["cell_type"] == "code"]


def test_a_built_course_has_no_differences_and_is_not_executed_again(built, executed):
    assert differences(built, built.read()) == []
    assert build(built, built.read()) == 0
    assert executed == []


def test_an_unchanged_notebook_is_not_written_again(built, learner, solution):
    times = [path.stat().st_mtime_ns for path in (learner, solution)]

    build(built, built.read())

    assert [path.stat().st_mtime_ns for path in (learner, solution)] == times


def test_a_notebook_that_is_read_and_written_again_is_the_same(solution, learner, change):
    for path in (solution, learner):
        before = path.read_text()
        change(path, lambda notebook: None)
        assert path.read_text() == before


def test_only_new_and_changed_labs_are_executed_and_reported(built, edit, executed):
    lines: list[str] = []
    new_lab("second", built.root)
    assert build(built, built.read(), report=lines.append) == 1
    assert executed == ["02_second"]
    assert lines[0] == "02_second: verifying its exercises and executing it …"
    assert lines[1].startswith("02_second: done in ")

    edit(built.resolve("1"), "seed=0", "seed=1")
    assert build(built, built.read()) == 1
    assert executed == ["02_second", NAME]
    assert differences(built, built.read()) == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.unlink(),
        lambda path: path.write_text(""),
        lambda path: path.write_text(path.read_text()[:1000]),
        lambda path: path.write_text(path.read_text().replace("My topic", "Your topic")),
        lambda path: path.write_bytes(b"\xff\xfe"),
    ],
    ids=["missing", "empty", "truncated", "edited", "not text"],
)
def test_a_learners_notebook_that_differs_is_reported_and_rebuilt(built, learner, damage, executed):
    damage(learner)

    assert differences(built, built.read()) == [
        f"{short_path(learner)} differs from its source {NAME}.py; run: {built.command('build')}"
    ]
    assert build(built, built.read()) == 0
    assert differences(built, built.read()) == []


DIFFERS = f"differs from its source {NAME}.py or from the checks"


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda nb: last_code(nb).update(source=["x = 1"]), DIFFERS),
        (lambda nb: nb["cells"].remove(last_code(nb)), DIFFERS),
        (lambda nb: nb["metadata"].update(kernelspec={}), "is missing or not a notebook"),
        (lambda nb: nb["metadata"].update(other=1), DIFFERS),
        (lambda nb: nb.update(cells=5), "is missing or not a notebook"),
        (lambda nb: last_code(nb).update(execution_count=None), "was not executed to its end"),
        (
            lambda nb: last_code(nb)["outputs"].append(
                {"output_type": "error", "ename": "E", "evalue": "", "traceback": []}
            ),
            "contains an error",
        ),
        (
            lambda nb: exercise(nb)["outputs"][0].update(
                data={"text/plain": "square: not yet. No.", "text/html": NOT_YET}
            ),
            "contains an answer that does not pass: square: not yet. No.",
        ),
    ],
)
def test_a_solution_notebook_that_differs_is_reported_and_executed_again(
    built, solution, change, damage, reason, executed
):
    change(solution, damage)

    assert differences(built, built.read()) == [
        f"{short_path(solution)} {reason}; run: {built.command('build')}"
    ]
    assert build(built, built.read()) == 1


@pytest.mark.parametrize("content", [None, "", "{", "[]"])
def test_a_solution_that_is_not_a_notebook_is_reported(built, solution, content):
    solution.unlink() if content is None else solution.write_text(content)

    assert differences(built, built.read()) == [
        f"{short_path(solution)} is missing or not a notebook; run: {built.command('build')}"
    ]


def test_outputs_are_not_compared(built, solution, change):
    change(solution, lambda notebook: last_code(notebook)["outputs"].clear())

    assert differences(built, built.read()) == []


def test_comparing_executes_nothing(built, source, edit, executed):
    edit(source, "seed=0", "seed=1")

    assert len(differences(built, built.read())) == 2
    assert executed == []


def test_notebooks_without_a_source_are_reported(built, learner, solution):
    learner.with_name("02_gone.ipynb").touch()
    solution.with_name("03_gone.ipynb").touch()

    assert differences(built, built.read()) == [
        f"{short_path(path)} {fault}" for path, fault in built.without_source().items()
    ]
    assert [path.name for path in built.without_source()] == ["02_gone.ipynb", "03_gone.ipynb"]


@pytest.mark.parametrize("folder", ["labs", "solutions"])
def test_a_notebook_that_no_build_has_made_is_not_overwritten(built, executed, folder):
    path = built.root / folder / f"{NAME}.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("mine")]), path)
    before = path.read_bytes()

    with pytest.raises(Invalid, match="was not made by a build, which would overwrite it"):
        build(built, built.read())
    assert path.read_bytes() == before
    assert executed == []


def test_a_failing_cell_leaves_the_old_notebook(built, source, solution, edit):
    before = solution.read_bytes()
    edit(source, "rng = np.random", "1 / 0\nrng = np.random")

    with pytest.raises(SourceError, match=r"01_my_topic\.py:33: raised ZeroDivisionError"):
        build(built, built.read())
    assert solution.read_bytes() == before


def test_an_answer_that_fails_in_the_lab_leaves_the_old_notebook(built, source, solution, edit):
    before = solution.read_bytes()
    edit(source, "check(mean_squared_error)", "check(lambda predictions, truth: 20.0)")

    with pytest.raises(SourceError, match=r"lab does not pass: mean_squared_error: not yet"):
        build(built, built.read())
    assert solution.read_bytes() == before


def test_an_exercise_that_fails_verification_is_an_error_before_executing(
    built, source, edit, executed
):
    edit(source, "return float(np.mean(", "return float(np.sum(")

    with pytest.raises(Invalid, match=r"exercises of checks\.my_topic have faults"):
        build(built, built.read())
    assert executed == []


def test_building_writes_two_notebooks_and_keeps_the_authors_progress(course, progress_file):
    record_outcome(NAME, "mean_squared_error", Outcome.ERROR)
    progress = progress_file.read_bytes()
    before = set(course.root.rglob("*"))

    build(course, course.read())

    new = {path.relative_to(course.root) for path in {*course.root.rglob("*")} - before}
    assert {path for path in new if "__pycache__" not in path.parts} == {
        Path(f"labs/{NAME}.ipynb"),
        Path(f"solutions/{NAME}.ipynb"),
    }
    assert progress_file.read_bytes() == progress


def test_a_solution_notebook_shows_passed_answers_and_nothing_of_the_machine(solution, tmp_path):
    text = solution.read_text()

    assert "mean_squared_error: passed." in text
    assert "widget-view" not in text
    assert str(tmp_path.parent) not in text
    assert "/tmp" not in text


def test_changed_prose_is_copied_and_the_outputs_are_kept(built, source, solution, edit, executed):
    before = outputs(solution)
    edit(source, "## The question", "## The riddle")

    build(built, built.read())

    assert executed == []
    assert "## The riddle" in solution.read_text()
    assert outputs(solution) == before


@pytest.mark.parametrize("change", [("seed=0", "seed=1"), ("# %%\n", '# %% tags=["x"]\n')])
def test_changed_code_or_tags_are_executed_again(built, source, edit, change, executed):
    edit(source, *change)

    build(built, built.read())

    assert executed == [NAME]


def test_changed_checks_are_executed_again(built, edit, executed):
    edit(built.root / "checks" / "my_topic.py", "Subtract", "First subtract")

    (message,) = differences(built, built.read())
    assert message.endswith(f"{NAME}.ipynb {DIFFERS}; run: {built.command('build')}")
    build(built, built.read())
    assert executed == [NAME]


def test_a_missing_module_of_exercises_is_an_error(built):
    (built.root / "checks" / "my_topic.py").unlink()

    with pytest.raises(NotFound, match=r"exercises from checks\.my_topic, which does not exist"):
        build(built, built.read())


def test_a_course_finds_its_checks_and_leaves_the_import_path_unchanged(
    course, executed, monkeypatch
):
    import sys

    monkeypatch.setattr(sys, "path", [p for p in sys.path if p != str(course.root)])
    before = list(sys.path)

    assert build(course, course.read()) == 1
    assert sys.path == before
    assert not any(outputs(course.labs / f"{NAME}.ipynb"))
