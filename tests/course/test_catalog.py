import os
import shlex
import sys
from pathlib import Path

import pytest

from dltlab.authoring import new_lab
from dltlab.course import Course, SourceError, enter_course
from dltlab.errors import Invalid, NotFound


@pytest.fixture
def two_labs(course):
    new_lab("second_topic", course.root)
    return course


def test_two_labs_with_the_same_number_are_an_error(course, source):
    source.with_name("01_other.py").write_text(source.read_text())

    with pytest.raises(Invalid, match=r"01_other\.py: 01_my_topic\.py has the same number"):
        course.read()
    assert course.lab_names() == ["01_my_topic"]


@pytest.mark.parametrize("name", ["topic.py", "1_topic.py", "01-topic.py", "01_Topic.py", "01_.py"])
def test_a_source_that_is_not_named_nn_topic_is_an_error(course, source, name):
    source.rename(source.with_name(name))

    with pytest.raises(Invalid, match=r"named NN_topic\.py; rename it"):
        course.read()
    assert course.lab_names() == []


def test_a_draft_in_a_folder_of_its_own_is_no_lab(course):
    (course.solutions / "drafts").mkdir()
    (course.solutions / "drafts" / "02_second_topic.py").write_text("# %%\n")

    assert course.lab_names() == ["01_my_topic"]
    assert [lab.name for lab in course.read()] == ["01_my_topic"]


@pytest.mark.parametrize(
    "name",
    ["2", "02", "second_topic", "02_second_topic", "02_second_topic.ipynb", "02_second_topic.py"],
)
def test_resolve_finds_a_lab_by_number_topic_or_file_name(two_labs, name):
    assert two_labs.resolve(name).name == "02_second_topic.py"


@pytest.mark.parametrize("name", ["3", "", "my", "nothing", "../01_my_topic"])
def test_resolve_reports_an_unknown_lab_with_the_known_ones(two_labs, name):
    with pytest.raises(NotFound) as caught:
        two_labs.resolve(name)

    assert str(caught.value) == (
        f"There is no lab '{name}'. The labs are: 01_my_topic, 02_second_topic."
    )


def test_labs_are_sorted_by_number_or_read_in_the_order_of_the_names(two_labs):
    assert two_labs.lab_names() == ["01_my_topic", "02_second_topic"]
    assert [lab.name for lab in two_labs.read(["2", "1"])] == ["02_second_topic", "01_my_topic"]


def test_a_required_lab_must_come_earlier(two_labs, source, edit):
    edit(two_labs.resolve("2"), "requires: []", "requires: [01_my_topic]")
    assert two_labs.read()[1].front_matter.requires == ["01_my_topic"]

    edit(source, "requires: []", "requires: [02_second_topic]")
    with pytest.raises(SourceError, match="'requires' names '02_second_topic', no earlier lab"):
        two_labs.read()


def test_a_data_set_must_have_a_card(course, source, edit):
    edit(source, "datasets: []", "datasets: [birds]")
    with pytest.raises(SourceError, match="data set 'birds' has no card in datasets/"):
        course.read()

    (course.datasets / "birds.toml").touch()
    assert course.read()[0].front_matter.datasets == ["birds"]


def test_a_data_set_of_dltlab_may_be_used_in_any_course(course, source, edit):
    edit(source, "datasets: []", "datasets: [digits]")
    assert course.read()[0].front_matter.datasets == ["digits"]


def test_an_error_of_the_course_names_the_line_of_the_front_matter(course, source, edit):
    edit(source, "requires: []", "requires: [09_other]")

    with pytest.raises(SourceError) as caught:
        course.read()

    assert source.read_text().splitlines()[caught.value.line - 1] == "# requires: [09_other]"


def test_find_takes_the_argument_then_the_environment_then_dltlabs_own_course(
    course, tmp_path, monkeypatch, repository
):
    other = tmp_path / "other"
    new_lab("topic", other)
    monkeypatch.setenv("DLTLAB_COURSE", str(other))

    assert Course.find(course.root) == course
    assert Course.find() == Course(other)
    monkeypatch.delenv("DLTLAB_COURSE")
    assert Course.find() == Course.own() == Course(repository)


def test_a_folder_without_solutions_is_not_a_course(tmp_path):
    with pytest.raises(NotFound, match="is not a course: it has no folder 'solutions'"):
        Course.find(tmp_path)


def test_the_environment_leads_a_kernel_to_the_course_and_its_checks(course, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "elsewhere")

    assert course.environment == {
        "DLTLAB_COURSE": str(course.root),
        "PYTHONPATH": os.pathsep.join([str(course.root), "elsewhere"]),
    }
    assert Course.own().environment == {}


def test_find_accepts_a_relative_path(course, monkeypatch):
    monkeypatch.chdir(course.root.parent)

    assert Course.find(Path("course")) == course


@pytest.mark.parametrize(
    "break_lab",
    [
        lambda path: path.write_text(path.read_text().replace("# summary:", "# sumary:")),
        lambda path: path.write_text("print('not a lab yet')"),
        lambda path: path.write_bytes(b"\xff"),
        lambda path: path.rename(path.with_name("draft.py")),
    ],
    ids=["unknown key", "no front matter", "not text", "not numbered"],
)
def test_an_unfinished_lab_is_left_out_and_the_others_are_read(two_labs, break_lab):
    break_lab(two_labs.resolve("2"))

    labs, (left_out,) = two_labs.outlines()

    assert [lab.name for lab in labs] == ["01_my_topic"]
    assert " is left out: " in left_out


def test_all_labs_are_read_when_all_are_valid(two_labs):
    labs, left_out = two_labs.outlines()

    assert ([lab.name for lab in labs], left_out) == (two_labs.lab_names(), [])


def test_a_lab_with_a_fault_in_a_cell_is_listed_but_not_read(two_labs):
    path = two_labs.resolve("2")
    path.write_text(path.read_text() + "\n# %%\n### BEGIN SOLUTION\nx = 1\n")

    labs, left_out = two_labs.outlines()

    assert ([lab.name for lab in labs], left_out) == (two_labs.lab_names(), [])
    with pytest.raises(SourceError, match="unclosed solution"):
        two_labs.read(["2"])


def test_notebooks_without_a_source_are_named_with_the_command_that_converts_them(built):
    stray = built.solutions / "analysis.ipynb"
    stray.touch()

    assert built.without_source() == {
        stray: "has no source in solutions/; move it elsewhere, and make it a lab with: "
        + built.command("new", "--from", "NOTEBOOK")
    }


def test_a_command_names_the_course_and_can_be_pasted_into_a_shell(tmp_path, monkeypatch):
    new_lab("topic", tmp_path / "my first course")
    monkeypatch.chdir(tmp_path)
    course = Course.find(Path("my first course"))

    command = course.command("build", "01_topic")

    assert command == "dltlab build 01_topic --course 'my first course'"
    assert shlex.split(command)[-1] == "my first course"
    assert Course.own().command("build") == "dltlab build"


@pytest.fixture
def outside_of_a_course(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("DLTLAB_COURSE", "")  # restored after the test
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("folder", [".", "labs", "solutions"])
def test_a_notebook_enters_the_course_that_it_lies_in(outside_of_a_course, monkeypatch, folder):
    new_lab("topic", outside_of_a_course / "course")
    monkeypatch.chdir(outside_of_a_course / "course" / folder)

    enter_course()
    enter_course()

    root = str(outside_of_a_course / "course")
    assert os.environ["DLTLAB_COURSE"] == root
    assert sys.path.count(root) == 1


def test_a_notebook_in_no_course_says_so(outside_of_a_course):
    with pytest.raises(NotFound, match="is in no course: start the notebook in the folder of its"):
        enter_course()


def test_a_variable_chooses_labs_which_may_require_others(two_labs, monkeypatch):
    last = two_labs.lab_names()[-1]
    monkeypatch.setenv("DLTLAB_LABS", last)

    assert two_labs.lab_names() == [last]
    assert [lab.name for lab in two_labs.outlines()[0]] == [last]
    assert two_labs.resolve("1")
