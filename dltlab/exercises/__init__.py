"""Exercises that check themselves.

`exercise` and `question` make one of a function, `require`, `attempt` and `in_float32` serve its
check. One module a lab holds its exercises; a notebook imports it `as ex`.
"""

from dltlab.exercises.engine import Exercise, attempt, exercise, in_float32, require
from dltlab.exercises.question import Question, question, right, wrong

__all__ = [
    "Exercise",
    "Question",
    "attempt",
    "exercise",
    "in_float32",
    "question",
    "require",
    "right",
    "wrong",
]
