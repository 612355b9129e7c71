"""An exercise: checks a learner's function, hints in stages, shows the solution."""

import re
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property, wraps
from inspect import unwrap
from types import FunctionType
from typing import Any

from dltlab.course.source import Lab
from dltlab.exercises.progress import note
from dltlab.exercises.result import Card, Outcome, Result, result
from dltlab.exercises.source import is_stub, lab_of, reference

Answer = Callable[..., Any]
Check = Callable[[Answer], str | None]


class NotYet(Exception):
    """The answer does not do what was asked; the message says what was seen, not what is right."""


class AnswerRaised(Exception):
    """The learner's function raised."""


class Interrupted(KeyboardInterrupt):
    """The learner has stopped a check; a notebook shows it as one line."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


def require(condition: Any, message: str) -> None:
    """Say `message` to the learner unless `condition` holds."""
    if not condition:
        raise NotYet(message)


@contextmanager
def attempt(what: str) -> Iterator[None]:
    """Do something with what the learner returned; if it raises, that is the learner's to mend.

    Args:
        what: What is being done, such as "calling your model on 8×8 digits".
    """
    try:
        yield
    except (NotYet, AnswerRaised):
        raise
    except Exception as error:
        raise NotYet(f"{what[0].upper()}{what[1:]} raised {_in_words(error)}") from error


@contextmanager
def in_float32() -> Iterator[None]:
    """Layers made within compute in float32, so that their numbers can be compared.

    A lab may have set another precision, which depends on the machine.
    """
    import keras

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def exercise(*hints: str) -> Callable[[Check], "Exercise"]:
    """Make an exercise of a check.

    The check takes the learner's function and calls it; `require` and `attempt` say what is not
    right yet. It returns None, or a sentence for the learner who passed. Its name is the name of
    the function that the lab asks for.

    Args:
        hints: In the order in which a learner gets them.
    """
    return lambda check: Exercise(check, hints)


class Exercise:
    """One function for the learner to write; made with the decorator `exercise`."""

    def __init__(self, check: Check, hints: tuple[str, ...]) -> None:
        self.name = check.__name__
        self.module = check.__module__
        self.accepted: list[Answer] = []
        self.rejected: list[tuple[Answer, str]] = []
        self._check = check
        self._hints = hints
        self._hints_given = 0
        self._passed: Answer | None = None

    @cached_property
    def lab(self) -> Lab:
        """The lab that asks for this exercise."""
        return lab_of(self.module)

    def check(self, answer: Answer) -> None:
        """Check `answer`, show how it stands, and note it in the learner's progress."""
        try:
            found = self.evaluate(answer)
        except KeyboardInterrupt:
            message = f"The check of {self.name} was stopped; nothing was recorded."
            raise Interrupted(message) from None
        found.show()
        if found.outcome is not None:
            note(self.lab.name, self.name, found.outcome)

    def evaluate(self, answer: Answer) -> Result:
        """How `answer` stands; shows and records nothing."""
        function = unwrap(answer)  # of decorators such as `@tf.function`
        if not isinstance(function, FunctionType):
            message = f"Pass the function itself, without calling it: `check({self.name})`."
            return result(self.name, Outcome.NOT_YET, message)
        try:
            if is_stub(self.lab, self.name, function):
                message = "Write the line that matters in place of `...`, then run the cell again."
                return result(self.name, Outcome.UNATTEMPTED, message)
            message = self._check(_guarded(answer)) or "That is right."
        except NotYet as error:
            return result(self.name, Outcome.NOT_YET, str(error))
        except AnswerRaised as error:
            return result(self.name, Outcome.ERROR, str(error))
        except Exception as error:
            message = (
                f"The check of {self.name} is itself broken ({_in_words(error).rstrip('.')}): "
                "this is a fault of the lab, not of your answer, and nothing was recorded."
            )
            return result(self.name, None, message)
        self._passed = answer
        return result(self.name, Outcome.PASSED, message)

    def hint(self) -> None:
        """Show the next hint."""
        if self._hints_given == len(self._hints):
            text = "That was the last hint." if self._hints else "There is no hint for this one."
            text += f" `ex.{self.name}.solution()` shows the answer."
            Card(self.name, "hint", text).show()
            return
        self._hints_given += 1
        label = f"hint {self._hints_given} of {len(self._hints)}"
        Card(self.name, label, self._hints[self._hints_given - 1]).show()

    def solution(self) -> None:
        """Show the cell in which the lab's author answers."""
        code = self.lab.defining(self.name).solution
        Card(self.name, "solution", f"```python\n{code}\n```").show()

    def reference(self) -> Answer:
        """The author's function."""
        return reference(self.lab, self.name)

    def or_reference(self, answer: Answer) -> Answer:
        """`answer` once it passes; until then the author's function, and this says so."""
        if answer is self._passed or self.evaluate(answer).outcome is Outcome.PASSED:
            return answer
        Card(self.name, "going on with ours", "Yours takes over once it passes.").show()
        return self.reference()

    def accepts(self, answer: Answer) -> Answer:
        """Ship `answer` as one that the check must accept."""
        self.accepted.append(answer)
        return answer

    def rejects(self, because: str) -> Callable[[Answer], Answer]:
        """Ship an answer that the check must reject with a message that contains `because`."""

        def ship(answer: Answer) -> Answer:
            self.rejected.append((answer, because))
            return answer

        return ship


def _guarded(answer: Answer) -> Answer:
    """`answer`, so that its faults are told from the check's."""

    @wraps(answer)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            value = answer(*args, **kwargs)
        except NotYet:  # said by what the check has given to the answer
            raise
        except Exception as error:
            raise AnswerRaised(_with_line(answer, error)) from error
        require(value is not None, "Your function returns nothing. Is there a `return`?")
        return value

    return call


def _with_line(answer: Answer, error: Exception) -> str:
    """The error in words, with the line of the learner's function where it arose."""
    code = unwrap(answer).__code__
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if frame.filename == code.co_filename and frame.name == code.co_name and frame.lineno:
            number = frame.lineno - code.co_firstlineno + 1
            line = f" (`{frame.line}`)" if frame.line else ""
            return f"Line {number} of your function{line} raised {_in_words(error)}"
    return f"Calling your function raised {_in_words(error)}"


def _in_words(error: Exception) -> str:
    """The error's type and the first line that says something: Keras begins with one that does not.

    Keras's colors are left out.
    """
    lines = filter(None, map(str.strip, re.sub(r"\x1b\[\d*m", "", str(error)).splitlines()))
    says = next((line for line in lines if not line.startswith("Exception encountered when")), "")
    return f"`{type(error).__name__}`" + (f": {says}" if says else ".")
