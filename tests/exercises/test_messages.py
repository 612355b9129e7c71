import re
import sys
from pathlib import Path

import pytest

from dltlab.exercises import Outcome
from dltlab.exercises.messages import Message, verdict


@pytest.mark.parametrize(
    ("message", "rendered"),
    [
        ("plain", "plain"),
        ("a < b & c", "a &lt; b &amp; c"),
        ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
        ("use `a < b`", "use <code>a &lt; b</code>"),
        ("`<img src=x onerror=y>`", "<code>&lt;img src=x onerror=y&gt;</code>"),
        ("one\ntwo", "one<br>\ntwo"),
        ("an odd ` backtick", "an odd ` backtick"),
        ("a * b * c, __init__ and x_1_", "a * b * c, __init__ and x_1_"),
        ("![image](https://a.test/b.png)", "![image](https://a.test/b.png)"),
        ("[link](javascript:alert(1))", "[link](javascript:alert(1))"),
        ("# no heading", "# no heading"),
        ("from $1 to $2", "from <span>$</span>1 to <span>$</span>2"),
    ],
)
def test_only_code_and_line_breaks_are_rendered_and_everything_is_escaped(message, rendered):
    html = Message("x", "hint", message)._repr_html_()

    assert f'<p style="margin: 2px 0">{rendered}</p>' in html


def test_a_block_of_code_is_rendered_and_escaped():
    html = Message("x", "solution", "Look:\n```python\nx = '<b>'\n```\nDone.")._repr_html_()

    assert "<pre><code class=\"language-python\">x = '&lt;b&gt;'\n</code></pre>" in html
    assert "Done.</p>" in html


def test_the_name_and_label_are_escaped():
    text = Message('<b>"', '"><script>', "")._repr_html_()

    assert "<script>" not in text
    assert "<b>" not in text
    assert 'data-outcome="&quot;&gt;&lt;script&gt;"' in text


def test_each_outcome_has_its_own_sign_and_color():
    texts = [verdict("x", outcome, "")._repr_html_() for outcome in (*Outcome, None)]

    assert [text.split(" x:")[0][-1] for text in texts] == ["✓", "→", "✗", "·", "✗"]
    assert len({text.split("6px solid ")[1].split(";")[0] for text in texts[:4]}) == 4


def test_buttons_are_on_the_card_and_not_in_the_plain_text():
    message = Message("x", "not yet", "No.", buttons={"Hint 1 of 1": "Use `<b>`."})

    html = message._repr_html_()
    assert "<details><summary>Hint 1 of 1</summary>" in html
    assert "Use <code>&lt;b&gt;</code>." in html
    assert str(message) == "x: not yet. No."


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("outcome", [*Outcome, None])
def test_the_heading_of_a_card_has_a_contrast_of_4_5_to_1_in_both_themes(theme, outcome):
    html = verdict("x", outcome, "")._repr_html_()
    (style,) = re.findall(r'data-outcome="[^"]*" style="([^"]*)"', html)
    (heading,) = re.findall("<strong[^>]*>", html)
    assert heading == "<strong>"  # in the color of the card
    assert "background" not in style

    colors = theme_colors(theme)
    (name,) = re.findall(r"; color: var\((--[\w-]+), inherit\)", style)
    for paper in ("--jp-layout-color0", "--jp-layout-color1"):
        assert contrast(colors(name), colors(paper)) >= 4.5


def theme_colors(theme):
    """Return a function from the name of a color of JupyterLab to its red, green, blue, alpha."""
    folder = Path(sys.prefix, "share/jupyter/lab/themes/@jupyterlab")
    text = (folder / f"theme-{theme}-extension" / "index.css").read_text()
    values = dict(re.findall(r"(--jp-[\w-]+):([^;}]+)", text))

    def color(name):
        value = re.sub(r"var\(--md-[\w-]+,(.*)\)", r"\1", values[name])
        if value.startswith("rgba"):
            *parts, alpha = (float(part) for part in re.findall(r"[\d.]+", value))
            return *(part / 255 for part in parts), alpha
        digits = {"white": "fff", "black": "000"}.get(value, value.lstrip("#"))
        digits = digits if len(digits) == 6 else "".join(2 * digit for digit in digits)
        return *(int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)), 1

    return color


def contrast(color, paper):
    """Return the contrast of a color on paper (www.w3.org/TR/WCAG21/#dfn-contrast-ratio)."""
    *parts, alpha = color
    seen = [alpha * part + (1 - alpha) * below for part, below in zip(parts, paper, strict=False)]

    def luminance(parts):
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted([luminance(seen), luminance(paper[:3])])
    return (light + 0.05) / (dark + 0.05)
