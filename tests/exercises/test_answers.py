"""Calls of a learner's function: its faults are told from those of the check."""

from functools import partial

import keras
import numpy as np
import pytest

from dltlab.exercises import Outcome, attempt, in_float32, line_of, require
from dltlab.exercises.answers import python_function

NAME = "mean_squared_error"


def passing(predictions, truth):
    return np.mean((predictions - truth) ** 2)


def summing(predictions, truth):
    return np.sum((predictions - truth) ** 2)


def raising(predictions, truth):
    difference = predictions - truth

    raise ValueError(f"no mean of {len(difference)}\nand more")


@pytest.mark.parametrize("condition", [0, [], False, None, np.False_])
def test_a_false_requirement_rejects_the_answer(of, condition):
    result = of(lambda answer: require(condition, "Look again.")).evaluate(passing)

    assert str(result) == f"{NAME}: not yet. Look again."


def test_an_error_in_an_attempt_rejects_the_answer(of):
    def check(answer):
        with attempt("calling your model"):
            answer(1, 2)()

    assert str(of(check).evaluate(passing)) == (
        f"{NAME}: not yet. Calling your model raised `TypeError`: 'numpy.float64' object is not "
        "callable"
    )


def test_an_attempt_passes_on_the_learners_error_and_a_requirement(of):
    def check(answer):
        with attempt("calling your function"):
            answer(np.ones(3), np.zeros(3))
            require(False, "Look again.")

    assert of(check).evaluate(raising).outcome is Outcome.ERROR
    assert of(check).evaluate(passing).text == "Look again."


def test_an_argument_of_the_check_may_require_something(of):
    def check(answer):
        answer(lambda value: require(value > 0, "That is not above 0."))

    result = of(check).evaluate(lambda given: given(-1))

    assert (result.outcome, result.text) == (Outcome.NOT_YET, "That is not above 0.")


def test_the_line_of_an_error_is_the_learners_where_a_library_raises(ex):
    def answer(predictions, truth):
        wrong = np.zeros(7)
        return np.mean(predictions - wrong)

    message = ex.mean_squared_error.evaluate(answer).text

    assert message.startswith("Line 3 of your function (`return np.mean(predictions - wrong)`)")
    assert "`ValueError`: operands could not be broadcast together" in message


def test_a_function_with_other_parameters_is_an_error(ex):
    result = ex.mean_squared_error.evaluate(lambda predictions: 0)

    assert result.outcome is Outcome.ERROR
    assert result.text.startswith("Calling your function raised `TypeError`: ")
    assert "takes 1 positional argument but 2 were given" in result.text


def test_a_decorated_function_is_called_with_its_decorator(ex):
    from functools import wraps

    @wraps(summing)
    def corrected(predictions, truth):
        return summing(predictions, truth) / len(truth)

    assert ex.mean_squared_error.evaluate(corrected).outcome is Outcome.PASSED


def test_layers_are_float32_in_a_check_whatever_the_lab_has_set(of):
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")

    @in_float32()
    def check(answer):
        require(keras.layers.Dense(1).compute_dtype == "float32", "Not float32.")
        require(answer(1, 2) == 0, "Not 0.")

    try:
        assert of(check).evaluate(passing).text == "Not 0."
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
    finally:
        keras.config.set_dtype_policy(policy)


@pytest.mark.parametrize(
    ("answer", "function"),
    [
        (passing, passing),
        (partial(passing), passing),
        (len, None),
        (np.add, None),
    ],
)
def test_the_python_function_of_an_answer(answer, function):
    assert python_function(answer) is function
    assert line_of(answer) == (function and function.__code__.co_firstlineno)


def test_the_python_function_of_an_object_is_its_call_and_of_a_class_its_init():
    class Twice:
        def __init__(self, factor=2):
            self.factor = factor

        def __call__(self, x):
            return self.factor * x

    class Inherited(Twice):
        pass

    assert python_function(Twice()) is Twice.__call__
    assert python_function(Twice().__call__) is Twice.__call__
    assert python_function(Twice) is Twice.__init__
    assert python_function(Inherited()) is python_function(Inherited) is None
