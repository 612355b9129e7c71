"""The files of a source that may be images, with their classes and splits."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from dltlab.data.card import SplitName
from dltlab.data.image_file import MAX_FILE_BYTES, SUFFIXES

_SPLITS: dict[str, SplitName] = {
    "train": "train", "training": "train",
    "validation": "validation", "val": "validation", "valid": "validation",
    "test": "test", "testing": "test",
}  # fmt: skip
_HIDDEN_FILES = ("thumbs.db", "desktop.ini")

LeftOut = tuple[str, str]  # the name of a file, and the reason why it is not imported
Content = Path | bytes | None  # of a file; None where it is damaged in its archive


@dataclass(frozen=True)
class Candidate:
    """A file that may be an image.

    Attributes:
        name: Its path below the folder, inside the archive or in the list.
        label: The name of its class.
        split: The split that the source assigns to it, if any.
    """

    name: str
    label: str
    split: SplitName | None = None


@dataclass
class Listing:
    """The contents of a source: the candidates in order of name, and what is left out."""

    candidates: list[Candidate] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)


def listing_of(names: list[str], left_out: list[LeftOut]) -> Listing:
    """Make candidates of the files in folders, with the classes and splits of their folders.

    Args:
        names: The paths of files below the source, with slashes.
        left_out: What is already known to be left out.
    """
    paths = [(name, PurePosixPath(name).parts) for name in names]
    paths = [(name, parts) for name, parts in paths if parts and not _is_hidden(parts)]
    images = sorted((name, parts) for name, parts in paths if name.lower().endswith(SUFFIXES))
    others = {name for name, _ in paths} - {name for name, _ in images}
    listing = Listing(left_out=[*left_out, *((name, "is not an image file") for name in others)])
    depth = _class_depth(parts for _, parts in images)
    top_folders = {parts[depth].lower() for _, parts in images if len(parts) > depth + 1}
    has_splits = bool(top_folders) and top_folders <= _SPLITS.keys()
    for name, parts in images:
        folders = parts[depth:-1]
        split = _SPLITS[folders[0].lower()] if has_splits and folders else None
        label = folders[has_splits : has_splits + 1]
        if label:
            listing.candidates.append(Candidate(name, in_unicode(label[0]), split))
        else:
            listing.left_out.append((name, "is not in the folder of a class"))
    listing.left_out.sort()
    return listing


def why_unsafe(name: str, size: int) -> str | None:
    """Return why a member of an archive must not be read; None if it may.

    Args:
        name: The name of the member.
        size: Its unpacked size in bytes.
    """
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if name.startswith(("/", "\\")) or ".." in parts:
        return "leads outside the archive"
    if size > MAX_FILE_BYTES:
        return f"is too large: {size / 1e6:,.0f} MB"
    return None


def in_unicode(name: str) -> str:
    """Return a file name with each byte that is not valid UTF-8 written as an escape."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _class_depth(files: Iterable[tuple[str, ...]]) -> int:
    """Return the number of folders around those of the classes.

    Each of them contains all files, and most of these in further folders.
    """
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
        parts[-1].lower() in _HIDDEN_FILES
    )
