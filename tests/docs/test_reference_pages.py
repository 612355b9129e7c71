import pytest

from docs.extensions.reference_pages import (
    MODULES,
    as_restructured_text,
    comment,
    directive,
    exported,
    page,
    rooms,
)


@pytest.mark.parametrize("room", rooms())
def test_the_page_of_a_room_documents_every_name_that_it_exports(room):
    text = page(f"dltlab.{room}", exported(room))

    for name in exported(room):
        assert f"   {name}\n" in text  # in the table
        assert f":: dltlab.{room}.{name}\n" in text


def test_the_kind_of_a_name_decides_how_it_is_documented():
    assert directive("dltlab.errors", "Invalid").startswith(".. autoexception::")
    assert directive("dltlab.data", "load").startswith(".. autofunction::")
    assert directive("dltlab.data", "Vocabulary").startswith(".. autoclass::")
    assert directive("dltlab.data", "RESIZES").startswith(".. autodata::")


def test_every_constant_has_a_comment_that_describes_it():
    modules = MODULES | {f"dltlab.{room}": exported(room) for room in rooms()}
    constants = [
        (module, name)
        for module, names in modules.items()
        for name in names
        if directive(module, name).startswith(".. autodata::")
    ]

    assert ("dltlab.display", "PALETTE") in constants
    assert [constant for constant in constants if not comment(*constant)] == []


def test_an_indented_block_is_code():
    text = ["Do this:", "", "    plan()", "", "    act()", "", "Then that."]

    assert as_restructured_text(text) == [
        *("Do this:", "", ".. code-block:: python", ""),
        *("    plan()", "", "    act()", "", "Then that."),
    ]


def test_a_fenced_block_is_code():
    text = ["Do this:", "```python", "act()", "```", "Then that."]

    assert as_restructured_text(text) == [
        *("Do this:", "", ".. code-block:: python", ""),
        *("    act()", "", "Then that."),
    ]


def test_the_sections_of_google_style_are_kept():
    text = [
        "Act.",
        "",
        "Args:",
        "    x: A number,",
        "        of any size.",
        "",
        "Returns:",
        "    y.",
    ]

    assert as_restructured_text(text) == text
