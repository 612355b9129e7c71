"""Declared exercises: guards, comparison with the solution, mistakes, and the general sentence."""

import importlib

import numpy as np
import pytest

from dltlab.errors import Invalid
from dltlab.exercises import (
    Array,
    Integer,
    Number,
    Outcome,
    exercise,
    lab_of,
    random_arrays,
    require,
)

SCALE = """
def scale(x, factor):
    ### BEGIN SOLUTION
    return x * factor
    ### END SOLUTION
"""
SPLIT = """
def split(x):
    ### BEGIN SOLUTION
    return x.mean(), x - x.mean()
    ### END SOLUTION
"""
COST = """
def cost(units, batch):
    ### BEGIN SOLUTION
    return 8 * units * units * batch
    ### END SOLUTION
"""
MAKE_SCALE = """
def make_scale(factor):
    ### BEGIN SOLUTION
    return lambda x: x * factor
    ### END SOLUTION
"""
OTHERWISE = "Your product is not x · factor."


@pytest.fixture
def declare(source):
    """Return a function that adds a solution to the lab and declares its exercise."""
    importlib.import_module("checks.my_topic")

    def make(solution, cases, returns=None, otherwise=OTHERWISE, hints=(), observe=None):
        source.write_text(f'{source.read_text()}\n# %% tags=["exercise"]{solution}')
        lab_of.cache_clear()
        cases.__module__ = "checks.my_topic"
        returns = Array("product") if returns is None else returns
        declared = exercise(*hints, returns=returns, otherwise=otherwise, observe=observe)
        return declared(cases)

    return make


@pytest.fixture
def scaled(declare):
    """Return the exercise `scale`, on two arrays of different sizes."""

    def scale():
        (x,) = random_arrays((3, 5))
        yield x, 3.0
        yield random_arrays((20,))[0], 0.5

    return declare(SCALE, scale)


@pytest.fixture
def cost(declare):
    """Return the exercise `cost`, whose arguments are numbers."""

    def cost():
        yield 10, 3
        yield 64, 16

    return declare(COST, cost, Integer("cost"), "`{call}`: {value} is not the cost.")


@pytest.fixture
def parts(declare):
    """Return the exercise `split`, which returns two values."""

    def split():
        yield random_arrays((3, 5))
        yield random_arrays((20,))

    otherwise = {"rest": "The rest is wrong.", "mean": "Only the mean is wrong: {value}."}
    return declare(SPLIT, split, (Number("mean"), Array("rest")), otherwise)


@pytest.mark.parametrize(
    "answer",
    [
        lambda x, factor: x * factor,
        lambda x, factor: (x * factor).tolist(),
        lambda x, factor: tuple(x * factor),
        lambda x, factor: x.astype("float32") * np.float32(factor),
        lambda x, factor: sum(x for _ in range(6)) * factor / 6,
    ],
)
def test_an_answer_that_agrees_on_every_case_passes(scaled, answer):
    verdict = scaled.evaluate(answer)

    assert (verdict.outcome, verdict.text) == (Outcome.PASSED, "Correct.")


def test_a_tensor_passes_whatever_the_precision_of_keras(scaled):
    import keras

    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        verdict = scaled.evaluate(
            lambda x, factor: keras.layers.Rescaling(factor)(keras.ops.convert_to_tensor(x))
        )
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
    finally:
        keras.config.set_dtype_policy(policy)

    assert verdict.outcome is Outcome.PASSED


SECOND = " The call was `scale(x, 0.5)` with x: shape (20,)."


def raising(x, factor):
    return x * np.ones(5) * factor


NOTHING = "Your function returns nothing. Is there a `return`?"
TEXT = "Your product cannot be converted to an array of numbers: it is an object of type `str`."
CHANGED = "Your function changes its argument `x`. Work on a copy."


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda x, factor: [].sort(), NOTHING),
        (
            lambda x, factor: x * factor if x.ndim == 2 else None,
            "Your function returns None. Does every branch return a value?" + SECOND,
        ),
        (lambda x, factor: x.__imul__(factor), CHANGED),
        (lambda x, factor: "x", TEXT),
        (lambda x, factor: (x * factor)[0], "Your product has the shape (5,); expected (3, 5)."),
        (
            lambda x, factor: (x * factor)[:15],
            "Your product has the shape (15,); expected (20,)." + SECOND,
        ),
        (lambda x, factor: abs(x) / 0, "Your product contains inf, which is not a finite number."),
        (lambda x, factor: x + factor, OTHERWISE),
    ],
)
def test_a_wrong_answer_gets_the_sentence_of_the_guard_it_fails(scaled, answer, message):
    verdict = scaled.evaluate(answer)

    assert (verdict.outcome, verdict.text) == (Outcome.NOT_YET, message)


def test_an_exception_is_told_with_its_line_and_the_call(scaled):
    verdict = scaled.evaluate(raising)

    assert verdict.outcome is Outcome.ERROR
    assert verdict.text.startswith(
        "Line 2 of your function (`return x * np.ones(5) * factor`) raised `ValueError`: "
    )
    assert verdict.text.endswith(SECOND)


def test_warnings_of_numpy_are_not_shown(scaled, recwarn):
    scaled.evaluate(lambda x, factor: np.log(-np.abs(x)) / 0)

    assert [warning for warning in recwarn if warning.category is RuntimeWarning] == []


def test_warnings_of_numpy_are_not_shown_when_mistakes_are_compared_or_named(scaled, recwarn):
    @scaled.mistakes
    def _(x, factor):
        yield "You divide by 0.", np.abs(x) / 0

    mistake = scaled.known_mistakes[0]

    assert scaled.sentence(mistake) == scaled.message(mistake) == "You divide by 0."
    assert [warning for warning in recwarn if warning.category is RuntimeWarning] == []


def test_a_size_written_into_an_answer_fails_in_the_second_case(scaled):
    assert scaled.evaluate(lambda x, factor: x[:3] * factor).outcome is Outcome.NOT_YET


def test_a_mistake_is_told_by_its_sentence(scaled):
    @scaled.mistake("You divide.")
    def divided(x, factor):
        return x / factor

    assert scaled.evaluate(divided).text == "You divide."
    assert scaled.evaluate(lambda x, factor: (x / factor).tolist()).text == "You divide."
    assert scaled.evaluate(lambda x, factor: x - factor).text == OTHERWISE


def test_a_mistake_may_have_a_hint_of_its_own(scaled):
    scaled.mistake("You divide.", hint="Which way does the factor go?")(lambda x, f: x / f)

    @scaled.mistakes
    def _(x, f):
        yield "You subtract.", x - f, "What does a factor do?"
        yield "You leave the factor out.", x

    assert scaled.evaluate(lambda x, f: x / f).hint == "Which way does the factor go?"
    assert scaled.evaluate(lambda x, f: x - f).hint == "What does a factor do?"
    assert scaled.evaluate(lambda x, f: x).hint == ""
    assert scaled.evaluate(lambda x, f: x + f).hint == ""


def test_the_first_mistake_that_agrees_is_told(scaled):
    for sentence in ("First.", "Second."):
        scaled.mistake(sentence)(lambda x, factor: x / factor)

    assert scaled.evaluate(lambda x, factor: x / factor).text == "First."


def test_a_mistake_applies_only_if_it_agrees_on_every_case_on_which_it_differs(scaled):
    scaled.mistake("You add.")(lambda x, factor: x + factor)

    assert scaled.evaluate(lambda x, f: x + f if x.ndim == 2 else x * f).text == OTHERWISE


def test_a_mistake_applies_only_if_it_explains_the_first_wrong_value(scaled):
    scaled.mistake("In one axis you add.")(lambda x, f: x * f if x.ndim == 2 else x + f)
    scaled.mistake("In two axes you negate.")(lambda x, f: -x if x.ndim == 2 else x * f)
    scaled.mistake("In one axis you forget.")(lambda x, f: ... if x.ndim == 2 else x)

    def told(answer):
        return scaled.evaluate(answer).text

    assert told(lambda x, f: -x if x.ndim == 2 else x + f) == "In two axes you negate."
    assert told(lambda x, f: x * f if x.ndim == 2 else x + f) == "In one axis you add."
    assert told(lambda x, f: x - f if x.ndim == 2 else x + f) == OTHERWISE
    assert told(lambda x, f: x - f if x.ndim == 2 else x) == "In one axis you forget."


def test_a_mistake_may_have_a_wrong_shape_or_be_infinite(scaled):
    scaled.mistake("You take the mean.")(lambda x, factor: (x * factor).mean(axis=0))
    scaled.mistake("You divide by 0.")(lambda x, factor: np.abs(x) / 0)

    assert scaled.evaluate(lambda x, factor: (x * factor).mean(axis=0)).text == "You take the mean."
    assert scaled.evaluate(lambda x, factor: np.abs(x) / 0).text == "You divide by 0."


@pytest.mark.parametrize(
    "mistake",
    [lambda x, factor: None, lambda x, factor: "x", lambda x, factor: 1 / 0],
)
def test_a_mistake_without_a_value_is_never_told(scaled, mistake):
    scaled.mistake("Never.")(mistake)

    assert scaled.evaluate(mistake).text != "Never."
    assert scaled.evaluate(lambda x, factor: x - factor).text == OTHERWISE


def test_several_mistakes_share_intermediate_values(scaled):
    @scaled.mistakes
    def _(x, factor):
        total = x + factor
        yield "You add.", total
        yield f"You add and multiply by {factor}.", total * factor
        yield "You forget the second.", x if x.ndim == 1 else ...

    assert scaled.evaluate(lambda x, factor: x + factor).text == "You add."
    verdict = scaled.evaluate(lambda x, factor: (x + factor) * factor)
    assert verdict.text == "You add and multiply by 3.0."
    verdict = scaled.evaluate(lambda x, factor: x if x.ndim == 1 else x * factor)
    assert verdict.text == "You forget the second."


def test_as_many_mistakes_must_be_yielded_on_each_case(scaled):
    @scaled.mistakes
    def _(x, factor):
        if x.ndim == 1:
            yield "You add.", x + factor

    verdict = scaled.evaluate(lambda x, factor: x)

    assert verdict.outcome is None
    assert "`mistakes` must yield as many pairs on each case, not [0, 1]" in verdict.text


def test_a_sentence_may_show_the_call_and_the_value(cost):
    cost.mistake("`{call}`: {value} counts one.")(lambda units, batch: 8 * units**2)

    assert cost.evaluate(lambda units, batch: 8 * units**2).text == "`cost(10, 3)`: 800 counts one."
    assert cost.evaluate(lambda units, batch: 7).text == "`cost(10, 3)`: 7 is not the cost."


def test_a_sentence_may_be_a_function_of_the_value(scaled):
    @scaled.mistake(lambda value: f"Your sum is {value.sum():.1f}.")
    def ones(x, factor):
        return np.ones_like(x)

    assert scaled.evaluate(ones).text == "Your sum is 15.0."


def test_a_guard_tells_a_call_of_numbers(cost):
    assert cost.evaluate(lambda units, batch: [units]).text == (
        "Your cost is an array of shape (1,); return one number. The call was `cost(10, 3)`."
    )


def test_the_sentence_for_several_values_is_that_of_the_first_wrong_one(parts):
    verdict = parts.evaluate(lambda x: (9.0, x - x.mean()))
    assert verdict.text == "Only the mean is wrong: 9."
    assert parts.evaluate(lambda x: (x.mean(), x)).text == "The rest is wrong."
    assert parts.evaluate(lambda x: (9.0, x)).text == "The rest is wrong."


def test_a_mistake_may_leave_a_value_open(parts):
    @parts.mistake("You return the sum.")
    def total(x):
        return x.sum(), ...

    assert parts.evaluate(lambda x: (x.sum(), x - x.mean())).text == "You return the sum."
    assert parts.evaluate(lambda x: (x.sum(), 0 * x)).text == "You return the sum."
    assert parts.evaluate(lambda x: (0.0, x - x.mean())).text == "Only the mean is wrong: 0."
    assert parts.evaluate(parts.completed(parts.known_mistakes[0])).text == "You return the sum."


def test_the_values_may_come_in_anything_that_unpacks(parts):
    assert parts.evaluate(lambda x: [x.mean(), x - x.mean()]).outcome is Outcome.PASSED
    assert parts.evaluate(lambda x: (part for part in (x.mean(), x - x.mean()))).outcome is (
        Outcome.PASSED
    )
    assert parts.evaluate(lambda x: x.mean()).text == (
        "You return an object of type `float64`; return 2 values: mean and rest."
    )


def test_an_answer_cannot_change_the_cases(scaled):
    def destructive(x, factor):
        x[:] = 0
        return x

    scaled.evaluate(destructive)

    assert scaled.evaluate(lambda x, factor: x * factor).outcome is Outcome.PASSED


@pytest.fixture
def observed(declare):
    """Return the exercise `make_scale`: the function that the answer makes is applied to `x`."""

    def apply(answer, x, factor):
        scale = answer(factor)
        require(callable(scale), "You do not return a function.")
        return scale(x)

    def make_scale():
        yield np.arange(24.0).reshape(4, 6), 3.0
        yield np.arange(20.0), 0.5

    ex = declare(MAKE_SCALE, make_scale, observe=apply)
    ex.mistake("You divide by the factor.")(lambda factor: lambda x: x / factor)
    return ex


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda factor: np.float64(factor).__mul__, "Correct."),
        (lambda factor: lambda x: x / factor, "You divide by the factor."),
        (lambda factor: lambda x: x + factor, OTHERWISE),
        (lambda factor: factor, "You do not return a function."),
        (lambda factor: [].clear(), "Your function returns nothing. Is there a `return`?"),
        (lambda factor: lambda x: x[:3], "Your product has the shape (3, 6); expected (4, 6)."),
        (
            lambda factor: lambda x: np.resize(x * factor, (4, 6)),
            "Your product has the shape (4, 6); expected (20,). The case was x: shape (20,).",
        ),
    ],
)
def test_what_is_observed_of_an_answer_is_compared(observed, answer, message):
    assert observed.evaluate(answer).text == message


def test_mistakes_of_an_observed_answer_are_declared_one_by_one(observed):
    with pytest.raises(Invalid, match="declare each mistake with `mistake`"):
        observed.mistakes(lambda factor: iter([]))


def test_an_observed_case_must_fit_the_observing_function(declare):
    def make_scale():
        yield (1.0,)

    ex = declare(MAKE_SCALE, make_scale, observe=lambda answer, x, factor: answer(factor)(x))

    text = ex.evaluate(ex.reference()).text
    assert "a case has 1 arguments, which do not fit `observe=`" in text


def test_hints_are_shown(declare, capsys):
    def scale():
        yield 1.0, 2.0

    declare(SCALE, scale, hints=("Multiply.",)).hint()

    assert capsys.readouterr().out == "scale: hint 1 of 1. Multiply.\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (np.ones(3), "a case is a tuple of arguments, not ndarray; with one argument"),
        ((np.ones(3),), "a case has 1 arguments, which do not fit the solution"),
        ((1.0, 2.0, 3.0), "a case has 3 arguments, which do not fit the solution"),
    ],
)
def test_a_case_that_does_not_fit_breaks_the_check(declare, arguments, message):
    def scale():
        yield arguments

    verdict = declare(SCALE, scale).evaluate(lambda x, factor: x * factor)

    assert verdict.outcome is None
    assert message in verdict.text


def test_a_learner_is_told_that_a_raising_solution_is_a_fault_of_the_lab(declare):
    def scale():
        yield np.ones(3), 2.0

    broken = declare(SCALE.replace("return x", "return EPSILON + x"), scale)
    verdict = broken.evaluate(lambda x, factor: x * factor)

    assert verdict.outcome is None
    assert "(`Invalid`: the solution raises NameError in line " in verdict.text
    assert "this is a fault of the lab, not of your answer" in verdict.text


def test_a_solution_that_changes_its_argument_does_not_pass(declare):
    def scale():
        yield np.ones(3), 2.0

    broken = declare(SCALE.replace("return x * factor", "x *= factor; return x"), scale)

    assert "changes its argument `x`" in broken.evaluate(broken.reference()).text


def test_behavior_is_checked_once_an_answer_agrees_on_every_case(scaled):
    @scaled.behavior
    def _(answer):
        require(answer(np.zeros(0), 1.0).size == 0, "An empty array does not stay empty.")

    @scaled.behavior
    def _(answer):
        answer(np.zeros(1), 0.0)

    def padding(x, factor):
        return x * factor if x.size else np.zeros(1)

    def refusing(x, factor):
        return x * factor if factor else 1 / 0

    assert scaled.evaluate(scaled.reference()).outcome is Outcome.PASSED
    assert scaled.evaluate(padding).text == "An empty array does not stay empty."
    assert "ZeroDivisionError" in scaled.evaluate(refusing).text
    assert scaled.evaluate(lambda x, factor: x).text == OTHERWISE


def test_altered_solutions_are_rejected(scaled, parts, cost):
    for declared, number in ((scaled, 2), (parts, 4), (cost, 2)):
        verdicts = [declared.evaluate(answer) for answer in declared.altered_solutions()]

        assert [verdict.outcome for verdict in verdicts] == [Outcome.NOT_YET] * number
