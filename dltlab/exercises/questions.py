"""Multiple-choice questions: one correct option, and a reason for each."""

import html
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from string import ascii_lowercase
from typing import Any

from dltlab.course import Lab
from dltlab.display import show_widget
from dltlab.errors import Invalid
from dltlab.exercises.messages import Outcome, Verdict, verdict
from dltlab.exercises.progress import try_record_outcome
from dltlab.exercises.source import lab_of

# ipywidgets gives each option one line: the lines of a long option would overlap the next one.
_STYLE = """<style>
.dltlab-question .widget-html-content { line-height: 1.5; }
.dltlab-question .widget-radio-box label { display: flex; flex-direction: row-reverse;
  justify-content: flex-end; gap: 6px; height: auto; line-height: 1.5; margin-bottom: 2px; }
.dltlab-question .widget-radio-box input { flex: none; margin: 0 !important; }
.dltlab-question .dltlab-check, .dltlab-question .dltlab-verdict { display: none; }
.dltlab-question:not(:has(input:checked)) .dltlab-check:first-of-type { display: inline-block; }
</style>"""


@dataclass(frozen=True)
class Option:
    """One option of a question.

    Attributes:
        text: What the option says.
        reason: Why it is correct or wrong.
        is_correct: Whether it is the correct one.
    """

    text: str
    reason: str
    is_correct: bool


def correct(text: str, reason: str) -> Option:
    """Return the correct option of a question."""
    return Option(text, reason, True)


def wrong(text: str, reason: str) -> Option:
    """Return a wrong option; `reason` helps without telling the correct one."""
    return Option(text, reason, False)


def question(options: Callable[[], list[Option]]) -> "Question":
    """Make a question of a function: its docstring is the question, it returns the options."""
    return Question(options)


class Question:
    """A multiple-choice question; made by the decorator `question`.

    Attributes:
        name: Name of the question.
        module: Name of the module that holds it.
        text: The question.
        options: The options by their letters.
    """

    def __init__(self, options: Callable[[], list[Option]]) -> None:
        self.name = options.__name__
        self.module = options.__module__
        self.text = " ".join((options.__doc__ or "").split())
        self.options = dict(zip(ascii_lowercase, options(), strict=False))

    @cached_property
    def lab(self) -> Lab:
        """The lab that the question belongs to."""
        return lab_of(self.module)

    def ask(self) -> None:
        """Show the question as a widget, or as text where no widget can be shown."""
        try_record_outcome(self.lab.name, self.name, Outcome.UNATTEMPTED)
        widget = self._widget(lambda answered: store(answered))
        store = show_widget(widget, str(self))

    def answer(self, letter: str) -> None:
        """Choose an option by its letter, show the verdict, and record the outcome."""
        result = self.evaluate(letter)
        result.show()
        self._record(result, letter)

    def evaluate(self, letter: str) -> Verdict:
        """Return the verdict on the option `letter` without showing or recording anything.

        Raises:
            Invalid: There is no such option.
        """
        option = self._option(letter)
        outcome = Outcome.PASSED if option.is_correct else Outcome.NOT_YET
        return verdict(self.name, outcome, option.reason)

    def _option(self, letter: str) -> Option:
        option = self.options.get(str(letter).strip().lower())
        if option is None:
            raise Invalid(f"{self.name} has the options {', '.join(self.options)}, not {letter!r}.")
        return option

    def __str__(self) -> str:
        lines = [f"  {letter}) {option.text}" for letter, option in self.options.items()]
        example = f'Answer with: ex.{self.name}.answer("{next(iter(self.options))}")'
        return "\n".join([self.text, *lines, example])

    def _record(self, result: Verdict, letter: str) -> None:
        assert result.outcome is not None
        option = self._option(letter)
        chosen = "" if option.is_correct else option.text
        try_record_outcome(self.lab.name, self.name, result.outcome, chosen)

    def _widget(self, store: Callable[[str], None]) -> Any:
        """Return the question as a widget; `store` gets the HTML of each answer."""
        import ipywidgets

        prompt = ipywidgets.HTML()
        text = html.escape(_without_backticks(self.text))
        prompt.value = f"{_STYLE}{_show_chosen(len(self.options))}<b>{text}</b>"
        choices = ipywidgets.RadioButtons(
            options=[(_label(letter, option), letter) for letter, option in self.options.items()],
            index=None,
            layout=ipywidgets.Layout(width="max-content", max_width="100%"),
        )
        message = ipywidgets.HTML()

        def check(letter: str) -> None:
            result = self.evaluate(letter)
            text = result._repr_html_()
            message.value = f'<div class="dltlab-verdict" data-option="{letter}">{text}</div>'
            choice = html.escape(_label(letter, self.options[letter]))
            store(f"{prompt.value}<p>You chose {choice}</p>{text}")
            self._record(result, letter)

        buttons = [ipywidgets.Button(description="Check", disabled=True)]
        for letter in self.options:
            buttons.append(ipywidgets.Button(description="Check"))
            buttons[-1].on_click(lambda button, letter=letter: check(letter))
        for button in buttons:
            button.add_class("dltlab-check")
        box = ipywidgets.VBox([prompt, choices, ipywidgets.HBox(buttons), message])
        return box.add_class("dltlab-question")


def _label(letter: str, option: Option) -> str:
    return f"{letter}) {_without_backticks(option.text)}"


def _without_backticks(text: str) -> str:
    """Return the text without the marks of code, which the widget would show as they are."""
    return text.replace("`", "")


def _show_chosen(num_options: int) -> str:
    """Return the style that shows the button of the chosen option, and the verdict on it.

    The first button, which is disabled, belongs to no option. With a single button, and with a
    verdict that the kernel clears when another option is chosen, the result would depend on the
    order in which a busy kernel handles the click and the changes of the options.
    """
    rules = (
        f".dltlab-question:has(label:nth-of-type({place}) input:checked) "
        f":is(.dltlab-check:nth-of-type({place + 1}), .dltlab-verdict[data-option={letter}]) "
        "{ display: block; }"
        for place, letter in enumerate(ascii_lowercase[:num_options], start=1)
    )
    return f"<style>{' '.join(rules)}</style>"
