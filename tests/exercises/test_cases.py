"""Cases: fresh arguments, changes to them, and how a call is shown."""

from collections import Counter

import numpy as np
import pytest

from dltlab.exercises import random_arrays
from dltlab.exercises.cases import Case, parameter_names


def case(*arguments):
    return Case(arguments, parameter_names(lambda a, b, c: None, len(arguments)))


def test_random_arrays_have_their_shapes_and_repeat():
    first, second = random_arrays((2, 3), (4,))

    assert (first.shape, second.shape) == ((2, 3), (4,))
    assert not np.array_equal(first.ravel()[:4], second)
    assert np.array_equal(first, random_arrays((2, 3))[0])
    assert not np.array_equal(first, random_arrays((2, 3), seed=2)[0])


@pytest.mark.parametrize(
    ("argument", "change"),
    [
        (np.zeros(3), lambda x: x.fill(1)),
        ([1, 2], lambda x: x.append(3)),
        ([3, 1, 2], lambda x: x.sort()),
        ([np.zeros(3)], lambda x: x[0].fill(1)),
        ((np.zeros(3), 2), lambda x: x[0].fill(1)),
        ({"a": [1]}, lambda x: x["a"].append(2)),
        ({"a": Counter("aa")}, lambda x: x["a"].update("b")),
        ({"a": Counter("aa")}, lambda x: x["a"].update("a")),
        ({1, 2}, lambda x: x.add(3)),
    ],
)
def test_a_changed_argument_is_named_and_the_next_call_gets_it_unchanged(argument, change):
    calls = case(0, argument)
    arguments = calls.fresh()
    assert calls.changed(arguments) is None

    change(arguments[1])

    assert calls.changed(arguments) == "b"
    assert calls.changed(calls.fresh()) is None
    assert type(calls.fresh()[1]) is type(argument)


def test_nan_is_no_change():
    calls = case(np.array([np.nan, 1.0]), [float("nan")])

    assert calls.changed(calls.fresh()) is None


def test_functions_are_handed_over_as_they_are():
    assert case(len).fresh() == (len,)
    assert case(len).changed((len,)) is None


@pytest.mark.parametrize(
    ("arguments", "call"),
    [
        ((1, 2.5, True), "f(1, 2.5, True)"),
        ((np.float32(0.1), 3.0, np.int64(4)), "f(0.1, 3.0, 4)"),
        (("text", [1, 2], (3,)), "f('text', [1, 2], (3,))"),
        ((np.array([1.0, 2.0]), None), "f([1.0, 2.0], None)"),
        ((np.zeros((2, 2)), np.zeros(9), 1), "f(a, b, 1)"),
        ((len, "x" * 100, {"k": 1}), "f(a, b, c)"),
        (([np.zeros(100)], 1), "f(a, 1)"),
        ((np.linspace(0, 1, 8),), "f(a)"),
        ((), "f()"),
    ],
)
def test_a_call_shows_short_arguments_and_names_long_ones(arguments, call):
    assert case(*arguments).call("f") == call
    assert case(*arguments).is_short is not any(f"{name}" in call[1:] for name in "abc")


def test_the_sizes_of_named_arguments_are_described():
    calls = case(np.zeros((3, 4)), [np.zeros(9)], 1)

    assert calls.describe_sizes() == "a: shape (3, 4), b: shapes [(9,)]"
    assert case(1, 2.0).sizes == (None, None)
    assert case([1, 2], np.zeros(3)).sizes == (("length", 2), ("shape", (3,)))


def test_arguments_without_a_parameter_are_numbered():
    assert parameter_names(lambda a, *rest: None, 3) == ("a", "argument 1", "argument 2")
