"""All data sets: those with a card and the imported ones, where their bytes are, their removal."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass

from dltlab.data import store
from dltlab.data.card import DatasetCard, ImageCard, MoleculesCard, SignalCard, TableCard
from dltlab.data.card_files import card_names, read_card
from dltlab.data.class_table import class_table_lines
from dltlab.data.imported import ImportedDataset
from dltlab.data.verified_files import (
    file_content,
    is_beside_card,
    is_intact,
    is_local,
    stored_path,
)
from dltlab.errors import Invalid, NotFound
from dltlab.paths import data_dir

_MAX_CLASSES = 20  # that are listed by name

Dataset = DatasetCard | ImportedDataset
ImageDataset = ImageCard | ImportedDataset  # what `info` returns for a data set of images


def info(name: str) -> Dataset:
    """Return what is known of a data set: its card, or the manifest of imported images.

    Args:
        name: As in "mnist"; "pets" for the newest version of an imported data set, "pets@1" for a
            certain one.

    Raises:
        NotFound: There is no such data set or version.
        Invalid: Its card is wrong.
        Damaged: Its manifest is damaged.
    """
    if name in card_names():
        return read_card(name)
    if not store.versions(name.partition("@")[0]):
        raise NotFound(
            f"There is no data set '{name}'. The data sets are: {', '.join(dataset_names())}. "
            "To import your own images: dltlab data import FOLDER --name NAME."
        )
    return store.read_imported(name)


def dataset_names() -> list[str]:
    """Return the names of all data sets, those with a card first."""
    cards = card_names()
    return [*cards, *(name for name in store.imported_names() if name not in cards)]


@dataclass(frozen=True)
class CatalogEntry:
    """A data set in the list of all data sets.

    Attributes:
        name: The name that `load` takes.
        contents: What it holds, in a few words; of an invalid card, what is wrong.
        version: Its version.
        location: Where its bytes are, or how many have to be downloaded.
    """

    name: str
    contents: str
    version: str
    location: str


def list_datasets() -> Iterator[CatalogEntry]:
    """Yield every data set: those with a card, then all versions of the imported ones."""
    for name in card_names():
        try:
            card = read_card(name)
        except Invalid as error:  # the others can be used
            yield CatalogEntry(name, str(error), "", "")
        else:
            yield CatalogEntry(name, card.contents, card.version, _location(card))
    for imported in store.imported_datasets():
        yield CatalogEntry(imported.tag, imported.contents, imported.imported, "in your store")


def describe(name: str) -> Iterator[tuple[str, str]]:
    """Yield what is known of a data set as pairs of a heading and a text.

    Raises:
        LabError: As `info` does.
    """
    dataset = info(name)
    yield "name", dataset.tag
    yield "title", dataset.title
    if isinstance(dataset, ImportedDataset):
        yield from _describe_imported(dataset)
    else:
        yield from _describe_card(dataset)


def fetch(name: str) -> str:
    """Get every file of a data set; return a sentence that says where they are.

    Raises:
        LabError: As `info` does, or a file is not available.
    """
    dataset = info(name)
    if isinstance(dataset, ImportedDataset) or not dataset.files:
        return f"{name} has no files to download."
    for file in dataset.files:
        file_content(dataset, file)
    return f"{name} is {_location(dataset)}; all hashes are correct."


def verify(name: str | None = None) -> Iterator[str]:
    """Verify the files in the store; yield a sentence for each that is missing or damaged.

    Args:
        name: A data set; by default all.

    Raises:
        NotFound: There is no such data set.
    """
    for dataset in _datasets(name):
        if isinstance(dataset, ImportedDataset):
            yield from dataset.problems()
            continue
        for file in dataset.files:
            path = stored_path(dataset, file)
            if path.is_file() and not is_intact(path, file):
                yield f"{path} does not have the SHA-256 of its card; it will be downloaded again."


def runs_using(name: str) -> list[str]:
    """Return a sentence for each run that used one of the versions that `remove` would remove."""
    return [
        f"The run {run} used {stem}@{version}."
        for stem, version in _versions(name)
        for run in store.runs_of(stem, version)
    ]


def remove(name: str) -> str:
    """Remove a version, all versions, or the downloaded files of a card; return a sentence.

    A damaged version is removed as well.

    Raises:
        NotFound: There is no such data set.
        Unavailable: The store cannot be written.
    """
    if name in card_names():
        _remove_files_of_card(name)
        return f"Removed from your store: {name}."
    versions = _versions(name)
    if not versions:
        info(name)  # raises the error that lists the known names
    for stem, version in versions:
        store.remove(stem, version)
    tags = ", ".join(f"{stem}@{version}" for stem, version in versions)
    return f"Removed from your store: {tags}."


def _location(card: DatasetCard) -> str:
    """Return where the bytes of a card's files are, in a few words."""
    if not card.files:
        return "comes with dltlab"
    if all(map(is_beside_card, card.files)):
        return "beside its card"
    # Unlike `Path.is_file`, it is False where the store may not be entered.
    if all(os.path.isfile(stored_path(card, file)) for file in card.files):
        return "in your store"
    missing = [file for file in card.files if not is_local(card, file)]
    if not missing:
        return "in the mirror"
    if any(not file.urls for file in missing):
        return "missing beside its card"
    return f"to download: {sum(file.size for file in missing) / 1e6:,.1f} MB"


def _datasets(name: str | None) -> list[Dataset]:
    """Return a data set in all its versions, or every data set."""
    if name is None:
        return [*map(read_card, card_names()), *store.imported_datasets()]
    dataset = info(name)
    if isinstance(dataset, DatasetCard):
        return [dataset]
    return [store.read_imported(f"{stem}@{version}") for stem, version in _versions(name)]


def _versions(name: str) -> list[tuple[str, int]]:
    """Return name and version of all versions of "pets", or of "pets@1" only."""
    stem, _, chosen = name.partition("@")
    return [(stem, version) for version in store.versions(stem) if chosen in ("", str(version))]


def _remove_files_of_card(name: str) -> None:
    """Remove downloaded files and decoded copies."""
    if not (data_dir() / name).is_dir():
        return
    with store.locked(name) as folder:
        for path in folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != ".lock":
                path.unlink()


def _describe_card(card: DatasetCard) -> Iterator[tuple[str, str]]:
    yield "license", card.license
    yield "citation", card.citation
    yield "version", card.version
    for name, split in card.splits.items():
        yield name, f"{split.size:,}" if split.size else "depends on the version of Python"
    if isinstance(card, TableCard):
        yield "features", ", ".join(card.features)
    if isinstance(card, SignalCard):
        yield "sampling rate", f"{card.sampling_rate:,} Hz"
    if isinstance(card, ImageCard | TableCard | SignalCard) and card.class_names:
        yield "classes", _class_list(card.class_names)
    if isinstance(card, MoleculesCard):
        yield "method", card.method
        yield "parts", ", ".join(card.parts)
    yield "location", _location(card)
    for file in card.files:
        yield "file", f"{file.name}, {file.size / 1e6:,.2f} MB, SHA-256 {file.sha256}"


def _class_list(class_names: list[str]) -> str:
    """Return the first names, and how many more there are."""
    names = ", ".join(class_names[:_MAX_CLASSES])
    more = len(class_names) - _MAX_CLASSES
    return f"{names}, and {more} more" if more > 0 else names


def _describe_imported(dataset: ImportedDataset) -> Iterator[tuple[str, str]]:
    size = f"{dataset.size}×{dataset.size}"
    yield "imported", f"{dataset.imported}, {dataset.resize} to {size} pixels"
    yield "content", f"SHA-256 {dataset.content_hash}"
    yield "mean", _levels(dataset.mean)
    yield "deviation", _levels(dataset.std)
    if dataset.white is not None:
        yield "16-bit gray", f"{dataset.white:,} is white"
    yield "location", str(dataset.folder)
    for run in store.runs_of(dataset.name, dataset.version):
        yield "used by", str(run)
    for line in class_table_lines(dataset):
        yield "", line


def _levels(values: list[float]) -> str:
    return "red {:.3f}, green {:.3f}, blue {:.3f}, in [0, 1]".format(*values)
