"""The text of Python's own documentation."""

import re
import sys

import pytest

from dltlab.data.python_docs import python_docs
from dltlab.errors import LabError


def test_there_are_topics_in_alphabetical_order_with_plenty_of_text() -> None:
    names = [name for name, _ in python_docs()]
    assert names == sorted(set(names))
    assert {"strings", "types", "compound"} <= set(names)
    assert sum(len(text) for _, text in python_docs()) > 300_000


def test_the_text_is_english_with_few_symbols_beyond_ascii() -> None:
    whole = "".join(text for _, text in python_docs())
    assert whole.count(" the ") > 2000
    assert len(set(whole)) < 120
    assert sum(not letter.isascii() for letter in whole) < len(whole) / 500


def test_lines_end_alike_and_no_text_begins_or_ends_empty() -> None:
    for _, text in python_docs():
        assert "\r" not in text
        assert text == text.strip("\n") + "\n"


def test_no_heading_is_underlined_and_tables_stay_whole() -> None:
    whole = "".join(text for _, text in python_docs())
    assert not re.search(r"^(\*\*\*+|===+|---+|~~~+)$", whole, re.MULTILINE)
    assert re.search(r"^\+-+\+-+\+$", whole, re.MULTILINE)


def test_no_topic_is_part_of_another() -> None:
    texts = [text for _, text in python_docs()]
    assert not any(text in other for text in texts for other in texts if other is not text)


def test_hardly_a_paragraph_occurs_twice() -> None:
    paragraphs = [part for _, text in python_docs() for part in text.split("\n\n")]
    assert sum(map(len, set(paragraphs))) > 0.99 * sum(map(len, paragraphs))


def test_a_python_without_the_documentation_is_answered_with_the_mend(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(LabError, match=r"pydoc_data\.topics is missing\. Install"):
        python_docs()
