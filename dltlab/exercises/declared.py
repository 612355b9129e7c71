"""Exercises that state their cases, what is returned, and known mistakes."""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache, cached_property, partial
from inspect import isgeneratorfunction, signature
from typing import Any

import numpy as np

from dltlab.errors import Invalid
from dltlab.exercises.answers import (
    Answer,
    AnswerRaised,
    NotYet,
    call_answer,
    describe_author_error,
    guard,
    in_float32,
    line_of,
)
from dltlab.exercises.base import Exercise
from dltlab.exercises.cases import Case, parameter_names
from dltlab.exercises.coded import Check
from dltlab.exercises.specs import Several, Spec

Cases = Callable[[], Iterable[tuple[Any, ...]]]
Observe = Callable[..., Any]
Sentence = str | Callable[[Any], str]
Mistakes = Callable[..., Iterator[tuple[Sentence, Any] | tuple[Sentence, Any, str]]]


@dataclass(frozen=True, eq=False)
class Mistake:
    """A known wrong answer and the sentence that it gets.

    Attributes:
        answer: Returns the wrong value.
        sentence: Returns the sentence, from the arguments of a case.
        line: Where it is declared.
        hint: The hint for this mistake; empty if there is none.
    """

    answer: Answer
    sentence: Callable[..., Sentence]
    line: int | None
    hint: str = ""


class DeclaredExercise(Exercise):
    """An exercise whose answer is compared with the author's solution on several cases.

    Attributes:
        incomplete: What `mistake` was called with where it then decorated no function; in
            `@rnn_step.mistake` without a sentence, it is the function itself.
    """

    def __init__(
        self,
        cases: Cases,
        hints: tuple[str, ...],
        returns: Spec,
        otherwise: Sentence | Mapping[str, Sentence],
        observe: Observe | None = None,
    ) -> None:
        name = cases.__name__
        if not isgeneratorfunction(cases) or signature(cases).parameters:
            raise Invalid(
                f"{name}: with `returns=`, write a function without parameters that yields tuples "
                "of arguments. For a check that calls the answer itself, leave `returns=` out."
            )
        if isinstance(otherwise, Mapping):
            _require_part_names(name, returns, otherwise)
        super().__init__(name, cases.__module__, hints)
        self._make_cases = cases
        self._spec = returns
        self._otherwise = otherwise
        self._observe = observe
        self._declarations: list[Callable[[], list[Mistake]]] = []
        self.incomplete: list[Sentence] = []
        self._mistaken: dict[tuple[Mistake, int], Any] = {}
        self._behaviors: list[Check] = []

    def mistake(self, sentence: Sentence, *, hint: str = "") -> Callable[[Answer], Answer]:
        """Declare a wrong answer and the sentence it gets.

        The mistakes are tried in the order of their declaration. One applies where the learner's
        answer agrees with it on every case on which it differs from the author's solution, and the
        first case with a wrong value is one of them. A mistake may return `...` where it makes no
        difference, and for one of several values that does not matter.

        Args:
            sentence: Text, in which `{call}` and `{value}` stand for the call and the learner's
                value on the first case that differs; or a function of that value that returns
                such a text.
            hint: The hint for this mistake, which comes before the others.
        """
        self.incomplete.append(sentence)

        def declare(answer: Answer) -> Answer:
            self.incomplete.remove(sentence)
            declared = Mistake(answer, lambda *arguments: sentence, line_of(answer), hint)
            self._declarations.append(lambda: [declared])
            return answer

        return declare

    def mistakes(self, generator: Mistakes) -> Mistakes:
        """Declare several wrong answers that share intermediate values.

        The decorated function takes the arguments of a case and yields pairs of a sentence and a
        wrong value, or these two and a hint, equally many on every case. See `mistake`.

        Raises:
            Invalid: The exercise has `observe=`.
        """
        if self._observe:
            raise Invalid(f"{self.name}: with `observe=`, declare each mistake with `mistake`.")

        @cache
        def declared() -> list[Mistake]:
            return self._mistakes_of(generator)

        self._declarations.append(declared)
        return generator

    @property
    def known_mistakes(self) -> list[Mistake]:
        """The declared mistakes, in the order in which they are tried.

        Raises:
            Invalid: A generator raises, or yields more mistakes on one case than on another.
        """
        return [mistake for declared in self._declarations for mistake in declared()]

    def behavior(self, check: Check) -> Check:
        """Declare a check that is code, for what a comparison cannot show.

        It gets the learner's function once that agrees with the author's solution on every case.
        """
        self._behaviors.append(check)
        return check

    @cached_property
    def cases(self) -> list[Case]:
        """The calls that are compared.

        Raises:
            Invalid: The author's function raises, or does not yield tuples that fit the solution.
        """
        cases = []
        function = partial(self._observe, None) if self._observe else self.reference()
        called = "`observe=`" if self._observe else "the solution"
        try:
            yielded = list(self._make_cases())
        except Exception as error:
            description = describe_author_error(self._make_cases, error)
            raise Invalid(f"the function that yields the cases raises {description}") from error
        for arguments in yielded:
            if not isinstance(arguments, tuple):
                raise Invalid(
                    f"a case is a tuple of arguments, not {type(arguments).__name__}; with one "
                    "argument write `yield (x,)`"
                )
            try:
                signature(function).bind(*arguments)
            except TypeError as error:
                raise Invalid(
                    f"a case has {len(arguments)} arguments, which do not fit {called} ({error}); "
                    "with one argument write `yield (x,)`"
                ) from error
            cases.append(Case(arguments, parameter_names(function, len(arguments))))
        return cases

    @cached_property
    def expected(self) -> list[Any]:
        """What the author's solution returns on each case, converted.

        Raises:
            Invalid: The cases do not fit the solution, it raises, or it returns something else
                than `returns=` says.
        """
        solution = self.reference()
        try:
            values = self._values(solution)
        except AnswerRaised as error:
            description = describe_author_error(solution, error)
            advice = ". A solution may use only the lab's imports" * ("NameError" in description)
            raise Invalid(f"the solution raises {description}{advice}") from error
        except NotYet as error:
            raise Invalid(f"the solution does not pass its own check: {error}") from error
        for value in values:
            if fault := self._spec.fault(value, value):
                raise Invalid(f"the solution does not return what `returns=` says: {fault}")
        return values

    @property
    def general_sentences(self) -> list[str]:
        """The sentences of `otherwise=` that are text."""
        otherwise = self._otherwise
        sentences = otherwise.values() if isinstance(otherwise, Mapping) else [otherwise]
        return [sentence for sentence in sentences if isinstance(sentence, str)]

    def failure(self, mistake: Mistake) -> str | None:
        """Return why a mistake returns no value that an answer can agree with, if so."""
        try:
            for place in range(len(self.cases)):
                self._mistaken_value(mistake, place)
        except AnswerRaised as error:
            description = describe_author_error(mistake.answer, error)
            takes = "" if " in line " in description else "does not take the arguments of a case: "
            return (
                f"{takes}raises {description}. Correct it; if it is an answer that may well raise "
                "this, declare it with `rejects`"
            )
        except NotYet as error:
            return f"gets a message of the engine, so use `rejects`: {error}"
        return None

    def differs(self, mistake: Mistake) -> bool:
        """Return whether a mistake differs from the author's solution on some case."""
        return any(self._differing(mistake))

    def sentence(self, mistake: Mistake) -> str:
        """Return the declared sentence of a mistake, to name it."""
        sentence = self._sentence(mistake, 0)
        return sentence if isinstance(sentence, str) else "a function"

    def message(self, mistake: Mistake) -> str:
        """Return what a learner is told whose answer is this mistake."""
        place = self._differing(mistake).index(True)
        value = self._value(self.completed(mistake), self.cases[place], self._spec.convert)
        return self._mistake_message(mistake, place, value)

    def completed(self, mistake: Mistake) -> Answer:
        """Return the mistake as an answer: with the author's values where it returns `...`."""

        def answer(*arguments: Any) -> Any:
            value = mistake.answer(*arguments)
            if value is ...:
                return self.reference()(*arguments)
            if isinstance(value, tuple | list) and any(part is ... for part in value):
                expected = list(self.reference()(*arguments))
                return [e if v is ... else v for v, e in zip(value, expected, strict=True)]
            return value

        return answer

    def altered_solutions(self) -> Iterator[Answer]:
        """Yield answers that return wrong values on one case, and one of several values there.

        None where not what an answer returns is compared, but what is observed of it.
        """
        if self._observe:
            return
        for case, expected in zip(self.cases, self.expected, strict=True):
            for value in self._spec.altered(expected):
                yield self._except_on(case, value)

    def _except_on(self, case: Case, value: Any) -> Answer:
        """Return the solution as an answer, which returns `value` on one case."""
        solution = self.reference()

        def answer(*arguments: Any) -> Any:
            return solution(*arguments) if case.changed(arguments) else value

        return answer

    def _check(self, answer: Answer) -> None:
        expected = self.expected
        values = self._values(answer)
        if all(map(self._is_correct, values, expected)):
            for check in self._behaviors:
                check(guard(answer))
            return
        for mistake in self.known_mistakes:
            if self._applies(mistake, values):
                place = self._differing(mistake).index(True)
                message = self._mistake_message(mistake, place, values[place])
                raise NotYet(message, mistake.hint)
        for case, value, solution in zip(self.cases, values, expected, strict=True):
            if fault := self._spec.fault(value, solution):
                raise NotYet(fault + self._where(case))
        raise NotYet(self._otherwise_message(values))

    def _values(self, answer: Answer) -> list[Any]:
        """Return the converted values of an answer on all cases, or raise what the learner gets."""
        return [self._value(answer, case, self._spec.convert) for case in self.cases]

    def _value(self, answer: Answer, case: Case, convert: Callable[[Any], Any]) -> Any:
        arguments = case.fresh()
        try:
            with _comparable():
                if self._observe:
                    value = self._observe(guard(answer), *arguments)
                else:
                    value = call_answer(answer, *arguments)
            if changed := case.changed(arguments):
                raise NotYet(f"Your function changes its argument `{changed}`. Work on a copy.")
            if value is None:
                raise NotYet(
                    "Your function returns nothing. Is there a `return`?"
                    if case is self.cases[0]
                    else "Your function returns None. Does every branch return a value?"
                )
            return convert(value)
        except (NotYet, AnswerRaised) as error:
            text, where = str(error), self._where(case)
            stop = "." if where and text[-1] not in ".?!" else ""
            raise type(error)(text + stop + where) from error

    def _is_correct(self, value: Any, expected: Any) -> bool:
        return self._spec.agrees(value, expected) and not self._spec.fault(value, expected)

    def _mistaken_values(self, mistake: Mistake) -> list[Any]:
        """Return the values of a mistake; none where it never gets as far as a comparison."""
        try:
            return [self._mistaken_value(mistake, place) for place in range(len(self.cases))]
        except (NotYet, AnswerRaised):
            return []

    def _mistaken_value(self, mistake: Mistake, place: int) -> Any:
        if (mistake, place) not in self._mistaken:
            value = self._value(mistake.answer, self.cases[place], self._spec.convert_open)
            self._mistaken[mistake, place] = value
        return self._mistaken[mistake, place]

    def _mistakes_of(self, generator: Mistakes) -> list[Mistake]:
        try:
            with _comparable():
                yielded = [list(generator(*case.fresh())) for case in self.cases]
        except Exception as error:
            description = describe_author_error(generator, error)
            raise Invalid(
                f"`mistakes` of line {line_of(generator)} raises {description}"
            ) from error
        if len({len(declared) for declared in yielded}) != 1:
            counts = [len(declared) for declared in yielded]
            raise Invalid(
                f"`mistakes` must yield as many pairs on each case, not {counts}; yield `...` as a "
                "value where a mistake makes no difference"
            )
        return [
            Mistake(
                lambda *arguments, number=number: list(generator(*arguments))[number][1],
                lambda *arguments, number=number: list(generator(*arguments))[number][0],
                line_of(generator),
                *hint,
            )
            for number, (_, _, *hint) in enumerate(yielded[0])
        ]

    def _differing(self, mistake: Mistake) -> list[bool]:
        """Return for each case whether the mistake differs from the author's solution."""
        wrong = self._mistaken_values(mistake)
        pairs = zip(self.expected, wrong, strict=False)
        return [w is not ... and not self._spec.agrees(e, w) for e, w in pairs]

    def _applies(self, mistake: Mistake, values: list[Any]) -> bool:
        """Return whether a mistake explains the first wrong value, and contradicts no other one."""
        correct = map(self._is_correct, values, self.expected)
        first = next(place for place, is_correct in enumerate(correct) if not is_correct)
        # Most mistakes are excluded by this case, so that the others need not be computed.
        if not self._explains(mistake, first, values[first]):
            return False
        pairs = zip(self._differing(mistake), values, self._mistaken_values(mistake), strict=False)
        matches = [self._spec.agrees(value, wrong) for differs, value, wrong in pairs if differs]
        return bool(matches) and all(matches)

    def _explains(self, mistake: Mistake, place: int, value: Any) -> bool:
        """Return whether a wrong value on one case may come from a mistake."""
        try:
            wrong = self._mistaken_value(mistake, place)
        except (NotYet, AnswerRaised):
            return False
        if wrong is ...:
            return True
        differs = not self._spec.agrees(self.expected[place], wrong)
        return differs and self._spec.agrees(value, wrong)

    def _mistake_message(self, mistake: Mistake, place: int, value: Any) -> str:
        return self._render(self._sentence(mistake, place), place, value)

    def _sentence(self, mistake: Mistake, place: int) -> Sentence:
        with _comparable():
            return mistake.sentence(*self.cases[place].fresh())

    def _otherwise_message(self, values: list[Any]) -> str:
        pairs = list(zip(values, self.expected, strict=True))
        if isinstance(self._otherwise, Mapping):
            assert isinstance(self._spec, Several)
            parts = [spec.name for spec in self._spec.parts]
            for name, sentence in self._otherwise.items():
                number = parts.index(name)
                spec = self._spec.parts[number]
                for place, (value, expected) in enumerate(pairs):
                    if not spec.agrees(value[number], expected[number]):
                        return self._render(sentence, place, value[number])
        place = next(i for i, pair in enumerate(pairs) if not self._is_correct(*pair))
        assert not isinstance(self._otherwise, Mapping)
        return self._render(self._otherwise, place, values[place])

    def _render(self, sentence: Sentence, place: int, value: Any) -> str:
        """Fill in a sentence about what the learner's function returned on one case."""
        plain = value.item() if isinstance(value, np.ndarray) and value.ndim == 0 else value
        text = sentence(plain) if callable(sentence) else sentence
        text = text.replace("{call}", self.cases[place].call(self.name))
        return text.replace("{value}", _in_short(plain))

    def _where(self, case: Case) -> str:
        """Return a sentence that tells the call, where it helps to repeat what went wrong."""
        if self._observe:
            sizes = "" if case is self.cases[0] else case.describe_sizes()
            return f" The case was {sizes}." if sizes else ""
        if case.is_short:
            return f" The call was `{case.call(self.name)}`." if case.arguments else ""
        if case is self.cases[0]:
            return ""
        sizes = case.describe_sizes()
        return f" The call was `{case.call(self.name)}`" + (f" with {sizes}." if sizes else ".")


@contextmanager
def _comparable() -> Iterator[None]:
    """Keep results from depending on Keras' global precision, and quiet about infinities."""
    with ExitStack() as stack:
        stack.enter_context(np.errstate(all="ignore"))
        if "keras" in sys.modules:
            stack.enter_context(in_float32())
        yield


def _require_part_names(name: str, returns: Spec, otherwise: Mapping[str, Sentence]) -> None:
    parts = [part.name for part in returns.parts] if isinstance(returns, Several) else []
    if sorted(parts) != sorted(otherwise):
        raise Invalid(
            f"{name}: `otherwise=` as a dict has one sentence for each of the returned values, by "
            f"name: {', '.join(parts) or 'write it as text, since there is only one value'}."
        )


def _in_short(value: Any) -> str:
    if isinstance(value, float | np.floating):
        return f"{value:.4g}"
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape}"
    return str(value)
