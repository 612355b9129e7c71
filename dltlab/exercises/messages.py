"""What an exercise says to the learner: a card in a notebook, the same words in a terminal."""

import html
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Outcome(StrEnum):
    """The outcome of checking an answer."""

    PASSED = "passed"
    NOT_YET = "not yet"
    ERROR = "error"
    UNATTEMPTED = "unattempted"


# Colors of the border: JupyterLab's own theme colors, with a fallback for pages that have none.
_COLORS = {
    "passed": "var(--jp-success-color1, #388e3c)",
    "not yet": "var(--jp-warn-color1, #f57c00)",
    "error": "var(--jp-error-color1, #d32f2f)",
    "broken check": "var(--jp-error-color1, #d32f2f)",
}
_NEUTRAL = "var(--jp-info-color1, #0288d1)"
_SIGNS = {"passed": "✓", "not yet": "→", "error": "✗", "broken check": "✗"}

# The buttons are in a row; what they open has a row of its own. JupyterLab breaks printed lines
# inside words: the style is copied to the head of the page, where it also applies while the card is
# scrolled out of it.
_STYLE = """<style onload="
const copy = this.cloneNode(true);
copy.id = 'dltlab-style';
document.getElementById(copy.id) ?? document.head.append(copy);
">
.jp-OutputArea-output pre { word-break: normal; overflow-wrap: anywhere; }
.dltlab-buttons { display: flex; flex-wrap: wrap; gap: 6px; margin-top: 6px; }
.dltlab-buttons details[open] { flex-basis: 100%; }
.dltlab-buttons summary { width: max-content; padding: 0 10px; cursor: pointer;
  border: 1px solid var(--jp-border-color1, #bdbdbd); border-radius: 3px;
  background: var(--jp-layout-color2, #eeeeee); }
</style>"""


@dataclass(frozen=True, repr=False)
class Message:
    """A titled message about one exercise.

    Attributes:
        exercise: Name of the exercise or question.
        label: What kind of message it is, such as "hint 1 of 2".
        text: The message; single backticks mark code, three of them a block of code.
        buttons: What buttons on the card show, by their labels; the plain text leaves them out.
    """

    exercise: str
    label: str
    text: str
    buttons: Mapping[str, str] = field(default_factory=dict, kw_only=True)

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
        buttons = "".join(
            f"<details><summary>{html.escape(label)}</summary>{_to_html(text)}</details>"
            for label, text in self.buttons.items()
        )
        return (
            f'{_STYLE}<div class="dltlab-card" data-outcome="{html.escape(self.label)}" style="'
            f"border-left: 6px solid {color}; padding: 6px 12px; margin: 4px 0; "
            'max-width: 60em; line-height: 1.5; color: var(--jp-content-font-color1, inherit)">'
            f"<strong>{sign} {html.escape(self.exercise)}: {html.escape(self.label)}</strong>"
            f"<div>{_to_html(self.text)}</div>"
            f'<div class="dltlab-buttons">{buttons}</div></div>'
        )


@dataclass(frozen=True, repr=False)
class Verdict(Message):
    """The message of a check.

    Attributes:
        outcome: None where the check itself is broken.
        hint: The hint for this very answer; empty if there is none.
    """

    outcome: Outcome | None
    hint: str = ""


def verdict(exercise: str, outcome: Outcome | None, text: str, hint: str = "") -> Verdict:
    """Return the verdict whose label is its outcome."""
    return Verdict(exercise, outcome.value if outcome else "broken check", text, outcome, hint)


def _to_html(text: str) -> str:
    """Render code spans, code blocks and line breaks of Markdown; escape everything else."""
    from markdown_it import MarkdownIt

    markdown = MarkdownIt("zero", {"breaks": True}).enable(["backticks", "fence", "newline"])
    markdown.add_render_rule("paragraph_open", lambda *_: '<p style="margin: 2px 0">')
    # JupyterLab takes the text between two dollar signs of one element for a formula.
    return str(markdown.render(text)).replace("$", "<span>$</span>")
