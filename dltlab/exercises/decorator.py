"""The decorator that makes an exercise."""

from collections.abc import Callable, Mapping
from typing import Any, overload

from dltlab.errors import Invalid
from dltlab.exercises.coded import Check, CodedExercise
from dltlab.exercises.declared import Cases, DeclaredExercise, Observe, Sentence
from dltlab.exercises.specs import as_spec


@overload
def exercise(
    *hints: str, smoke: Mapping[str, Any] | None = None, solution_after_passing: bool = False
) -> Callable[[Check], CodedExercise]: ...


@overload
def exercise(
    *hints: str,
    returns: Any,
    otherwise: Sentence | Mapping[str, Sentence],
    observe: Observe | None = None,
) -> Callable[[Cases], DeclaredExercise]: ...


def exercise(
    *hints: str,
    returns: Any = None,
    otherwise: Sentence | Mapping[str, Sentence] | None = None,
    observe: Observe | None = None,
    smoke: Mapping[str, Any] | None = None,
    solution_after_passing: bool = False,
) -> Any:
    """Make an exercise of a function with the name of the function that the learner writes.

    With `returns`, the function has no parameters and yields cases: tuples of arguments, with
    arrays of different sizes. The answer is compared with the author's solution on every case.
    Without, the function is the check: it takes the learner's function, calls it, and uses
    `require` and `attempt`. It returns None, or a message for the learner who passed.

    Args:
        hints: In the order in which the learner gets them.
        returns: What the answer returns: an `Array`, `Number`, `Integer`, `Text` or `Equal`; a
            tuple of them for a fixed number of values; a list of one for any number of values.
        otherwise: The sentence for a wrong answer that is none of the declared mistakes. For
            several values it may be a dict from the name of a value to its sentence: the first
            value in the dict that is wrong gets its sentence.
        observe: A function of the answer and the arguments of a case. It calls the answer and
            returns what is compared, where that is not what the answer itself returns: what a
            network computes, or how a training step changes it. It may use `require` and
            `attempt`.
        smoke: For a check that trains for long: values of its further parameters, which have
            defaults, with which verification takes seconds, such as less data and an easier bar.
        solution_after_passing: For a check that is code and assesses the learner: outside a
            workshop, show the solution only once the learner has passed.

    Raises:
        Invalid: The arguments do not fit each other or the decorated function.
    """
    if any(not isinstance(hint, str) for hint in hints):
        raise Invalid("Write `@exercise(...)` with hints, which are strings, or `@exercise()`.")
    if (returns is None) != (otherwise is None):
        raise Invalid("`returns=` and `otherwise=` belong together: give both, or neither.")
    if smoke and returns is not None:
        raise Invalid("`smoke=` is for a check that is code; with `returns=`, yield small cases.")
    if returns is None or otherwise is None:
        if observe is not None:
            raise Invalid("`observe=` belongs to `returns=` and `otherwise=`.")
        return lambda check: CodedExercise(
            check, hints, smoke, solution_after_passing=solution_after_passing
        )
    spec = as_spec(returns)
    return lambda cases: DeclaredExercise(cases, hints, spec, otherwise, observe)
