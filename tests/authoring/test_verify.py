"""Verification finds every fault of an exercise and names it."""

import importlib

import pytest

from dltlab.authoring.verify import exercises_of, require_verified, verify
from dltlab.errors import Invalid, LabError
from dltlab.exercises import Outcome
from dltlab.paths import short_path

MODULE, NAME = "checks.my_topic", "mean_squared_error"

QUESTION = '''

from dltlab.exercises import correct, question, wrong


@question
def why():
    """Why?"""
    return [{options}]
'''

CODED = '''"""Exercises of the lab my_topic."""

import numpy as np

from dltlab.exercises import exercise, require


@exercise()
def mean_squared_error(answer):
    value = answer(np.array([1.0, 0.0]), np.array([0.0, 2.0]))
    require(value >= 0, f"You return {value}, which is negative.")
    require(value == 2.5, f"You return {value}, which is not the mean.")


@mean_squared_error.rejects("which is negative")
def _(predictions, truth):
    return -1


@mean_squared_error.rejects("not the mean")
def _(predictions, truth):
    return 5
'''

SUM = "return np.sum((predictions - truth) ** 2)"


@pytest.fixture
def checks(course):
    return course.root / "checks" / "my_topic.py"


@pytest.fixture
def ask(source, checks):
    """Return a function that asks a question with the given options in the lab."""

    def add(options):
        source.write_text(f"{source.read_text()}\n# %%\nex.why.ask()\n")
        checks.write_text(checks.read_text() + QUESTION.format(options=options))

    return add


def test_the_exercises_of_a_new_lab_have_no_fault(checks):
    assert verify(MODULE) == []
    require_verified(MODULE)


def test_a_check_that_is_code_has_no_fault(checks):
    checks.write_text(CODED)

    assert verify(MODULE) == []


def test_verification_uses_the_smoke_values_of_a_check_and_a_learner_the_defaults(checks, edit):
    checks.write_text(CODED)
    edit(checks, "@exercise()", '@exercise(smoke={"bar": 2.5})')
    edit(checks, "def mean_squared_error(answer):", "def mean_squared_error(answer, bar=9):")
    edit(checks, "value == 2.5", "value == bar")

    assert verify(MODULE) == []
    exercise = importlib.import_module(MODULE).mean_squared_error
    assert exercise.evaluate(exercise.reference()).outcome is Outcome.NOT_YET


def test_a_question_with_one_correct_option_has_no_fault(ask):
    ask('correct("a", "a"), wrong("b", "b")')

    assert verify(MODULE) == []


@pytest.mark.parametrize(
    ("options", "correct"),
    [('wrong("a", "a")', 0), ('correct("a", "a"), correct("b", "b")', 2), ("", 0)],
)
def test_a_question_without_exactly_one_correct_option_is_a_fault(ask, options, correct):
    ask(options)

    assert verify(MODULE) == [f"why: {correct} options are correct, not one"]


def test_an_exercise_that_no_cell_asks_for_is_a_fault(source, edit):
    edit(source, "ex.mean_squared_error.check(mean_squared_error)", "pass")

    assert verify(MODULE) == [f"{NAME}: no cell of 01_my_topic asks for it"]


def test_an_exercise_that_the_module_does_not_define_is_a_fault(source):
    source.write_text(f"{source.read_text()}\n# %%\nex.why.ask()\n")

    assert verify(MODULE) == [
        "why: 01_my_topic asks for it, and checks.my_topic does not define it"
    ]


def test_a_stub_with_code_of_the_author_is_still_the_stub(source, edit):
    edit(source, "    ### BEGIN SOLUTION", "    scale = 1\n    ### BEGIN SOLUTION")

    assert verify(MODULE) == []


def test_a_solution_that_fails_a_check_is_a_fault_with_its_message(source, checks, edit):
    checks.write_text(CODED)
    edit(source, "return float(np.mean(", "return float(np.sum(")

    assert verify(MODULE) == [
        f"{NAME}: the solution is not accepted: {NAME}: not yet. You return 5.0, which is not the "
        "mean."
    ]


def test_a_wrong_solution_contradicts_the_accepted_answers_and_the_mistakes(source, edit):
    edit(source, "return float(np.mean(", "return float(np.sum(")

    faults = verify(MODULE)
    assert any("is not accepted" in fault for fault in faults)
    assert any("differs from the solution on no case" in fault for fault in faults)


def test_an_accepted_answer_that_does_not_pass_is_a_fault_with_its_line(checks, edit):
    edit(checks, ") / len(truth)", ")")
    line = checks.read_text().splitlines().index("@mean_squared_error.accepts") + 1

    (fault,) = verify(MODULE)
    assert fault.startswith(f"{NAME}: the answer of line {line} is not accepted: ")


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ("return np.mean((predictions - truth) ** 2)", "differs from the solution on no case"),
        ("pass", "gets a message of the engine, so use `rejects`: "),
        ("return 1 / 0", "raises ZeroDivisionError in line 28 of "),
        ("predictions[:] = 0; return 0.0", "gets a message of the engine, so use `rejects`: "),
        (
            "return np.mean(predictions - truth)",
            "not their mean.', should get its own sentence but gets: mean_squared_error: not yet",
        ),
    ],
)
def test_a_mistake_that_does_not_get_its_own_sentence_is_a_fault(checks, edit, body, fault):
    mistake = '@mean_squared_error.mistake("You return the sum of the squares, not their mean.")\n'
    edit(checks, "@mean_squared_error.accepts", f"{mistake}_PLACE_\n\n@mean_squared_error.accepts")
    edit(checks, mistake + "def _(predictions, truth):\n    " + SUM + "\n", "")
    edit(checks, "_PLACE_", f"def _(predictions, truth):\n    {body}\n")

    (message,) = verify(MODULE)
    assert fault in message


def test_a_mistake_may_be_written_in_two_ways(checks):
    text = checks.read_text()
    (_, decorator, rest) = text.partition("@mean_squared_error.mistake(")
    twin = (decorator + rest).partition("\n\n\n")[0]
    checks.write_text(f"{text}\n\n{twin}\n")

    assert verify(MODULE) == []


def test_a_rejected_answer_that_passes_is_a_fault(checks, edit):
    edit(checks, "return np.mean(np.abs(predictions - truth))", "return 14 / 3")
    edit(checks, "    yield random_arrays((7,), (7,))\n", "")

    faults = verify(MODULE)
    assert any("should get 'is not the mean of the squared" in fault for fault in faults)


def test_a_rejected_answer_with_another_message_is_a_fault(checks, edit):
    edit(checks, 'rejects("return one number")', 'rejects("your colors")')

    (fault,) = verify(MODULE)
    assert "should get 'your colors': mean_squared_error: not yet. Your error is an array" in fault


def test_two_rejected_answers_with_one_message_are_a_fault(checks, edit):
    checks.write_text(CODED)
    edit(checks, 'rejects("which is negative")', 'rejects("You return 5")')
    edit(checks, "return -1", "return 5")

    (fault,) = verify(MODULE)
    assert "gets the message of another wrong answer" in fault


def test_two_rejected_answers_declared_with_one_message_are_no_fault(checks, edit):
    checks.write_text(CODED)
    edit(checks, 'rejects("which is negative")', 'rejects("not the mean")')
    edit(checks, "return -1", "return 5")

    assert verify(MODULE) == []


@pytest.mark.parametrize("decorator", ["mistake", "rejects"])
def test_an_exercise_without_wrong_answers_is_a_fault(checks, decorator):
    text = checks.read_text() if decorator == "mistake" else CODED
    checks.write_text(text.partition(f"@mean_squared_error.{decorator}")[0])

    (fault,) = verify(MODULE)
    assert fault.startswith(f"{NAME}: declares no wrong answer: add ")


def test_a_tolerance_that_lets_wrong_values_pass_is_a_fault(checks, edit):
    edit(checks, 'Number("error")', 'Number("error", atol=5)')
    edit(checks, "    yield random_arrays((7,), (7,))", "    yield np.zeros(2), 1e3 * np.ones(2)")

    faults = verify(MODULE)
    assert any("the solution with one value altered is not rejected" in fault for fault in faults)


def test_one_case_is_a_fault(checks, edit):
    edit(checks, "    yield random_arrays((7,), (7,))\n", "")

    (fault,) = verify(MODULE)
    assert fault.startswith(f"{NAME}: has only one distinct case")


def test_cases_of_one_size_are_a_fault(checks, edit):
    edit(checks, "random_arrays((7,), (7,))", "random_arrays((3,), (3,))")

    (fault,) = verify(MODULE)
    assert fault.startswith(f"{NAME}: all cases have the same sizes")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("yield (np.ones(3),)", "a case has 1 arguments, which do not fit the solution ("),
        (
            "yield np.ones(3)",
            "a case is a tuple of arguments, not ndarray; with one argument write",
        ),
        ("yield 1 / 0", "the function that yields the cases raises ZeroDivisionError in line "),
    ],
)
def test_cases_that_cannot_be_used_are_one_fault(checks, edit, line, message):
    edit(checks, "    yield np.array(", f"    {line}\n    yield np.array(")

    (fault,) = verify(MODULE)
    assert fault.startswith(f"{NAME}: {message}")


def test_a_solution_that_raises_is_one_fault_with_its_line_in_the_lab(source, edit):
    edit(source, "return float(np.mean(", "return float(EPSILON * np.mean(")
    lines = source.read_text().splitlines()
    number = next(number for number, line in enumerate(lines, 1) if "EPSILON" in line)

    assert verify(MODULE) == [
        f"{NAME}: the solution raises NameError in line {number} of {short_path(source)}: name "
        "'EPSILON' is not defined. A solution may use only the lab's imports"
    ]


def test_a_solution_that_is_not_what_returns_says_is_one_fault(source, edit):
    edit(source, "return float(np.mean((predictions - truth) ** 2))", "return predictions - truth")

    assert verify(MODULE) == [
        f"{NAME}: the solution does not return what `returns=` says: Your error is an array of "
        "shape (3,); return one number."
    ]


def test_a_mistake_without_its_sentence_is_a_fault_with_its_line(checks, edit):
    edit(
        checks,
        '@mean_squared_error.mistake("You return the sum of the squares, not their mean.")',
        "@mean_squared_error.mistake",
    )
    line = checks.read_text().splitlines().index("@mean_squared_error.mistake") + 1

    assert verify(MODULE) == [
        f"{NAME}: the mistake of line {line} lacks its sentence or its function: write "
        f'`@{NAME}.mistake("…")` above a function'
    ]


def test_a_mistake_that_takes_other_arguments_is_a_fault(checks, edit):
    edit(checks, f"def _(predictions, truth):\n    {SUM}", f"def _(predictions):\n    {SUM}")

    (fault,) = verify(MODULE)
    assert "does not take the arguments of a case: raises TypeError: " in fault


def test_mistakes_that_raise_are_one_fault_with_their_line(checks):
    mistakes = "@mean_squared_error.mistakes\ndef _(predictions, truth):\n    yield 'a', 1 / 0\n"
    checks.write_text(f"{checks.read_text()}\n\n{mistakes}")
    line = len(checks.read_text().splitlines())

    assert verify(MODULE) == [
        f"{NAME}: `mistakes` of line {line - 2} raises ZeroDivisionError in line {line} of "
        f"{short_path(checks)}: division by zero"
    ]


@pytest.mark.parametrize(
    ("old", "place"),
    [
        ('"You return the sum of', "the mistake of line "),
        ('"You return {value}, which is not the mean', "`otherwise=` contains {scale}"),
    ],
)
def test_an_unknown_placeholder_is_a_fault(checks, edit, old, place):
    edit(checks, old, old.replace("You", "{scale}: you"))

    (fault,) = [fault for fault in verify(MODULE) if "contains" in fault]
    assert fault.startswith(f"{NAME}: {place}")
    assert fault.endswith("contains {scale}; only {call} and {value} are filled in")


def test_a_sentence_that_raises_is_a_fault(checks, edit):
    edit(checks, '"You return the sum of the squares, not their mean."', "lambda value: 1 / 0")

    (fault,) = verify(MODULE)
    assert "'a function', is not told: " in fault


def test_a_question_without_a_docstring_is_a_fault(ask, checks, edit):
    ask('correct("a", "a"), wrong("b", "b")')
    edit(checks, '    """Why?"""\n', "")

    assert verify(MODULE) == ["why: has no docstring, which asks the question"]


@pytest.mark.parametrize("module", ["checks.nothing", "nowhere.at_all"])
def test_a_missing_module_is_an_error(checks, module):
    with pytest.raises(Invalid, match=f"exercises' module {module} cannot be imported"):
        verify(module)


def test_a_module_that_raises_in_its_import_is_an_error(checks):
    checks.write_text("1 / 0")

    with pytest.raises(Invalid, match=r"cannot be imported \(ZeroDivisionError: division by") as e:
        verify(MODULE)
    assert str(e.value).startswith(f"{short_path(checks)}:1: the exercises' module ")


def test_a_syntax_error_is_reported_with_its_path_and_line_first(checks):
    checks.write_text("import re\nx = (\n")

    with pytest.raises(Invalid) as caught:
        verify(MODULE)
    assert str(caught.value) == (
        f"{short_path(checks)}:2: the exercises' module {MODULE} cannot be imported (SyntaxError: "
        "'(' was never closed)."
    )


def test_a_lab_that_lacks_the_function_is_an_error(source, edit):
    edit(source, "def mean_squared_error(", "def another_error(")

    with pytest.raises(LabError, match="no cell that defines the function 'mean_squared_error'"):
        verify(MODULE)


def test_all_faults_are_told_at_once(source, checks, edit):
    edit(source, "return float(np.mean(", "return float(np.sum(")

    with pytest.raises(Invalid) as caught:
        require_verified(MODULE)
    lines = str(caught.value).splitlines()
    assert lines[0] == f"The exercises of {MODULE} have faults:"
    assert len(lines) > 2
    assert all(line.startswith(f"  {NAME}: ") for line in lines[1:])


def test_members_have_the_order_of_their_definition(ask):
    ask('correct("a", "a")')

    members = exercises_of(importlib.import_module(MODULE))
    assert [member.name for member in members] == [NAME, "why"]


CALLABLES = """

from functools import partial


class Scaled:
    def __init__(self, factor):
        self.factor = factor

    def __call__(self, predictions, truth):
        return self.factor * np.mean((predictions - truth) ** 2)


mean_squared_error.accepts(Scaled(1))
mean_squared_error.mistake("You return twice the mean.")(partial(Scaled(2)))
mean_squared_error.rejects("has the shape (2,)")(np.add)
"""


def test_declared_answers_may_be_anything_that_can_be_called(checks):
    checks.write_text(checks.read_text() + CALLABLES)

    faults = verify(MODULE)

    assert {fault.partition(" should get ")[0] for fault in faults if "should" in fault} == {
        f"{NAME}: the answer <ufunc 'add'>"
    }


def test_the_line_of_a_declared_object_is_that_of_its_call(checks):
    callables = CALLABLES.replace("accepts(Scaled(1))", "accepts(Scaled(3))")
    checks.write_text(checks.read_text() + callables)

    line = checks.read_text().splitlines().index("    def __call__(self, predictions, truth):") + 1
    assert f"{NAME}: the answer of line {line} is not accepted: " in "\n".join(verify(MODULE))
