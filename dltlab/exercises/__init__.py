"""Exercises that check themselves: `exercise`, `question`, `require`, `attempt`, `verify`.

One module a lab holds its exercises; a notebook imports it `as ex`.
"""

from dltlab.exercises.engine import Exercise, attempt, exercise, require
from dltlab.exercises.question import Question, question, right, wrong
from dltlab.exercises.verify import verify

__all__ = [
    "Exercise",
    "Question",
    "attempt",
    "exercise",
    "question",
    "require",
    "right",
    "verify",
    "wrong",
]
