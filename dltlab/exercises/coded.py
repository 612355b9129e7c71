"""Exercises whose check is code."""

from collections.abc import Callable, Mapping
from copy import copy
from functools import partial
from inspect import signature
from typing import Any

from dltlab.errors import Invalid
from dltlab.exercises.answers import Answer, guard
from dltlab.exercises.base import Exercise

Check = Callable[..., str | None]


class CodedExercise(Exercise):
    """An exercise whose check calls the answer itself.

    The check uses `require`, `attempt` and the specs' `read`. It returns None, or a message for
    the learner who passed.
    """

    def __init__(
        self,
        check: Check,
        hints: tuple[str, ...],
        smoke: Mapping[str, Any] | None = None,
        *,
        solution_after_passing: bool = False,
    ) -> None:
        super().__init__(check.__name__, check.__module__, hints)
        self.solution_after_passing = solution_after_passing
        self._code = check
        self._smoke = dict(smoke or {})
        optional = list(signature(check).parameters)[1:]
        if unknown := [name for name in self._smoke if name not in optional]:
            raise Invalid(
                f"{self.name}: `smoke=` gives a value for {', '.join(unknown)}; the check has no "
                "such parameter with a default."
            )

    def with_smoke_values(self) -> "CodedExercise":
        """Return the exercise with the values of `smoke`, as verification checks it."""
        exercise = copy(self)
        exercise._code = partial(self._code, **self._smoke)
        return exercise

    def _check(self, answer: Answer) -> str | None:
        return self._code(guard(answer))
