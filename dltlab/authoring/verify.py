"""Prove that a lab's exercises accept correct answers and tell wrong ones apart."""

import importlib
from collections.abc import Callable, Iterator
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
    reference,
)


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
    try:
        members = exercises_of(importlib.import_module(module))
    except Exception as error:
        raise Invalid(
            f"The exercises' module {module} cannot be imported ({type(error).__name__}: {error})."
        ) from error
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


def require_verified(module: str) -> None:
    """Verify `module`.

    Raises:
        Invalid: An exercise or a question has a fault; lists all of them.
    """
    if faults := verify(module):
        raise Invalid(f"The exercises of {module} have faults:\n  " + "\n  ".join(faults))


def _faults(member: Exercise | Question) -> Iterator[str]:
    if member.name not in member.lab.exercises:
        yield f"no cell of {member.lab.name} asks for it"
    elif isinstance(member, Question):
        correct = sum(option.is_correct for option in member.options.values())
        if correct != 1:
            yield f"{correct} options are correct, not one"
    elif isinstance(member, CodedExercise):
        yield from _exercise_faults(member.with_smoke_values())
    else:
        yield from _exercise_faults(member)


def _exercise_faults(exercise: Exercise) -> Iterator[str]:
    stub = exercise.evaluate(reference(exercise.lab, exercise.name, stub=True))
    if stub.outcome is not Outcome.UNATTEMPTED:
        yield f"the stub is {stub.label}, not unattempted"
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
        yield "has fewer than two different cases: an answer with one result written into it passes"
    elif any(cases[0].sizes) and all(case.sizes == cases[0].sizes for case in cases):
        yield "all cases have the same sizes: an answer with a size written into it passes"


def _mistake_faults(exercise: DeclaredExercise) -> Iterator[str]:
    mistakes = exercise.known_mistakes
    if not mistakes and not exercise.rejected:
        yield "declares no wrong answer: add `mistake` or `rejects`"
    for mistake in mistakes:
        verdict = exercise.evaluate(exercise.completed(mistake))
        if not exercise.is_comparable(mistake):
            reason = f"gets a message of the engine, so use `rejects`: {verdict}"
        elif not exercise.differs(mistake):
            reason = "differs from the solution on no case"
        elif verdict.text != (own := exercise.message(mistake)):
            reason = f"should get its own sentence, '{own}', but gets: {verdict}"
        else:
            continue
        yield f"the mistake of line {mistake.line}, '{exercise.sentence(mistake)}', {reason}"


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
    return f"the answer of line {answer.__code__.co_firstlineno}"
