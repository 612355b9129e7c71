"""Images in a text file that lists their paths and classes."""

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from dltlab.data.image_file import SUFFIXES
from dltlab.data.importing.candidates import Candidate, Listing
from dltlab.errors import Invalid

SEPARATORS = {".txt": None, ".csv": ",", ".tsv": "\t"}


@dataclass(frozen=True)
class ListSource:
    """A text file with the path of an image and its class in each line.

    In a .csv or .tsv file these are the first two fields, and a first line that does not name a
    file is a heading; in a .txt file the class is the last word. Paths are relative to the folder
    of the list.
    """

    path: Path

    def listing(self) -> Listing:
        """List every line."""
        listing = Listing()
        for number, fields in enumerate(self._lines(), 1):
            if len(fields) < 2 or not fields[0] or not fields[1] or "\0" in fields[0]:
                if any(fields):
                    listing.left_out.append((f"line {number}", "does not name image and class"))
            elif number == 1 and self._is_heading(fields[0]):
                listing.left_out.append(("line 1", "is the heading"))
            elif not (self.path.parent / fields[0]).resolve().is_relative_to(self._root):
                listing.left_out.append((fields[0], "leads outside the folder of the list"))
            else:
                listing.candidates.append(Candidate(fields[0], fields[1]))
        listing.candidates.sort(key=lambda candidate: candidate.name)
        return listing

    def contents(self, candidates: Iterable[Candidate]) -> Iterator[tuple[Candidate, Path]]:
        """Yield each candidate with its path."""
        return ((candidate, self.path.parent / candidate.name) for candidate in candidates)

    @property
    def _root(self) -> Path:
        return self.path.parent.resolve()

    @property
    def _separator(self) -> str | None:
        return SEPARATORS[self.path.suffix.lower()]

    def _is_heading(self, name: str) -> bool:
        return self._separator is not None and not (
            name.lower().endswith(SUFFIXES) or (self.path.parent / name).exists()
        )

    def _lines(self) -> list[list[str]]:
        """Return the fields of each line.

        Raises:
            Invalid: The file cannot be read as a list.
        """
        try:
            with self.path.open(encoding="utf-8-sig", newline="") as file:
                rows = (
                    csv.reader(file, delimiter=self._separator)
                    if self._separator
                    else (line.rsplit(maxsplit=1) for line in file)
                )
                return [[field.strip() for field in row] for row in rows]
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise Invalid(f"{self.path} cannot be read as a list in UTF-8: {error}.") from error
