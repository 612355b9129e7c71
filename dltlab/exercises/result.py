"""What a check says, as a card in a notebook and as the same words in plain text."""

import html
import re
from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """How an answer stands."""

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
class Card:
    """A titled message about one exercise; `backticks` mark code, three of them a block."""

    exercise: str
    label: str
    message: str

    def __str__(self) -> str:
        message = re.sub(r"```(?:python)?\n(.*?)```", r"\n\1", self.message, flags=re.DOTALL)
        return f"{self.exercise}: {self.label}. {message}".rstrip()

    __repr__ = __str__

    def show(self) -> None:
        """Display the card, or print its words where nothing can be displayed."""
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
            f"<div>{_rich(self.message)}</div></div>"
        )


@dataclass(frozen=True, repr=False)
class Result(Card):
    """The card of a check; `outcome` is None when the check itself is broken."""

    outcome: Outcome | None


def result(exercise: str, outcome: Outcome | None, message: str) -> Result:
    """The card that tells `outcome`."""
    return Result(exercise, outcome.value if outcome else "broken check", message, outcome)


def _rich(message: str) -> str:
    """Escape `message`, then render its code and line breaks."""
    pieces = re.split(r"```(?:python)?\n(.*?)```", message, flags=re.DOTALL)
    rendered = []
    for number, piece in enumerate(pieces):
        escaped = html.escape(piece)
        if number % 2:
            rendered.append(f'<pre style="margin: 6px 0">{escaped}</pre>')
        else:
            code = re.sub(r"`([^`\n]+)`", r"<code>\1</code>", escaped)
            rendered.append(code.replace("\n", "<br>"))
    return "".join(rendered)
