"""Exercises whose check is code."""

from collections.abc import Callable

from dltlab.exercises.answers import Answer, guard
from dltlab.exercises.base import Exercise

Check = Callable[[Answer], str | None]


class CodedExercise(Exercise):
    """An exercise whose check calls the answer itself.

    The check uses `require`, `attempt` and the specs' `read`. It returns None, or a message for
    the learner who passed.
    """

    def __init__(self, check: Check, hints: tuple[str, ...]) -> None:
        super().__init__(check.__name__, check.__module__, hints)
        self._code = check

    def _check(self, answer: Answer) -> str | None:
        return self._code(guard(answer))
