"""The cache of engines: one folder for each model, backend, precision, machine and data."""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import numpy as np

from dltlab.files import cannot_write, lock_folder, remove_unfinished
from dltlab.inference.manifest import MANIFEST, EngineManifest
from dltlab.paths import engine_dir

_ENGINE = "engine"  # the engine's folder inside the folder of its key
_MAX_UNUSED_SECONDS = 30 * 86400
_KEY_FIELDS = {
    "format", "model_hash", "backend", "versions", "precision", "max_accuracy_drop", "machine",
}  # fmt: skip


def cached_folder(manifest: EngineManifest, data: Iterable[np.ndarray]) -> Path:
    """Return the folder of an engine in the cache, whether it exists or not.

    Args:
        manifest: Describes the engine: another model, version or machine has another folder.
        data: The arrays that it is calibrated and checked with.
    """
    description = manifest.model_dump(include=_KEY_FIELDS)
    digest = hashlib.sha256(json.dumps(description, sort_keys=True).encode())
    for array in data:
        digest.update(f"{array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return engine_dir() / digest.hexdigest()[:32] / _ENGINE


def mark_used(folder: Path) -> None:
    """Record that an engine is in use, if the cache can be written."""
    with suppress(OSError):
        os.utime(folder / MANIFEST)


def remove_unused() -> None:
    """Remove the engines that nobody has used for 30 days."""
    for manifest in engine_dir().glob(f"*/{_ENGINE}/{MANIFEST}"):
        with suppress(OSError):
            if manifest.stat().st_mtime < time.time() - _MAX_UNUSED_SECONDS:
                shutil.rmtree(manifest.parents[1])


@contextmanager
def build_lock(folder: Path) -> Iterator[None]:
    """Hold the lock on building an engine: another process that builds the same one waits.

    What a killed build has left behind is removed.

    Args:
        folder: The engine's folder, from `cached_folder`.

    Raises:
        Unavailable: The folder cannot be written.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(lock_folder(folder.parent))
        except OSError as error:
            raise cannot_write(folder.parent, error) from error
        remove_unfinished(folder)
        yield
