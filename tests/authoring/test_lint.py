import pytest

from dltlab.authoring import lint, new_lab
from dltlab.authoring.lint import CODE_LINES, PROSE_WORDS, RULES
from dltlab.course import Course
from dltlab.errors import NotFound
from dltlab.paths import short_path

CODE, PROSE = "# %%\n", "# %% [markdown]\n"
EXERCISE = '# %% tags=["exercise"]\n'
ANSWER = "    ### BEGIN SOLUTION\n    return 1\n    ### END SOLUTION\n"

# The rule, a cell added to a clean lab, its line that must be named, and a part of the message.
VIOLATIONS = [
    ("heading-order", PROSE + "# # Title", 1, "a first-level heading"),
    ("heading-order", PROSE + "# #### Deep", 1, "a heading of level 4 under one of level 2"),
    ("alt-text", PROSE + "# Look:\n#\n# ![](curve.png)", 3, "an image without alt text"),
    ("alt-text", PROSE + '# <img src="curve.png">', 1, "an image without alt text"),
    ("alt-text", PROSE + '# <img src="curve.png" alt="">', 1, "an image without alt text"),
    ("alt-text", CODE + "x = 1\nplt.show()", 2, "use dltlab.display.show(figure, alt)"),
    ("alt-text", CODE + "show(figure)", 1, "a figure without alt text"),
    ("alt-text", CODE + 'show(figure, "")', 1, "a figure without alt text"),
    ("alt-text", CODE + 'show(figure, alt="")', 1, "a figure without alt text"),
    ("alt-text", CODE + "x = 1\n_ = plt.imshow(x)", 2, "'plt.imshow' makes a figure that the cell"),
    ("alt-text", CODE + "for x in y:\n    plt.figure()", 2, "'plt.figure' makes a figure"),
    ("alt-text", CODE + 'table["a"].plot.line()', 1, "'table['a'].plot.line' makes a figure"),
    ("alt-text", CODE + "sns.lineplot(table)", 1, "'sns.lineplot' makes a figure"),
    ("alt-text", CODE + "figure, axis = plt.subplots()", 1, "'plt.subplots' makes a figure"),
    ("axis-labels", CODE + "x = 1\naxis.plot(x)", 2, "a drawing without xlabel and ylabel"),
    ("axis-labels", CODE + 'axis.bar(x, y)\naxis.set(xlabel="s")', 1, "a drawing without ylabel"),
    (
        "absolute-path",
        CODE + 'open("/home/ada/x.csv")',
        1,
        "the absolute path '/home/ada/x.csv\")'",
    ),
    ("absolute-path", CODE + 'open("~/x.csv")', 1, "the absolute path"),
    ("absolute-path", CODE + r'open(r"C:\data")', 1, r"the absolute path 'C:\data"),
    ("absolute-path", PROSE + "# Look into /tmp/runs first.", 1, "the absolute path '/tmp/runs'"),
    ("own-folder", CODE + 'model.save("m.keras")', 1, "'m.keras' is written"),
    ("network", CODE + "import requests", 1, "'requests' is imported"),
    ("network", CODE + "x = 1\nimport urllib.request", 2, "'urllib.request' is imported"),
    ("network", CODE + "from urllib import request", 1, "'urllib.request' is imported"),
    ("network", CODE + "from urllib.request import urlopen", 1, "'urllib.request' is imported"),
    ("network", CODE + "# !pip install x", 1, "'!pip install x' needs the network"),
    ("network", CODE + "# %pip install x", 1, "'%pip install x' needs the network"),
    ("network", CODE + "# x = !curl example.org", 1, "'x = !curl example.org' needs the network"),
    ("network", '# %% language="bash"\n# cd data && wget x', 1, "needs the network"),
    ("network", CODE + 'x = "https://example.org/x"', 1, "an internet address"),
    ("cell-length", CODE + "x = 1\n" * (CODE_LINES + 1), 1, "a cell of 31 lines"),
    ("cell-length", PROSE + "# word" + " word" * PROSE_WORDS, 1, "a cell of 151 words"),
    (
        "exercise-tag",
        PROSE + "# ### Exercise\n\n" + CODE + "def mean_squared_error():\n" + ANSWER,
        4,
        "a solution in a cell that is not tagged 'exercise'",
    ),
    (
        "exercise-solution",
        PROSE + "# ### Exercise\n\n" + EXERCISE + "def mean_squared_error():\n    ...\n",
        4,
        "a cell tagged 'exercise' without a solution",
    ),
    (
        "exercise-heading",
        PROSE + "# Now you.\n\n" + EXERCISE + "def mean_squared_error():\n" + ANSWER,
        4,
        "an exercise without a heading",
    ),
    (
        "exercise-check",
        PROSE + "# ### Exercise\n\n" + EXERCISE + "def unasked():\n" + ANSWER,
        4,
        "an exercise without a check",
    ),
    ("spelling", PROSE + "# We use numpy.", 1, "'numpy' is spelled 'NumPy'"),
    ("spelling", PROSE + "# A Gpu is fast.", 1, "'Gpu' is spelled 'GPU'"),
    ("spelling", PROSE + "# Tensorflow runs.", 1, "'Tensorflow' is spelled 'TensorFlow'"),
]

# What looks like a violation but is allowed.
ALLOWED = {
    "a heading one level deeper": PROSE + "# ### Deeper\n#\n# ## Up again",
    "a comment that is not a heading": CODE + "# # one\nx = 1",
    "an image with alt text": PROSE + "# ![A falling curve.](curve.png)",
    "an HTML image with alt text": PROSE + '# <img src="curve.png" alt="A falling curve.">',
    "a figure with alt text": CODE + 'show(figure, "A falling curve.")',
    "a figure with alt text by name": CODE + "show(figure, alt=text)",
    "a figure that is shown": CODE + 'figure, _ = plt.subplots()\nshow(figure, "A curve.")',
    "a figure that is closed": CODE + "plt.figure()\nplt.close()",
    "a function that draws": CODE + "def draw():\n    return plt.figure()",
    "a setting of pyplot": CODE + 'plt.rcParams["font.size"] = 12',
    "a local program": '# %% language="bash"\n# ls | grep pip',
    "labeled axes": CODE + 'axis.plot(x)\naxis.set(xlabel="s", ylabel="m")',
    "a function called step": CODE + "step(x)",
    "a relative path": CODE + 'open("runs/x.csv")',
    "an address in prose": PROSE + "# [Scikit-learn](https://scikit-learn.org/home/x)",
    "an address on this machine": CODE + 'x = "http://localhost:6006"',
    "a division": CODE + "x = 1/ 2 /3",
    "a package in code quotes": PROSE + "# `import numpy`, from `tensorflow`.",
    "a term at the beginning of a sentence": PROSE + "# Softmax divides. Scikit-learn fits.",
    "a cell of the maximal length": CODE + "x = 1\n" * CODE_LINES,
    "a challenge": PROSE
    + "# ## The challenge\n\n"
    + EXERCISE
    + "def mean_squared_error():\n"
    + ANSWER,
}


@pytest.fixture
def add(source):
    """Return a function that adds cells to the lab and returns the number of the line before."""

    def append(cells: str) -> int:
        before = source.read_text()
        source.write_text(f"{before}\n{cells}\n")
        return len(before.splitlines()) + 2

    return append


def test_a_new_lab_is_clean(course):
    assert lint(course) == []


@pytest.mark.parametrize(("rule", "cells", "line", "message"), VIOLATIONS)
def test_a_violation_is_reported_with_its_rule_file_line_and_fix(
    course, source, add, rule, cells, line, message
):
    before = add(cells)

    (finding,) = lint(course)

    assert finding.rule == rule
    assert finding.place == f"{short_path(source)}:{before + line}"
    assert message in finding.message
    (fix,) = [known.fix for known in RULES if known.name == rule]
    assert str(finding) == f"{finding.place}: {rule}: {finding.message}. {fix}"


@pytest.mark.parametrize("cells", ALLOWED.values(), ids=ALLOWED)
def test_what_is_allowed_is_not_reported(course, add, cells):
    add(cells)

    assert lint(course) == []


def test_every_rule_has_a_violation_above_a_fix_and_a_docstring():
    assert {rule for rule, *_ in VIOLATIONS} == {rule.name for rule in RULES}
    assert all(rule.fix.endswith(".") and rule.check.__doc__ for rule in RULES)
    assert len({rule.name for rule in RULES}) == len(RULES)


def test_an_invalid_source_is_a_finding_and_the_other_labs_are_still_read(course, add):
    add(PROSE + "# We use numpy.")
    broken, _ = new_lab("broken", course.root)
    broken.write_text(broken.read_text().replace("# summary:", "# sumary:"))

    spelling, invalid = lint(course)

    assert spelling.rule == "spelling"
    assert invalid.rule == "source"
    assert invalid.place == f"{short_path(broken)}:3"
    assert "unknown key 'sumary'" in str(invalid)


def test_only_the_named_labs_are_read(course, add):
    add(PROSE + "# We use numpy.")
    new_lab("second", course.root)

    assert lint(course, ["2"]) == []
    assert len(lint(course, ["1", "2"])) == 1
    with pytest.raises(NotFound, match="There is no lab '3'"):
        lint(course, ["3"])


def test_the_course_is_clean():
    assert [str(finding) for finding in lint(Course.own())] == []


def test_a_file_that_belongs_to_no_lab_is_a_finding(course):
    for name in ("draft.py", "01_other.py", "analysis.ipynb"):
        (course.solutions / name).touch()

    findings = lint(course)

    assert [finding.rule for finding in findings] == ["file"] * 3
    assert "01_my_topic.py has the same number" in str(findings[0])
    assert "named NN_topic.py" in str(findings[1])
    assert "dltlab new --from NOTEBOOK" in str(findings[2])
    assert lint(course, ["1"]) == []


def test_a_source_that_is_not_text_is_a_finding(course, source):
    new_lab("second", course.root)
    source.write_bytes(b"\xff")

    (finding,) = lint(course)

    assert (finding.place, finding.rule) == (short_path(source), "source")
