"""Prove that a lab's exercises accept correct answers and tell wrong ones apart."""

import importlib
import re
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from threadpoolctl import threadpool_limits

from dltlab.course import Course, Lab
from dltlab.errors import Invalid
from dltlab.exercises import (
    CodedExercise,
    DeclaredExercise,
    Exercise,
    Outcome,
    Question,
    Verdict,
    lab_of,
    line_of,
    reference,
)
from dltlab.paths import short_path


def exercises_of(module: ModuleType) -> list[Exercise | Question]:
    """Return the exercises and questions of a module, in the order of their definition."""
    return [value for value in vars(module).values() if isinstance(value, Exercise | Question)]


def verify(module: str) -> list[str]:
    """Return one sentence for each fault of the exercises and questions in `module`.

    The stub must be unattempted; the author's solution and every accepted answer must pass; every
    mistake must get its own sentence, and every rejected answer the message it was declared with;
    the cases of a declared exercise must differ in size; a question has one correct option; the
    lab and the module name the same exercises. Checks that are code get the values of their
    `smoke=`.

    Raises:
        Invalid: The module cannot be imported.
        LabError: There is no such lab, or it does not define a function that the module checks.
    """
    members = exercises_of(_imported(module))
    lab = lab_of(module)
    names = [member.name for member in members]
    faults = [
        f"{name}: {lab.name} asks for it, and {module} does not define it"
        for name in lab.exercises
        if name not in names
    ]
    # On a busy machine the threads of OpenBLAS wait for each other ten times as long as they work.
    with threadpool_limits(1, user_api="blas"):
        faults += [f"{member.name}: {fault}" for member in members for fault in _faults(member)]
    return faults


def verify_labs(course: Course, labs: list[Lab]) -> list[str]:
    """Return one sentence for each fault of the exercises and questions in `labs`.

    Raises:
        Invalid: The module of a lab's exercises cannot be imported.
        NotFound: A lab does not define a function that its module checks.
    """
    with course.import_path():
        return [
            f"{lab.name}: {fault}"
            for lab in labs
            if lab.exercise_module
            for fault in verify(lab.exercise_module)
        ]


def summary(course: Course, lab: Lab) -> str:
    """Return one line that says what the verification of a lab without faults has covered."""
    with course.import_path():
        members = exercises_of(_imported(lab.exercise_module)) if lab.exercise_module else []
    exercises = [member for member in members if isinstance(member, Exercise)]
    wrong_answers = sum(len(exercise.rejected) for exercise in exercises)
    for exercise in exercises:
        if isinstance(exercise, DeclaredExercise):
            wrong_answers += len(exercise.known_mistakes)
    counts = (
        (len(exercises), "exercise"),
        (wrong_answers, "wrong answer"),
        (len(members) - len(exercises), "question"),
    )
    parts = [f"{count} {noun}{'s' * (count != 1)}" for count, noun in counts if count]
    return f"{lab.name}: {', '.join(parts) or 'no exercises'}: verified"


def require_verified(module: str) -> None:
    """Verify `module`.

    Raises:
        Invalid: An exercise or a question has a fault; lists all of them.
    """
    if faults := verify(module):
        raise Invalid(f"The exercises of {module} have faults:\n  " + "\n  ".join(faults))


def _imported(module: str) -> ModuleType:
    """Import the module of a lab's exercises.

    Raises:
        Invalid: It cannot be imported; names the line.
    """
    try:
        return importlib.import_module(module)
    except Exception as error:
        reason = error.msg if isinstance(error, SyntaxError) else str(error)
        raise Invalid(
            f"{_import_place(module, error)}the exercises' module {module} cannot be imported "
            f"({type(error).__name__}: {reason})."
        ) from error


def _import_place(module: str, error: Exception) -> str:
    """Return "path:line: " of what kept a module from being imported, if it is in its file."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{short_path(Path(error.filename))}:{error.lineno}: "
    file = f"{module.replace('.', '/')}.py"
    frames = traceback.extract_tb(error.__traceback__)
    places = [frame for frame in frames if Path(frame.filename).as_posix().endswith(f"/{file}")]
    return f"{short_path(Path(places[-1].filename))}:{places[-1].lineno}: " if places else ""


def _faults(member: Exercise | Question) -> Iterator[str]:
    if member.name not in member.lab.exercises:
        yield f"no cell of {member.lab.name} asks for it"
    elif isinstance(member, Question):
        correct = sum(option.is_correct for option in member.options.values())
        if correct != 1:
            yield f"{correct} options are correct, not one"
        if not member.text:
            yield "has no docstring, which asks the question"
    elif isinstance(member, CodedExercise):
        yield from _exercise_faults(member.with_smoke_values())
    else:
        yield from _exercise_faults(member)


def _exercise_faults(exercise: Exercise) -> Iterator[str]:
    stub = exercise.evaluate(reference(exercise.lab, exercise.name, stub=True))
    if stub.outcome is not Outcome.UNATTEMPTED:
        yield f"the stub is {stub.label}, not unattempted"
    if isinstance(exercise, DeclaredExercise):
        try:
            _ = exercise.expected, exercise.known_mistakes
        except Invalid as error:
            yield str(error)
            return  # nothing else can be checked
    solution = exercise.evaluate(exercise.reference())
    if solution.outcome is not Outcome.PASSED:
        yield f"the solution is not accepted: {solution}"
        if solution.outcome is None:
            return  # nothing else can be checked
    for answer in exercise.accepted:
        verdict = exercise.evaluate(answer)
        if verdict.outcome is not Outcome.PASSED:
            yield f"{_place(answer)} is not accepted: {verdict}"
    if isinstance(exercise, DeclaredExercise):
        yield from _case_faults(exercise)
        for altered in exercise.altered_solutions():
            verdict = exercise.evaluate(altered)
            if verdict.outcome is not Outcome.NOT_YET:
                yield f"the solution with one value altered is not rejected: {verdict}"
        yield from _mistake_faults(exercise)
    elif not exercise.rejected:
        yield "declares no wrong answer: add `rejects`"
    yield from _rejection_faults(exercise)


def _case_faults(exercise: DeclaredExercise) -> Iterator[str]:
    cases = exercise.cases
    if not any(case.arguments for case in cases):
        return
    if len({repr(case.arguments) for case in cases}) < 2:
        yield "has only one distinct case: an answer with a hard-coded result would pass"
    elif any(cases[0].sizes) and all(case.sizes == cases[0].sizes for case in cases):
        yield "all cases have the same sizes: an answer with a size written into it passes"


def _mistake_faults(exercise: DeclaredExercise) -> Iterator[str]:
    for sentence in exercise.incomplete:
        place = f"line {line_of(sentence)}" if callable(sentence) else f"'{sentence}'"
        yield (
            f"the mistake of {place} lacks its sentence or its function: write "
            f'`@{exercise.name}.mistake("…")` above a function'
        )
    for sentence in exercise.general_sentences:
        yield from _placeholder_faults("`otherwise=`", sentence)
    mistakes = exercise.known_mistakes
    if not mistakes and not exercise.rejected:
        yield "declares no wrong answer: add `mistake` or `rejects`"
    for mistake in mistakes:
        sentence = exercise.sentence(mistake)
        place = f"the mistake of line {mistake.line}, '{sentence}',"
        verdict = exercise.evaluate(exercise.completed(mistake))
        if failure := exercise.failure(mistake):
            yield f"{place} {failure}"
        elif not exercise.differs(mistake):
            yield f"{place} differs from the solution on no case"
        elif verdict.outcome is None:
            yield f"{place} is not told: {verdict}"
        elif verdict.text != (own := exercise.message(mistake)):
            rendered = "" if own == sentence else f", '{own}',"
            yield f"{place} should get its own sentence{rendered} but gets: {verdict}"
        else:
            yield from _placeholder_faults(place, own)


def _placeholder_faults(place: str, sentence: str) -> Iterator[str]:
    names = set(re.findall(r"\{([A-Za-z_]\w*)\}", sentence)) - {"call", "value"}
    for name in sorted(names):
        yield f"{place} contains {{{name}}}; only {{call}} and {{value}} are filled in"


def _rejection_faults(exercise: Exercise) -> Iterator[str]:
    fragments: dict[str, str] = {}
    for answer, fragment in exercise.rejected:
        verdict = exercise.evaluate(answer)
        if not _is_rejected(verdict) or fragment not in verdict.text:
            yield f"{_place(answer)} should get '{fragment}': {verdict}"
        if fragments.setdefault(verdict.text, fragment) != fragment:
            yield f"{_place(answer)} gets the message of another wrong answer: {verdict}"


def _is_rejected(verdict: Verdict) -> bool:
    return verdict.outcome in (Outcome.NOT_YET, Outcome.ERROR)


def _place(answer: Callable[..., Any]) -> str:
    line = line_of(answer)
    return f"the answer of line {line}" if line else f"the answer {answer!r}"
