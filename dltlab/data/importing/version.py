"""Write what belongs to the pixels of an imported version: labels, splits, lists, manifest."""

import csv
import hashlib
import shutil
from collections.abc import Iterable
from datetime import date
from pathlib import Path

import numpy as np

from dltlab.data import store
from dltlab.data.card import SPLITS
from dltlab.data.imported import ImportedDataset
from dltlab.data.importing.candidates import LeftOut, in_unicode
from dltlab.data.importing.selection import Selection
from dltlab.data.importing.settings import Settings
from dltlab.data.importing.splitting import split_images
from dltlab.files import sha256_of


def write_version(
    folder: Path,
    name: str,
    source: Path,
    selection: Selection,
    left_out: list[LeftOut],
    settings: Settings,
    white: int | None,
) -> tuple[ImportedDataset, bool]:
    """Complete the next version of a data set, or remove `folder` if an equal version exists.

    Args:
        folder: The unfinished folder of the version; it holds the pixels.
        name: The name of the data set; hold its lock.
        source: The folder, archive or list of the images.
        selection: The images, in the order of their rows.
        left_out: The files that are not imported.
        settings: The settings of the import.
        white: The value in images of 16 bits of gray that became white, if there are any.

    Returns:
        The version, and whether it is new.
    """
    class_names = settings.class_names or sorted({image.label for image in selection.candidates})
    splits = split_images(selection, settings)
    rows = [
        (candidate.name, candidate.label, SPLITS[split], digest)
        for candidate, split, digest in zip(
            selection.candidates, splits, selection.digests, strict=True
        )
    ]
    content_hash = _content_hash(f"{class_names} {settings.size} {settings.resize}", rows)
    for version in store.versions(name):
        known = store.read_imported(f"{name}@{version}")
        if known.content_hash == content_hash:
            shutil.rmtree(folder)
            return known, False
    label_of = {class_name: label for label, class_name in enumerate(class_names)}
    labels = np.array([label_of[candidate.label] for candidate in selection.candidates])
    np.save(folder / "labels.npy", labels)
    np.save(folder / "splits.npy", splits)
    _write_csv(folder / "images.csv", ("name", "class", "split", "digest"), rows)
    _write_csv(folder / "left_out.csv", ("name", "reason"), left_out)
    mean, std = _statistics(selection, splits, settings.size)
    dataset = ImportedDataset(
        name=name,
        version=store.last_version(name) + 1,
        content_hash=content_hash,
        source=in_unicode(source.resolve().name),
        imported=date.today().isoformat(),
        size=settings.size,
        resize=settings.resize,
        seed=settings.seed,
        class_names=class_names,
        counts={
            split: np.bincount(labels[splits == code], minlength=len(class_names)).tolist()
            for code, split in enumerate(SPLITS)
        },
        mean=mean,
        std=std,
        white=white,
        files={file.name: sha256_of(file) for file in sorted(folder.iterdir())},
    )
    manifest = dataset.model_dump_json(indent=1)
    (folder / store.MANIFEST).write_text(manifest, encoding="utf-8")
    return dataset, True


def _content_hash(settings: str, rows: list[tuple[str, str, str, str]]) -> str:
    content = hashlib.sha256(settings.encode("utf-8", "surrogateescape"))
    content.update(repr(sorted(rows)).encode("utf-8", "surrogateescape"))
    return content.hexdigest()


def _statistics(
    selection: Selection, splits: np.ndarray, size: int
) -> tuple[list[float], list[float]]:
    """Return mean and standard deviation of each color, in [0, 1].

    They are those of the training images, or of all where there are none.
    """
    train_rows = np.flatnonzero(splits == SPLITS.index("train"))
    rows = train_rows if len(train_rows) else np.arange(len(splits))
    num_pixels = len(rows) * size**2
    mean, mean_square = np.sum([selection.sums[row] for row in rows], axis=0) / num_pixels
    variance = np.maximum(mean_square - mean**2, 0)  # rounding may make it negative
    return (mean / 255).tolist(), (np.sqrt(variance) / 255).tolist()


def _write_csv(path: Path, head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        csv.writer(file).writerows([head, *rows])
