import json

import nbformat
import pytest

from dltlab.course import notebooks
from dltlab.course.front_matter import SourceError
from dltlab.course.notebooks import (
    dumps,
    execute,
    learner_notebook,
    load,
    profiled,
    solution_notebook,
    without_outputs,
)
from dltlab.course.source import read_lab

OPENING = """\
# 01 · My topic

One sentence that says what this lab is about.

**After this lab you can**

- measure how far predictions are from the truth

**Time**: 5 minutes to read, 5 for the exercises; the machine computes for about 1 minute. \
**Machine**: 1 GB of memory, no GPU needed."""


@pytest.fixture
def lab_of_cells(source):
    """The lab with cells of our own behind its parameters."""

    def lab(cells: str):
        text = source.read_text()
        imports = "import numpy as np\nfrom checks import my_topic as ex\n"
        source.write_text(text.partition("# %%\nrng")[0].replace(imports, "pass\n") + cells)
        return read_lab(source)

    return lab


def test_a_notebook_opens_with_what_its_front_matter_promises(source):
    assert learner_notebook(read_lab(source)).cells[0].source == OPENING


def test_the_opening_names_the_labs_before_it_and_what_a_gpu_is_for(source, edit):
    edit(source, "requires: []", "requires: [00_a, 00_b]")
    edit(source, "gpu: none", "gpu: optional")
    opening = learner_notebook(read_lab(source)).cells[0].source

    assert opening.endswith("**Before it**: 00_a, 00_b.")
    assert "faster on a GPU" in opening


def test_the_learners_notebook_holds_stubs_and_the_authors_the_answers(source):
    lab = read_lab(source)
    learner, author = dumps(learner_notebook(lab)), dumps(solution_notebook(lab))

    assert "** 2" in author
    assert "** 2" not in learner
    assert "SOLUTION" not in learner + author


def test_cells_tagged_solution_are_dropped_for_the_learner(source):
    source.write_text(source.read_text() + '\n# %% [markdown] tags=["solution"]\n# It is two.\n')
    lab = read_lab(source)

    assert "It is two." not in dumps(learner_notebook(lab))
    assert "It is two." in dumps(solution_notebook(lab))


def test_the_same_source_gives_the_same_bytes_and_a_valid_notebook(source):
    once, again = (dumps(learner_notebook(read_lab(source))) for _ in range(2))

    assert once == again
    assert once.endswith("}\n")
    nbformat.validate(json.loads(once))


def test_a_cell_has_one_id_in_both_notebooks(source):
    lab = read_lab(source)

    assert [cell.id for cell in learner_notebook(lab).cells] == [
        cell.id for cell in solution_notebook(lab).cells
    ]


def test_tags_travel_into_the_notebook(source):
    tagged = [cell for cell in learner_notebook(read_lab(source)).cells if cell.metadata]

    assert [cell.metadata.tags for cell in tagged] == [["parameters"], ["exercise"]]


def test_a_profile_sets_parameters_behind_their_cell(source):
    notebook = learner_notebook(read_lab(source))
    before = dumps(notebook)
    sources = [cell.source for cell in profiled(notebook, {"SAMPLES": 10, "NAME": "a"}).cells]

    assert sources[sources.index("SAMPLES = 1000") + 1] == "SAMPLES = 10\nNAME = 'a'"
    assert dumps(notebook) == before


def test_outputs_are_kept_and_taken_out_again(lab_of_cells):
    lab = lab_of_cells("# %%\nprint('hello')\n")
    executed = execute(solution_notebook(lab), lab, {})

    assert executed.cells[-1].outputs[0].text == "hello\n"
    assert dumps(without_outputs(executed)) == dumps(solution_notebook(lab))
    assert executed.cells[-1].outputs


def test_a_widget_leaves_its_text_and_no_view_that_nobody_can_show(lab_of_cells):
    lab = lab_of_cells("# %%\nimport ipywidgets\n\nipywidgets.IntSlider(value=3)\n")
    text = dumps(execute(solution_notebook(lab), lab, {}))

    assert "IntSlider(value=3)" in text
    assert "widget-view" not in text
    assert "widget-state" not in text


def test_a_lab_runs_in_a_folder_of_its_own_with_the_variables_given(lab_of_cells, tmp_path):
    lab = lab_of_cells(
        "# %%\nimport os\n\nopen('left_behind', 'w').close()\nprint(os.environ['GREETING'])\n"
    )
    before = set(tmp_path.rglob("*"))
    executed = execute(solution_notebook(lab), lab, {"GREETING": "hello"})

    assert executed.cells[-1].outputs[0].text == "hello\n"
    assert set(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("raise ValueError('too small')", "raised ValueError: too small"),
        ("import os\n\nos._exit(3)", "the kernel died here"),
        ("while True:\n    pass", "ran longer than 3 s"),
    ],
)
def test_a_failing_cell_is_named_by_file_and_line(lab_of_cells, monkeypatch, cell, said):
    monkeypatch.setattr(notebooks, "CELL_TIMEOUT", 3)
    lab = lab_of_cells(f"# %%\nfine = 1\n\n# %%\n{cell}\n\n# %%\nnever = 1\n")

    with pytest.raises(SourceError) as caught:
        execute(solution_notebook(lab), lab, {})

    assert caught.value.message == said
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
def test_what_is_no_notebook_loads_as_none(tmp_path, content):
    path = tmp_path / "some.ipynb"
    path.write_text(content)

    assert load(path) is None


def test_no_prefix_of_a_notebook_loads_as_one(source, tmp_path):
    text = dumps(learner_notebook(read_lab(source)))
    path = tmp_path / "some.ipynb"
    for length in range(0, len(text) - 2, len(text) // 20):
        path.write_text(text[:length])
        assert load(path) is None
    path.write_text(text)
    assert load(path) is not None


def test_what_is_not_there_loads_as_none(tmp_path):
    assert load(tmp_path / "nothing.ipynb") is None
    assert load(tmp_path) is None
