"""A question with a few answers to choose from, each with its reason."""

import html
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from string import ascii_lowercase
from typing import Any

from dltlab.course.source import Lab
from dltlab.display import show_widget
from dltlab.errors import LabError
from dltlab.exercises.progress import note
from dltlab.exercises.result import Outcome, Result, result
from dltlab.exercises.source import lab_of


@dataclass(frozen=True)
class Option:
    """One answer to choose: what it says, and why it is or is not so."""

    text: str
    why: str
    right: bool


def right(text: str, why: str) -> Option:
    """The option to choose."""
    return Option(text, why, True)


def wrong(text: str, why: str) -> Option:
    """An option that is not so; `why` helps on without giving the right one away."""
    return Option(text, why, False)


def question(options: Callable[[], list[Option]]) -> "Question":
    """Make a question of a function: its docstring asks, what it returns can be chosen."""
    return Question(options)


class Question:
    """One question; made with the decorator `question`."""

    def __init__(self, options: Callable[[], list[Option]]) -> None:
        self.name = options.__name__
        self.module = options.__module__
        self.text = " ".join((options.__doc__ or "").split())
        self.options = dict(zip(ascii_lowercase, options(), strict=False))

    @cached_property
    def lab(self) -> Lab:
        """The lab that asks."""
        return lab_of(self.module)

    def ask(self) -> None:
        """Show the question with its options; where no widget can be shown, as text."""
        note(self.lab.name, self.name, Outcome.UNATTEMPTED)
        show_widget(self._widget(), str(self))

    def answer(self, letter: str) -> None:
        """Choose an option by its letter, show how it stands, and note it."""
        found = self.evaluate(letter)
        found.show()
        if found.outcome is not None:
            note(self.lab.name, self.name, found.outcome)

    def evaluate(self, letter: str) -> Result:
        """How the option `letter` stands; shows and records nothing.

        Raises:
            LabError: There is no such option.
        """
        option = self.options.get(str(letter).strip().lower())
        if option is None:
            raise LabError(
                f"{self.name} has the options {', '.join(self.options)}, not {letter!r}."
            )
        return result(self.name, Outcome.PASSED if option.right else Outcome.NOT_YET, option.why)

    def __str__(self) -> str:
        lines = [f"  {letter}) {option.text}" for letter, option in self.options.items()]
        example = f'Answer with: ex.{self.name}.answer("{next(iter(self.options))}")'
        return "\n".join([self.text, *lines, example])

    def _widget(self) -> Any:
        import ipywidgets

        choices = ipywidgets.RadioButtons(
            options=[(f"{letter}) {o.text}", letter) for letter, o in self.options.items()],
            index=None,
            layout=ipywidgets.Layout(width="max-content", max_width="100%"),
        )
        button = ipywidgets.Button(description="Check", disabled=True)
        verdict = ipywidgets.HTML()

        def enable(change: Any) -> None:
            button.disabled = False
            verdict.value = ""

        def check(button: Any) -> None:
            found = self.evaluate(choices.value)
            verdict.value = found._repr_html_()
            assert found.outcome is not None
            note(self.lab.name, self.name, found.outcome)

        choices.observe(enable, "value")
        button.on_click(check)
        prompt = ipywidgets.HTML()
        prompt.value = f"<b>{html.escape(self.text)}</b>"
        return ipywidgets.VBox([prompt, choices, button, verdict])
