"""The text of Python's own documentation."""

import re
import sys

import pytest

from dltlab.data.formats.python_docs import python_docs
from dltlab.errors import Unavailable


def test_topics_are_in_alphabetical_order_and_long() -> None:
    names = [name for name, _ in python_docs()]
    assert names == sorted(set(names))
    assert {"strings", "types", "compound"} <= set(names)
    assert sum(len(text) for _, text in python_docs()) > 300_000


def test_the_text_is_english_with_few_symbols_beyond_ascii() -> None:
    text = "".join(text for _, text in python_docs())
    assert text.count(" the ") > 2000
    assert len(set(text)) < 120
    assert sum(not character.isascii() for character in text) < len(text) / 500


def test_lines_end_with_a_line_feed_and_no_text_begins_or_ends_with_empty_lines() -> None:
    for _, text in python_docs():
        assert "\r" not in text
        assert text == text.strip("\n") + "\n"


def test_headings_are_not_underlined_and_tables_are_complete() -> None:
    text = "".join(text for _, text in python_docs())
    assert not re.search(r"^(\*\*\*+|===+|---+|~~~+)$", text, re.MULTILINE)
    assert re.search(r"^\+-+\+-+\+$", text, re.MULTILINE)


def test_no_topic_is_part_of_another() -> None:
    texts = [text for _, text in python_docs()]
    assert not any(text in other for text in texts for other in texts if other is not text)


def test_hardly_any_paragraph_occurs_twice() -> None:
    paragraphs = [part for _, text in python_docs() for part in text.split("\n\n")]
    assert sum(map(len, set(paragraphs))) > 0.99 * sum(map(len, paragraphs))


def test_a_python_without_documentation_is_reported_with_the_fix(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(Unavailable, match=r"pydoc_data\.topics is missing\. Install"):
        python_docs()
