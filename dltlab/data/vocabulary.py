"""The symbols of a text and their ids, for any Unicode text."""

import json
import unicodedata
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dltlab.display import printable
from dltlab.errors import Damaged, Invalid, NotFound, Unavailable
from dltlab.files import write_atomically

_CODE_POINTS = "utf-32-le"  # four bytes per code point; "surrogatepass" allows lone surrogates


@dataclass(frozen=True)
class Vocabulary:
    """The different characters of a text; the id of a character is its index.

    A character is a Unicode code point. What a reader sees as one character may be several: a
    letter and the accent over it, or the parts of an emoji.

    Attributes:
        symbols: The characters, in the order of their code points.

    Raises:
        Invalid: The symbols are not single, different characters in order.
    """

    symbols: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.symbols:
            raise Invalid("A vocabulary needs symbols: make it from a text that is not empty.")
        if any(len(symbol) != 1 for symbol in self.symbols):
            raise Invalid("The symbols of a vocabulary must be single characters.")
        if list(self.symbols) != sorted(set(self.symbols)):
            raise Invalid(
                "The symbols of a vocabulary must be different and in the order of their code "
                "points: use Vocabulary.of(text)."
            )

    @classmethod
    def of(cls, text: str) -> "Vocabulary":
        """Return the vocabulary of all characters in `text`.

        Raises:
            Invalid: The text is empty.
        """
        return cls(tuple(sorted(set(text))))

    @classmethod
    def load(cls, path: str | Path) -> "Vocabulary":
        """Read a vocabulary that `save` has written.

        Raises:
            NotFound: There is no such file.
            Unavailable: The file cannot be read.
            Damaged: The file holds something else.
        """
        fix = "name the file that Vocabulary.save has written beside the model."
        try:
            symbols = json.loads(Path(path).read_text(encoding="utf-8"))["symbols"]
            return cls(tuple(map(str, symbols)))
        except FileNotFoundError as error:
            raise NotFound(f"{path} does not exist: {fix}") from error
        except OSError as error:
            raise Unavailable(
                f"{path} cannot be read ({error.strerror or error}): {fix}"
            ) from error
        except (ValueError, KeyError, TypeError, Invalid) as error:
            raise Damaged(
                f"{path} does not hold a vocabulary: save it again with "
                "Vocabulary.of(text).save(path), from the text that the model was trained on."
            ) from error

    def save(self, path: str | Path) -> None:
        """Write the symbols to a JSON file, to be kept beside a model trained on them.

        Raises:
            Unavailable: The file cannot be written.
        """
        # A list: adjacent in one string, two lone surrogates would be read back as one symbol.
        write_atomically(Path(path), json.dumps({"symbols": self.symbols}))

    def __len__(self) -> int:
        return len(self.symbols)

    def encode(self, text: str) -> np.ndarray:
        """Return the ids of the characters of `text`, int32 `(n,)`.

        Raises:
            Invalid: A character is not among the symbols.
        """
        points, known = _code_points(text), _code_points("".join(self.symbols))
        ids = np.minimum(np.searchsorted(known, points), len(known) - 1)
        unknown = np.flatnonzero(known[ids] != points)
        if len(unknown):
            index = int(unknown[0])
            raise Invalid(
                f"The character {describe_character(text[index])} at index {index} is not one of "
                f"the {len(self)} symbols of this vocabulary: remove or replace it, or train on a "
                "text that contains it."
            )
        return ids.astype(np.int32)

    def decode(self, ids: np.ndarray) -> str:
        """Return the text of ids, integers `(n,)`; the inverse of `encode`.

        Raises:
            Invalid: There is no symbol of that id.
        """
        indices = np.asarray(ids, np.int64)
        invalid = indices[(indices < 0) | (indices >= len(self))]
        if len(invalid):
            raise Invalid(
                f"There is no symbol {invalid[0]}: this vocabulary has the ids from 0 to "
                f"{len(self) - 1}. Use the vocabulary that the ids were made with."
            )
        return "".join(map(self.symbols.__getitem__, indices.tolist()))


def describe_character(character: str) -> str:
    """Return a character with its code point and name: 'é' (U+00E9, LATIN SMALL …)."""
    name = unicodedata.name(character, "")
    point = f"U+{ord(character):04X}"
    return f"'{printable(character)}' ({', '.join(filter(None, (point, name)))})"


def _code_points(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(_CODE_POINTS, "surrogatepass"), "<u4")
