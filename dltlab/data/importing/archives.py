"""Images in a tar or zip archive with a folder for each class.

An archive is read in place: nothing in it is ever written under a name from the archive.
"""

import stat
import tarfile
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Self

from dltlab.data.importing.candidates import (
    Candidate,
    LeftOut,
    Listing,
    listing_of,
    why_unsafe,
)
from dltlab.data.importing.layout import Layout
from dltlab.errors import Damaged, Invalid, LabError

_BOMB_RATIO, _BOMB_BYTES = 300, 200_000_000  # images hardly shrink; bombs grow by thousands


class _StrictTarInfo(tarfile.TarInfo):
    """A member whose header must be valid: `tarfile` takes an invalid header for the end."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """Parse a header, as the base class does."""
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if len(buf) == tarfile.BLOCKSIZE and not any(buf):  # the end-of-archive marker
                raise
            raise tarfile.ReadError(str(error)) from error


@dataclass
class TarSource:
    """A tar archive, compressed or not."""

    path: Path
    layout: Layout | None = None
    _members: dict[str, tarfile.TarInfo] = field(default_factory=dict)

    def listing(self) -> Listing:
        """List every member."""
        names: list[str] = []
        left_out: list[LeftOut] = []
        total = 0
        with (
            _explain_damage(self.path),
            tarfile.open(self.path, tarinfo=_StrictTarInfo) as archive,
        ):
            for member in archive:
                total += member.size + tarfile.BLOCKSIZE
                _refuse_bomb(self.path, total)
                if member.isdir():
                    continue
                reason = why_unsafe(member.name, member.size)
                if not member.isfile():
                    left_out.append((member.name, "is a link or a device"))
                elif reason:
                    left_out.append((member.name, reason))
                else:
                    names.append(member.name)
                    self._members[member.name] = member
        return listing_of(names, left_out, self.layout)

    def contents(self, candidates: Iterable[Candidate]) -> Iterator[tuple[Candidate, bytes]]:
        """Yield each candidate with its bytes, in the order of the archive; after `listing`.

        A compressed archive cannot be read in another order.
        """
        in_order = sorted(candidates, key=lambda candidate: self._members[candidate.name].offset)
        with _explain_damage(self.path), tarfile.open(self.path) as archive:
            for candidate in in_order:
                member = self._members[candidate.name]
                file = archive.extractfile(member)
                assert file is not None
                yield candidate, _read_all(file, member.size)


@dataclass(frozen=True)
class ZipSource:
    """A zip archive."""

    path: Path
    layout: Layout | None = None

    def listing(self) -> Listing:
        """List every member."""
        names: list[str] = []
        left_out: list[LeftOut] = []
        total = 0
        with _explain_damage(self.path), zipfile.ZipFile(self.path) as archive:
            for member in archive.infolist():
                total += member.file_size
                _refuse_bomb(self.path, total)
                if member.is_dir():
                    continue
                reason = why_unsafe(member.filename, member.file_size)
                if stat.S_ISLNK(member.external_attr >> 16):
                    reason = "is a link"
                elif member.flag_bits & 1:
                    reason = "is encrypted"
                if reason:
                    left_out.append((member.filename, reason))
                else:
                    names.append(member.filename)
        return listing_of(names, left_out, self.layout)

    def contents(self, candidates: Iterable[Candidate]) -> Iterator[tuple[Candidate, bytes | None]]:
        """Yield each candidate with its bytes, or with None if the member is damaged."""
        with _explain_damage(self.path), zipfile.ZipFile(self.path) as archive:
            for candidate in candidates:
                try:
                    size = archive.getinfo(candidate.name).file_size
                    with archive.open(candidate.name) as file:
                        content = _read_all(file, size)
                except Exception:  # damaged bytes lead to many kinds of errors
                    yield candidate, None
                else:
                    yield candidate, content


def _refuse_bomb(path: Path, unpacked_bytes: int) -> None:
    """Refuse an archive that unpacks to far more than images do.

    Raises:
        Invalid: It is a decompression bomb.
    """
    packed_bytes = path.stat().st_size
    if unpacked_bytes > max(_BOMB_BYTES, _BOMB_RATIO * packed_bytes):
        raise Invalid(
            f"{path} has {packed_bytes / 1e6:,.1f} MB and would unpack to "
            f"{unpacked_bytes / 1e9:,.1f} GB or more: a decompression bomb. Nothing was read from "
            "it."
        )


def _read_all(file: IO[bytes], size: int) -> bytes:
    content = file.read(size)
    if len(content) < size:
        raise EOFError
    return content


@contextmanager
def _explain_damage(path: Path) -> Iterator[None]:
    """Turn any error of a damaged archive into `Damaged`."""
    try:
        yield
    except LabError:
        raise
    except Exception as error:  # damaged bytes lead to many kinds of errors
        reason = str(error) or "it ends too early"
        raise Damaged(f"{path} is damaged or cut off ({reason}): download it again.") from error
