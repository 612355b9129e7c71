"""Every lab in the smoke profile: the learner's notebook, then the answers of the solved one.

They run in cold kernels: in a warm kernel, which has imported many packages already, a missing
import in a lab would not be noticed. The kernels that a lab starts itself are warm, as usual.
"""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nbformat
import numpy as np
import papermill
import pytest
from nbformat import NotebookNode
from sklearn.datasets import load_digits

from dltlab.course import Course, Lab, learner_notebook, notebook_text
from dltlab.exercises import Outcome
from dltlab.exercises.progress import read_records
from tests.course_cards import write_card
from tests.deadlines import HANG_SECONDS

LEARNERS_FILES = (
    *("mine.txt", "empty.txt", "latin.txt", "notes.txt", "leaderboard.csv", "model.keras"),
    *("network.keras", "writer.keras", "writer.json", "some_pictures/0.png", "engine/engine.json"),
)

CHECKED = "nbval-check-output"  # the tag of exercises whose outputs are compared

# The plain text of a card is compared, not its looks.
ANY_CARD = r"""[card]
regex: [\s\S]*class="dltlab-card"[\s\S]*
replace: card
"""

MNIST_KEYS = """
shape = [28, 28, 1]
dtype = "float32"
class_names = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]
splits.train = {size = 600, images = "x_train", labels = "y_train"}
splits.test = {size = 200, images = "x_test", labels = "y_test"}
"""


@pytest.fixture(params=Course.own().lab_names())
def lab(request: pytest.FixtureRequest) -> Lab:
    (lab,) = Course.own().read([request.param])
    return lab


@pytest.fixture
def nbval(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a notebook, and compare the outputs of its cells tagged `CHECKED`."""

    def run(notebook: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pytest", "-c", os.devnull, "-p", "no:cacheprovider"]
        options = ["--nbval-lax", f"--nbval-cell-timeout={HANG_SECONDS:.0f}"]
        (tmp_path / "sanitize.cfg").write_text(ANY_CARD)
        options += ["--nbval-sanitize-with", str(tmp_path / "sanitize.cfg")]
        return subprocess.run(
            [*command, *options, str(notebook)],
            cwd=tmp_path,
            env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"} | environment,
            capture_output=True,
            text=True,
        )

    return run


def solution_path(course: Course, lab: Lab) -> Path:
    return course.solutions / f"{lab.name}.ipynb"


def tags(cell: NotebookNode) -> list[str]:
    return list(cell.metadata.get("tags", ()))


def stored_texts(cell: NotebookNode) -> list[str]:
    """Return the outputs of a cell as text; of a card the words, not its looks."""
    return [output.get("text") or output.data["text/plain"] for output in cell.outputs]


def test_a_lab_runs_untouched_and_its_answers_get_the_committed_outputs(
    lab: Lab, tmp_path: Path, cold_kernels_of_this_process
) -> None:
    """In one kernel: every cell of the learner's notebook, then those that contain the answers."""
    learner, text = learner_notebook(lab), notebook_text(learner_notebook(lab))
    solved = nbformat.read(solution_path(Course.own(), lab), 4)
    answers = [cell for cell in solved.cells if {CHECKED, "solution"} & {*tags(cell)}]
    for number, cell in enumerate(answers):
        cell.id = f"answer-{number}"  # the learner's cells have the same IDs
    learner.cells += answers
    nbformat.write(learner, tmp_path / "learner.ipynb")
    for file in LEARNERS_FILES:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(f"the learner's {file}")
    before = {path.name for path in tmp_path.iterdir()}

    executed = papermill.execute_notebook(
        tmp_path / "learner.ipynb",
        tmp_path / "smoke.ipynb",
        lab.front_matter.profiles.smoke,
        cwd=tmp_path,
        progress_bar=False,
        execution_timeout=int(HANG_SECONDS),
    )

    outcomes = [record.outcome for record in read_records()]
    first_answer = outcomes.index(Outcome.PASSED)
    assert set(outcomes[:first_answer]) == {Outcome.UNATTEMPTED}
    assert set(outcomes[first_answer:]) == {Outcome.PASSED}
    answered = [record.exercise for record in read_records()[first_answer:]]
    source = "\n".join(cell.source for cell in answers)
    assert answered == re.findall(r"ex\.(\w+)\.(?:check|answer)\(", source)
    references = set(re.findall(r"ex\.(\w+)\.or_reference\(", text))
    announced = re.findall(r"(\w+): using the reference solution", notebook_text(executed))
    assert references == set(announced)
    for cell, committed in zip(executed.cells[-len(answers) :], answers, strict=True):
        if CHECKED in tags(committed):
            assert stored_texts(cell) == stored_texts(committed)
    for file in LEARNERS_FILES:
        assert (tmp_path / file).read_text() == f"the learner's {file}"
    new = {path.name for path in tmp_path.iterdir()} - before
    assert new <= {"runs", "progress", "smoke.ipynb"}
    assert {path.name for path in tmp_path.glob("runs/*")} <= {lab.topic}


def test_the_committed_solutions_pass_every_check_with_its_default_values(lab: Lab) -> None:
    passed = re.findall(r"(\w+): passed", solution_path(Course.own(), lab).read_text())

    assert set(passed) == set(lab.exercises)


def test_every_training_of_a_lab_ends_with_one_line_when_it_is_interrupted(lab: Lab) -> None:
    """`training.fit` does, and Keras' own `fit` with a `Monitor`; scikit-learn's is short."""
    calls = [
        ast.unparse(node)
        for cell in lab.code_cells()
        for node in ast.walk(cell.tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".fit")
    ]
    others = (
        *("training.fit(", "svm.SVC(", "pipeline.fit(", "KernelRidge("),
        *("GaussianProcess", "first.fit(", "model.fit(points", "surrogate"),
    )
    plain = [call for call in calls if not call.startswith(others)]
    assert [call for call in plain if "Monitor(" not in call] == []


@pytest.fixture
def short_mnist(tmp_path: Path) -> Path:
    """dltlab's course with a short MNIST: scikit-learn's digits, enlarged to 28×28 pixels."""
    course = tmp_path / "course"
    (course / "solutions").mkdir(parents=True)
    for path in Course.own().solutions.glob("*.py"):
        shutil.copy(path, course / "solutions")
    (course / "datasets").mkdir()
    file = course / "datasets" / "mnist.npz"
    digits = load_digits()
    images = np.pad(np.kron(digits.images * 15, np.ones((3, 3))), ((0, 0), (2, 2), (2, 2)))
    images, labels = images.astype(np.uint8), digits.target.astype(np.uint8)
    arrays = {"x_train": images[:600], "y_train": labels[:600]}
    np.savez_compressed(file, x_test=images[600:800], y_test=labels[600:800], **arrays)
    write_card("mnist", "npz", file, MNIST_KEYS)
    return course


def test_papermill_runs_lab_01_on_mnist(tmp_path: Path, short_mnist: Path, cold_kernels) -> None:
    """The solved notebook, whose later cells use its own answers."""
    (lab,) = Course.own().read(["01"])
    (tmp_path / "smoke.yaml").write_text(json.dumps(lab.front_matter.profiles.smoke))
    options = ["-f", "smoke.yaml", "-p", "DATASET", "mnist", "--no-progress-bar"]
    out = tmp_path / "mnist.ipynb"
    notebook = solution_path(Course.own(), lab)

    done = subprocess.run(
        [sys.executable, "-m", "papermill", str(notebook), str(out), *options],
        cwd=tmp_path,
        env=os.environ
        | {"DLTLAB_COURSE": str(short_mnist), "DLTLAB_DATA_DIR": str(tmp_path / "store")},
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr
    assert "28, 28, 1)" in out.read_text()


@pytest.mark.parametrize(("output", "code"), [("Correct.", 0), ("Correct!", 1)])
def test_a_changed_output_of_a_tagged_cell_is_a_failure(
    built: Course, nbval, warm_kernels, output: str, code: int
) -> None:
    (lab,) = built.read()
    path = solution_path(built, lab)
    text = path.read_text().replace('"exercise"', f'"exercise", "{CHECKED}"')
    path.write_text(text.replace("Correct.", output))

    done = nbval(path, built.environment)

    assert done.returncode == code, done.stdout
    assert ("Cell outputs differ" in done.stdout) == bool(code)
