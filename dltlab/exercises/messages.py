"""What an exercise says to the learner: a card in a notebook, the same words in a terminal."""

import html
import re
from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """The outcome of checking an answer."""

    PASSED = "passed"
    NOT_YET = "not yet"
    ERROR = "error"
    UNATTEMPTED = "unattempted"


# JupyterLab's own theme colors, with a fallback for pages that have none.
_COLORS = {
    "passed": "var(--jp-success-color1, #388e3c)",
    "not yet": "var(--jp-warn-color1, #f57c00)",
    "error": "var(--jp-error-color1, #d32f2f)",
    "broken check": "var(--jp-error-color1, #d32f2f)",
}
_NEUTRAL = "var(--jp-info-color1, #0288d1)"
_SIGNS = {"passed": "✓", "not yet": "→", "error": "✗", "broken check": "✗"}


@dataclass(frozen=True, repr=False)
class Message:
    """A titled message about one exercise.

    Attributes:
        exercise: Name of the exercise or question.
        label: What kind of message it is, such as "hint 1 of 2".
        text: The message; single backticks mark code, three of them a block of code.
    """

    exercise: str
    label: str
    text: str

    def __str__(self) -> str:
        text = re.sub(r"```(?:python)?\n(.*?)```", r"\n\1", self.text, flags=re.DOTALL)
        return f"{self.exercise}: {self.label}. {text}".rstrip()

    __repr__ = __str__

    def show(self) -> None:
        """Display the message, or print it where nothing can be displayed."""
        from IPython.display import display

        display(self)

    def _repr_html_(self) -> str:
        color = _COLORS.get(self.label, _NEUTRAL)
        sign = _SIGNS.get(self.label, "·")
        return (
            f'<div class="dltlab-card" data-outcome="{html.escape(self.label)}" style="'
            f"border-left: 4px solid {color}; padding: 6px 12px; margin: 4px 0; "
            'max-width: 52em; line-height: 1.5">'
            f'<span style="color: {color}; font-weight: 600">{sign} '
            f"{html.escape(self.exercise)}: {html.escape(self.label)}</span>"
            f"<div>{_to_html(self.text)}</div></div>"
        )


@dataclass(frozen=True, repr=False)
class Verdict(Message):
    """The message of a check.

    Attributes:
        outcome: None where the check itself is broken.
    """

    outcome: Outcome | None


def verdict(exercise: str, outcome: Outcome | None, text: str) -> Verdict:
    """Return the verdict whose label is its outcome."""
    return Verdict(exercise, outcome.value if outcome else "broken check", text, outcome)


def _to_html(text: str) -> str:
    """Render code spans, code blocks and line breaks of Markdown; escape everything else."""
    from markdown_it import MarkdownIt

    markdown = MarkdownIt("zero", {"breaks": True}).enable(["backticks", "fence", "newline"])
    markdown.add_render_rule("paragraph_open", lambda *_: '<p style="margin: 2px 0">')
    return str(markdown.render(text))
