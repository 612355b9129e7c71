"""Wrong declarations of an exercise are errors, when its module is imported."""

from typing import Any

import pytest

from dltlab.errors import Invalid
from dltlab.exercises import Array, CodedExercise, DeclaredExercise, Number, exercise

declare: Any = exercise  # wrongly, which its type does not allow


def checking(answer):
    answer()


def cases():
    yield 1, 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: declare(checking), "Write `@exercise(...)` with hints"),
        (lambda: declare("hint", returns=Number()), "belong together"),
        (lambda: declare("hint", otherwise="No."), "belong together"),
        (lambda: declare("hint", observe=checking), "`observe=` belongs to `returns=`"),
        (lambda: declare(smoke={"bar": 1})(checking), "a value for bar; the check has no such"),
        (
            lambda: declare(returns=Number(), otherwise="No.", smoke={"bar": 1}),
            "`smoke=` is for a check that is code",
        ),
        (lambda: declare(returns=3, otherwise="No."), "`returns=` is an Array"),
        (lambda: declare(returns=Array, otherwise="No."), "`returns=` is an Array"),
        (lambda: declare(returns=Number(), otherwise="No.")(checking), "without parameters"),
        (lambda: declare(returns=Number(), otherwise="No.")(lambda: [(1,)]), "that yields tuples"),
        (
            lambda: declare(returns=Number("a"), otherwise={"a": "No."})(cases),
            "write it as text, since there is only one value",
        ),
        (
            lambda: declare(returns=(Number("a"), Number("b")), otherwise={"a": "No."})(cases),
            "one sentence for each of the returned values, by name: a, b",
        ),
    ],
)
def test_a_wrong_declaration_is_an_error(make, message):
    with pytest.raises(Invalid) as caught:
        make()

    assert message in str(caught.value)


def test_a_function_is_a_check_or_yields_cases():
    assert isinstance(exercise("hint")(checking), CodedExercise)
    assert isinstance(exercise(returns=Number(), otherwise="No.")(cases), DeclaredExercise)
