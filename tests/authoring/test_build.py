import json

import pytest

from dltlab.authoring import build
from dltlab.authoring.build import (
    differences,
    execute_solutions,
    orphans,
    stale,
    write_without_executing,
)
from dltlab.authoring.new import new_lab
from dltlab.course.front_matter import SourceError
from dltlab.errors import LabError
from dltlab.exercises import Outcome, Verdict, record_outcome
from dltlab.paths import short_path

NOT_YET = Verdict("square", "not yet", "No.", Outcome.NOT_YET)._repr_html_()


@pytest.fixture
def learner(built):
    return built.labs / "01_my_topic.ipynb"


@pytest.fixture
def twin(built):
    return built.solutions / "01_my_topic.ipynb"


@pytest.fixture
def change():
    """Change the notebook in a file."""

    def apply(path, change):
        notebook = json.loads(path.read_text())
        change(notebook)
        path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")

    return apply


def _last_code(notebook):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"][-1]


def _exercise(notebook):
    return next(c for c in notebook["cells"] if "exercise" in c["metadata"].get("tags", ()))


def _outputs(path):
    cells = json.loads(path.read_text())["cells"]
    return [cell["outputs"] for cell in cells if cell["cell_type"] == "code"]


def test_what_was_built_has_no_differences(built):
    labs = built.read()

    assert differences(built, labs) == []
    assert stale(built, labs) == []
    assert orphans(built) == []


def test_a_notebook_written_and_read_again_is_the_same(built, twin, learner, change):
    for path in (twin, learner):
        before = path.read_text()
        change(path, lambda notebook: None)
        assert path.read_text() == before


def test_only_the_lab_whose_source_changed_is_stale(built, edit):
    new_lab("second", built.root)
    assert [lab.name for lab in stale(built, built.read())] == ["02_second"]

    edit(built.resolve("1"), "seed=0", "seed=1")
    assert [lab.name for lab in stale(built, built.read(["1"]))] == ["01_my_topic"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.unlink(),
        lambda path: path.write_text(""),
        lambda path: path.write_text(path.read_text()[:1000]),
        lambda path: path.write_text(path.read_text().replace("My topic", "Your topic")),
        lambda path: path.write_bytes(b"\xff\xfe"),
    ],
    ids=["missing", "empty", "truncated", "edited", "no text"],
)
def test_a_learners_notebook_that_differs_is_told(built, learner, damage):
    damage(learner)

    assert differences(built, built.read()) == [
        f"{short_path(learner)} is not what 01_my_topic.py makes; run: dltlab build"
    ]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda nb: _last_code(nb).update(source=["x = 1"]), "is not what 01_my_topic.py makes"),
        (lambda nb: nb["cells"].remove(_last_code(nb)), "is not what 01_my_topic.py makes"),
        (lambda nb: nb["metadata"].update(kernelspec={}), "is missing or not a notebook"),
        (lambda nb: nb["metadata"].update(other=1), "is not what 01_my_topic.py makes"),
        (lambda nb: nb.update(cells=5), "is missing or not a notebook"),
        (lambda nb: _last_code(nb).update(execution_count=None), "was not executed to its end"),
        (
            lambda nb: _last_code(nb)["outputs"].append(
                {"output_type": "error", "ename": "E", "evalue": "", "traceback": []}
            ),
            "holds an error",
        ),
        (
            lambda nb: _exercise(nb)["outputs"][0].update(
                data={"text/plain": "square: not yet. No.", "text/html": NOT_YET}
            ),
            "holds an answer that does not pass: square: not yet. No.",
        ),
    ],
)
def test_a_twin_that_differs_is_told_and_stale(built, twin, change, damage, said):
    change(twin, damage)

    assert differences(built, built.read()) == [f"{short_path(twin)} {said}; run: dltlab build"]
    assert [lab.name for lab in stale(built, built.read())] == ["01_my_topic"]


@pytest.mark.parametrize("content", [None, "", "{", "[]"])
def test_a_twin_that_is_no_notebook_is_told(built, twin, content):
    twin.unlink() if content is None else twin.write_text(content)

    assert differences(built, built.read()) == [
        f"{short_path(twin)} is missing or not a notebook; run: dltlab build"
    ]


def test_outputs_that_differ_are_no_difference(built, twin, change):
    change(twin, lambda notebook: _last_code(notebook)["outputs"].clear())

    assert differences(built, built.read()) == []


def test_comparing_executes_nothing(built, source, edit, monkeypatch):
    monkeypatch.setattr(build, "execute", lambda *_: pytest.fail("a lab was executed"))
    edit(source, "seed=0", "seed=1")

    assert len(differences(built, built.read())) == 2


def test_notebooks_without_a_source_are_told(built, learner, twin):
    learner.with_name("02_gone.ipynb").touch()
    twin.with_name("03_gone.ipynb").touch()

    assert orphans(built) == [
        f"{short_path(path)} has no source in solutions/; delete it or write one"
        for path in (learner.with_name("02_gone.ipynb"), twin.with_name("03_gone.ipynb"))
    ]


def test_a_failing_cell_leaves_the_old_twin_as_it_was(built, source, twin, edit):
    before = twin.read_bytes()
    edit(source, "rng = np.random", "1 / 0\nrng = np.random")

    with pytest.raises(SourceError, match=r"01_my_topic\.py:33: raised ZeroDivisionError"):
        execute_solutions(built, built.read()[0])
    assert twin.read_bytes() == before


def test_an_answer_that_does_not_pass_in_the_lab_leaves_the_old_twin_as_it_was(
    built, source, twin, edit
):
    before = twin.read_bytes()
    edit(source, "check(mean_squared_error)", "check(lambda predictions, truth: 20.0)")

    with pytest.raises(SourceError, match=r"does not pass in the lab: mean_squared_error: not yet"):
        execute_solutions(built, built.read()[0])
    assert twin.read_bytes() == before


def test_executing_writes_the_twin_and_nothing_else(course, progress_file):
    (lab,) = course.read()
    record_outcome("01_my_topic", "mean_squared_error", Outcome.ERROR)
    progress = progress_file.read_bytes()
    before = set(course.root.rglob("*"))

    twin = execute_solutions(course, lab)

    new = set(course.root.rglob("*")) - before
    assert {path for path in new if "__pycache__" not in path.parts} == {twin}
    assert progress_file.read_bytes() == progress


def test_a_twin_shows_the_answers_passing_and_nothing_of_the_machine(twin, tmp_path):
    text = twin.read_text()

    assert "mean_squared_error: passed." in text
    assert "widget-view" not in text
    assert str(tmp_path.parent) not in text
    assert "/tmp" not in text


def test_changed_prose_is_taken_over_and_the_outputs_are_kept(built, source, twin, edit):
    outputs = _outputs(twin)
    edit(source, "## The question", "## The riddle")

    write_without_executing(built, built.read()[0])

    assert stale(built, built.read()) == []
    assert "## The riddle" in twin.read_text()
    assert _outputs(twin) == outputs


@pytest.mark.parametrize("damage", [("seed=0", "seed=1"), ("# %%\n", '# %% tags=["x"]\n')])
def test_changed_code_or_tags_leave_the_twin_to_be_executed(built, source, twin, edit, damage):
    before = twin.read_bytes()
    edit(source, *damage)

    write_without_executing(built, built.read()[0])

    assert [lab.name for lab in stale(built, built.read())] == ["01_my_topic"]
    assert twin.read_bytes() == before


def test_changed_checks_make_the_lab_stale(built, edit):
    edit(built.root / "checks" / "my_topic.py", "Subtract", "First subtract")

    assert [lab.name for lab in stale(built, built.read())] == ["01_my_topic"]
    (found,) = differences(built, built.read())
    assert found.endswith("01_my_topic.ipynb is not what 01_my_topic.py makes; run: dltlab build")


def test_missing_checks_are_told(built):
    (built.root / "checks" / "my_topic.py").unlink()

    with pytest.raises(LabError, match=r"from checks\.my_topic: there is no such module"):
        stale(built, built.read())


def test_learner_notebooks_are_made_without_executing(course, monkeypatch):
    monkeypatch.setattr(build, "execute", lambda *_: pytest.fail("a lab was executed"))

    write_without_executing(course, course.read()[0])

    assert not any(_outputs(course.labs / "01_my_topic.ipynb"))
