"""Every data set at a glance: what it holds, where its bytes are, whether they are right."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dltlab.data import fetch, store
from dltlab.data.card import SPLITS, Card, ImageCard, card_names, read_card
from dltlab.data.importing import Import
from dltlab.data.store import Manifest
from dltlab.display import printable
from dltlab.files import cannot_write, lock_folder
from dltlab.paths import data_dir

_BAR, _FIRST = 30, 20  # the longest bar in characters; the files left out that are named


@dataclass(frozen=True)
class Line:
    """A data set in the list of all.

    Attributes:
        name: By which it is loaded.
        holds: What, in a few words.
        version: Its version.
        where: Where its bytes are, or how many are to be fetched.
    """

    name: str
    holds: str
    version: str
    where: str


def shelf() -> Iterator[Line]:
    """Every data set: those with a card, then the imported ones with all their versions."""
    for name in card_names():
        card = read_card(name)
        yield Line(name, _holds(card), card.version, where(card))
    for found in store.imported():
        total = sum(map(sum, found.counts.values()))
        holds = _images(total, found.shape, len(found.classes))
        yield Line(found.tag, holds, found.imported, "in your store")


def _holds(card: Card) -> str:
    total = sum(split.size or 0 for split in card.splits.values())
    if isinstance(card, ImageCard):
        return _images(total, card.shape, len(card.classes))
    unit = "characters" if card.kind == "text" else "values"
    return f"{total:,} {unit}" if total else card.kind


def _images(total: int, shape: list[int], num_classes: int) -> str:
    height, width, channels = shape
    kind = "color" if channels == 3 else "gray"
    return f"{total:,} {kind} images {height}×{width}, {num_classes} classes"


def where(card: Card) -> str:
    """Where the bytes of a card's files are, in a few words."""
    if not card.files:
        return "comes with dltlab"
    if all(fetch.stored(card, file).is_file() for file in card.files):
        return "in your store"
    missing = [file for file in card.files if not fetch.is_near(card, file)]
    if not missing:
        return "in the mirror"
    return f"to fetch: {sum(file.size for file in missing) / 1e6:,.1f} MB"


def fetch_all(name: str) -> str:
    """Get every file of a data set; returns a sentence.

    Raises:
        LabError: A file cannot be had.
    """
    about = store.info(name)
    if not isinstance(about, Card) or not about.files:
        return f"{name} needs no fetching."
    for file in about.files:
        fetch.content(about, file)
    return f"{name} is {where(about)}, and every byte is right."


def faults(name: str | None) -> Iterator[str]:
    """What is wrong with the bytes in the store of `name`, or of every data set.

    Raises:
        LabError: There is no such data set.
    """
    for about in _all(name):
        if isinstance(about, Manifest):
            yield from store.damage(about)
        else:
            for file in about.files:
                path = fetch.stored(about, file)
                if path.is_file() and not fetch.is_right(path, file):
                    yield f"{path} has other bytes than its card says: it will be fetched again."


def _all(name: str | None) -> list[Card | Manifest]:
    if name is None:
        return [*(read_card(each) for each in card_names()), *store.imported()]
    about = store.info(name)
    return [about] if isinstance(about, Card) else [store.manifest(tag) for tag in _tags(name)]


def _tags(name: str) -> list[str]:
    """The versions that are there of "pets", each as "pets@1"; of "pets@1" itself."""
    stem, _, version = name.partition("@")
    return [f"{stem}@{each}" for each in store.versions(stem) if version in ("", str(each))]


def _folder(tag: str) -> Path:
    stem, _, version = tag.partition("@")
    return store.folder_of(stem, int(version))


def in_the_way(name: str) -> list[str]:
    """Sentences that name the runs which depend on what `remove` would remove."""
    return [
        f"The run {run} used {tag}." for tag in _tags(name) for run in store.runs_of(_folder(tag))
    ]


def remove(name: str) -> str:
    """Remove a version, all versions, or what was fetched for a card; returns a sentence.

    A damaged version is removed as well.

    Raises:
        LabError: There is no such data set, or the store cannot be written.
    """
    if name in card_names():
        _remove_fetched(data_dir() / name)
        return f"Removed from your store: {name}."
    tags = _tags(name)
    if not tags:
        store.info(name)  # says what there is instead
    for tag in tags:
        folder = _folder(tag)
        store.remove(folder.parent.name, int(folder.name))
    return f"Removed from your store: {', '.join(tags)}."


def _remove_fetched(folder: Path) -> None:
    if not folder.is_dir():
        return
    try:
        with lock_folder(folder):
            for path in folder.iterdir():
                if path.is_dir():
                    shutil.rmtree(path)
                elif path.name != ".lock":
                    path.unlink()
    except OSError as error:
        raise cannot_write(folder, error) from error


def facts(name: str) -> Iterator[tuple[str, str]]:
    """What is known of a data set, line by line: what about, and what.

    Raises:
        LabError: There is no such data set.
    """
    about = store.info(name)
    yield "name", about.tag
    yield "holds", about.title
    if isinstance(about, Manifest):
        yield from _facts_of_import(about)
        return
    yield "license", about.license
    yield "citation", about.citation
    yield "version", about.version
    for split, each in about.splits.items():
        yield split, f"{each.size:,}" if each.size else "depends on the version of Python"
    if isinstance(about, ImageCard):
        yield "classes", ", ".join(about.classes)
    yield "where", where(about)
    for file in about.files:
        yield "file", f"{file.name}, {file.size / 1e6:,.2f} MB, SHA-256 {file.sha256}"


def _facts_of_import(found: Manifest) -> Iterator[tuple[str, str]]:
    yield "imported", f"{found.imported}, {found.resize} to {found.size}×{found.size} pixels"
    yield "content", f"SHA-256 {found.content_hash}"
    yield "mean", _levels(found.mean)
    yield "deviation", _levels(found.std)
    yield "where", str(found.folder)
    for run in store.runs_of(found.folder):
        yield "used by", str(run)
    for line in balance(found):
        yield "", line


def _levels(values: list[float]) -> str:
    return "red {:.3f}, green {:.3f}, blue {:.3f}, of 1".format(*values)


def balance(found: Manifest) -> Iterator[str]:
    """A table of the classes: how many images each split has, and a bar of all."""
    from rich.cells import cell_len

    totals = [sum(each) for each in zip(*found.counts.values(), strict=True)]
    names = [printable(name) for name in found.classes]
    width = max(5, *map(cell_len, names))
    yield f"{'class':<{width}}  " + "".join(f"{split:>11}" for split in SPLITS)
    for place, name in enumerate(names):
        counts = "".join(f"{found.counts[split][place]:>11,}" for split in SPLITS)
        bar = "█" * max(1, round(_BAR * totals[place] / max(totals)))
        yield f"{name}{' ' * (width - cell_len(name))}  {counts}  {bar}"


def report(done: Import) -> Iterator[str]:
    """What came of an import, line by line."""
    found = done.manifest
    yield from balance(found)
    if done.left_out:
        files = "file is" if len(done.left_out) == 1 else "files are"
        yield f"{len(done.left_out):,} {files} left out:"
        for name, reason in done.left_out[:_FIRST]:
            yield f"  {printable(name)} {reason}"
        if len(done.left_out) > _FIRST:
            yield f"  … all of them in {found.folder / 'left_out.csv'}"
    yield from done.notes
    how = "is new" if done.is_new else "was there already, with the very same images"
    yield f"{found.tag} {how}: {found.title}"
    yield f'Use it: dltlab.data.load("{found.name}"). See it: dltlab data show {found.name}'
