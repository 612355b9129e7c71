import importlib

import numpy as np
import pytest

from dltlab.exercises.engine import attempt, exercise, require
from dltlab.exercises.progress import records
from dltlab.exercises.result import Card, Outcome, result

NAME = "mean_squared_error"


@pytest.fixture
def ex(course):
    """The exercises of the course's one lab, as its notebook imports them."""
    return importlib.import_module("checks.my_topic")


@pytest.fixture
def of(ex):
    """An exercise of the lab with a check of our own."""

    def make(check, *hints):
        check.__name__, check.__module__ = NAME, "checks.my_topic"
        return exercise(*hints)(check)

    return make


def passing(predictions, truth):
    return np.mean((predictions - truth) ** 2)


def summing(predictions, truth):
    return np.sum((predictions - truth) ** 2)


def raising(predictions, truth):
    difference = predictions - truth

    raise ValueError(f"no mean of {len(difference)}\nand more")


def untouched(predictions, truth):
    """The mean of the squared differences."""
    ...


def forgetting(predictions, truth):
    np.mean((predictions - truth) ** 2)


def failing_in_keras(predictions, truth):
    raise ValueError(
        "Exception encountered when calling Sequential.call().\n\n\x1b[1mBad shape.\x1b[0m\n\nMore"
    )


@pytest.mark.parametrize(
    ("answer", "outcome", "message"),
    [
        (forgetting, Outcome.NOT_YET, "Your function returns nothing. Is there a `return`?"),
        (
            failing_in_keras,
            Outcome.ERROR,
            "Line 2 of your function (`raise ValueError(`) raised `ValueError`: Bad shape.",
        ),
        (passing, Outcome.PASSED, "That is right."),
        (summing, Outcome.NOT_YET, "You return the sum of the squares, not their mean."),
        (
            raising,
            Outcome.ERROR,
            "Line 4 of your function "
            '(`raise ValueError(f"no mean of {len(difference)}\\nand more")`)'
            " raised `ValueError`: no mean of 3",
        ),
        (
            untouched,
            Outcome.UNATTEMPTED,
            "Write the line that matters in place of `...`, then run the cell again.",
        ),
    ],
)
def test_a_check_has_four_outcomes_shows_them_and_notes_them(ex, capsys, answer, outcome, message):
    ex.mean_squared_error.check(answer)

    assert capsys.readouterr().out == f"{NAME}: {outcome}. {message}\n"
    (noted,) = records()
    assert (noted.lab, noted.exercise, noted.outcome) == ("01_my_topic", NAME, outcome)


def test_evaluating_shows_and_notes_nothing(ex, capsys):
    assert ex.mean_squared_error.evaluate(passing).outcome is Outcome.PASSED
    assert capsys.readouterr().out == ""
    assert records() == []


@pytest.mark.parametrize("answer", [3.0, None, "text", len, passing(np.ones(2), np.zeros(2))])
def test_what_is_no_function_is_told_how_to_be_passed(ex, answer):
    found = ex.mean_squared_error.evaluate(answer)

    assert found.outcome is Outcome.NOT_YET
    assert found.message == f"Pass the function itself, without calling it: `check({NAME})`."


def test_a_check_that_crashes_says_so_names_the_exercise_and_notes_nothing(of, capsys):
    def broken(answer):
        return 1 / 0

    of(broken).check(passing)

    assert capsys.readouterr().out == (
        f"{NAME}: broken check. The check of {NAME} is itself broken (`ZeroDivisionError`: "
        "division by zero): this is a fault of the lab, not of your answer, and nothing was "
        "recorded.\n"
    )
    assert records() == []


def test_a_check_may_say_something_to_those_who_passed(of):
    found = of(lambda answer: f"That is right: {answer(1, 2)}.").evaluate(passing)

    assert str(found) == f"{NAME}: passed. That is right: 1.0."


@pytest.mark.parametrize("condition", [0, [], False, None, np.False_])
def test_what_is_required_is_said_where_it_does_not_hold(of, condition):
    found = of(lambda answer: require(condition, "Look again.")).evaluate(passing)

    assert str(found) == f"{NAME}: not yet. Look again."


def test_what_goes_wrong_with_a_returned_value_is_the_learners_to_mend(of):
    def check(answer):
        with attempt("calling your model"):
            answer(1, 2)()

    assert str(of(check).evaluate(passing)) == (
        f"{NAME}: not yet. Calling your model raised `TypeError`: 'numpy.float64' object is not "
        "callable"
    )


def test_an_attempt_lets_the_learners_own_error_and_a_requirement_through(of):
    def check(answer):
        with attempt("calling your function"):
            answer(np.ones(3), np.zeros(3))
            require(False, "Look again.")

    assert of(check).evaluate(raising).outcome is Outcome.ERROR
    assert of(check).evaluate(passing).message == "Look again."


def test_what_the_answer_was_given_may_require_something_of_it(of):
    def check(answer):
        answer(lambda value: require(value > 0, "That is not above 0."))

    found = of(check).evaluate(lambda given: given(-1))

    assert (found.outcome, found.message) == (Outcome.NOT_YET, "That is not above 0.")


def test_the_line_told_is_the_learners_where_a_library_raises_below_it(ex):
    def answer(predictions, truth):
        wrong = np.zeros(7)
        return np.mean(predictions - wrong)

    message = ex.mean_squared_error.evaluate(answer).message

    assert message.startswith("Line 3 of your function (`return np.mean(predictions - wrong)`)")
    assert "`ValueError`: operands could not be broadcast together" in message


def test_a_function_that_takes_other_arguments_is_told_so(ex):
    found = ex.mean_squared_error.evaluate(lambda predictions: 0)

    assert found.outcome is Outcome.ERROR
    assert found.message.startswith("Calling your function raised `TypeError`: ")
    assert "takes 1 positional argument but 2 were given" in found.message


def test_a_decorated_function_is_taken_as_it_is(ex):
    from functools import wraps

    @wraps(summing)
    def mended(predictions, truth):
        return summing(predictions, truth) / len(truth)

    assert ex.mean_squared_error.evaluate(mended).outcome is Outcome.PASSED


def test_ctrl_c_in_a_learners_function_stops_the_check(ex):
    def answer(predictions, truth):
        raise KeyboardInterrupt

    message = f"The check of {NAME} was stopped; nothing was recorded."
    with pytest.raises(KeyboardInterrupt, match=message) as stopped:
        ex.mean_squared_error.check(answer)
    assert stopped.value._render_traceback_() == [message]
    assert records() == []


def test_hints_come_one_by_one_and_end(ex, capsys):
    for _ in range(4):
        ex.mean_squared_error.hint()

    end = "That was the last hint. `ex.mean_squared_error.solution()` shows the answer."
    assert capsys.readouterr().out.splitlines() == [
        f"{NAME}: hint 1 of 2. Subtract, square, take the mean.",
        f"{NAME}: hint 2 of 2. `np.mean` takes the mean of an array, `a ** 2` squares each of its "
        "elements.",
        f"{NAME}: hint. {end}",
        f"{NAME}: hint. {end}",
    ]


def test_an_exercise_without_hints_says_so(of, capsys):
    of(passing).hint()

    assert capsys.readouterr().out.startswith(f"{NAME}: hint. There is no hint for this one.")


def test_the_solution_is_the_very_cell_of_the_source_without_its_markers(ex, capsys):
    ex.mean_squared_error.solution()

    shown = capsys.readouterr().out
    assert shown.startswith(f"{NAME}: solution. \ndef mean_squared_error(predictions: np.ndarray")
    assert "    return float(np.mean((predictions - truth) ** 2))\n" in shown
    assert "SOLUTION" not in shown
    assert "```" not in shown


def test_a_lab_goes_on_with_the_reference_until_the_answer_passes(ex, capsys):
    for answer in (untouched, raising, summing):
        ours = ex.mean_squared_error.or_reference(answer)
        assert ours(np.ones(2), np.zeros(2)) == 1
        assert capsys.readouterr().out == (
            f"{NAME}: going on with ours. Yours takes over once it passes.\n"
        )

    assert ex.mean_squared_error.or_reference(passing) is passing
    assert capsys.readouterr().out == ""
    assert records() == []


def test_an_answer_that_passed_is_not_checked_again(of):
    calls = []
    counting = of(lambda answer: calls.append(answer))

    counting.check(passing)
    assert counting.or_reference(passing) is passing
    assert len(calls) == 1


def test_an_answer_defined_anew_is_checked_anew(ex):
    ex.mean_squared_error.check(passing)

    assert ex.mean_squared_error.or_reference(summing) is not summing


@pytest.mark.parametrize(
    ("message", "rendered"),
    [
        ("plain", "plain"),
        ("a < b & c", "a &lt; b &amp; c"),
        ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
        ("use `a < b`", "use <code>a &lt; b</code>"),
        ("`<img src=x onerror=y>`", "<code>&lt;img src=x onerror=y&gt;</code>"),
        ("one\ntwo", "one<br>two"),
        (
            "```python\nx = '<b>'\n```",
            '<pre style="margin: 6px 0">x = &#x27;&lt;b&gt;&#x27;\n</pre>',
        ),
        ("an odd ` backtick", "an odd ` backtick"),
    ],
)
def test_a_card_escapes_what_it_is_given_and_renders_code(message, rendered):
    assert f"<div>{rendered}</div></div>" in Card("x", "hint", message)._repr_html_()


def test_a_cards_name_and_label_are_escaped_too():
    text = Card('<b>"', '"><script>', "")._repr_html_()

    assert "<script>" not in text
    assert "<b>" not in text
    assert 'data-outcome="&quot;&gt;&lt;script&gt;"' in text


def test_what_a_learners_error_says_is_escaped(ex):
    def answer(predictions, truth):
        raise ValueError("<script>alert('x')</script>")

    found = ex.mean_squared_error.evaluate(answer)

    assert "<script>" in str(found)
    assert "<script>" not in found._repr_html_()


def test_each_outcome_has_a_sign_and_a_color_of_its_own():
    looks = [result("x", outcome, "")._repr_html_() for outcome in (*Outcome, None)]

    assert [text.split(" x:")[0][-1] for text in looks] == ["✓", "→", "✗", "·", "✗"]
    assert len({text.split("solid ")[1].split(";")[0] for text in looks[:4]}) == 4
