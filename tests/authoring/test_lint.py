import pytest

from dltlab.authoring.lint import CODE_LINES, PROSE_WORDS, RULES, lint
from dltlab.paths import short_path

CODE, PROSE = "# %%\n", "# %% [markdown]\n"
EXERCISE = '# %% tags=["exercise"]\n'
SOLVED = "    ### BEGIN SOLUTION\n    return 1\n    ### END SOLUTION\n"

# The rule, a cell added to a clean lab, the line of it that must be named, and what must be said.
FAULTS = [
    ("heading-order", PROSE + "# # Title", 1, "a first-level heading"),
    ("heading-order", PROSE + "# #### Deep", 1, "a heading of level 4 under one of level 2"),
    ("alt-text", PROSE + "# Look:\n#\n# ![](curve.png)", 3, "an image without alt text"),
    ("alt-text", PROSE + '# <img src="curve.png">', 1, "an image without alt text"),
    ("alt-text", PROSE + '# <img src="curve.png" alt="">', 1, "an image without alt text"),
    ("alt-text", CODE + "x = 1\nplt.show()", 2, "use dltlab.display.show(figure, alt)"),
    ("alt-text", CODE + "show(figure)", 1, "a figure without alt text"),
    ("alt-text", CODE + 'show(figure, "")', 1, "a figure without alt text"),
    ("alt-text", CODE + 'show(figure, alt="")', 1, "a figure without alt text"),
    ("axis-labels", CODE + "x = 1\nplt.plot(x)", 2, "a drawing without xlabel and ylabel"),
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
    ("network", CODE + "import requests", 1, "'requests' is imported"),
    ("network", CODE + "x = 1\nimport urllib.request", 2, "'urllib.request' is imported"),
    ("network", CODE + "from urllib import request", 1, "'urllib.request' is imported"),
    ("network", CODE + "from urllib.request import urlopen", 1, "'urllib.request' is imported"),
    ("network", CODE + "# !pip install x", 1, "'!pip install x' needs the network"),
    ("network", CODE + "# %pip install x", 1, "'%pip install x' needs the network"),
    ("network", CODE + 'x = "https://example.org/x"', 1, "an address on the network"),
    ("cell-length", CODE + "x = 1\n" * (CODE_LINES + 1), 1, "a cell of 31 lines"),
    ("cell-length", PROSE + "# word" + " word" * PROSE_WORDS, 1, "a cell of 151 words"),
    (
        "exercise",
        PROSE + "# ### Exercise\n\n" + CODE + "def mean_squared_error():\n" + SOLVED,
        4,
        "a solution in a cell that is not tagged 'exercise'",
    ),
    (
        "exercise",
        PROSE + "# ### Exercise\n\n" + EXERCISE + "def mean_squared_error():\n    ...\n",
        4,
        "a cell tagged 'exercise' without a solution",
    ),
    (
        "exercise",
        PROSE + "# Now you.\n\n" + EXERCISE + "def mean_squared_error():\n" + SOLVED,
        4,
        "an exercise that no heading announces",
    ),
    (
        "exercise",
        PROSE + "# ### Exercise\n\n" + EXERCISE + "def unasked():\n" + SOLVED,
        4,
        "an exercise that is never checked",
    ),
    ("spelling", PROSE + "# We use numpy.", 1, "'numpy' is spelled 'NumPy'"),
    ("spelling", PROSE + "# A Gpu is fast.", 1, "'Gpu' is spelled 'GPU'"),
    ("spelling", PROSE + "# Tensorflow runs.", 1, "'Tensorflow' is spelled 'TensorFlow'"),
]

# What looks like a fault and is none.
FINE = {
    "a heading one level deeper": PROSE + "# ### Deeper\n#\n# ## Up again",
    "a comment that is no heading": CODE + "# # one\nx = 1",
    "an image with alt text": PROSE + "# ![A falling curve.](curve.png)",
    "an HTML image with alt text": PROSE + '# <img src="curve.png" alt="A falling curve.">',
    "a figure with alt text": CODE + 'show(figure, "A falling curve.")',
    "a figure with alt text by name": CODE + "show(figure, alt=text)",
    "labeled axes": CODE + 'axis.plot(x)\naxis.set(xlabel="s", ylabel="m")',
    "a function called step": CODE + "step(x)",
    "a relative path": CODE + 'open("runs/x.csv")',
    "an address in prose": PROSE + "# [Scikit-learn](https://scikit-learn.org/home/x)",
    "an address on this machine": CODE + 'x = "http://localhost:6006"',
    "a division": CODE + "x = 1/ 2 /3",
    "a package in code quotes": PROSE + "# `import numpy`, from `tensorflow`.",
    "a term that begins a sentence": PROSE + "# Softmax divides. Scikit-learn fits.",
    "a cell of just the length": CODE + "x = 1\n" * CODE_LINES,
    "a challenge": PROSE
    + "# ## The challenge\n\n"
    + EXERCISE
    + "def mean_squared_error():\n"
    + SOLVED,
}


@pytest.fixture
def add(source):
    """Add cells to the lab's end; returns the number of the line before the first of them."""

    def at_its_end(cells: str) -> int:
        before = source.read_text()
        source.write_text(f"{before}\n{cells}\n")
        return len(before.splitlines()) + 2

    return at_its_end


def test_a_new_lab_is_clean(course):
    assert lint(course) == []


@pytest.mark.parametrize(("rule", "cells", "line", "message"), FAULTS)
def test_a_fault_is_told_with_its_rule_file_line_and_mend(
    course, source, add, rule, cells, line, message
):
    before = add(cells)

    (finding,) = lint(course)

    assert finding.rule == rule
    assert finding.place == f"{short_path(source)}:{before + line}"
    assert message in finding.message
    mend = next(each.mend for each in RULES if each.name == rule)
    assert str(finding) == f"{finding.place}: {rule}: {finding.message}. {mend}"


@pytest.mark.parametrize("cells", FINE.values(), ids=FINE)
def test_what_is_no_fault_is_not_told(course, add, cells):
    add(cells)

    assert lint(course) == []


def test_every_rule_is_triggered_above_and_says_how_to_mend():
    assert {rule for rule, *_ in FAULTS} == {rule.name for rule in RULES}
    assert all(rule.mend.endswith(".") and rule.check.__doc__ for rule in RULES)
    assert len({rule.name for rule in RULES}) == len(RULES)


def test_a_source_that_cannot_be_read_is_a_finding_and_the_others_are_still_read(course, add):
    from dltlab.authoring.new import new_lab

    add(PROSE + "# We use numpy.")
    broken, _ = new_lab("broken", course.root)
    broken.write_text(broken.read_text().replace("# summary:", "# sumary:"))

    spelling, unreadable = lint(course)

    assert spelling.rule == "spelling"
    assert unreadable.rule == "source"
    assert unreadable.place == f"{short_path(broken)}:3"
    assert "unknown key 'sumary'" in str(unreadable)


def test_only_the_labs_asked_for_are_read(course, add):
    from dltlab.authoring.new import new_lab

    add(PROSE + "# We use numpy.")
    new_lab("second", course.root)

    assert lint(course, ["2"]) == []
    assert len(lint(course, ["1", "2"])) == 1


def test_the_course_is_clean():
    from dltlab.course.catalog import Course

    assert [str(finding) for finding in lint(Course.own())] == []
