"""Class names that look the same: which they are, and how they are shown."""

import pytest

from dltlab.data.importing.class_names import shown_apart, similar_names


@pytest.mark.parametrize(
    "names",
    [
        ["Cat", "cat"],
        ["sea lion", "sea  lion", "sealion"],
        ["caf\u00e9", "cafe\u0301"],
        ["ﬁsh", "fish"],
        ["STRASSE", "straße"],
        ["cat", "cat "],
    ],
)
def test_names_that_differ_in_case_spaces_or_unicode_form_are_similar(names: list[str]) -> None:
    assert similar_names([*names, "dog", "cats"]) == [sorted(names)]


def test_different_names_are_not_similar() -> None:
    assert similar_names(["cat", "cats", "bat", "cat_2", "cat-2", "cat"]) == []


def test_names_that_look_the_same_are_shown_with_escapes() -> None:
    assert shown_apart(["Cat", "cat"]) == ["'Cat'", "'cat'"]
    assert shown_apart(["caf\u00e9", "cafe\u0301"]) == ["'caf\\xe9'", "'cafe\\u0301'"]
