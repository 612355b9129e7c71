"""Engines on disk: what they are called, what is written beside them, whether they still hold."""

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from dltlab.devices import cpu_info, list_gpus
from dltlab.errors import LabError
from dltlab.files import cannot_write, lock_folder, sha256_of, write_atomically
from dltlab.inference.backends import Precision
from dltlab.paths import engine_dir

ENGINE = "engine"  # the folder's name within that of its key
MANIFEST = "engine.json"
KEPT = "kept"  # a folder for what a backend can make anew; no part of the engine
_FORMAT = 1  # of the manifest and of what backends write
_UNUSED = 30 * 86400  # seconds after which nobody is expected to come back


class Tensor(BaseModel):
    """An input or output.

    Attributes:
        shape: Of one example; None where any length will do.
        dtype: As NumPy calls it.
    """

    model_config = ConfigDict(frozen=True)

    shape: tuple[int | None, ...]
    dtype: str


class Check(BaseModel):
    """How right an engine is, beside the float32 model.

    Attributes:
        metric: "accuracy", where there were labels; else "agreement".
        reference: The accuracy of the float32 model; 1 for agreement.
        engine: That of the engine.
        num_examples: That both were given.
        data: "validation data", "calibration data" or "random numbers".
        finite: Whether the engine gave neither NaN nor infinity.
    """

    model_config = ConfigDict(frozen=True)

    metric: str
    reference: float
    engine: float
    num_examples: int
    data: str
    finite: bool = True

    def holds(self, tolerance: float) -> bool:
        """Whether at least `1 - tolerance` of the float32 model's score is kept."""
        return self.finite and self.engine >= (1 - tolerance) * self.reference

    def __str__(self) -> str:
        what = "" if self.data == "validation data" else f", {self.data}"
        on = f"({self.num_examples:,} examples{what})"
        if not self.finite:
            return f"gives NaN or infinity {on}"
        if self.metric == "agreement":
            return f"agrees with float32 on {self.engine:.2%} {on}"
        return f"has an accuracy of {self.engine:.4f}, the float32 model {self.reference:.4f} {on}"


class Manifest(BaseModel):
    """What is known of an engine on disk.

    Attributes:
        model: The model's name.
        model_hash: Of its structure and weights.
        backend: That built it.
        versions: Of the backend's packages.
        precision: It computes in.
        max_drop: The share of accuracy that could be lost when layers were taken back to float32;
            None where all are in `precision`.
        machine: The processor and GPUs it was built and checked on.
        inputs: In the model's order.
        layers: Name and kind of every layer call of the model, in order.
        check: How right it is; None before it is known.
        build_seconds: Export, conversion and quantization.
        files: The SHA-256 of each file beside the manifest.
    """

    model_config = ConfigDict(frozen=True)

    format: int = _FORMAT
    model: str
    model_hash: str
    backend: str
    versions: dict[str, str]
    precision: Precision
    max_drop: float | None = None
    machine: str
    inputs: tuple[Tensor, ...]
    layers: tuple[tuple[str, str], ...]
    check: Check | None = None
    build_seconds: float = 0.0
    files: dict[str, str] = {}


def mark_used(folder: Path) -> None:
    """Note that an engine is in use, where the cache may be written."""
    with suppress(OSError):
        os.utime(folder / MANIFEST)


def forget_unused() -> None:
    """Remove the engines that nobody has used for 30 days."""
    for manifest in engine_dir().glob(f"*/{ENGINE}/{MANIFEST}"):
        with suppress(OSError):
            if manifest.stat().st_mtime < time.time() - _UNUSED:
                shutil.rmtree(manifest.parents[1])


def machine() -> str:
    """This processor, with what it can compute with, and the NVIDIA GPUs."""
    cpu = cpu_info()
    gpus = [gpu.name for gpu in list_gpus()]
    return ", ".join([f"{cpu.model} ({', '.join(cpu.extensions)})", *gpus])


def key_of(manifest: Manifest, data: Iterable[np.ndarray]) -> str:
    """The name of an engine's folder: another model, version, machine or data, another name."""
    seen = hashlib.sha256()
    about = manifest.model_dump(include=_KEY)
    seen.update(json.dumps(about, sort_keys=True).encode())
    for each in data:
        seen.update(f"{each.dtype} {each.shape}".encode())
        seen.update(np.ascontiguousarray(each).tobytes())
    return seen.hexdigest()[:32]


_KEY = {"format", "model_hash", "backend", "versions", "precision", "max_drop", "machine"}


def write_manifest(folder: Path, manifest: Manifest) -> Manifest:
    """Write the manifest of the files in `folder`, and return it with their hashes."""
    paths = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    names = sorted(str(path) for path in paths if path.parts[0] not in (MANIFEST, KEPT))
    files = {name: sha256_of(folder / name) for name in names}
    whole = manifest.model_copy(update={"files": files})
    write_atomically(folder / MANIFEST, whole.model_dump_json(indent=1))
    return whole


def read_manifest(folder: Path) -> Manifest:
    """The manifest of an engine whose files are whole.

    Raises:
        LabError: There is no engine, or it is damaged.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise LabError(f"{folder} is no engine: make one with dltlab optimize MODEL.keras.")
    damaged = LabError(f"The engine in {folder} is damaged: make it again with dltlab optimize.")
    try:
        manifest = Manifest.model_validate_json(path.read_bytes())
        outside = any(
            Path(name).is_absolute() or ".." in Path(name).parts for name in manifest.files
        )
        if outside or any(
            sha256_of(folder / name) != value for name, value in manifest.files.items()
        ):
            raise damaged
    except (OSError, ValidationError) as error:
        raise damaged from error
    return manifest


def is_engine(folder: Path) -> bool:
    """Whether there is a manifest that can be read; the files may be damaged."""
    try:
        Manifest.model_validate_json((folder / MANIFEST).read_bytes())
    except (OSError, ValidationError):
        return False
    return True


def require_same_machine(folder: Path, manifest: Manifest, versions_here: dict[str, str]) -> None:
    """Refuse an engine that was built and checked elsewhere, or with other versions.

    Raises:
        LabError: Says what differs.
    """
    if manifest.machine != machine():
        raise LabError(
            f"The engine in {folder} was built and checked on another machine, {manifest.machine}, "
            f"and this is {machine()}: make it here with dltlab optimize."
        )
    if manifest.versions != versions_here or manifest.format != _FORMAT:
        differ = [
            f"{name} {version}, now {versions_here.get(name)}"
            for name, version in manifest.versions.items()
            if versions_here.get(name) != version
        ]
        raise LabError(
            f"The engine in {folder} is stale ({', '.join(differ) or 'an older dltlab'}): make it "
            "again with dltlab optimize."
        )


@contextmanager
def alone(home: Path) -> Iterator[None]:
    """Hold the folder of an engine and what it is built from: who builds the same one waits.

    What a build that was killed has left is removed.

    Raises:
        LabError: The folder cannot be written.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(lock_folder(home))
        except OSError as error:
            raise cannot_write(home, error) from error
        for left in home.glob(".*/"):
            shutil.rmtree(left, ignore_errors=True)
        yield


def beside(folder: Path) -> Path:
    """A new empty folder beside `folder`, to be renamed to it when it is whole.

    Raises:
        LabError: It cannot be made.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise cannot_write(folder, error) from error


def put(new: Path, folder: Path) -> None:
    """Rename a whole engine into its place; an older one there is removed.

    Raises:
        LabError: It cannot be done.
    """
    try:
        new.chmod(0o755)
        if folder.exists():
            old = beside(folder)
            folder.replace(old / "old")
            try:
                new.replace(folder)
            except OSError:
                (old / "old").replace(folder)
                old.rmdir()
                raise
            shutil.rmtree(old, ignore_errors=True)
        else:
            new.replace(folder)
    except OSError as error:
        raise cannot_write(folder, error) from error
