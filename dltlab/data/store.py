"""The user's store of imported images: versions side by side, each whole or not there.

NAME/VERSION/manifest.json   what it is, and the hash of every other file
NAME/VERSION/images-*.npy    uint8 RGB (n, size, size, 3), in shards, to be mapped into memory
NAME/VERSION/labels.npy      int64 (n,)
NAME/VERSION/splits.npy      int8 (n,): 0 train, 1 validation, 2 test
NAME/VERSION/images.csv    name, class, split and digest of each image
NAME/VERSION/left_out.csv    name of each file that is no part of it, with the reason
NAME/VERSION/runs.json       the folders of the runs that used it
"""

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from dltlab.data.card import Card, SplitName, card_names, read_card
from dltlab.data.images import Resize
from dltlab.errors import LabError
from dltlab.files import cannot_write, lock_folder, sha256_of, write_atomically
from dltlab.paths import data_dir

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_MANIFEST = "manifest.json"
_HIDDEN, _LAST = ".new-", ".last"


class Manifest(BaseModel):
    """What is known of one version of an imported data set.

    Attributes:
        name: Of the data set.
        version: Counted from 1.
        content_hash: SHA-256 of the settings and of every image's name, class, split and pixels:
            equal hashes mean equal data.
        source: The name of the folder, archive or list that it was imported from.
        imported: The day, as YYYY-MM-DD.
        size: The side of an image in pixels.
        resize: How other shapes became squares.
        seed: Of the division into splits.
        classes: Their names; a label is a place in this list.
        counts: For each split, the number of images in each class.
        mean: Of the training images' red, green and blue, in [0, 1].
        std: Their standard deviation.
        files: The SHA-256 of each file.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    kind: ClassVar[Literal["images"]] = "images"

    name: str
    version: int
    content_hash: str
    source: str
    imported: str
    size: int
    resize: Resize
    seed: int
    classes: list[str]
    counts: dict[SplitName, list[int]]
    mean: list[float]
    std: list[float]
    files: dict[str, str]

    @property
    def title(self) -> str:
        """One line that says what it is."""
        total = sum(sum(each) for each in self.counts.values())
        return (
            f"{total:,} images of {len(self.classes)} classes, {self.size}×{self.size} pixels, "
            f"imported from {self.source}."
        )

    @property
    def shape(self) -> list[int]:
        """Of one image: height, width, channels."""
        return [self.size, self.size, 3]

    @property
    def folder(self) -> Path:
        """Where its files are."""
        return folder_of(self.name, self.version)

    @property
    def tag(self) -> str:
        """The name by which it is asked for, with its version."""
        return f"{self.name}@{self.version}"


def folder_of(name: str, version: int) -> Path:
    """Where the files of a version are."""
    return data_dir() / name / str(version)


def check_name(name: str) -> None:
    """Refuse a name that a data set of one's own cannot have.

    Raises:
        LabError: It is a card's, or has other characters than a-z, 0-9, _ and -.
    """
    if not _NAME.fullmatch(name):
        raise LabError(
            f"'{name}' cannot name a data set: use up to 64 of a-z, 0-9, '_' and '-', the first a "
            "letter or digit."
        )
    if name in card_names():
        raise LabError(f"'{name}' is a data set of the course: choose another name.")


def versions(name: str) -> list[int]:
    """The versions of the imported data set `name`, the oldest first; none where there is none."""
    if not _NAME.fullmatch(name):
        return []
    found = (data_dir() / name).glob(f"*/{_MANIFEST}")
    return sorted(int(path.parent.name) for path in found if path.parent.name.isdecimal())


def last_version(name: str) -> int:
    """The highest version that the imported data set `name` ever had; 0 where it had none.

    A number is never given again, so that "pets@2" in a run's record means one thing.
    """
    removed = data_dir() / name / _LAST
    return max([0, *versions(name), int(removed.read_text()) if removed.is_file() else 0])


def imported() -> list[Manifest]:
    """Every version of every imported data set."""
    return [manifest(f"{name}@{version}") for name in _own() for version in versions(name)]


def info(name: str) -> Card | Manifest:
    """What is known of a data set: its card, or the manifest of imported images.

    Args:
        name: As in "mnist"; "pets" for the newest version of one's own, "pets@1" for another.

    Raises:
        LabError: There is no such data set, or its card or manifest is wrong.
    """
    return read_card(name) if name in card_names() else manifest(name)


def manifest(name: str) -> Manifest:
    """The manifest of "pets", in its newest version, or of "pets@1".

    Raises:
        LabError: There is no such data set or version, or its manifest is damaged.
    """
    stem, _, version = name.partition("@")
    known = versions(stem)
    if not known:
        raise LabError(
            f"There is no data set '{name}'. The data sets are: {', '.join(names())}. "
            f"Images of your own: dltlab data import FOLDER --name NAME."
        )
    if version and version not in map(str, known):
        raise LabError(
            f"There is no version {version} of '{stem}'. Its versions: "
            f"{', '.join(map(str, known))}."
        )
    path = data_dir() / stem / (version or str(known[-1])) / _MANIFEST
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise LabError(
            f"{path} is damaged. Remove that version (dltlab data remove {stem}@{path.parent.name})"
            " and import the images again."
        ) from error


def names() -> list[str]:
    """The names of all data sets, those with a card first."""
    return [*card_names(), *(name for name in _own() if name not in card_names())]


def _own() -> list[str]:
    """The names of all imported data sets."""
    found = {path.parents[1].name for path in data_dir().glob(f"*/*/{_MANIFEST}")}
    return [name for name in sorted(found) if versions(name)]  # not what is half made


@contextmanager
def hidden_folder(name: str) -> Iterator[Path]:
    """A hidden folder of the data set `name`, to fill and then to rename.

    Whoever else wants one waits. What a killed process has left is removed, and so is the folder
    where it was not renamed.

    Raises:
        LabError: The store cannot be written.
    """
    parent = data_dir() / name
    hidden = parent / f"{_HIDDEN}{os.getpid()}"
    try:
        with lock_folder(parent):
            for stale in parent.glob(f"{_HIDDEN}*"):
                shutil.rmtree(stale)
            hidden.mkdir()
            try:
                yield hidden
            finally:
                shutil.rmtree(hidden, ignore_errors=True)
    except OSError as error:
        raise cannot_write(parent, error) from error


class Shards:
    """Writes images as `.npy` files of at most `ROWS_BYTES` each.

    Args:
        folder: Where.
        shape: Of one image.
    """

    ROWS_BYTES = 1 << 30

    def __init__(self, folder: Path, shape: tuple[int, ...]) -> None:
        self._folder, self._shape = folder, shape
        self._most = max(1, self.ROWS_BYTES // int(np.prod(shape)))
        self._rows = 0
        self._file: Any = None
        self.paths: list[Path] = []

    def append(self, images: np.ndarray) -> None:
        """Add uint8 images `(n, *shape)`."""
        while len(images):
            if self._file is None or self._rows == self._most:
                self._next()
            some = images[: self._most - self._rows]
            self._file.write(np.ascontiguousarray(some).data)
            self._rows += len(some)
            images = images[len(some) :]

    def close(self) -> None:
        """Write what is not yet written."""
        if self._file is None:
            return
        with self._file:
            self._file.seek(0)
            self._write_header(self._rows)  # NumPy leaves room in it for a larger number
            self._file.flush()
            os.fsync(self._file.fileno())
        self._file = None

    def _next(self) -> None:
        self.close()
        self.paths.append(self._folder / f"images-{len(self.paths):05}.npy")
        self._file, self._rows = self.paths[-1].open("wb"), 0
        self._write_header(0)

    def _write_header(self, rows: int) -> None:
        header = {"descr": "|u1", "fortran_order": False, "shape": (rows, *self._shape)}
        np.lib.format.write_array_header_1_0(self._file, header)


def damage(found: Manifest) -> list[str]:
    """What is wrong with the files of a version, each fault in a sentence."""
    faults = []
    for name, expected in found.files.items():
        path = found.folder / name
        if not path.is_file():
            faults.append(f"{path} is missing.")
        elif sha256_of(path) != expected:
            faults.append(f"{path} has other bytes than its manifest says.")
    return faults


def remove(name: str, version: int) -> None:
    """Remove a version, at once for whoever looks; a process that uses it keeps its files.

    Raises:
        LabError: The store cannot be written.
    """
    folder = folder_of(name, version)
    try:
        with lock_folder(folder.parent):
            write_atomically(folder.with_name(_LAST), str(last_version(name)))
            hidden = folder.rename(folder.with_name(f"{_HIDDEN}removed-{version}"))
            shutil.rmtree(hidden)
    except OSError as error:
        raise cannot_write(folder, error) from error


def note_run(found: Manifest, run: Path) -> None:
    """Remember that the run in the folder `run` used a version, so that it is kept.

    In a store that cannot be written nothing is noted: nobody can remove anything there either.
    """
    with suppress(OSError, LabError), lock_folder(found.folder.parent):
        runs = sorted({*_noted_runs(found.folder), str(run.resolve())})
        write_atomically(found.folder / "runs.json", json.dumps(runs, indent=1))


def runs_of(folder: Path) -> list[Path]:
    """The folders of the runs that used the version in `folder` and are still there."""
    return [Path(run) for run in _noted_runs(folder) if Path(run, "data.json").is_file()]


def _noted_runs(folder: Path) -> list[str]:
    path = folder / "runs.json"
    try:
        return list(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return []
    except ValueError as error:
        raise LabError(f"{path} is damaged: remove it.") from error
