"""Exercises whose check is code."""

import numpy as np

from dltlab.exercises import exercise, require
from dltlab.exercises.progress import read_records

NAME = "mean_squared_error"


def passing(predictions, truth):
    return np.mean((predictions - truth) ** 2)


def test_a_broken_check_is_named_and_records_nothing(of, capsys):
    def broken(answer):
        return 1 / 0

    of(broken).check(passing)

    assert capsys.readouterr().out == (
        f"{NAME}: broken check. The check of {NAME} is itself broken (`ZeroDivisionError`: "
        "division by zero): this is a fault of the lab, not of your answer, and nothing was "
        "recorded.\n"
    )
    assert read_records() == []


def test_a_check_may_return_a_message_for_those_who_pass(of):
    result = of(lambda answer: f"Correct: {answer(1, 2)}.").evaluate(passing)

    assert str(result) == f"{NAME}: passed. Correct: 1.0."


def test_smoke_values_replace_defaults_in_a_copy(ex):
    def mean_squared_error(answer, expected=3.0):
        value = answer(1, 2)
        require(value == expected, f"You return {value}, not {expected}.")

    mean_squared_error.__module__ = ex.__name__
    coded = exercise(smoke={"expected": 1.0})(mean_squared_error)

    assert coded.with_smoke_values().evaluate(passing).text == "Correct."
    assert coded.evaluate(passing).text == "You return 1.0, not 3.0."
