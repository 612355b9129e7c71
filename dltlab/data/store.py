"""The user's store of imported images: versions side by side, each complete or not there.

NAME/VERSION/manifest.json   what it is, and the hash of every other file
NAME/VERSION/images-*.npy    uint8 RGB (n, size, size, 3), in shards, to be mapped into memory
NAME/VERSION/labels.npy      int64 (n,)
NAME/VERSION/splits.npy      int8 (n,): 0 train, 1 validation, 2 test
NAME/VERSION/images.csv      name, class, split and digest of each image
NAME/VERSION/left_out.csv    name of each file that was not imported, with the reason
NAME/VERSION/runs.json       the folders of the runs that used it
"""

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import glob
from pathlib import Path

from pydantic import ValidationError

from dltlab.data.imported import ImportedDataset, version_dir
from dltlab.errors import Damaged, NotFound, Unavailable
from dltlab.files import cannot_write, lock_folder, remove_unfinished, write_atomically
from dltlab.paths import data_dir

MANIFEST = "manifest.json"
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_LAST_VERSION, _RUNS = ".last", "runs.json"


def is_valid_name(name: str) -> bool:
    """Return whether an imported data set may have this name."""
    return _NAME.fullmatch(name) is not None


def imported_names() -> list[str]:
    """Return the names of all imported data sets, in alphabetical order."""
    manifests = glob(f"*/*/{MANIFEST}", root_dir=data_dir())
    names = {Path(manifest).parts[0] for manifest in manifests}
    return [name for name in sorted(names) if versions(name)]


def imported_datasets() -> list[ImportedDataset]:
    """Return every version of every imported data set."""
    return [read_imported(f"{name}@{version}") for name in imported_names()
            for version in versions(name)]  # fmt: skip


def versions(name: str) -> list[int]:
    """Return the versions of an imported data set, the oldest first; [] where there is none."""
    if not is_valid_name(name):
        return []
    manifests = glob(f"*/{MANIFEST}", root_dir=data_dir() / name)
    folders = [Path(manifest).parts[0] for manifest in manifests]
    return sorted(int(folder) for folder in folders if folder.isdecimal())


def last_version(name: str) -> int:
    """Return the highest version that an imported data set ever had; 0 where it had none.

    A version number is never used twice, so that "pets@2" in a run's record stays unambiguous.
    """
    removed = data_dir() / name / _LAST_VERSION
    return max([0, *versions(name), int(removed.read_text()) if removed.is_file() else 0])


def read_imported(tag: str) -> ImportedDataset:
    """Read the manifest of "pets", in its newest version, or of "pets@1".

    Raises:
        NotFound: There is no imported data set or version of that name.
        Damaged: The manifest is damaged.
    """
    name, _, version = tag.partition("@")
    known = versions(name)
    if not known:
        raise NotFound(f"There is no imported data set '{name}'.")
    if version and version not in map(str, known):
        raise NotFound(
            f"There is no version {version} of '{name}'. "
            f"Its versions: {', '.join(map(str, known))}."
        )
    path = data_dir() / name / (version or str(known[-1])) / MANIFEST
    try:
        return ImportedDataset.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise Damaged(
            f"{path} is damaged. Remove that version (dltlab data remove {name}@{path.parent.name})"
            " and import the images again."
        ) from error


@contextmanager
def locked(name: str) -> Iterator[Path]:
    """Hold the lock of a data set's folder in the store, and yield the folder.

    Other processes wait. What killed processes have left unfinished is removed first.

    Raises:
        Unavailable: The folder cannot be written.
    """
    folder = data_dir() / name
    try:
        with lock_folder(folder):
            for unfinished in folder.glob(".*.*/"):  # as `atomic_folder` and `remove` name them
                remove_unfinished(folder / unfinished.name[1:].rpartition(".")[0])
            yield folder
    except OSError as error:
        raise cannot_write(folder, error) from error


def remove(name: str, version: int) -> None:
    """Remove a version atomically; a process that uses it can still read its open files.

    Raises:
        Unavailable: The store cannot be written.
    """
    with locked(name) as folder:
        write_atomically(folder / _LAST_VERSION, str(last_version(name)))
        hidden = (folder / str(version)).rename(folder / f".{version}.removed")
        shutil.rmtree(hidden)


def note_run(dataset: ImportedDataset, run_dir: Path) -> None:
    """Note that the run in `run_dir` used a version, so that it is not removed without a question.

    Nothing is noted in a store that cannot be written, from which nothing can be removed either, or
    where the record is damaged.
    """
    with suppress(Unavailable, Damaged), locked(dataset.name):
        runs = sorted({*_noted_runs(dataset.folder), str(run_dir.resolve())})
        write_atomically(dataset.folder / _RUNS, json.dumps(runs, indent=1))


def runs_of(name: str, version: int) -> list[Path]:
    """Return the folders of the runs that used a version and still exist.

    Raises:
        Damaged: The record is damaged.
    """
    runs = map(Path, _noted_runs(version_dir(name, version)))
    return [run for run in runs if (run / "data.json").is_file()]


def _noted_runs(folder: Path) -> list[str]:
    path = folder / _RUNS
    try:
        return list(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return []
    except ValueError as error:
        raise Damaged(f"{path} is damaged: remove it.") from error
