"""English prose that comes with Python: the language reference behind `help()`."""

import re

import numpy as np

from dltlab.data.card import ALL, TextCard
from dltlab.data.formats.registry import register
from dltlab.errors import Unavailable

_TRAIN_FRACTION = 0.9  # of all characters
_HEADING_LINE = re.compile(r"^([*=\-~^])\1{2,}\n", re.MULTILINE)


@register("python_docs")
class PythonDocsCard(TextCard):
    """The topics of Python's documentation, each a document.

    In alphabetical order, the first topics are for training, up to nine tenths of all characters,
    the others for validation.
    """

    def read(self, split: str) -> list[str]:
        """Return the topics of a split, or of "all"."""
        documents = [f"{topic}\n\n{text}" for topic, text in python_docs()]
        if split == ALL:
            return documents
        ends = np.cumsum([len(document) for document in documents])
        num_train = int(np.searchsorted(ends, ends[-1] * _TRAIN_FRACTION))
        return documents[:num_train] if split == "train" else documents[num_train:]


def python_docs() -> list[tuple[str, str]]:
    """Return the topics of Python's `help()` and their texts, in alphabetical order.

    They come from CPython's module `pydoc_data.topics`; their license is PSF-2.0, that of Python
    (https://docs.python.org/3/license.html). The text is English with code in quotes, indented
    examples, grammar rules and a few tables. Two things are left out: the rows of `*`, `=`, `-` or
    `~` below headings, and every topic that is also a section of a longer one (more than a quarter
    of them), because a training text must not contain the validation text.

    The text changes with the version of Python. That of 3.11.7 has 57 topics and 369,690
    characters, 103 different ones: ASCII, curly quotes, two dashes, and `…`, `ß` and `°`.

    Returns:
        Pairs of a topic's name and its text; lines end with a line feed only.

    Raises:
        Unavailable: This Python does not include the module.
    """
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise Unavailable(
            "This Python has no documentation: its module pydoc_data.topics is missing. Install "
            "the rest of the standard library, or use a Python from python.org, uv or conda."
        ) from error
    texts = {name: _plain(text) for name, text in sorted(topics.items())}
    return [(name, text) for name, text in texts.items() if not _is_in_another(name, texts)]


def _plain(text: str) -> str:
    unix = text.replace("\r\n", "\n").replace("\r", "\n")
    return _HEADING_LINE.sub("", unix).strip("\n") + "\n"


def _is_in_another(name: str, texts: dict[str, str]) -> bool:
    """Return whether another topic contains this one; the first of two equal topics stays."""
    text = texts[name]
    return any(
        text in other and (text != other or key < name)
        for key, other in texts.items()
        if key != name
    )
