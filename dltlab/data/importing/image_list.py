"""Images in a text file that lists their paths and classes."""

import csv
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from dltlab.data.importing.candidates import Candidate, Listing
from dltlab.data.importing.layout import split_of
from dltlab.data.importing.list_columns import Columns, columns_of, field_in, names_image
from dltlab.data.importing.wording import shortened
from dltlab.display import printable
from dltlab.errors import Invalid

SUFFIXES_OF_LISTS = (".txt", ".csv", ".tsv")
_SAMPLE_LINES = 200  # from which the separator is found
_SHOWN_LINES = 3  # of a list that cannot be read
_NAMES_NOTHING = "does not name image and class"

Row = tuple[int, list[str]]  # the number of the line, and its fields
Parse = Callable[[Iterable[str], bool], Iterator[Row]]


@dataclass(frozen=True)
class ListSource:
    """A text file with the path of an image and its class in each line, as pandas writes it.

    The fields are separated by commas, semicolons, tabs or bars, or by spaces where they are in
    quotes or the class is the first or the last word. There may be a heading, lines above it,
    further columns, and one for the split. Paths are relative to the folder of the list; they may
    have backslashes.
    """

    path: Path

    def listing(self) -> Listing:
        """List every line.

        Raises:
            Invalid: The file cannot be read as a list, or names no image that exists.
        """
        lines = self._lines()
        rows = self._rows(lines)
        try:
            columns = columns_of([fields for _, fields in rows])
        except Invalid as error:
            raise self._refusal(str(error), lines) from None
        listing = Listing(notes=[columns.note] if columns.note else [])
        for index, (number, _) in enumerate(rows[: columns.first]):
            reason = "is the heading" if index == columns.heading else _NAMES_NOTHING
            listing.left_out.append((f"line {number}", reason))
        for number, fields in rows[columns.first :]:
            self._add(listing, number, fields, columns)
        if not listing.candidates:
            name, reason = listing.left_out[-1]
            reason = f"every line is left out, such as {shortened(name)}, which {reason}"
            raise self._refusal(reason, lines)
        if not any(os.path.isfile(self._folder / image.name) for image in listing.candidates):
            raise self._refusal(self._why_missing(listing.candidates), lines)
        listing.candidates.sort(key=lambda candidate: candidate.name)
        return listing

    def contents(self, candidates: Iterable[Candidate]) -> Iterator[tuple[Candidate, Path]]:
        """Yield each candidate with its path."""
        return ((candidate, self._folder / candidate.name) for candidate in candidates)

    @property
    def _folder(self) -> Path:
        return self.path.parent

    def _add(self, listing: Listing, number: int, fields: list[str], columns: Columns) -> None:
        """Add a line to the candidates or to what is left out."""
        field, label = field_in(fields, columns.image), field_in(fields, columns.label)
        if not field or not label or "\0" in field:
            listing.left_out.append((f"line {number}", _NAMES_NOTHING))
            return
        name = self._local_name(field)
        if not self._is_inside(name):
            listing.left_out.append((name, "leads outside the folder of the list"))
        else:
            split = None if columns.split is None else split_of(field_in(fields, columns.split))
            listing.candidates.append(Candidate(name, label, split))

    def _why_missing(self, candidates: list[Candidate]) -> str:
        """Return that no image exists, and where they are if that is easy to find."""
        reason = (
            f"none of its {len(candidates):,} images exists in {self._folder}; paths are relative "
            "to the folder of the list"
        )
        name = candidates[0].name
        subfolders = sorted(path for path in self._folder.iterdir() if path.is_dir())
        for folder in (Path.cwd(), *self._folder.resolve().parents, *subfolders):
            if os.path.isfile(folder / name):
                return f"{reason}, and these to {folder}: move the list there"
        return reason

    def _is_inside(self, name: str) -> bool:
        if not os.path.isabs(name) and ".." not in name:
            return True  # without looking at the disk for each of many lines
        return (self._folder / name).resolve().is_relative_to(self._folder.resolve())

    def _local_name(self, field: str) -> str:
        """Return a path with slashes instead of backslashes, unless these are part of a name."""
        if "\\" in field and not os.path.isfile(os.path.join(self._folder, field)):
            return field.replace("\\", "/")
        return field

    def _lines(self) -> list[str]:
        """Return the lines, with their ends.

        Raises:
            Invalid: The file cannot be read, or holds other bytes than UTF-8.
        """
        try:
            with self.path.open(encoding="utf-8-sig", newline="") as file:
                return list(file)
        except (OSError, UnicodeDecodeError) as error:
            raise Invalid(
                f"{self.path} cannot be read as a list in UTF-8 ({error}): save it as UTF-8."
            ) from error

    def _rows(self, lines: list[str]) -> list[Row]:
        """Return the fields of each line that is not blank, parsed in the way that fits best.

        Raises:
            Invalid: A quote is not closed, or no line names an image and something else.
        """
        sample = lines[:_SAMPLE_LINES]
        parses = _PARSES if self.path.suffix.lower() == ".csv" else _PARSES_OF_TEXT
        scores = [self._score(parse(sample, False)) for parse in parses]
        if max(scores) == (0, 0):
            self._parse(_COMMA, lines)
            raise self._refusal(
                "no line names a JPEG, PNG, TIFF, BMP or WebP file and its class", lines
            )
        return self._parse(parses[scores.index(max(scores))], lines)

    def _parse(self, parse: Parse, lines: list[str]) -> list[Row]:
        """Return the fields of each line that is not blank.

        Raises:
            Invalid: A quote is not closed, or a field is too long.
        """
        try:
            return list(parse(lines, True))
        except csv.Error as error:
            reason = f"{printable(str(error))}, as where a quote is not closed"
            raise self._refusal(reason, lines) from error

    def _score(self, rows: Iterator[Row]) -> tuple[int, int]:
        """Return how many lines name an image that exists and another field, or any image."""
        num_existing = num_images = 0
        try:
            for _, fields in rows:
                names = [field for field in fields if names_image(field)]
                if names and len(list(filter(None, fields))) > 1:
                    num_images += 1
                    paths = (self._folder / self._local_name(name) for name in names)
                    num_existing += any(map(os.path.isfile, paths))
        except csv.Error:
            return 0, 0
        return num_existing, num_images

    def _refusal(self, reason: str, lines: list[str]) -> Invalid:
        """Return an error with the reason and the first lines."""
        first = [line.strip() for line in lines if line.strip()][:_SHOWN_LINES]
        shown = ", ".join(f"'{shortened(line)}'" for line in first)
        begins = f" It begins with {shown}." if shown else " It is empty."
        return Invalid(f"{self.path} cannot be read as a list of images: {reason}.{begins}")


def _separated_by(separator: str) -> Parse:
    """Return a function that parses lines with a separator and quotes."""

    def parse(lines: Iterable[str], strict: bool) -> Iterator[Row]:
        reader = csv.reader(lines, delimiter=separator, strict=strict, skipinitialspace=True)
        for row in reader:
            fields = [field.strip() for field in row]
            if any(fields):
                yield reader.line_num, fields

    return parse


def _by_words(split: Callable[[str], list[str]]) -> Parse:
    """Return a function that parses lines into words."""

    def parse(lines: Iterable[str], strict: bool) -> Iterator[Row]:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield number, [field.strip() for field in split(line)]

    return parse


_COMMA, _SEMICOLON, _TAB, _BAR, _SPACE = map(_separated_by, (",", ";", "\t", "|", " "))
_LAST_WORD = _by_words(lambda line: line.rsplit(maxsplit=1))
_FIRST_WORD = _by_words(lambda line: line.split(maxsplit=1))
_ALL_WORDS = _by_words(str.split)
_WORDS = (_LAST_WORD, _FIRST_WORD, _ALL_WORDS, _SPACE)
_PARSES = (_COMMA, _SEMICOLON, _TAB, _BAR, *_WORDS)  # in order of preference
_PARSES_OF_TEXT = (_TAB, _SEMICOLON, _COMMA, _BAR, *_WORDS)
