"""A text to learn from, divided, with its vocabulary: a data set's or a learner's own."""

from dataclasses import dataclass
from pathlib import Path

from dltlab.data.load import text
from dltlab.data.vocabulary import Vocabulary, described
from dltlab.errors import LabError


@dataclass(frozen=True)
class Corpus:
    """A text in two parts.

    Attributes:
        name: Of the data set or the file.
        train: The part to learn from.
        validation: The part that comes after it, to judge by.
        vocabulary: The symbols of both.
    """

    name: str
    train: str
    validation: str
    vocabulary: Vocabulary

    def __repr__(self) -> str:
        return (
            f"Corpus({self.name!r}: {len(self.train):,} characters to learn from, "
            f"{len(self.validation):,} to validate, {len(self.vocabulary)} symbols)"
        )


def corpus(source: str | Path, *, validation: float = 0.1) -> Corpus:
    """A text to learn from.

    Args:
        source: A data set of text, as "python_docs", divided as its card says; or the path of a
            text file of one's own in UTF-8. What has a suffix or a folder, as "book.txt" and
            "./book", is a path.
        validation: The last share of one's own file, which validates, in (0, 1).

    Raises:
        LabError: There is no such data set or file, the file is no text in UTF-8, it is empty or
            repeats one character, or the share is out of its range.
    """
    if not 0 < validation < 1:
        raise LabError(f"validation is {validation}; it must be a share between 0 and 1.")
    path = Path(source).expanduser()
    if isinstance(source, Path) or path.suffix or path.name != source:
        whole = _read(path)
        cut = int(len(whole) * (1 - validation))
        parts = whole[:cut], whole[cut:]
    else:
        parts = text(source, "train"), text(source, "validation")
    return Corpus(path.name, *parts, Vocabulary.of("".join(parts)))


def _read(path: Path) -> str:
    """The text of a file.

    Raises:
        LabError: It cannot be read, or there is nothing to learn in it.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise LabError(
            f"{path} cannot be read ({error.strerror or error}): name a text file in UTF-8."
        ) from error
    try:
        whole = content.decode()
    except UnicodeDecodeError as error:
        raise LabError(
            f"{path} is no text in UTF-8 (the byte {content[error.start]:#04x} at offset "
            f"{error.start:,}): open it in an editor and save it with the encoding UTF-8."
        ) from error
    whole = whole.removeprefix("\ufeff")  # the mark that some editors begin a file with
    if not whole:
        raise LabError(f"{path} is empty: there is nothing to learn from. Name a longer text.")
    if len(set(whole)) == 1:
        raise LabError(
            f"{path} only repeats the character {described(whole[0])}: there is nothing to learn "
            "from. Name another text."
        )
    return whole
