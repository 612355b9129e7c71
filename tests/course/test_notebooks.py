import json

import nbformat
import pytest
from nbclient import NotebookClient

from dltlab.authoring import new_lab
from dltlab.course import (
    Course,
    SourceError,
    execute_notebook,
    learner_notebook,
    notebook_text,
    notebooks,
    read_lab,
    read_notebook,
    solution_notebook,
    without_outputs,
)

OPENING = """\
# 01 · My topic

One sentence that says what this lab is about.

**After this lab you can**

- measure how far predictions are from the truth

**Time**: 5 minutes to read, 5 for the exercises; the machine computes for about 1 minute. \
**Machine**: 1 GB of memory, no GPU needed."""


@pytest.fixture
def lab_of_cells(source):
    """Return a function that reads the lab with other cells after its parameters."""

    def read_with(cells: str):
        text = source.read_text()
        imports = "import numpy as np\nfrom checks import my_topic as ex\n"
        source.write_text(text.partition("# %%\nrng")[0].replace(imports, "pass\n") + cells)
        return read_lab(source)

    return read_with


def test_a_notebook_opens_with_its_front_matter(source):
    assert learner_notebook(read_lab(source)).cells[0].source == OPENING


def test_the_opening_names_the_required_labs_and_the_gpu(source, edit):
    edit(source, "requires: []", "requires: [00_a, 00_b]")
    edit(source, "gpu: none", "gpu: optional")
    opening = learner_notebook(read_lab(source)).cells[0].source

    assert opening.endswith("**Before it**: [00_a](00_a.ipynb), [00_b](00_b.ipynb).")
    assert "faster on a GPU" in opening


@pytest.mark.parametrize("make", [learner_notebook, solution_notebook])
def test_a_notebook_ends_with_a_link_to_the_next_lab(course, make):
    (course.solutions / "readme.py").write_text("not a lab\n")
    for topic in ("third", "second"):
        new_lab(topic, course.root)
    first, third, second = course.read(["01", "02", "03"])

    assert make(first).cells[-1].source == "**Next lab**: [02_third](02_third.ipynb)"
    assert make(third).cells[-1].source == "**Next lab**: [03_second](03_second.ipynb)"
    assert "Next lab" not in notebook_text(make(second))


def test_the_opening_of_a_lab_without_exercises_names_no_time_for_them(source, edit):
    edit(source, "exercise: 5", "exercise: 0")
    opening = learner_notebook(read_lab(source)).cells[0].source

    assert "**Time**: 5 minutes to read; the machine computes" in opening


def test_a_lab_of_ones_own_course_begins_by_entering_the_course(source):
    (code, *_) = [
        cell for cell in learner_notebook(read_lab(source)).cells if cell.cell_type == "code"
    ]

    assert "dltlab.course.enter_course()" in code.source
    assert code.metadata.jupyter.source_hidden


def test_a_lab_without_checks_and_data_sets_does_not_enter_the_course(lab_of_cells):
    lab = lab_of_cells("# %%\nprint('hello')\n")

    assert "enter_course" not in notebook_text(learner_notebook(lab))


def test_dltlabs_own_labs_do_not_enter_a_course():
    (lab,) = Course.own().read(["01"])

    assert "enter_course" not in notebook_text(learner_notebook(lab))


@pytest.mark.parametrize("folder", ["labs", "solutions"])
def test_a_notebook_of_ones_own_course_runs_where_it_lies(built, folder, cold_kernels):
    path = built.root / folder / "01_my_topic.ipynb"
    client = NotebookClient(
        nbformat.read(path, 4), resources={"metadata": {"path": str(path.parent)}}
    )

    client.execute()

    outcome = "passed" if folder == "solutions" else "unattempted"
    assert f"mean_squared_error: {outcome}" in nbformat.writes(client.nb)


def test_the_learners_notebook_has_stubs_and_the_solution_notebook_the_answers(source):
    lab = read_lab(source)
    learner, solution = (
        notebook_text(learner_notebook(lab)),
        notebook_text(solution_notebook(lab)),
    )

    assert "** 2" in solution
    assert "** 2" not in learner
    assert "SOLUTION" not in learner + solution


def test_the_learners_notebook_has_no_cells_tagged_solution(source):
    source.write_text(source.read_text() + '\n# %% [markdown] tags=["solution"]\n# It is two.\n')
    lab = read_lab(source)

    assert "It is two." not in notebook_text(learner_notebook(lab))
    assert "It is two." in notebook_text(solution_notebook(lab))


def test_the_same_source_gives_the_same_text_and_a_valid_notebook(source):
    first, second = (notebook_text(learner_notebook(read_lab(source))) for _ in range(2))

    assert first == second
    assert first.endswith("}\n")
    nbformat.validate(json.loads(first))


def test_a_cell_has_the_same_id_in_both_notebooks(source):
    lab = read_lab(source)

    assert [cell.id for cell in learner_notebook(lab).cells] == [
        cell.id for cell in solution_notebook(lab).cells
    ]


def test_cells_keep_their_tags(source):
    cells = learner_notebook(read_lab(source)).cells
    tags = [cell.metadata.tags for cell in cells if "tags" in cell.metadata]

    assert tags == [["parameters"], ["exercise"]]


def test_executing_stores_outputs_and_without_outputs_removes_them(lab_of_cells):
    lab = lab_of_cells("# %%\nprint('hello')\n")
    executed = execute_notebook(solution_notebook(lab), lab, {})

    assert executed.cells[-1].outputs[0].text == "hello\n"
    assert notebook_text(without_outputs(executed)) == notebook_text(solution_notebook(lab))
    assert executed.cells[-1].outputs


def test_a_widget_is_stored_as_text_only(lab_of_cells):
    lab = lab_of_cells(
        "# %%\nimport ipywidgets\n\nfrom dltlab.display import show_widget\n\n"
        'ignored = show_widget(ipywidgets.IntSlider(), "a slider", "<b>at 0</b>")\n'
        "ipywidgets.IntSlider(value=3)\n"
    )
    text = notebook_text(execute_notebook(solution_notebook(lab), lab, {}))

    assert "IntSlider(value=3)" in text
    assert "widget-view" not in text
    assert "widget-state" not in text
    assert text.count("a slider") == 2  # the source and the output
    assert "Run this cell again" not in text


def test_a_lab_runs_in_a_temporary_folder_with_the_given_environment(lab_of_cells, tmp_path):
    lab = lab_of_cells(
        "# %%\nimport os\n\nopen('left_behind', 'w').close()\nprint(os.environ['GREETING'])\n"
    )
    before = set(tmp_path.rglob("*"))
    executed = execute_notebook(solution_notebook(lab), lab, {"GREETING": "hello"})

    assert executed.cells[-1].outputs[0].text == "hello\n"
    assert set(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("raise ValueError('too small')", "raised ValueError: too small"),
        ("import os\n\nos._exit(3)", "the kernel died here"),
        ("while True:\n    pass", "ran longer than 3 s"),
    ],
)
def test_a_failing_cell_is_reported_with_its_line(lab_of_cells, monkeypatch, cell, message):
    monkeypatch.setattr(notebooks, "CELL_TIMEOUT", 3)
    lab = lab_of_cells(f"# %%\nfine = 1\n\n# %%\n{cell}\n\n# %%\nnever = 1\n")

    with pytest.raises(SourceError) as caught:
        execute_notebook(solution_notebook(lab), lab, {})

    assert caught.value.message == message
    assert caught.value.line == lab.cells[-2].line


@pytest.mark.parametrize(
    "content",
    [
        "",
        "not JSON",
        "[]",
        "5",
        "null",
        "{}",
        '{"nbformat": 99}',
        '{"nbformat": 4, "nbformat_minor": 5, "metadata": {}}',
        '{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": 5}',
        '{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [{}]}',
    ],
)
def test_reading_a_file_that_is_not_a_notebook_returns_none(tmp_path, content):
    path = tmp_path / "some.ipynb"
    path.write_text(content)

    assert read_notebook(path) is None


def test_reading_a_truncated_notebook_returns_none(source, tmp_path):
    text = notebook_text(learner_notebook(read_lab(source)))
    path = tmp_path / "some.ipynb"
    for length in range(0, len(text) - 2, len(text) // 20):
        path.write_text(text[:length])
        assert read_notebook(path) is None
    path.write_text(text)
    assert read_notebook(path) is not None


def test_reading_a_missing_file_or_a_folder_returns_none(tmp_path):
    assert read_notebook(tmp_path / "nothing.ipynb") is None
    assert read_notebook(tmp_path) is None
