"""Where a user's images come from: a folder, an archive, or a list, each file with its label.

An archive is read where it is: nothing in it is ever written under a name of its own.
"""

import csv
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Protocol, Self

from dltlab.data.images import SUFFIXES
from dltlab.errors import LabError

_SPLITS = {
    "train": "train", "training": "train",
    "validation": "validation", "val": "validation", "valid": "validation",
    "test": "test", "testing": "test",
}  # fmt: skip
_LISTS = {".txt": None, ".csv": ",", ".tsv": "\t"}
LARGEST_FILE = 200_000_000  # bytes; what is larger is no image
_BOMB_RATIO, _BOMB_BYTES = 300, 200_000_000  # images hardly shrink; these grow by thousands


@dataclass(frozen=True)
class Candidate:
    """A file that may be an image.

    Attributes:
        name: Its path below the folder, inside the archive or in the list.
        label: The name of its class.
        split: "train", "validation" or "test" where the source says so.
    """

    name: str
    label: str
    split: str | None = None


Content = Path | bytes | None  # None: it is damaged


@dataclass
class Listing:
    """What a source holds: the candidates in order of name, and what is left out, with reasons."""

    candidates: list[Candidate] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)


class Source(Protocol):
    """A place with images."""

    def listing(self) -> Listing:
        """What is there."""

    def contents(self, chosen: Iterable[Candidate]) -> Iterator[tuple[Candidate, Content]]:
        """Each of `chosen` with its content, in an order of the source's own; after `listing`."""


def open_source(path: Path) -> Source:
    """The source at `path`: a folder, a tar or zip archive, or a .txt, .csv or .tsv list.

    Raises:
        LabError: It is none of these.
    """
    if path.is_dir():
        return Folder(path)
    if not path.exists():
        raise LabError(f"{path} does not exist. Name a folder, a tar or zip archive, or a list.")
    if path.suffix.lower() in _LISTS:
        return TextList(path)
    try:
        if zipfile.is_zipfile(path):
            return Zip(path)
        if tarfile.is_tarfile(path):
            return Tar(path)
    except OSError as error:
        raise LabError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (EOFError, zlib.error):  # of a gzip file that ends or errs before the first member
        pass
    raise LabError(
        f"{path} is no folder of images, no tar or zip archive and no .txt, .csv or .tsv list. "
        "If it is an archive, it may be damaged: get it anew."
    )


@dataclass(frozen=True)
class Folder:
    """A tree with a folder for each class."""

    path: Path

    def listing(self) -> Listing:
        """Every file below; hidden ones are passed over."""
        names: list[str] = []
        left_out: list[tuple[str, str]] = []

        def cannot_enter(error: OSError) -> None:
            left_out.append((str(error.filename), f"cannot be read ({error.strerror})"))

        for parent, folders, files in os.walk(self.path, onerror=cannot_enter):
            below = Path(parent).relative_to(self.path)
            for name in folders:
                if Path(parent, name).is_symlink():
                    left_out.append(((below / name).as_posix(), "is a link to a folder"))
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            names += [(below / name).as_posix() for name in files]
        return _labeled(names, left_out)

    def contents(self, chosen: Iterable[Candidate]) -> Iterator[tuple[Candidate, Path]]:
        """Paths."""
        return ((each, self.path / each.name) for each in chosen)


@dataclass(frozen=True)
class TextList:
    """A text file with an image's path and its label in each line.

    In a .csv or .tsv file these are the first two fields, and a first line that names no file is
    the heading; in a .txt file the label is the last word. Paths are relative to the folder that
    holds the list.
    """

    path: Path

    def listing(self) -> Listing:
        """Every line."""
        found = Listing()
        for number, fields in enumerate(self._lines(), 1):
            if len(fields) < 2 or not fields[0] or not fields[1] or "\0" in fields[0]:
                if any(fields):
                    found.left_out.append((f"line {number}", "names no image and label"))
            elif number == 1 and self._is_heading(fields[0]):
                found.left_out.append(("line 1", "is the heading"))
            elif not (self.path.parent / fields[0]).resolve().is_relative_to(self._root):
                found.left_out.append((fields[0], "leads outside the list's folder"))
            else:
                found.candidates.append(Candidate(fields[0], fields[1]))
        found.candidates.sort(key=lambda each: each.name)
        return found

    @property
    def _root(self) -> Path:
        return self.path.parent.resolve()

    def _is_heading(self, name: str) -> bool:
        in_fields = _LISTS[self.path.suffix.lower()] is not None
        return in_fields and not (
            name.lower().endswith(SUFFIXES) or (self.path.parent / name).exists()
        )

    def _lines(self) -> list[list[str]]:
        try:
            with self.path.open(encoding="utf-8-sig", newline="") as file:
                separator = _LISTS[self.path.suffix.lower()]
                rows = (
                    csv.reader(file, delimiter=separator)
                    if separator
                    else (line.rsplit(maxsplit=1) for line in file)
                )
                return [[field.strip() for field in row] for row in rows]
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise LabError(f"{self.path} cannot be read as a list in UTF-8: {error}.") from error

    def contents(self, chosen: Iterable[Candidate]) -> Iterator[tuple[Candidate, Path]]:
        """Paths."""
        return ((each, self.path.parent / each.name) for each in chosen)


class _Member(tarfile.TarInfo):
    """A member of a tar archive whose header is whole: `tarfile` takes any other for the end."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """As the base class has it."""
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if len(buf) == tarfile.BLOCKSIZE and not any(buf):  # the mark of the end
                raise
            raise tarfile.ReadError(str(error)) from error


@dataclass
class Tar:
    """A tar archive, compressed or not, with a folder for each class."""

    path: Path
    _members: dict[str, tarfile.TarInfo] = field(default_factory=dict)

    def listing(self) -> Listing:
        """Every member."""
        names: list[str] = []
        left_out: list[tuple[str, str]] = []
        total = 0
        with _faults_named(self.path), tarfile.open(self.path, tarinfo=_Member) as archive:
            for member in archive:
                total += member.size + tarfile.BLOCKSIZE
                _refuse_bomb(self.path, total)
                if member.isfile():
                    _sort_out(member.name, member.size, names, left_out)
                    self._members[member.name] = member
                elif not member.isdir():
                    left_out.append((member.name, "is a link or a device"))
        return _labeled(names, left_out)

    def contents(self, chosen: Iterable[Candidate]) -> Iterator[tuple[Candidate, bytes]]:
        """Bytes, in the archive's order: in a compressed one there is no way back."""
        in_order = sorted(chosen, key=lambda each: self._members[each.name].offset)
        with _faults_named(self.path), tarfile.open(self.path) as archive:
            for each in in_order:
                member = self._members[each.name]
                file = archive.extractfile(member)
                assert file is not None
                yield each, _whole(file, member.size)


@dataclass(frozen=True)
class Zip:
    """A zip archive with a folder for each class."""

    path: Path

    def listing(self) -> Listing:
        """Every member."""
        names: list[str] = []
        left_out: list[tuple[str, str]] = []
        total = 0
        with _faults_named(self.path), zipfile.ZipFile(self.path) as archive:
            for member in archive.infolist():
                total += member.file_size
                _refuse_bomb(self.path, total)
                if member.is_dir():
                    continue
                if stat.S_ISLNK(member.external_attr >> 16):
                    left_out.append((member.filename, "is a link"))
                elif member.flag_bits & 1:
                    left_out.append((member.filename, "is encrypted"))
                else:
                    _sort_out(member.filename, member.file_size, names, left_out)
        return _labeled(names, left_out)

    def contents(self, chosen: Iterable[Candidate]) -> Iterator[tuple[Candidate, bytes | None]]:
        """Bytes, and None for a member that is damaged."""
        with _faults_named(self.path), zipfile.ZipFile(self.path) as archive:
            for each in chosen:
                try:
                    with archive.open(each.name) as file:
                        yield each, _whole(file, archive.getinfo(each.name).file_size)
                except Exception:  # as many as there are ways to be damaged
                    yield each, None


def _labeled(names: list[str], left_out: list[tuple[str, str]]) -> Listing:
    """The candidates among `names`, with the labels and splits that their folders say."""
    seen = [(name, PurePosixPath(name).parts) for name in names]
    seen = [(name, parts) for name, parts in seen if parts and not _is_hidden(parts)]
    images = sorted(each for each in seen if each[0].lower().endswith(SUFFIXES))
    strangers = {name for name, _ in seen} - {name for name, _ in images}
    found = Listing(left_out=[*left_out, *((name, "is no image file") for name in strangers)])
    depth = _wrapping(parts for _, parts in images)
    splits = {parts[depth].lower() for _, parts in images if len(parts) > depth + 1}
    has_splits = bool(splits) and splits <= _SPLITS.keys()
    for name, parts in images:
        above = parts[depth:-1]
        split = _SPLITS[above[0].lower()] if has_splits and above else None
        label = above[has_splits : has_splits + 1]
        if label:
            found.candidates.append(Candidate(name, in_unicode(label[0]), split))
        else:
            found.left_out.append((name, "is in no class's folder"))
    found.left_out.sort()
    return found


def in_unicode(name: str) -> str:
    """A file's name with each byte that is no UTF-8 written as an escape."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _wrapping(files: Iterable[tuple[str, ...]]) -> int:
    """How many folders stand around those of the classes: each holds all, mostly in folders."""
    paths = list(files)
    depth = 0
    while (
        len({parts[: depth + 1] for parts in paths}) == 1
        and sum(len(parts) > depth + 2 for parts in paths) > len(paths) / 2
    ):
        depth += 1
    return depth


def _is_hidden(parts: tuple[str, ...]) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in parts if part != "..") or (
        parts[-1].lower() in ("thumbs.db", "desktop.ini")
    )


def _sort_out(name: str, size: int, names: list[str], left_out: list[tuple[str, str]]) -> None:
    """Put an archive's member among the `names`, or say why not."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if name.startswith(("/", "\\")) or ".." in parts:
        left_out.append((name, "leads outside the archive"))
    elif size > LARGEST_FILE:
        left_out.append((name, f"is too large: {size / 1e6:,.0f} MB"))
    else:
        names.append(name)


def _refuse_bomb(path: Path, total: int) -> None:
    packed = path.stat().st_size
    if total > max(_BOMB_BYTES, _BOMB_RATIO * packed):
        raise LabError(
            f"{path} has {packed / 1e6:,.1f} MB and would unpack to {total / 1e9:,.1f} GB or more: "
            "a decompression bomb. Nothing was read from it."
        )


def _whole(file: IO[bytes], size: int) -> bytes:
    content = file.read(size)
    if len(content) < size:
        raise EOFError
    return content


@contextmanager
def _faults_named(path: Path) -> Iterator[None]:
    """Turns what a damaged archive leads to into one sentence."""
    try:
        yield
    except LabError:
        raise
    except Exception as error:  # as many as there are ways to be damaged
        why = str(error) or "it ends too soon"
        raise LabError(f"{path} is damaged or cut off ({why}): get it anew.") from error
