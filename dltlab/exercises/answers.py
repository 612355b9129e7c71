"""Call a learner's function, and tell its faults from those of the check."""

import re
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial, wraps
from inspect import unwrap
from pathlib import Path
from types import FunctionType, MethodType
from typing import Any

from dltlab.paths import short_path

Answer = Callable[..., Any]


class NotYet(Exception):
    """The answer is wrong; the message says what was observed, never the expected value.

    Attributes:
        hint: The hint for this mistake; empty if there is none.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class AnswerRaised(Exception):
    """The learner's function raised an exception."""


def require(condition: Any, message: str) -> None:
    """Reject the answer with `message` unless `condition` is true."""
    if not condition:
        raise NotYet(message)


@contextmanager
def attempt(action: str) -> Iterator[None]:
    """Use what the learner returned; an exception in the block rejects the answer.

    Args:
        action: What the block does, such as "calling your model on 8×8 digits".
    """
    try:
        yield
    except (NotYet, AnswerRaised):
        raise
    except Exception as error:
        raise NotYet(f"{action[0].upper()}{action[1:]} raised {describe_error(error)}") from error


@contextmanager
def in_float32() -> Iterator[None]:
    """Create Keras layers in float32, whatever the lab has set; also a decorator of a check.

    The lab's own precision depends on the machine, so that numbers could not be compared.
    """
    import keras

    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(policy)


def guard(answer: Answer) -> Answer:
    """Wrap `answer`, so that its exceptions become `AnswerRaised` and None is rejected."""

    @wraps(answer, updated=())
    def call(*args: Any, **kwargs: Any) -> Any:
        value = call_answer(answer, *args, **kwargs)
        require(value is not None, "Your function returns nothing. Is there a `return`?")
        return value

    return call


def python_function(answer: Answer) -> FunctionType | None:
    """Return the Python function that an answer runs, or None for one such as `np.mean`.

    An answer may also be a decorated function, a `functools.partial`, a bound method, an object
    with `__call__`, or a class with `__init__`.
    """
    answer = unwrap(answer)  # of decorators such as `@tf.function`
    while isinstance(answer, partial | MethodType):
        answer = unwrap(answer.func if isinstance(answer, partial) else answer.__func__)
    if isinstance(answer, FunctionType):
        return answer
    if isinstance(answer, type):
        function = vars(answer).get("__init__")
    else:
        function = vars(type(answer)).get("__call__")
    return function if isinstance(function, FunctionType) else None


def line_of(answer: Answer) -> int | None:
    """Return the line in its file where an answer is defined, or None if it has none."""
    function = python_function(answer)
    return function.__code__.co_firstlineno if function else None


def call_answer(answer: Answer, *args: Any, **kwargs: Any) -> Any:
    """Call the learner's function.

    Raises:
        AnswerRaised: It raised an exception; names the line and the reason.
        NotYet: Raised by an argument of the check's own, such as a function that counts its calls.
    """
    try:
        return answer(*args, **kwargs)
    except NotYet:
        raise
    except Exception as error:
        raise AnswerRaised(_describe_with_line(answer, error)) from error


def describe_error(error: Exception) -> str:
    """Return the type of an exception and the first useful line of its message.

    Left out is what says nothing to a learner: Keras' first line and colors, TensorFlow's names of
    graph nodes and kernels.
    """
    reason = _reason(error)
    return f"`{type(error).__name__}`" + (f": {reason}" if reason else ".")


def hint_for_error(error: BaseException) -> str:
    """Return the hint for an exception in a learner's function; empty if there is none."""
    while isinstance(error, AnswerRaised) and error.__cause__:
        error = error.__cause__
    if isinstance(error, NameError):
        return (
            "Python does not know this name. Compare its spelling with the parameters of your "
            "function and with the imports of the lab."
        )
    if isinstance(error, AttributeError):
        return "Print the type of the object before this line: `print(type(…))`."
    if re.search(r"\bshapes?\b|broadcast|dimension|not aligned", str(error), re.IGNORECASE):
        return (
            "The shapes do not fit. Print those of both sides before this line, "
            "`print(….shape)`, and compare them with the docstring."
        )
    return ""


def describe_author_error(function: Answer, error: BaseException) -> str:
    """Describe an exception of the author's code with the line of the file that raised it.

    Args:
        function: The author's function, whose file is named.
        error: What it raised, or the `AnswerRaised` that tells it.
    """
    while isinstance(error, AnswerRaised) and error.__cause__:
        error = error.__cause__
    function_run, reason = python_function(function), _reason(error)
    path = function_run.__code__.co_filename if function_run else ""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == path]
    place = f" in line {lines[-1]} of {short_path(Path(path))}" if lines else ""
    return f"{type(error).__name__}{place}" + (f": {reason}" if reason else "")


def _reason(error: BaseException) -> str:
    """Return the first useful line of an exception's message."""
    message = re.sub(r"\x1b\[\d*m|\{\{\w+ .*?\}\} ?| ?\[Op:\w+\].*", "", str(error))
    lines = [line.strip() for line in message.splitlines()]
    useful = (line for line in lines if line and not line.startswith("Exception encountered when"))
    return next(useful, "")


def _describe_with_line(answer: Answer, error: Exception) -> str:
    """Describe an exception with the line of the learner's function that raised it."""
    function = python_function(answer)
    code = function.__code__ if function else None
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if (
            code
            and frame.filename == code.co_filename
            and frame.name == code.co_name
            and frame.lineno
        ):
            number = frame.lineno - code.co_firstlineno + 1
            line = f" (`{frame.line}`)" if frame.line else ""
            return f"Line {number} of your function{line} raised {describe_error(error)}"
    return f"Calling your function raised {describe_error(error)}"
