"""Small images to import, and what an import has made of them."""

import csv
import io
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dltlab.data import import_images
from dltlab.data.image_import import ImportResult
from dltlab.data.imported import ImportedDataset

SIZE = 8
Files = dict[str, bytes]


def pixels_of(name: object) -> np.ndarray:
    """Return pixels that depend on nothing but `name`."""
    random = np.random.default_rng(zlib.crc32(str(name).encode()))
    return random.integers(0, 256, (SIZE, SIZE, 3), np.uint8)


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def image_files(*folders: str, count: int = 10) -> Files:
    """Return the files of different images, `count` in each folder."""
    names = [f"{folder}/{number:03}.png" for folder in folders for number in range(count)]
    return {name: png(pixels_of(name)) for name in names}


def write_files(folder: Path, files: Mapping[str, bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def import_pets(source: Path, **options: Any) -> ImportResult:
    return import_images(source, "pets", **{"size": SIZE, **options})


def rows_of(dataset: ImportedDataset, file: str = "images.csv") -> list[dict[str, str]]:
    with (dataset.folder / file).open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def labels_of(result: ImportResult) -> dict[str, str]:
    return {row["name"]: row["class"] for row in rows_of(result.dataset)}


def splits_of(result: ImportResult) -> dict[str, str]:
    return {row["name"]: row["split"] for row in rows_of(result.dataset)}


def imported_pixels(dataset: ImportedDataset) -> np.ndarray:
    shards = sorted(dataset.folder.glob("images-*.npy"))
    return np.concatenate([np.load(shard) for shard in shards])


def write_odd_pets(folder: Path) -> Path:
    """Write images of two classes, one with a name that a terminal would interpret."""
    cats = {f"cat $x$ [red]/{number}.png": png(pixels_of(number)) for number in range(12)}
    dogs = {f"dog \x1b[31m/{number}.png": png(pixels_of(-number - 1)) for number in range(40)}
    return write_files(folder, cats | dogs | {"dog \x1b[31m/broken\n.jpg": b"\xff\xd8"})
