"""A text to train on, divided, with its vocabulary: of a data set or of a user's file."""

from dataclasses import dataclass
from pathlib import Path

from dltlab.data.load import text
from dltlab.data.vocabulary import Vocabulary, describe_character
from dltlab.errors import Invalid, NotFound, Unavailable


@dataclass(frozen=True)
class Corpus:
    """A text in two parts.

    Attributes:
        name: The name of the data set or the file.
        train: The part to train on.
        validation: The part after it, to validate on.
        vocabulary: The symbols of both parts.
    """

    name: str
    train: str
    validation: str
    vocabulary: Vocabulary

    def __repr__(self) -> str:
        return (
            f"Corpus({self.name!r}: {len(self.train):,} characters to train on, "
            f"{len(self.validation):,} to validate on, {len(self.vocabulary)} symbols)"
        )


def corpus(source: str | Path, *, validation: float = 0.1) -> Corpus:
    """Load a text to train on.

    Args:
        source: A data set of text, as "python_docs", divided as its card says; or the path of a
            text file in UTF-8. A string with a suffix or a folder, as "book.txt" and "./book", is
            a path.
        validation: The fraction of a file, at its end, to validate on, in (0, 1).

    Raises:
        NotFound: There is no such data set or file.
        Unavailable: The file cannot be read.
        Invalid: The file is not a text in UTF-8, it is empty or repeats one character, or the
            fraction is out of its range.
        LabError: The files of the data set are not available or damaged.
    """
    if not 0 < validation < 1:
        raise Invalid(f"validation is {validation}; it must be a fraction between 0 and 1.")
    path = Path(source).expanduser()
    if isinstance(source, Path) or path.suffix or path.name != source:
        content = _read(path)
        num_train = int(len(content) * (1 - validation))
        parts = content[:num_train], content[num_train:]
    else:
        parts = text(source, "train"), text(source, "validation")
    return Corpus(path.name, *parts, Vocabulary.of("".join(parts)))


def _read(path: Path) -> str:
    """Return the text of a file.

    Raises:
        LabError: As `corpus` does.
    """
    try:
        encoded = path.read_bytes()
    except FileNotFoundError as error:
        raise NotFound(f"{path} does not exist: name a text file in UTF-8.") from error
    except OSError as error:
        raise Unavailable(
            f"{path} cannot be read ({error.strerror or error}): name a text file in UTF-8."
        ) from error
    try:
        content = encoded.decode()
    except UnicodeDecodeError as error:
        raise Invalid(
            f"{path} is not a text in UTF-8 (byte {encoded[error.start]:#04x} at offset "
            f"{error.start:,}): open it in an editor and save it with the encoding UTF-8."
        ) from error
    content = content.removeprefix("\ufeff")  # the byte order mark that some editors write
    if not content:
        raise Invalid(f"{path} is empty: name a longer text.")
    if len(set(content)) == 1:
        raise Invalid(
            f"{path} only repeats the character {describe_character(content[0])}: there is nothing "
            "to learn from. Name another text."
        )
    return content
