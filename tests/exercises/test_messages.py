import pytest

from dltlab.exercises import Message, Outcome
from dltlab.exercises.messages import verdict


@pytest.mark.parametrize(
    ("message", "rendered"),
    [
        ("plain", "plain"),
        ("a < b & c", "a &lt; b &amp; c"),
        ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
        ("use `a < b`", "use <code>a &lt; b</code>"),
        ("`<img src=x onerror=y>`", "<code>&lt;img src=x onerror=y&gt;</code>"),
        ("one\ntwo", "one<br>two"),
        (
            "```python\nx = '<b>'\n```",
            '<pre style="margin: 6px 0">x = &#x27;&lt;b&gt;&#x27;\n</pre>',
        ),
        ("an odd ` backtick", "an odd ` backtick"),
    ],
)
def test_a_message_is_escaped_and_its_code_is_rendered(message, rendered):
    assert f"<div>{rendered}</div></div>" in Message("x", "hint", message)._repr_html_()


def test_the_name_and_label_are_escaped():
    text = Message('<b>"', '"><script>', "")._repr_html_()

    assert "<script>" not in text
    assert "<b>" not in text
    assert 'data-outcome="&quot;&gt;&lt;script&gt;"' in text


def test_each_outcome_has_its_own_sign_and_color():
    texts = [verdict("x", outcome, "")._repr_html_() for outcome in (*Outcome, None)]

    assert [text.split(" x:")[0][-1] for text in texts] == ["✓", "→", "✗", "·", "✗"]
    assert len({text.split("solid ")[1].split(";")[0] for text in texts[:4]}) == 4
