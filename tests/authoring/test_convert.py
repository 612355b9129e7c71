"""A notebook, or a script in percent format, becomes the source of a lab."""

import json
import subprocess
import sys

import nbformat
import pytest

from dltlab.authoring import new_lab
from dltlab.authoring.convert import read_foreign, to_percent, topic_of
from dltlab.course import read_lab
from dltlab.errors import Damaged, Invalid, NotFound

code, markdown = nbformat.v4.new_code_cell, nbformat.v4.new_markdown_cell
PNG = "iVBORw0KGgo="


@pytest.fixture
def lab_of(tmp_path):
    """Return a function that makes a lab of cells and reads it."""

    def convert(*cells, **metadata):
        path = tmp_path / "waves.ipynb"
        nbformat.write(nbformat.v4.new_notebook(cells=list(cells), metadata=metadata), path)
        source, *_ = new_lab(folder=tmp_path / "course", notebook=path)
        return read_lab(source)

    return convert


@pytest.mark.parametrize(
    ("name", "topic"),
    [
        ("waves.ipynb", "waves"),
        ("03_waves.ipynb", "waves"),
        ("Wave Equation (final).ipynb", "wave_equation_final"),
        ("wave-equation.py", "wave_equation"),
        ("2023-01-05 Waves.ipynb", "waves"),
    ],
)
def test_the_topic_is_the_name_of_the_file(tmp_path, name, topic):
    assert topic_of(tmp_path / name) == topic


def test_the_first_heading_of_the_first_level_is_the_title(lab_of):
    lab = lab_of(markdown('# Waves: "up" and down\n\nThey go up.'), markdown("# Next"))

    assert lab.front_matter.title == 'Waves: "up" and down'
    assert [cell.source for cell in lab.cells] == ["They go up.", "# Next"]


def test_without_a_heading_the_title_is_the_topic(lab_of):
    lab = lab_of(markdown("They go up."), code("# Not a title"))

    assert lab.front_matter.title == "Waves"


def test_outputs_metadata_and_empty_cells_are_left_out_and_tags_are_kept(lab_of):
    output = nbformat.v4.new_output("stream", text="secret output")
    lab = lab_of(
        code("EPOCHS = 3", metadata={"tags": ["parameters"], "collapsed": True}),
        code("print(EPOCHS)", outputs=[output], execution_count=7),
        code("  "),
        code("x = 1", metadata={"tags": ["a tag"], "slideshow": {"slide_type": "slide"}}),
    )

    assert lab.parameters == {"EPOCHS": 3}
    assert [cell.tags for cell in lab.cells] == [("parameters",), (), ("a-tag",)]
    text = lab.path.read_text()
    assert "secret output" not in text
    assert "slide" not in text


@pytest.mark.parametrize(
    "source",
    [
        "%%bash\nls | wc -l\necho 'done'",
        "%%writefile notes.txt\nany = = thing",
        "%%time\nx = 1",
        "%matplotlib inline\nimport numpy as np",
        "files = !ls *.txt\nfiles?",
        "!pip list\nprint('done')",
        "for name in 'ab':\n    !echo {name}",
        "%%writefile empty.txt",
        "text = '''\n# %%\n'''",
        "async def f():\n    await g()\n\n\nawait f()",
    ],
)
def test_cells_that_jupyter_runs_keep_their_code(lab_of, source):
    lab = lab_of(code("x = 1"), code(source), code("y = 2"))

    assert [cell.source for cell in lab.cells] == ["x = 1", source, "y = 2"]


def test_a_cell_that_is_not_python_is_a_comment_in_the_source(lab_of):
    lab = lab_of(code("%%writefile notes.txt\nany = = thing"))

    assert '# %% tags=["active-ipynb"]\n# %%writefile notes.txt\n# any = =' in lab.path.read_text()


def test_a_pasted_image_stays_in_its_cell(lab_of):
    cell = markdown("![A wave.](attachment:a.png)", attachments={"a.png": {"image/png": PNG}})

    assert lab_of(cell).cells[0].source == f"![A wave.](data:image/png;base64,{PNG})"


def test_an_attachment_without_content_is_left_out(lab_of):
    cell = markdown("# Waves\n\nThey go up.", attachments={"a.png": {}})

    assert lab_of(cell).cells[0].source == "They go up."


@pytest.mark.parametrize("name", ["waves.ipynb", "waves.py"])
def test_a_byte_order_mark_and_windows_line_ends_are_no_part_of_a_cell(tmp_path, name):
    notebook = nbformat.v4.new_notebook(cells=[code("x = 1\ny = 2")])
    text = nbformat.writes(notebook) if name.endswith(".ipynb") else "# %%\nx = 1\ny = 2\n"
    (tmp_path / name).write_bytes(text.replace("\n", "\r\n").encode("utf-8-sig"))

    source, *_ = new_lab(folder=tmp_path / "course", notebook=tmp_path / name)

    assert [cell.source for cell in read_lab(source).cells] == ["x = 1\ny = 2"]


def test_a_raw_cell_is_shown_as_it_is(lab_of):
    lab = lab_of(code("x = 1"), nbformat.v4.new_raw_cell(r"\section{Waves}"))

    assert (lab.cells[1].kind, lab.cells[1].source) == ("markdown", "```\n\\section{Waves}\n```")


def test_a_notebook_of_the_third_format_is_read(tmp_path):
    cell = {
        "cell_type": "code",
        "input": ["x = 1"],
        "outputs": [],
        "language": "python",
        "metadata": {},
        "collapsed": False,
    }
    sheet = {"cells": [cell], "metadata": {}}
    content = {"nbformat": 3, "nbformat_minor": 0, "metadata": {"name": ""}, "worksheets": [sheet]}
    path = tmp_path / "old.ipynb"
    path.write_text(json.dumps(content))

    assert "x = 1" in to_percent(read_foreign(path))["cells"]


def test_a_notebook_whose_metadata_is_not_complete_is_read(tmp_path):
    path = tmp_path / "old.ipynb"
    cell = {"cell_type": "code", "source": ["x = 1\n", "y = 2"], "metadata": {}, "outputs": []}
    metadata = {"kernelspec": {"name": "python3"}}
    content = {"nbformat": 4, "nbformat_minor": 2, "metadata": metadata, "cells": [cell]}
    path.write_text(json.dumps(content))

    assert "x = 1\ny = 2" in to_percent(read_foreign(path))["cells"]


def test_what_jupytext_makes_of_a_notebook_becomes_the_same_lab(tmp_path, lab_of):
    lab = lab_of(
        markdown("# Waves\n\nThey go up."),
        code("%%bash\nls"),
        code("x = 1"),
        kernelspec={"name": "python3", "display_name": "Python 3", "language": "python"},
    )
    command = [sys.executable, "-m", "jupytext", "--to", "py:percent", "waves.ipynb"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)

    source, *_ = new_lab("again", tmp_path / "other", tmp_path / "waves.py")

    assert [cell.source for cell in read_lab(source).cells] == [cell.source for cell in lab.cells]
    assert read_lab(source).front_matter.title == "Waves"


@pytest.mark.parametrize(
    ("name", "content", "error", "message"),
    [
        ("waves.ipynb", b"", Damaged, "cannot be read as a notebook"),
        ("waves.ipynb", b"[]", Damaged, "cannot be read as a notebook"),
        (
            "waves.ipynb",
            b'{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": null}',
            Damaged,
            "cannot be read as a notebook",
        ),
        ("waves.ipynb", b'{"nbformat": 4, "cells": [{}]}', Damaged, "cannot be read as a notebook"),
        (
            "waves.ipynb",
            b'{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, '
            b'"cells": [{"cell_type": "x", "source": "", "metadata": {}}]}',
            Damaged,
            "has cells that are neither code nor text",
        ),
        ("waves.py", b"\xff", Damaged, "cannot be read as a notebook"),
        ("waves.docx", b"", Invalid, "is neither a notebook"),
    ],
)
def test_a_file_that_is_no_notebook_is_an_error(tmp_path, name, content, error, message):
    path = tmp_path / name
    path.write_bytes(content)

    with pytest.raises(error, match=message):
        read_foreign(path)


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(NotFound, match=r"There is no file .*gone\.ipynb"):
        read_foreign(tmp_path / "gone.ipynb")


def test_a_notebook_in_another_language_is_refused(lab_of):
    with pytest.raises(Invalid, match="is written in R; labs are written in Python"):
        lab_of(code("x <- 1"), kernelspec={"name": "ir", "display_name": "R", "language": "R"})
