"""What every exercise does: check, evaluate, hint, solution, or_reference."""

import logging
import os
import re
import signal
import sys
from functools import partial

import keras
import numpy as np
import pytest
import tensorflow as tf

from dltlab.errors import Invalid
from dltlab.exercises import Outcome, require
from dltlab.exercises.base import Interrupted
from dltlab.exercises.messages import Message
from dltlab.exercises.progress import read_records

NAME = "mean_squared_error"
CALL = f"The call was `{NAME}([1.0, 0.0, 3.0], [0.0, 2.0, 0.0])`."


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


def failing_in_tensorflow(predictions, truth):
    raise ValueError("{{function_node __wrapped__X_device_/job:a}} Bad rank. [Op:X] name: ")


@pytest.mark.parametrize(
    ("answer", "outcome", "message"),
    [
        (
            failing_in_tensorflow,
            Outcome.ERROR,
            'Line 2 of your function (`raise ValueError("{{function_node '
            '__wrapped__X_device_/job:a}} Bad rank. [Op:X] name: ")`) raised `ValueError`: '
            f"Bad rank. {CALL}",
        ),
        (
            forgetting,
            Outcome.NOT_YET,
            f"Your function returns nothing. Is there a `return`? {CALL}",
        ),
        (
            failing_in_keras,
            Outcome.ERROR,
            f"Line 2 of your function (`raise ValueError(`) raised `ValueError`: Bad shape. {CALL}",
        ),
        (passing, Outcome.PASSED, "Correct."),
        (summing, Outcome.NOT_YET, "You return the sum of the squares, not their mean."),
        (
            raising,
            Outcome.ERROR,
            "Line 4 of your function "
            '(`raise ValueError(f"no mean of {len(difference)}\\nand more")`)'
            f" raised `ValueError`: no mean of 3. {CALL}",
        ),
        (
            untouched,
            Outcome.UNATTEMPTED,
            "Replace `...` with your code, then run the cell again.",
        ),
    ],
)
def test_a_check_shows_and_records_its_outcome(ex, capsys, answer, outcome, message):
    ex.mean_squared_error.check(answer)

    assert capsys.readouterr().out == f"{NAME}: {outcome}. {message}\n"
    (record,) = read_records()
    assert (record.lab, record.exercise, record.outcome) == ("01_my_topic", NAME, outcome)
    assert record.message == (message if outcome in (Outcome.NOT_YET, Outcome.ERROR) else "")


def test_evaluate_shows_and_records_nothing(ex, capsys):
    assert ex.mean_squared_error.evaluate(passing).outcome is Outcome.PASSED
    assert capsys.readouterr().out == ""
    assert read_records() == []


def test_points_are_given_whatever_an_answer_writes_to_stderr(ex, capfd):
    logger = logging.getLogger(NAME)
    logger.addHandler(logging.StreamHandler(sys.stderr))

    def writing(predictions, targets):
        os.write(2, b"x")
        print("x", file=sys.stderr)
        logger.error("x")
        return passing(predictions, targets)

    assert ex.mean_squared_error.points(writing) == 1.0
    assert ex.mean_squared_error.points(raising) == 0.0
    assert capfd.readouterr().err == ""
    assert read_records() == []
    logger.error("y")
    os.write(2, b"z")
    assert capfd.readouterr().err == "y\nz"


class Error:
    """Answers that are callable and no plain function: a method, an object, a class."""

    def __init__(self, scale=1.0):
        self.scale = scale

    def method(self, predictions, truth):
        return self.scale * passing(predictions, truth)

    def __call__(self, predictions, truth):
        return self.scale * passing(predictions, truth)


class Loss(float):
    def __new__(cls, predictions, truth):
        return super().__new__(cls, passing(predictions, truth))


CALLABLES = {
    "a partial": (partial(passing), partial(summing)),
    "a partial of a method": (partial(Error().method), partial(Error(3).method)),
    "a bound method": (Error().method, Error(3).method),
    "an object with __call__": (Error(), Error(3)),
    "a ufunc": (np.frompyfunc(passing, 2, 1), np.multiply),
    "a class": (Loss, complex),
    "a layer": (keras.losses.MeanSquaredError(), keras.losses.MeanAbsoluteError()),
    "a TensorFlow function": (
        tf.function(lambda predictions, truth: tf.reduce_mean((predictions - truth) ** 2)),
        tf.function(lambda predictions, truth: tf.reduce_sum((predictions - truth) ** 2)),
    ),
}


@pytest.mark.parametrize(("correct", "incorrect"), CALLABLES.values(), ids=CALLABLES)
def test_an_answer_may_be_anything_that_can_be_called(ex, of, correct, incorrect):
    def check(answer):
        require(np.all(answer(np.full(2, 3.0), np.ones(2)) == 4), "That is not 4.")

    assert of(check).evaluate(correct).outcome is Outcome.PASSED
    assert of(check).evaluate(incorrect).outcome is not Outcome.PASSED
    if not isinstance(correct, np.ufunc):  # which works element by element
        assert ex.mean_squared_error.evaluate(correct).outcome is Outcome.PASSED
        assert ex.mean_squared_error.or_reference(correct) is correct
    assert ex.mean_squared_error.evaluate(incorrect).outcome is not Outcome.PASSED
    assert ex.mean_squared_error.or_reference(incorrect) is not incorrect


def test_a_callable_that_is_a_known_mistake_gets_its_sentence(ex):
    result = ex.mean_squared_error.evaluate(partial(summing))

    assert result.text == "You return the sum of the squares, not their mean."


@pytest.mark.parametrize("answer", [partial(untouched), partial(partial(untouched))])
def test_a_partial_of_the_stub_is_unattempted(ex, answer):
    assert ex.mean_squared_error.evaluate(answer).outcome is Outcome.UNATTEMPTED


def test_the_line_of_an_error_in_a_method_is_counted_from_its_beginning(ex):
    class Failing:
        def __call__(self, predictions, truth):
            raise ValueError("no")

    for answer in (Failing().__call__, partial(Failing().__call__), partial(raising)):
        assert "of your function (`raise ValueError(" in ex.mean_squared_error.evaluate(answer).text


def test_what_the_function_returns_in_its_place_is_pointed_out(ex):
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(1)])

    result = ex.mean_squared_error.evaluate(model)

    assert result.outcome is Outcome.ERROR
    assert result.text.endswith(
        f"If this object is what your function returns, pass the function itself: `check({NAME})`."
    )


def test_a_bound_method_that_passed_is_not_checked_again(of):
    calls = []
    counting, answer = of(lambda answer: calls.append(answer)), Error()

    counting.check(answer.method)
    counting.or_reference(answer.method)
    assert len(calls) == 1

    counting.or_reference(Error().method)
    assert len(calls) == 2


@pytest.mark.parametrize("answer", [3.0, None, "text", passing(np.ones(2), np.zeros(2))])
def test_a_value_that_is_not_a_function_is_rejected(ex, answer):
    result = ex.mean_squared_error.evaluate(answer)

    assert result.outcome is Outcome.NOT_YET
    assert result.text == f"Pass the function itself, without calling it: `check({NAME})`."


def test_ctrl_c_in_a_learners_function_stops_the_check(ex):
    def answer(predictions, truth):
        raise KeyboardInterrupt

    message = f"The check of {NAME} was stopped; nothing was recorded."
    with pytest.raises(KeyboardInterrupt, match=message) as stopped:
        ex.mean_squared_error.check(answer)
    assert isinstance(stopped.value, Interrupted)
    assert stopped.value._render_traceback_() == [message]
    assert read_records() == []


def test_an_interrupt_stops_the_check_and_not_only_a_training_of_the_answer(ex):
    handlers = []

    def answer(predictions, truth):
        handlers.append(signal.getsignal(signal.SIGINT))
        signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        for use in (ex.mean_squared_error.check, ex.mean_squared_error.or_reference):
            with pytest.raises(Interrupted, match="was stopped; nothing was recorded"):
                use(answer)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert signal.default_int_handler not in handlers  # where `training.fit` returns


def test_hints_come_one_by_one_and_then_all_again(ex, capsys):
    for _ in range(4):
        ex.mean_squared_error.hint()

    first = "hint 1 of 2. Subtract, square, take the mean."
    second = (
        "hint 2 of 2. `np.mean` takes the mean of an array, `a ** 2` squares each of its elements."
    )
    again = [
        f"{NAME}: hints. You have seen every hint:",
        first.replace(".", ":", 1),
        second.replace(".", ":", 1),
        "`ex.mean_squared_error.solution()` shows the solution.",
    ]
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"{NAME}: {first}", f"{NAME}: {second}", *again, *again]


def test_an_exercise_without_hints_says_so(of, capsys):
    of(passing).hint()

    assert capsys.readouterr().out.startswith(f"{NAME}: hints. There are no hints.")


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("return predictoins - truth", "Compare its spelling"),
        ("return predictions.squared()", "Print the type"),
        ("return predictions @ np.ones((9, 9))", "The shapes do not fit."),
    ],
)
def test_an_exception_in_the_answer_has_a_hint_of_its_own_which_comes_first(ex, capsys, line, hint):
    namespace = {"np": np}
    exec(f"def answer(predictions, truth):\n    {line}", namespace)
    ex.mean_squared_error.check(namespace["answer"])
    ex.mean_squared_error.hint()
    ex.mean_squared_error.hint()

    _, first, second = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{NAME}: hint for your answer. ")
    assert hint in first
    assert second.startswith(f"{NAME}: hint 1 of 2. ")


def test_a_passed_check_forgets_the_hint_for_the_last_mistake(ex, capsys):
    ex.mean_squared_error.check(lambda predictions, truth: predictions.squared())
    ex.mean_squared_error.check(passing)
    capsys.readouterr()
    ex.mean_squared_error.hint()

    assert capsys.readouterr().out.startswith(f"{NAME}: hint 1 of 2. ")


@pytest.fixture
def cards(monkeypatch):
    """The HTML of the cards that are shown."""
    shown = []
    monkeypatch.setattr(Message, "show", lambda self: shown.append(self._repr_html_()))
    return shown


@pytest.mark.parametrize("answer", [untouched, summing, raising])
def test_a_card_has_the_hints_and_the_solution_as_buttons_until_the_check_passes(ex, cards, answer):
    ex.mean_squared_error.check(answer)
    ex.mean_squared_error.check(passing)

    card, passed = cards
    labels = ["Hint 1 of 2", "Hint 2 of 2", "Solution"]
    assert re.findall("<summary>(.*?)</summary>", card) == labels
    assert "Subtract, square, take the mean." in card
    assert "def mean_squared_error(" in card
    assert "<details>" not in passed


def test_the_solution_is_the_cell_of_the_source_without_its_markers(ex, capsys):
    ex.mean_squared_error.solution()

    output = capsys.readouterr().out
    assert output.startswith(f"{NAME}: solution. \ndef mean_squared_error(predictions: np.ndarray")
    assert "    return float(np.mean((predictions - truth) ** 2))\n" in output
    assert "SOLUTION" not in output
    assert "```" not in output


def test_the_reference_is_used_until_the_answer_passes(ex, capsys):
    for answer in (untouched, raising, summing):
        function = ex.mean_squared_error.or_reference(answer)
        assert function(np.ones(2), np.zeros(2)) == 1
        assert capsys.readouterr().out == (
            f"{NAME}: using the reference solution. Your function is used once it passes.\n"
        )

    assert ex.mean_squared_error.or_reference(passing) is passing
    assert capsys.readouterr().out == ""
    assert read_records() == []


def test_an_answer_that_passed_is_not_checked_again(of):
    calls = []
    counting = of(lambda answer: calls.append(answer))

    counting.check(passing)
    assert counting.or_reference(passing) is passing
    assert len(calls) == 1


def test_an_answer_that_is_defined_again_is_checked_again(ex):
    ex.mean_squared_error.check(passing)

    assert ex.mean_squared_error.or_reference(summing) is not summing


def test_the_message_of_a_learners_error_is_escaped(ex):
    def answer(predictions, truth):
        raise ValueError("<script>alert('x')</script>")

    result = ex.mean_squared_error.evaluate(answer)

    assert "<script>" in str(result)
    assert "<script>" not in result._repr_html_()


def test_a_rejected_answer_needs_a_part_of_its_message(ex):
    with pytest.raises(Invalid, match=r'write `@mean_squared_error.rejects\("…"\)`'):
        ex.mean_squared_error.rejects(lambda predictions, truth: 0)
