"""The files of a source that may be images, with their classes and splits."""

from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from dltlab.data.card import SplitName
from dltlab.data.image_file import MAX_FILE_BYTES, SUFFIXES
from dltlab.data.importing.layout import Folders, Layout, meaning_of
from dltlab.data.importing.wording import joined, shortened

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
    """The contents of a source.

    Attributes:
        candidates: The files that may be images, in order of name.
        left_out: The others, with the reason.
        notes: How the source was read, where that is not the only way.
    """

    candidates: list[Candidate] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def listing_of(names: list[str], left_out: list[LeftOut], layout: Layout | None = None) -> Listing:
    """Make candidates of the files in folders, with the classes and splits of their folders.

    Args:
        names: The paths of files below the source, with slashes.
        left_out: What is already known to be left out.
        layout: What the folders mean; None: what their names and contents say.

    Raises:
        Invalid: The folders can be read in two ways, or do not have the layout.
    """
    paths = [(name, PurePosixPath(name).parts) for name in names]
    paths = [(name, parts) for name, parts in paths if parts and not _is_hidden(parts)]
    images = sorted((name, parts) for name, parts in paths if name.lower().endswith(SUFFIXES))
    others = {name for name, _ in paths} - {name for name, _ in images}
    listing = Listing(
        left_out=[
            *left_out,
            *((name, "is not a JPEG, PNG, TIFF, BMP or WebP file") for name in others),
        ]
    )
    folders = _without_common([parts[:-1] for _, parts in images])
    folders = _without_common_inner(_without_doubled(folders))
    meaning = meaning_of(folders, layout)
    for (name, _), image_folders in zip(images, folders, strict=True):
        label, split = meaning.of(image_folders)
        if label is None:
            of = "a split and a class" if meaning.splits else "a class"
            listing.left_out.append((name, f"is not in the folder of {of}"))
        else:
            listing.candidates.append(Candidate(name, in_unicode(label), split))
    if meaning.splits and not (meaning.is_obvious and len(listing.candidates) == len(images)):
        splits = [f"{shortened(folder)} ({split})" for folder, split in meaning.splits.items()]
        listing.notes.append(
            f"The folders are read as {meaning.layout}, with the splits {joined(splits)}; layout "
            "(--layout) chooses another reading."
        )
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


def _without_common(paths: list[Folders]) -> list[Folders]:
    """Remove the folders around those of the classes.

    Each of them contains all folders with images, and most images are in folders below it.
    """
    depth = 0
    while (
        len({folders[depth] for folders in paths if len(folders) > depth}) == 1
        and sum(len(folders) > depth + 1 for folders in paths) > len(paths) / 2
    ):
        depth += 1
    return [folders[depth:] for folders in paths]


def _without_doubled(paths: list[Folders]) -> list[Folders]:
    """Remove one of two folders where "train" contains nothing but another "train"."""
    single = {folders[0] for folders in paths if folders and folders[:1] != folders[1:2]}
    return [folders if not folders or folders[0] in single else folders[1:] for folders in paths]


def _without_common_inner(paths: list[Folders]) -> list[Folders]:
    """Remove the second folder where it has the same name everywhere, as in train/images/cat."""
    inner = [folders for folders in paths if len(folders) > 1]
    if len({folders[1] for folders in inner}) != 1 or any(len(folders) == 2 for folders in inner):
        return paths
    return [folders[:1] + folders[2:] for folders in paths]


def _is_hidden(parts: tuple[str, ...]) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in parts if part != "..") or (
        parts[-1].lower() in _HIDDEN_FILES
    )
