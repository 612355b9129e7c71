import re
import shlex
import subprocess
from typing import Any

import nbformat
import pytest
import typer
import yaml

from dltlab import paths
from dltlab.authoring import new_lab
from dltlab.cli import app
from dltlab.course import read_lab
from dltlab.errors import Invalid, NotFound, Unavailable

code, markdown = nbformat.v4.new_code_cell, nbformat.v4.new_markdown_cell


def write_notebook(path, *cells):
    nbformat.write(nbformat.v4.new_notebook(cells=list(cells)), path)


def test_a_new_lab_has_the_next_number(course):
    source, checks = new_lab("another", course.root)

    assert source == course.solutions / "02_another.py"
    assert checks == course.root / "checks" / "another.py"


def test_gaps_in_the_numbers_are_not_filled(course, source):
    source.rename(source.with_name("07_my_topic.py"))

    assert new_lab("another", course.root)[0].name == "08_another.py"


def test_there_is_no_new_lab_after_number_99(course, source):
    source.rename(source.with_name("99_my_topic.py"))

    with pytest.raises(Invalid, match="99 is the last number of a lab"):
        new_lab("another", course.root)
    assert course.lab_names() == ["99_my_topic"]


@pytest.mark.parametrize("topic", ["", "My_topic", "my topic", "1st", "../x", "my-topic", "class"])
def test_a_topic_must_be_the_name_of_a_module(tmp_path, topic):
    with pytest.raises(Invalid, match="cannot be a topic: use lower-case words joined by '_'"):
        new_lab(topic, tmp_path / "course")
    assert not (tmp_path / "course").exists()


@pytest.mark.parametrize("topic", ["yes", "null", "on"])
def test_a_topic_that_is_a_yaml_keyword_is_a_valid_title(tmp_path, topic):
    assert read_lab(new_lab(topic, tmp_path)[0]).front_matter.title == topic.capitalize()


def test_a_topic_that_is_in_use_is_an_error(course, source):
    before = source.read_bytes()

    with pytest.raises(Invalid, match="There is already a lab 'my_topic'"):
        new_lab("my_topic", course.root)
    assert source.read_bytes() == before


def test_existing_checks_are_not_overwritten(course):
    checks = course.root / "checks" / "another.py"
    checks.write_text("mine")

    with pytest.raises(Invalid, match=r"another\.py already exists"):
        new_lab("another", course.root)
    assert checks.read_text() == "mine"
    assert course.lab_names() == ["01_my_topic"]


def test_a_file_in_the_place_of_the_course_is_an_error(tmp_path):
    (tmp_path / "course").touch()

    with pytest.raises(Unavailable, match="There is a file where a folder must be"):
        new_lab("topic", tmp_path / "course")


def test_the_course_inside_an_installed_package_cannot_be_edited(tmp_path, monkeypatch):
    (tmp_path / "dltlab" / "_course" / "solutions").mkdir(parents=True)
    monkeypatch.setattr(paths, "__file__", str(tmp_path / "dltlab" / "paths.py"))

    with pytest.raises(Unavailable, match="start a course of your own: dltlab new topic --course"):
        new_lab("topic")


def test_a_new_lab_builds_passes_lint_and_is_listed(tmp_path, script):
    def run(*command: str) -> str:
        done = subprocess.run(
            [script, *command, "--course", "course"], cwd=tmp_path, capture_output=True, text=True
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    wrote, advice = run("new", "wave_equation").splitlines()
    assert "course/solutions/01_wave_equation.py" in wrote
    commands = [f"dltlab {command} --course course" for command in ("lint", "verify", "build")]
    assert advice == f"Edit the lab, then run: {' && '.join(commands)}"
    assert run("lint") == "lint: 1 lab, no findings\n"
    assert "Executed: 1." in run("build")
    assert run("build", "--check") == ""
    assert "Wave equation" in run("list")
    assert "0 of 1" in run("progress")
    names = {path.name for path in (tmp_path / "course").rglob("*.*") if path.suffix != ".pyc"}
    assert names == {
        "01_wave_equation.py",
        "01_wave_equation.ipynb",
        "wave_equation.py",
        "README.md",
        ".gitignore",
        ".github",
        "test.yml",
    }


def test_a_new_course_has_a_readme_a_license_to_choose_and_a_test_on_every_push(tmp_path):
    new_lab("topic", tmp_path / "wave-course")

    def text(name: str) -> str:
        return (tmp_path / "wave-course" / name).read_text()

    assert text("README.md").startswith("# Wave course\n")
    assert "No license has been chosen yet" in text("LICENSE")
    steps = yaml.safe_load(text(".github/workflows/test.yml"))["jobs"]["test"]["steps"]
    assert "dltlab build --check --course ." in [step.get("run") for step in steps]


def test_a_new_course_keeps_the_files_of_its_folder(tmp_path):
    (tmp_path / "README.md").write_text("mine")
    new_lab("topic", tmp_path)
    (tmp_path / "LICENSE").unlink()
    new_lab("second", tmp_path)

    assert (tmp_path / "README.md").read_text() == "mine"
    assert not (tmp_path / "LICENSE").exists()


def test_every_command_of_a_new_courses_readme_exists(tmp_path):
    new_lab("topic", tmp_path)

    root: Any = typer.main.get_command(app)  # a click.Group, which Typer brings along
    commands = re.findall(r"dltlab (\w+)", (tmp_path / "README.md").read_text())
    assert set(commands) <= set(root.commands)
    assert len(commands) >= 6


def test_a_lab_made_of_a_notebook_has_its_name_title_and_cells(course, tmp_path):
    path = tmp_path / "05 Wave-Equation v2.ipynb"
    write_notebook(path, markdown("# Waves\n\nThey go up."), code("x = 1"))

    (source,) = new_lab(folder=course.root, notebook=path)

    assert source == course.solutions / "02_wave_equation_v2.py"
    lab = read_lab(source)
    assert lab.front_matter.title == "Waves"
    assert [cell.source for cell in lab.cells] == ["They go up.", "x = 1"]
    assert (lab.exercises, lab.exercise_module, lab.parameters) == ((), None, {})


def test_a_lab_without_exercises_builds_passes_lint_and_is_listed(tmp_path, dltlab, cold_kernels):
    path, course = tmp_path / "waves.ipynb", tmp_path / "course"
    write_notebook(path, markdown("# Waves\n\nThey go up."), code("print(1 + 1)"))

    assert dltlab("new", "--from", path, "--course", course).code == 0

    for command in ("lint", "verify", "build", "list", "progress"):
        assert dltlab(command, "--course", course).code == 0
    assert dltlab("build", "--check", "--course", course).code == 0


def test_a_notebook_where_the_build_would_write_is_refused(course):
    path = course.solutions / "02_waves.ipynb"
    write_notebook(path, code("x = 1"))
    before = path.read_bytes()

    with pytest.raises(Invalid, match="is where the build writes; move the notebook elsewhere"):
        new_lab(folder=course.root, notebook=path)
    assert path.read_bytes() == before
    assert course.lab_names() == ["01_my_topic"]


@pytest.mark.parametrize(
    "header", ["", "# ---\n# jupyter:\n#   jupytext:\n#     main_language: python\n# ---\n\n"]
)
def test_a_script_in_the_place_of_a_source_becomes_it_with_the_command_of_its_error(
    course, dltlab, header
):
    script = course.solutions / "04_waves.py"
    script.write_text(f"{header}# %% [markdown]\n# # Big waves\n\n# %%\nx = 1\n")
    error = dltlab("build", "--course", course.root).err

    command = shlex.split(error.partition("with: dltlab ")[2])
    assert dltlab(*command).code == 0

    lab = read_lab(script)
    assert lab.front_matter.title == "Big waves"
    assert [cell.source for cell in lab.cells] == ["x = 1"]


def test_a_source_with_front_matter_is_not_converted(course, source):
    before = source.read_bytes()

    with pytest.raises(Invalid, match="There is already a lab 'my_topic'"):
        new_lab(folder=course.root, notebook=source)
    assert source.read_bytes() == before


def test_a_notebook_that_cannot_be_read_makes_no_course(tmp_path):
    with pytest.raises(NotFound):
        new_lab(folder=tmp_path / "course", notebook=tmp_path / "missing.ipynb")
    assert not (tmp_path / "course").exists()


def test_a_lab_needs_a_topic_or_a_notebook():
    with pytest.raises(Invalid, match="Name the topic of the lab"):
        new_lab()
