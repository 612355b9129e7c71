"""English prose that every Python brings along: the language reference behind `help()`."""

import re

from dltlab.errors import LabError

_HEADING_LINE = re.compile(r"^([*=\-~^])\1{2,}\n", re.MULTILINE)


def python_docs() -> list[tuple[str, str]]:
    """The topics of Python's `help()` and their text, in alphabetical order.

    They come from CPython's module `pydoc_data.topics`; their license is PSF-2.0, that of Python
    (https://docs.python.org/3/license.html). The text is English with code in quotes, indented
    examples, grammar rules and a few tables, and stands as it is but for two things. The rows of
    `*`, `=`, `-` or `~` below headings are left out. So is every topic that is also a section of a
    longer one, more than a quarter of them: what a model learns from must not hold what it is
    tested on.

    The text changes with the version of Python. That of 3.11.7 has 57 topics and 369,690
    characters, 103 different ones: ASCII, curly quotes, two dashes, and `…`, `ß` and `°`.

    Returns:
        Pairs of a topic's name and its text; lines end with a line feed alone.

    Raises:
        LabError: This Python came without the module.
    """
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise LabError(
            "This Python has no documentation: its module pydoc_data.topics is missing. Install "
            "the rest of the standard library, or use a Python from python.org, uv or conda."
        ) from error
    texts = {name: _plain(text) for name, text in sorted(topics.items())}
    return [(name, text) for name, text in texts.items() if not _is_elsewhere(name, texts)]


def _plain(text: str) -> str:
    unix = text.replace("\r\n", "\n").replace("\r", "\n")
    return _HEADING_LINE.sub("", unix).strip("\n") + "\n"


def _is_elsewhere(name: str, texts: dict[str, str]) -> bool:
    """Whether another topic holds this one; of two that are equal, the first stays."""
    text = texts[name]
    return any(
        text in other and (text != other or key < name)
        for key, other in texts.items()
        if key != name
    )
