import pytest

from dltlab.course import (
    SourceError,
    learner_notebook,
    notebook_text,
    read_lab,
    solution_notebook,
)
from dltlab.errors import Damaged, NotFound

BEGIN, END = "    ### BEGIN SOLUTION\n", "    ### END SOLUTION\n"
ANSWER = "    return float(np.mean((predictions - truth) ** 2))\n"


@pytest.fixture
def error_after(source, edit):
    """Change the source; return the error of `read_lab` and the text of the line that it names."""

    def read_changed(old: str, new: str) -> tuple[str, str]:
        edit(source, old, new)
        with pytest.raises(SourceError) as caught:
            read_lab(source)
        assert caught.value.path == source
        assert "\n" not in caught.value.message
        return caught.value.message, source.read_text().split("\n")[caught.value.line - 1]

    return read_changed


@pytest.fixture
def with_cell(source):
    """Return a function that reads the lab with cells added at its end."""

    def add(text: str):
        source.write_text(f"{source.read_text()}\n{text}")
        return read_lab(source)

    return add


def test_a_solution_inside_a_solution_is_an_error(error_after):
    message, line = error_after(ANSWER, BEGIN + ANSWER + END)
    assert "solution inside that of line 46" in message
    assert line == BEGIN.rstrip()


def test_an_unclosed_solution_is_an_error_where_it_begins(error_after):
    message, line = error_after(END, "")
    assert "'### END SOLUTION' is missing" in message
    assert line == BEGIN.rstrip()


def test_an_end_without_a_beginning_is_an_error(error_after):
    message, line = error_after(BEGIN, "")
    assert "without '### BEGIN SOLUTION'" in message
    assert line == END.rstrip()


def test_an_end_with_another_indentation_is_an_error(error_after):
    message, line = error_after(END, END.lstrip())
    assert "is not indented as line 46" in message
    assert line == END.strip()


@pytest.mark.parametrize(
    "marker",
    [
        "### begin solution",
        "## BEGIN SOLUTION",
        "#BEGIN SOLUTION",
        "###BEGIN SOLUTION",
        "### BEGIN  SOLUTION",
        "### BEGIN-SOLUTION",
        "### BEGIN SOLUTIONS",
        "### BEGIN SOLUTION:",
        "### BEGIN SOLUTION of it",
        "# ### BEGIN SOLUTION",
        "x = 1  ### BEGIN SOLUTION",
    ],
)
def test_a_malformed_marker_is_an_error(error_after, marker):
    message, line = error_after("### BEGIN SOLUTION", marker)
    assert "malformed solution marker: write '### BEGIN SOLUTION'" in message
    assert line.strip() == marker


def test_markers_after_code_are_an_error_and_never_leave_the_answer_in(error_after):
    message, _ = error_after(
        BEGIN + ANSWER + END, "    x = 0  ### BEGIN SOLUTION\n    return x  ### END SOLUTION\n"
    )
    assert "malformed" in message


def test_a_marker_in_markdown_is_an_error(error_after):
    message, line = error_after("# ## What you learned\n", "# ### BEGIN SOLUTION\n")
    assert "malformed" in message
    assert line == "# ### BEGIN SOLUTION"


def test_prose_about_solutions_is_not_a_marker(with_cell):
    lab = with_cell("# %% [markdown]\n# ## The end\n#\n# In the beginning, a solution.\n")
    assert lab.cells[-1].source == "## The end\n\nIn the beginning, a solution."


@pytest.mark.parametrize("lines", ["rng = = 1", "def f(", "x = 'unclosed", "  indented = 1"])
def test_a_syntax_error_is_reported_at_its_line(error_after, lines):
    message, line = error_after("rng = np.random.default_rng(seed=0)", lines)
    assert message.startswith("not Python: ")
    assert line == lines


def test_a_cell_that_only_parses_with_its_neighbors_is_an_error(error_after):
    message, line = error_after("rng = np.random.default_rng(seed=0)\n", "x = (1\n# %%\n  + 2)\n")
    assert message.startswith("the cell is not Python on its own")
    assert line == "x = (1"


@pytest.mark.parametrize(
    "opening",
    [
        "#%%",
        "# %%%",
        "# %% [raw]",
        "# %% a title",
        '# %% tags="exercise"',
        "# %% tags=[exercise]",
        "# %% tags=[1]",
        "    # %%",
    ],
)
def test_another_form_of_cell_marker_is_an_error(error_after, opening):
    message, line = error_after('# %% tags=["exercise"]', opening)
    assert message.startswith("a cell begins with '# %%'")
    assert line == opening


def test_code_before_the_first_cell_is_an_error(error_after):
    message, _ = error_after(
        "# %% [markdown]\n# ## The question", "x = 1\n\n# %% [markdown]\n# ## The q"
    )
    assert "the first cell must begin with a line '# %%'" in message


def test_a_cell_marker_inside_a_string_does_not_begin_a_cell(with_cell):
    lab = with_cell('# %%\ntext = """\n# %%\n"""\n')
    assert lab.cells[-1].source == 'text = """\n# %%\n"""'


def test_a_source_that_is_not_utf8_is_an_error(source):
    source.write_bytes(source.read_bytes() + b"\n# %%\nx = '\xe9'\n")

    with pytest.raises(Damaged, match=r"01_my_topic\.py cannot be read as UTF-8 text"):
        read_lab(source)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace(b"\n", b"\r\n"),
        lambda text: b"\xef\xbb\xbf" + text,
        lambda text: text + b"\n\n\n",
    ],
    ids=["Windows line endings", "a byte-order mark", "blank lines at the end"],
)
def test_line_endings_and_byte_order_mark_do_not_change_the_notebooks(source, change):
    before = read_lab(source)
    source.write_bytes(change(source.read_bytes()))
    after = read_lab(source)

    assert notebook_text(learner_notebook(after)) == notebook_text(learner_notebook(before))
    assert notebook_text(solution_notebook(after)) == notebook_text(solution_notebook(before))
    assert [cell.line for cell in after.cells] == [cell.line for cell in before.cells]


def test_cells_have_the_line_where_their_source_begins(source):
    lines = source.read_text().splitlines()
    for cell in read_lab(source).cells:
        assert lines[cell.line - 1].removeprefix("# ") == cell.source.splitlines()[0]


def test_a_cell_id_is_reproducible_and_depends_only_on_its_cell(source, edit):
    before = [cell.id for cell in read_lab(source).cells]
    assert [cell.id for cell in read_lab(source).cells] == before

    edit(source, "# ## The question", "# ## A question")
    after = [cell.id for cell in read_lab(source).cells]

    assert after[0] != before[0]
    assert after[1:] == before[1:]


def test_cells_with_the_same_source_have_different_ids(with_cell):
    lab = with_cell("# %%\nx = 1\n\n# %%\nx = 1\n\n# %%\nx = 1\n")
    ids = [cell.id for cell in lab.cells]

    assert len(set(ids)) == len(ids)
    assert ids[-2:] == [f"{ids[-3]}-2", f"{ids[-3]}-3"]


def test_the_stub_has_signature_docstring_and_an_ellipsis(source):
    cell = read_lab(source).defining("mean_squared_error")
    function = cell.stub.split("\n\n\n")[0]

    assert function.splitlines() == [
        "def mean_squared_error(predictions: np.ndarray, truth: np.ndarray) -> float:",
        '    """The mean of the squared differences of two arrays of shape `(n,)`."""',
        "    ...",
    ]
    compile(cell.stub, "stub", "exec")


def test_the_stub_has_one_ellipsis_for_each_solution_block(with_cell):
    lab = with_cell(
        '# %% tags=["exercise"]\n'
        "def two():\n"
        "    ### BEGIN SOLUTION\n"
        "    a = 1\n"
        "    b = 2\n"
        "    ### END SOLUTION\n"
        "    c = 3\n"
        "    for _ in range(3):\n"
        "        ### BEGIN SOLUTION\n"
        "        c += 1\n"
        "        ### END SOLUTION\n"
        "    return c\n"
    )
    assert lab.cells[-1].stub == (
        "def two():\n    ...\n    c = 3\n    for _ in range(3):\n        ...\n    return c"
    )
    assert "SOLUTION" not in lab.cells[-1].solution


def test_the_solution_is_the_cell_without_markers(source):
    cell = read_lab(source).defining("mean_squared_error")

    assert ANSWER in cell.solution
    assert "SOLUTION" not in cell.solution


def test_a_cell_has_a_solution_if_it_has_markers(with_cell):
    lab = with_cell("# %%\nx = 1\n\n\n\n\n# %%\ny = 2\n")

    assert [cell.has_solution for cell in lab.cells].count(True) == 1
    assert lab.defining("mean_squared_error").has_solution


def test_a_lab_has_its_name_parameters_exercises_and_module(source):
    lab = read_lab(source)

    assert (lab.name, lab.number, lab.topic) == ("01_my_topic", "01", "my_topic")
    assert lab.parameters == {"SAMPLES": 1000}
    assert lab.exercises == ("mean_squared_error",)
    assert lab.exercise_module == "checks.my_topic"


@pytest.mark.parametrize(
    ("line", "module"),
    [
        ("from checks import my_topic as ex", "checks.my_topic"),
        ("import checks.my_topic as ex", "checks.my_topic"),
        ("import checks.my_topic", None),
    ],
)
def test_the_exercise_module_is_the_one_imported_as_ex(source, edit, line, module):
    edit(source, "from checks import my_topic as ex", line)

    assert read_lab(source).exercise_module == module


def test_a_question_counts_as_an_exercise(with_cell):
    assert with_cell("# %%\nex.why.ask()\n").exercises == ("mean_squared_error", "why")


def test_defining_reports_a_function_that_no_cell_defines(source):
    with pytest.raises(NotFound, match="no cell that defines the function 'nothing'"):
        read_lab(source).defining("nothing")


def test_parameters_may_be_any_literal(source, edit):
    edit(source, "SAMPLES = 1000", 'SAMPLES = -1000\nNAMES = ["a", "b"]\nRATE = 1e-3\nNONE = None')
    assert read_lab(source).parameters == {
        "SAMPLES": -1000,
        "NAMES": ["a", "b"],
        "RATE": 1e-3,
        "NONE": None,
    }


@pytest.mark.parametrize(
    "parameter", ["SAMPLES = 10 * 100", "SAMPLES: int = 1000", "A = SAMPLES = 1", "print()"]
)
def test_a_parameter_that_is_not_a_literal_is_an_error(error_after, parameter):
    message, line = error_after("SAMPLES = 1000", parameter)
    assert message == "the 'parameters' cell may only hold lines 'NAME = literal'"
    assert line == parameter


def test_a_lab_without_a_parameters_cell_has_no_parameters(source, edit):
    edit(source, '# %% tags=["parameters"]', "# %%")
    for profile in ("{SAMPLES: 10}", "{SAMPLES: 100000}"):
        edit(source, profile, "{}")

    assert read_lab(source).parameters == {}


def test_a_profile_that_sets_a_parameter_of_no_cell_is_an_error(error_after):
    message, _ = error_after('# %% tags=["parameters"]', "# %%")
    assert message == "profile 'smoke' sets unknown parameter 'SAMPLES'; known: none"


def test_a_second_parameters_cell_is_an_error_at_its_line(error_after):
    message, line = error_after('# %% tags=["exercise"]', '# %% tags=["exercise", "parameters"]')
    assert message == "2 cells are tagged 'parameters'; tag one"
    assert line.startswith("def mean_squared_error")


def test_magics_and_shell_lines_are_not_syntax_errors(with_cell):
    lab = with_cell("# %%\n# %matplotlib inline\n# !echo hello\nremainder = (7\n    % 4)\n")
    assert lab.cells[-1].source.splitlines()[0] == "%matplotlib inline"
    assert lab.exercises == ("mean_squared_error",)


@pytest.mark.parametrize(
    ("cell", "code"),
    [
        (
            '# %% language="bash"\n# ls | wc -l\n# echo "it is"\n',
            '%%bash\nls | wc -l\necho "it is"',
        ),
        (
            '# %% tags=["active-ipynb"]\n# %%writefile notes.txt\n# any = = thing\n',
            "%%writefile notes.txt\nany = = thing",
        ),
        ("# %%\n# files = !ls *.txt\n", "files = !ls *.txt"),
        ("# %%\n# ?print\n", "?print"),
        ("# %%\n# print?\n", "print?"),
        ("# %%\n# %time total = sum(range(10))\n", "%time total = sum(range(10))"),
        ("# %%\nfor name in 'ab':\n    # !echo {name}\n    pass\n", None),
        ("# %%\nawait something()\n", "await something()"),
    ],
)
def test_what_ipython_understands_is_not_a_syntax_error(with_cell, cell, code):
    lab = with_cell(f"{cell}\n# %%\nlast = 1\n")

    assert lab.cells[-2].source == (code or lab.cells[-2].source)
    assert lab.cells[-2].tree.body
    lines = lab.path.read_text().splitlines()
    assert lines[lab.cells[-1].line - 1] == "last = 1"


def test_a_shell_cell_has_the_line_of_its_marker(with_cell):
    lab = with_cell('# %% language="bash"\n# ls\n')

    assert lab.path.read_text().splitlines()[lab.cells[-1].line - 1] == '# %% language="bash"'


def test_a_magic_in_an_exercise_does_not_hide_its_solution(source, edit):
    edit(source, "ex.mean_squared_error.check", "# %time 1 + 1\nex.mean_squared_error.check")
    lab = read_lab(source)

    assert "%time 1 + 1" in lab.defining("mean_squared_error").stub
    assert lab.exercises == ("mean_squared_error",)


@pytest.mark.parametrize("line", ["%matplotlib inline", "files = !ls", "print?", "!ls"])
def test_a_magic_that_is_not_a_comment_is_an_error_with_advice(error_after, line):
    message, named = error_after("rng = np.random.default_rng(seed=0)", line)

    assert message.endswith("; write a magic as a comment, as in '# %matplotlib inline'")
    assert named == line


def test_a_file_below_a_magic_that_is_no_comment_is_an_error_with_advice(error_after):
    cell = "# %%writefile notes.txt\nany = = thing"
    message, named = error_after("rng = np.random.default_rng(seed=0)", cell)

    assert message.endswith("; comment every line of this cell and tag it 'active-ipynb'")
    assert named == "any = = thing"


def test_a_comment_that_jupytext_takes_for_a_command_is_an_error_with_advice(error_after):
    message, named = error_after("rng = np.random", "# copy the samples\nrng = np.random")

    assert message.endswith("; jupytext takes this comment for a command: reword it")
    assert named == "# copy the samples"


def test_a_commented_cell_that_is_not_python_is_an_error_without_that_advice(error_after):
    cell = '# %% tags=["active-ipynb"]\n# print 1'
    message, named = error_after("rng = np.random.default_rng(seed=0)", cell)

    assert message.startswith("the cell is not Python on its own: Missing parentheses")
    assert "jupytext" not in message
    assert named == "# print 1"


JUPYTEXT_HEADER = """\
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     name: python3
"""


def test_what_jupytext_adds_to_a_source_is_accepted(source, edit):
    before = notebook_text(learner_notebook(read_lab(source)))
    edit(source, "# summary:", f"{JUPYTEXT_HEADER}# summary:")
    edit(source, "# %% [markdown]", '# %% [markdown] slideshow={"slide_type": "slide"}')
    edit(source, '# %% tags=["exercise"]', '# %% tags=["exercise"] editable=true colab={"x": [1]}')

    assert notebook_text(learner_notebook(read_lab(source))) == before


def test_a_script_of_jupytext_is_an_error_with_the_command_that_makes_it_a_lab(source):
    source.write_text(f"# ---\n{JUPYTEXT_HEADER}# ---\n\n# %%\nx = 1\n")

    with pytest.raises(SourceError, match="keys of the front matter are missing; add them with: "):
        read_lab(source)


def test_an_operator_at_the_start_of_a_line_is_not_a_magic(with_cell):
    lab = with_cell("# %%\nremainder = (7\n    % 4)\n")
    assert "% 4" in lab.cells[-1].source
    assert lab.exercises == ("mean_squared_error",)
