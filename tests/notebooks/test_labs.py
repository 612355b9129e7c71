"""Every lab in the smoke profile: solved under nbval, and untouched as a learner first meets it.

The solved labs run on cold kernels: in a warm one, where much is loaded already, an import that a
lab has forgotten might not be missed.
"""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import papermill
import pytest

from dltlab.course.catalog import Course
from dltlab.course.notebooks import dumps, execute, learner_notebook, profiled
from dltlab.course.source import Lab
from dltlab.exercises import Outcome, course_progress, read_records

CELL_TIMEOUT = 120  # seconds
LEARNERS_FILES = ("mine.txt", "empty.txt", "latin.txt", "notes.txt")

every_lab = pytest.mark.parametrize("lab", Course.own().read(), ids=lambda lab: lab.name)


@pytest.fixture
def nbval(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a notebook, and compare the outputs of its cells tagged `nbval-check-output`."""

    def run(notebook: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pytest", "-c", os.devnull, "-p", "no:cacheprovider"]
        options = ["--nbval-lax", f"--nbval-cell-timeout={CELL_TIMEOUT}"]
        return subprocess.run(
            [*command, *options, str(notebook)],
            cwd=tmp_path,
            env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"} | environment,
            capture_output=True,
            text=True,
        )

    return run


def twin(course: Course, lab: Lab) -> Path:
    return course.solutions / f"{lab.name}.ipynb"


@every_lab
def test_a_solved_lab_runs_with_the_committed_outputs_and_keeps_the_learners_files(
    lab: Lab, tmp_path: Path, nbval, cold_kernels
) -> None:
    smoke = tmp_path / "smoke.ipynb"
    for name in LEARNERS_FILES:
        (tmp_path / name).write_text(f"the learner's {name}")
    papermill.execute_notebook(
        twin(Course.own(), lab), smoke, lab.front_matter.profiles.smoke, prepare_only=True
    )

    done = nbval(smoke, {})

    assert done.returncode == 0, done.stdout
    for name in LEARNERS_FILES:
        assert (tmp_path / name).read_text() == f"the learner's {name}"


@every_lab
def test_the_committed_solutions_pass_every_check_with_its_default_values(lab: Lab) -> None:
    passed = re.findall(r"(\w+): passed", twin(Course.own(), lab).read_text())

    assert set(passed) == set(lab.exercises)


@every_lab
def test_the_untouched_lab_reaches_its_end_with_every_exercise_unattempted(
    lab: Lab, warm_kernels
) -> None:
    notebook = learner_notebook(lab)
    executed = execute(profiled(notebook, lab.front_matter.profiles.smoke), lab, {})

    (summary,) = [each for each in course_progress(Course.own()) if each.lab == lab.name]
    assert set(summary.outcomes.values()) <= {Outcome.UNATTEMPTED}
    assert {each.outcome for each in read_records()} <= {Outcome.UNATTEMPTED}
    assert bool(read_records()) == bool(lab.exercises)
    going_on = set(re.findall(r"ex\.(\w+)\.or_reference\(", dumps(notebook)))
    assert going_on == set(re.findall(r"(\w+): using the reference solution", dumps(executed)))


@pytest.mark.skipif("DLTLAB_DATA_MIRROR" not in os.environ, reason="DLTLAB_DATA_MIRROR is not set")
def test_papermill_takes_lab_01_to_its_end_on_mnist(tmp_path: Path, warm_kernels) -> None:
    (lab,) = Course.own().read(["01"])
    smoke = [f"-p {name} {value}" for name, value in lab.front_matter.profiles.smoke.items()]
    options = " ".join(["-p DATASET mnist", *smoke, "--no-progress-bar"]).split()
    out = tmp_path / "mnist.ipynb"

    done = subprocess.run(
        [sys.executable, "-m", "papermill", str(twin(Course.own(), lab)), str(out), *options],
        cwd=tmp_path,
        env=os.environ | {"DLTLAB_DATA_DIR": str(tmp_path / "store")},
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr
    assert "28, 28, 1)" in out.read_text()


@pytest.mark.parametrize(("said", "code"), [("Correct.", 0), ("Correct!", 1)])
def test_a_changed_output_in_a_tagged_cell_fails(
    built: Course, nbval, warm_kernels, said: str, code: int
) -> None:
    path = twin(built, *built.read())
    text = path.read_text().replace('"exercise"', '"exercise", "nbval-check-output"')
    path.write_text(text.replace("Correct.", said))

    done = nbval(path, built.environment)

    assert done.returncode == code, done.stdout
    assert ("Cell outputs differ" in done.stdout) == bool(code)
