from .answers import attempt, in_float32, line_of, require
from .base import Exercise
from .cases import random_arrays
from .coded import CodedExercise
from .declared import DeclaredExercise
from .decorator import exercise
from .isolated import run_as, run_here, run_isolated
from .leaderboard import LeaderboardEntry, add_to_leaderboard, show_leaderboard
from .messages import Outcome, Verdict
from .progress import (
    ALL_EXERCISES,
    LabProgress,
    ProgressRecord,
    course_progress,
    lab_to_continue,
    restart_lab,
)
from .questions import Question, correct, question, wrong
from .source import lab_of, reference
from .specs import Array, Equal, Integer, Number, Text

__all__ = [
    "ALL_EXERCISES",
    "Array",
    "CodedExercise",
    "DeclaredExercise",
    "Equal",
    "Exercise",
    "Integer",
    "LabProgress",
    "LeaderboardEntry",
    "Number",
    "Outcome",
    "ProgressRecord",
    "Question",
    "Text",
    "Verdict",
    "add_to_leaderboard",
    "attempt",
    "correct",
    "course_progress",
    "exercise",
    "in_float32",
    "lab_of",
    "lab_to_continue",
    "line_of",
    "question",
    "random_arrays",
    "reference",
    "require",
    "restart_lab",
    "run_as",
    "run_here",
    "run_isolated",
    "show_leaderboard",
    "wrong",
]
