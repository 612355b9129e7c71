import subprocess

import pytest

from dltlab.authoring.new import new_lab
from dltlab.errors import LabError


def test_a_new_lab_gets_the_next_number(course):
    source, checks = new_lab("another", course.root)

    assert source == course.solutions / "02_another.py"
    assert checks == course.root / "checks" / "another.py"


def test_numbers_left_out_stay_free(course, source):
    source.rename(source.with_name("07_my_topic.py"))

    assert new_lab("another", course.root)[0].name == "08_another.py"


def test_after_the_last_number_a_new_lab_is_refused(course, source):
    source.rename(source.with_name("99_my_topic.py"))

    with pytest.raises(LabError, match="No number follows 99"):
        new_lab("another", course.root)
    assert course.lab_names() == ["99_my_topic"]


@pytest.mark.parametrize("topic", ["", "My_topic", "my topic", "1st", "../x", "my-topic", "class"])
def test_what_cannot_name_a_module_is_no_topic(tmp_path, topic):
    with pytest.raises(LabError, match="is no topic: use lower-case words joined by '_'"):
        new_lab(topic, tmp_path / "course")
    assert not (tmp_path / "course").exists()


@pytest.mark.parametrize("topic", ["yes", "null", "on"])
def test_a_topic_that_means_something_in_yaml_is_only_a_title(tmp_path, topic):
    from dltlab.course.source import read_lab

    assert read_lab(new_lab(topic, tmp_path)[0]).front_matter.title == topic.capitalize()


def test_a_topic_that_is_taken_is_refused(course, source):
    before = source.read_bytes()

    with pytest.raises(LabError, match="There is a lab 'my_topic' already"):
        new_lab("my_topic", course.root)
    assert source.read_bytes() == before


def test_checks_that_exist_are_never_overwritten(course):
    checks = course.root / "checks" / "another.py"
    checks.write_text("mine")

    with pytest.raises(LabError, match=r"another\.py exists already"):
        new_lab("another", course.root)
    assert checks.read_text() == "mine"
    assert course.lab_names() == ["01_my_topic"]


def test_a_file_where_the_course_should_be_is_told_in_one_sentence(tmp_path):
    (tmp_path / "course").touch()

    with pytest.raises(LabError, match=r"cannot be made .* choose another"):
        new_lab("topic", tmp_path / "course")


def test_the_course_inside_an_installed_package_is_not_for_editing(tmp_path, monkeypatch):
    from dltlab.course import catalog as catalog

    (tmp_path / "dltlab" / "_course" / "solutions").mkdir(parents=True)
    monkeypatch.setattr(catalog, "_PACKAGE", tmp_path / "dltlab")

    with pytest.raises(LabError, match="start one of your own: dltlab new topic --course DIR"):
        new_lab("topic")


def test_a_new_lab_outside_the_repository_builds_lints_and_shows_in_the_list(tmp_path, script):
    def run(*command: str) -> str:
        done = subprocess.run(
            [script, *command, "--course", "course"], cwd=tmp_path, capture_output=True, text=True
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    assert "course/solutions/01_wave_equation.py" in run("new", "wave_equation")
    assert run("lint") == ""
    assert "Executed anew: 1" in run("build")
    assert run("build", "--check") == ""
    assert "Wave equation" in run("list")
    assert "0 of 1" in run("progress")
    names = {path.name for path in (tmp_path / "course").rglob("*.*") if path.suffix != ".pyc"}
    assert names == {"01_wave_equation.py", "01_wave_equation.ipynb", "wave_equation.py"}
