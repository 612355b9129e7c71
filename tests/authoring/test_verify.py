import importlib

import pytest

from dltlab.authoring.verify import members, require_verified, verify
from dltlab.errors import LabError

MODULE, NAME = "checks.my_topic", "mean_squared_error"

QUESTION = '''

from dltlab.exercises import question, right, wrong


@question
def why():
    """Why?"""
    return [{options}]
'''


@pytest.fixture
def checks(course):
    return course.root / "checks" / "my_topic.py"


@pytest.fixture
def ask(source, checks):
    """Ask a question with the given options in the lab."""

    def add(options):
        source.write_text(f"{source.read_text()}\n# %%\nex.why.ask()\n")
        checks.write_text(checks.read_text() + QUESTION.format(options=options))

    return add


def test_a_new_labs_exercises_hold(checks):
    assert verify(MODULE) == []
    require_verified(MODULE)


def test_a_question_with_one_right_option_holds(ask):
    ask('right("a", "a"), wrong("b", "b")')

    assert verify(MODULE) == []


@pytest.mark.parametrize(
    ("options", "rights"),
    [('wrong("a", "a")', 0), ('right("a", "a"), right("b", "b")', 2), ("", 0)],
)
def test_a_question_without_just_one_right_option_is_told(ask, options, rights):
    ask(options)

    assert verify(MODULE) == [f"why: {rights} options are right, not one"]


def test_an_exercise_that_no_cell_asks_for_is_told(source, edit):
    edit(source, "ex.mean_squared_error.check(mean_squared_error)", "pass")

    assert verify(MODULE) == [f"{NAME}: 01_my_topic never asks for it"]


def test_a_stub_in_which_something_is_written_is_still_the_stub(source, edit):
    edit(source, "    ### BEGIN SOLUTION", "    scale = 1\n    ### BEGIN SOLUTION")

    assert verify(MODULE) == []


def test_a_solution_that_does_not_pass_is_told_with_what_it_hears(source, edit):
    edit(source, "return float(np.mean(", "return float(np.sum(")

    assert verify(MODULE) == [
        f"{NAME}: the solution is not accepted: {NAME}: not yet. You return the sum of the "
        "squares, not their mean."
    ]


def test_an_accepted_answer_that_does_not_pass_is_told_with_its_line(checks, edit):
    edit(checks, ") / len(truth)", ")")
    line = checks.read_text().splitlines().index("@mean_squared_error.accepts") + 1

    (fault,) = verify(MODULE)
    assert fault.startswith(f"{NAME}: the answer of line {line} is not accepted: ")


def test_a_rejected_answer_that_passes_is_told(checks, edit):
    edit(checks, "return np.sum((predictions - truth) ** 2)", "return 14 / 3")

    (fault,) = verify(MODULE)
    assert "should hear 'the sum of the squares': mean_squared_error: passed." in fault


def test_a_rejected_answer_that_hears_something_else_is_told(checks, edit):
    edit(checks, 'rejects("the sum of the squares")', 'rejects("your colors")')

    (fault,) = verify(MODULE)
    assert "should hear 'your colors': mean_squared_error: not yet. You return the sum" in fault


def test_two_rejected_answers_with_one_message_are_told(checks):
    text = checks.read_text()
    second = text.partition('@mean_squared_error.rejects("the sum of the squares")')
    checks.write_text(text + "\n\n" + "".join(second[1:]).partition("\n\n\n")[0] + "\n")

    (fault,) = verify(MODULE)
    assert fault.endswith("hears what another one hears")


def test_an_exercise_without_rejected_answers_is_told(checks):
    checks.write_text(checks.read_text().partition("@mean_squared_error.rejects")[0])

    assert verify(MODULE) == [f"{NAME}: ships no rejected answer"]


def test_a_check_that_crashes_is_told(checks, edit):
    edit(checks, "    value = answer(", "    1 / 0\n    value = answer(")

    faults = verify(MODULE)
    assert len(faults) >= 2
    assert all("is itself broken (`ZeroDivisionError`: division by zero)" in f for f in faults[:2])


@pytest.mark.parametrize("module", ["checks.nothing", "nowhere.at_all"])
def test_a_module_that_is_not_there_is_told_by_name(checks, module):
    with pytest.raises(LabError, match=f"exercises' module {module} cannot be imported"):
        verify(module)


def test_a_module_that_raises_while_it_is_imported_is_told(checks):
    checks.write_text("1 / 0")

    with pytest.raises(LabError, match=r"cannot be imported \(ZeroDivisionError: division by"):
        verify(MODULE)


def test_a_lab_that_lacks_the_function_is_told(source, edit):
    edit(source, "def mean_squared_error(", "def another_error(")

    with pytest.raises(LabError, match="no cell that defines the function 'mean_squared_error'"):
        verify(MODULE)


def test_building_tells_every_fault_at_once(source, checks, edit):
    edit(source, "return float(np.mean(", "return float(np.sum(")
    checks.write_text(checks.read_text().partition("@mean_squared_error.rejects")[0])

    with pytest.raises(LabError) as caught:
        require_verified(MODULE)
    lines = str(caught.value).splitlines()
    assert lines[0] == f"The exercises of {MODULE} do not hold:"
    assert [line[:26] for line in lines[1:]] == [f"  {NAME}: the ", f"  {NAME}: ship"]


def test_members_come_in_the_order_in_which_they_stand(ask):
    ask('right("a", "a")')

    assert [each.name for each in members(importlib.import_module(MODULE))] == [NAME, "why"]


def test_the_exercises_of_lab_01_hold():
    assert verify("dltlab.checks.first_network") == []
