"""Prove that a lab's exercises tell right answers from wrong ones."""

import importlib
from types import ModuleType

from dltlab.errors import LabError
from dltlab.exercises.engine import Exercise
from dltlab.exercises.question import Question
from dltlab.exercises.result import Outcome
from dltlab.exercises.source import reference


def members(module: ModuleType) -> list[Exercise | Question]:
    """The exercises and questions of a module, in the order in which they stand."""
    return [value for value in vars(module).values() if isinstance(value, Exercise | Question)]


def verify(module: str) -> list[str]:
    """One sentence for each way in which an exercise of `module` does not hold.

    The stub must be unattempted; the author's solution and every accepted answer must pass; every
    rejected answer must get the message it was shipped with; a question has one right option.

    Raises:
        LabError: The module cannot be imported, or the lab lacks a function that it checks.
    """
    try:
        found = members(importlib.import_module(module))
    except Exception as error:
        raise LabError(
            f"The exercises' module {module} cannot be imported ({type(error).__name__}: {error})."
        ) from error
    return [fault for member in found for fault in _faults(member)]


def require_verified(module: str) -> None:
    """Raise a `LabError` that tells every way in which an exercise of `module` does not hold."""
    if faults := verify(module):
        raise LabError(f"The exercises of {module} do not hold:\n  " + "\n  ".join(faults))


def _faults(member: Exercise | Question) -> list[str]:
    if member.name not in member.lab.exercises:
        return [f"{member.name}: {member.lab.name} never asks for it"]
    if isinstance(member, Question):
        rights = sum(option.right for option in member.options.values())
        return [] if rights == 1 else [f"{member.name}: {rights} options are right, not one"]
    faults = []
    stub = reference(member.lab, member.name, stub=True)
    if (outcome := member.evaluate(stub).outcome) is not Outcome.UNATTEMPTED:
        faults.append(f"{member.name}: the stub is {outcome}, not unattempted")
    accepted = [("the solution", member.reference())]
    accepted += [(_place(answer), answer) for answer in member.accepted]
    for place, answer in accepted:
        verdict = member.evaluate(answer)
        if verdict.outcome is not Outcome.PASSED:
            faults.append(f"{member.name}: {place} is not accepted: {verdict}")
    if not member.rejected:
        faults.append(f"{member.name}: ships no rejected answer")
    heard: set[str] = set()
    for answer, because in member.rejected:
        verdict = member.evaluate(answer)
        told = verdict.outcome in (Outcome.NOT_YET, Outcome.ERROR)
        if not told or because not in verdict.message:
            faults.append(f"{member.name}: {_place(answer)} should hear '{because}': {verdict}")
        if verdict.message in heard:
            faults.append(f"{member.name}: {_place(answer)} hears what another one hears")
        heard.add(verdict.message)
    return faults


def _place(answer: object) -> str:
    code = getattr(answer, "__code__", None)
    return f"the answer of line {code.co_firstlineno}" if code else "an answer"
