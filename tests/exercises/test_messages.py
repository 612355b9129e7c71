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
    assert len({text.split("solid ")[1].split(";")[0] for text in texts[:4]}) == 4
