"""The symbols of a text and their numbers: any Unicode there and back."""

import json
import unicodedata
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dltlab.display import printable
from dltlab.errors import LabError
from dltlab.files import write_atomically

_CODE_POINTS = "utf-32-le"  # four bytes a code point; "surrogatepass" takes lone surrogates, too


@dataclass(frozen=True)
class Vocabulary:
    """The different characters of a text; each one's place among them is its number.

    A character is a Unicode code point. What a reader sees as one may be several: a letter and the
    accent over it, or the parts of an emoji.

    Attributes:
        symbols: In the order of their code points.

    Raises:
        LabError: The symbols are not single characters, each once and in order.
    """

    symbols: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.symbols:
            raise LabError("A vocabulary needs symbols: take them from a text that is not empty.")
        if any(len(each) != 1 for each in self.symbols):
            raise LabError("The symbols of a vocabulary must be single characters.")
        if list(self.symbols) != sorted(set(self.symbols)):
            raise LabError(
                "The symbols of a vocabulary must stand in the order of their code points, each "
                "once: Vocabulary.of(text) makes them so."
            )

    @classmethod
    def of(cls, text: str) -> "Vocabulary":
        """The vocabulary of all characters that are in `text`.

        Raises:
            LabError: The text is empty.
        """
        return cls(tuple(sorted(set(text))))

    @classmethod
    def load(cls, path: str | Path) -> "Vocabulary":
        """The vocabulary that `save` has written.

        Raises:
            LabError: There is no such file, or it holds something else.
        """
        try:
            symbols = json.loads(Path(path).read_text(encoding="utf-8"))["symbols"]
            return cls(tuple(map(str, symbols)))
        except OSError as error:
            raise LabError(
                f"{path} cannot be read ({error.strerror or error}): name the file that "
                "Vocabulary.save has written beside the model."
            ) from error
        except (ValueError, KeyError, TypeError, LabError) as error:
            raise LabError(
                f"{path} holds no vocabulary: save it again with Vocabulary.of(text).save(path), "
                "from the text that the model was trained on."
            ) from error

    def save(self, path: str | Path) -> None:
        """Write the symbols to a JSON file, as what belongs to a model trained on them.

        Raises:
            LabError: The file cannot be written.
        """
        # A list: side by side in one string, two lone surrogates would be read back as one symbol.
        write_atomically(Path(path), json.dumps({"symbols": self.symbols}))

    def __len__(self) -> int:
        return len(self.symbols)

    def encode(self, text: str) -> np.ndarray:
        """The numbers of the characters of `text`, int32 `(n,)`.

        Raises:
            LabError: A character is none of the symbols.
        """
        points, known = _code_points(text), _code_points("".join(self.symbols))
        places = np.minimum(np.searchsorted(known, points), len(known) - 1)
        unknown = np.flatnonzero(known[places] != points)
        if len(unknown):
            where = int(unknown[0])
            raise LabError(
                f"The character {described(text[where])} at place {where} is none of the "
                f"{len(self)} symbols of this vocabulary: leave it out or write another one, or "
                "train on a text that has it."
            )
        return places.astype(np.int32)

    def decode(self, ids: np.ndarray) -> str:
        """The text of numbers, integers `(n,)`: what `encode` was given.

        Raises:
            LabError: A number is that of no symbol.
        """
        numbers = np.asarray(ids, np.int64)
        wrong = numbers[(numbers < 0) | (numbers >= len(self))]
        if len(wrong):
            raise LabError(
                f"There is no symbol {wrong[0]}: this vocabulary has the numbers from 0 to "
                f"{len(self) - 1}. Use the one that the numbers were made with."
            )
        return "".join(map(self.symbols.__getitem__, numbers.tolist()))


def described(character: str) -> str:
    """A character as a reader finds it in a table of Unicode: 'é' (U+00E9, LATIN SMALL …)."""
    name = unicodedata.name(character, "")
    point = f"U+{ord(character):04X}"
    return f"'{printable(character)}' ({', '.join(filter(None, (point, name)))})"


def _code_points(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(_CODE_POINTS, "surrogatepass"), "<u4")
