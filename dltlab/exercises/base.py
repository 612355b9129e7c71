"""What every exercise does: check an answer, show hints, show the author's solution."""

import logging
import os
import signal
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import replace
from functools import cached_property, partial
from inspect import isclass, isroutine, unwrap
from types import FrameType, MethodType
from typing import Any

from dltlab.course import Lab
from dltlab.errors import Invalid
from dltlab.exercises.answers import (
    Answer,
    AnswerRaised,
    NotYet,
    describe_error,
    hint_for_error,
    python_function,
)
from dltlab.exercises.messages import Message, Outcome, Verdict, verdict
from dltlab.exercises.progress import has_passed, try_record_outcome
from dltlab.exercises.room import solutions_are_hidden
from dltlab.exercises.source import is_stub, lab_of, reference
from dltlab.paths import room_dir


class Interrupted(KeyboardInterrupt):
    """The learner has stopped a check; a notebook shows one line instead of a traceback."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


class Exercise(ABC):
    """A function for the learner to write; made by the decorator `exercise`.

    Attributes:
        name: Name of the function that the learner writes.
        module: Name of the module that holds the exercise.
        accepted: Answers that must pass.
        rejected: Answers that must be rejected, each with a part of the message they must get.
        solution_after_passing: Whether learners on their own see the solution only once they have
            passed.
    """

    def __init__(self, name: str, module: str, hints: tuple[str, ...]) -> None:
        self.name = name
        self.module = module
        self.solution_after_passing = False
        self.accepted: list[Answer] = []
        self.rejected: list[tuple[Answer, str]] = []
        self._hints = hints
        self._hints_shown = 0
        self._hint_for_answer = ""
        self._passed: Answer | None = None

    @cached_property
    def lab(self) -> Lab:
        """The lab that the exercise belongs to."""
        return lab_of(self.module)

    def check(self, answer: Answer) -> None:
        """Check `answer`, show the verdict, and record the outcome in the learner's progress."""
        with self._stopped_by_interrupt():
            result = self.evaluate(answer)
        self._hint_for_answer = result.hint
        if result.outcome not in (Outcome.PASSED, None):
            result = replace(result, buttons=self._buttons(result.hint))
        result.show()
        if result.outcome is not None:
            told = result.text if result.outcome in (Outcome.NOT_YET, Outcome.ERROR) else ""
            try_record_outcome(self.lab.name, self.name, result.outcome, told)

    def evaluate(self, answer: Any) -> Verdict:
        """Check `answer` without showing or recording anything."""
        if not callable(answer):
            text = f"Pass the function itself, without calling it: `check({self.name})`."
            return verdict(self.name, Outcome.NOT_YET, text)
        function = python_function(answer)
        try:
            if function and is_stub(self.lab, self.name, function):
                text = "Replace `...` with your code, then run the cell again."
                return verdict(self.name, Outcome.UNATTEMPTED, text)
            text = self._check(answer) or "Correct."
        except NotYet as error:
            return verdict(self.name, Outcome.NOT_YET, str(error), error.hint)
        except AnswerRaised as error:
            text = str(error)
            if not _is_function(answer):
                text = (
                    f"{text.rstrip('.')}. If this object is what your function returns, pass the "
                )
                text += f"function itself: `check({self.name})`."
            return verdict(self.name, Outcome.ERROR, text, hint_for_error(error))
        except Exception as error:
            text = (
                f"The check of {self.name} is itself broken "
                f"({describe_error(error).rstrip('.')}): this is a fault of the lab, not of your "
                "answer, and nothing was recorded."
            )
            return verdict(self.name, None, text)
        self._passed = answer
        return verdict(self.name, Outcome.PASSED, text)

    def points(self, answer: Any) -> float:
        """Return 1.0 if `answer` is correct, else 0.0, without writing to stderr.

        nbgrader gives no points to a cell that writes there, if only a warning.
        """
        with _no_stderr():
            return float(self.evaluate(answer).outcome is Outcome.PASSED)

    def hint(self) -> None:
        """Show the next hint: first that for the last mistake; after the last one, all again."""
        if self._hint_for_answer:
            Message(self.name, "hint for your answer", self._hint_for_answer).show()
            self._hint_for_answer = ""
        elif self._hints_shown < len(self._hints):
            label, text = list(self._numbered_hints())[self._hints_shown]
            self._hints_shown += 1
            Message(self.name, label, text).show()
        else:
            lines = [f"{label}: {text}" for label, text in self._numbered_hints()]
            lines = ["You have seen every hint:", *lines] if lines else ["There are no hints."]
            if not self._why_hidden():
                lines.append(f"`ex.{self.name}.solution()` shows the solution.")
            Message(self.name, "hints", "\n".join(lines)).show()

    def solution(self) -> None:
        """Show the author's solution: the cell of the lab's source.

        In a workshop, the instructor releases the solutions of each lab. Elsewhere, that of an
        assessed task is shown once it is passed.
        """
        Message(self.name, "solution", self._why_hidden() or self._solution_text()).show()

    def _why_hidden(self) -> str:
        """Return why the solution is not shown; empty where it is."""
        if room_dir() is not None:
            is_hidden = solutions_are_hidden(self.lab.name)
            return "Your instructor releases the solutions of this lab later." if is_hidden else ""
        if self.solution_after_passing and not has_passed(self.lab.name, self.name):
            return "The solution is shown once you have passed."
        return ""

    def _numbered_hints(self) -> Iterator[tuple[str, str]]:
        for number, text in enumerate(self._hints, 1):
            yield f"hint {number} of {len(self._hints)}", text

    def _solution_text(self) -> str:
        return f"```python\n{self.lab.defining(self.name).solution}\n```"

    def _buttons(self, hint_for_answer: str) -> dict[str, str]:
        """Return the hints and the solution, as buttons of a card show them."""
        hints = {"hint for your answer": hint_for_answer} if hint_for_answer else {}
        hints |= dict(self._numbered_hints())
        shown = hints | ({} if self._why_hidden() else {"solution": self._solution_text()})
        return {label.capitalize(): text for label, text in shown.items()}

    def reference(self) -> Answer:
        """Return the author's function."""
        return self._reference

    def or_reference(self, answer: Answer) -> Answer:
        """Return `answer` once it passes; until then the author's function, with a message."""
        is_passed = answer is self._passed or (
            # Each access to a bound method makes a new object.
            isinstance(answer, MethodType) and answer == self._passed
        )
        with self._stopped_by_interrupt():
            if is_passed or self.evaluate(answer).outcome is Outcome.PASSED:
                return answer
        text = "Your function is used once it passes."
        Message(self.name, "using the reference solution", text).show()
        return self.reference()

    def accepts(self, answer: Answer) -> Answer:
        """Declare another correct answer; verification proves that it passes."""
        self.accepted.append(answer)
        return answer

    def rejects(self, fragment: str) -> Callable[[Answer], Answer]:
        """Declare a wrong answer that must get a message containing `fragment`.

        For messages that the engine or the code of the check writes; see also
        `DeclaredExercise.mistake`.

        Raises:
            Invalid: `fragment` is not a text, as in `@rnn_step.rejects` without one.
        """
        if not isinstance(fragment, str):
            raise Invalid(
                f'{self.name}: write `@{self.name}.rejects("…")`, with a part of the message.'
            )

        def declare(answer: Answer) -> Answer:
            self.rejected.append((answer, fragment))
            return answer

        return declare

    @contextmanager
    def _stopped_by_interrupt(self) -> Iterator[None]:
        """Raise `Interrupted` after an interrupt.

        The handler lets functions such as `training.fit`, which return after an interrupt in a
        notebook, raise it: the whole check ends, and not only a training of the answer.
        """

        def stop(number: int, frame: FrameType | None) -> None:
            raise KeyboardInterrupt

        is_main_thread = threading.current_thread() is threading.main_thread()
        previous = signal.signal(signal.SIGINT, stop) if is_main_thread else None
        try:
            yield
        except KeyboardInterrupt:
            message = f"The check of {self.name} was stopped; nothing was recorded."
            raise Interrupted(message) from None
        finally:
            if is_main_thread:
                signal.signal(signal.SIGINT, previous)

    @abstractmethod
    def _check(self, answer: Answer) -> str | None:
        """Raise `NotYet` or `AnswerRaised`, or return None or a message for those who pass."""

    @cached_property
    def _reference(self) -> Answer:
        return reference(self.lab, self.name)


@contextmanager
def _no_stderr() -> Iterator[None]:
    """Discard what Python, logging and libraries write to stderr in the block."""
    level, stderr = logging.root.manager.disable, os.dup(2)
    with open(os.devnull, "w") as null, redirect_stderr(null):
        logging.disable()
        os.dup2(null.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            logging.disable(level)


def _is_function(answer: Answer) -> bool:
    """Return whether an answer is a function or a class, rather than an object that is callable."""
    answer = unwrap(answer)
    return isroutine(answer) or isclass(answer) or isinstance(answer, partial)
