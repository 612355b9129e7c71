"""The manifest of an engine on disk: what the engine is, and the hashes of its files."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from dltlab.devices import cpu_info, list_gpus
from dltlab.errors import Damaged, NotFound, Unavailable
from dltlab.files import sha256_of, write_atomically
from dltlab.inference.backends.base import CACHE_FOLDER, Precision

MANIFEST = "engine.json"
_FORMAT = 4  # of the manifest and of what backends write


class TensorSpec(BaseModel):
    """The shape and dtype of an input or output.

    Attributes:
        shape: The shape of one example; None for an axis of any length.
        dtype: NumPy's name of it.
        name: Its key in a dict of inputs, else the model's name of it.
    """

    model_config = ConfigDict(frozen=True)

    shape: tuple[int | None, ...]
    dtype: str
    name: str = ""


class Accuracy(BaseModel):
    """How accurate an engine is, compared with the float32 model.

    Attributes:
        metric: "accuracy" where there were labels, else "agreement".
        reference: The accuracy of the float32 model; 1 for agreement.
        engine: The accuracy or agreement of the engine.
        num_examples: The number of examples that both ran on.
        data: "validation data", "calibration data" or "random numbers".
        finite: Whether the engine returned neither NaN nor infinity.
    """

    model_config = ConfigDict(frozen=True)

    metric: str
    reference: float
    engine: float
    num_examples: int
    data: str
    finite: bool = True

    def is_within(self, max_accuracy_drop: float) -> bool:
        """Return whether the engine lost at most that fraction of the reference's accuracy."""
        return self.finite and self.engine >= (1 - max_accuracy_drop) * self.reference

    def __str__(self) -> str:
        source = "" if self.data == "validation data" else f", {self.data}"
        examples = f"({self.num_examples:,} examples{source})"
        if not self.finite:
            return f"returns NaN or infinity {examples}"
        if self.metric == "agreement":
            return f"has an agreement of {self.engine:.4f} with the float32 model {examples}"
        return (
            f"has an accuracy of {self.engine:.4f}, the float32 model {self.reference:.4f} "
            f"{examples}"
        )


class EngineManifest(BaseModel):
    """Everything that is known of an engine on disk.

    Attributes:
        model: The name of the model.
        model_hash: The hash of its structure and weights.
        backend: The backend that built the engine.
        versions: The versions of the backend's packages.
        precision: What the engine computes in.
        max_accuracy_drop: The fraction of the accuracy that could be lost when single layers were
            kept in float32; None where all layers are in `precision`.
        machine: The processor and GPUs that the engine was built and checked on.
        inputs: In the model's order; those of a dict in the order of their keys.
        outputs: The keys of a dict of outputs; empty where the model returns something else.
        class_names: In the order of the labels; empty where they are not known.
        logits: Whether the outputs are logits, no probabilities: some are outside [0, 1].
        pixel_max: The largest value of a pixel, 1 or 255; None where the engine was checked on
            other numbers.
        layers: Name and kind of every layer call of the model, in order.
        accuracy: How accurate the engine is; None before that is known.
        build_seconds: Time for export, conversion and quantization.
        files: The SHA-256 of each file beside the manifest.
    """

    model_config = ConfigDict(frozen=True)

    format: int = _FORMAT
    model: str
    model_hash: str
    backend: str
    versions: dict[str, str]
    precision: Precision
    max_accuracy_drop: float | None = None
    machine: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[str, ...] = ()
    class_names: tuple[str, ...] = ()
    logits: bool = False
    pixel_max: float | None = None
    layers: tuple[tuple[str, str], ...]
    accuracy: Accuracy | None = None
    build_seconds: float = 0.0
    files: dict[str, str] = {}

    @property
    def image_shape(self) -> tuple[int, int] | None:
        """Side and channels of the images that the engine takes; None where it takes none."""
        shape = self.inputs[0].shape if len(self.inputs) == 1 else ()
        if len(shape) != 3 or shape[0] != shape[1] or self.pixel_max is None:
            return None
        side, _, channels = shape
        return (side, channels) if side and channels in (1, 3) else None

    @property
    def title(self) -> str:
        """The engine in a few words."""
        return f"{self.model} on {self.backend} in {self.precision}"


def this_machine() -> str:
    """Return the name of this processor, its vector extensions, and its NVIDIA GPUs."""
    cpu = cpu_info()
    return ", ".join(
        [f"{cpu.model} ({', '.join(cpu.extensions)})", *(gpu.name for gpu in list_gpus())]
    )


def write_manifest(folder: Path, manifest: EngineManifest) -> EngineManifest:
    """Write the manifest of the files in `folder`, and return it with their hashes."""
    paths = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    names = sorted(str(path) for path in paths if path.parts[0] not in (MANIFEST, CACHE_FOLDER))
    files = {name: sha256_of(folder / name) for name in names}
    complete = manifest.model_copy(update={"files": files})
    update_manifest(folder, complete)
    return complete


def update_manifest(folder: Path, manifest: EngineManifest) -> None:
    """Replace the manifest in `folder`, whose files are unchanged."""
    write_atomically(folder / MANIFEST, manifest.model_dump_json(indent=1))


def read_manifest(folder: Path) -> EngineManifest:
    """Return the manifest of an engine, after verifying its files.

    Raises:
        NotFound: The folder holds no engine.
        Damaged: The manifest or a file is damaged.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise NotFound(f"{folder} is not an engine: build one with dltlab optimize MODEL.keras.")
    damaged = Damaged(f"The engine in {folder} is damaged: build it again with dltlab optimize.")
    try:
        manifest = EngineManifest.model_validate_json(path.read_bytes())
        if any(_is_outside(name) for name in manifest.files):
            raise damaged
        if any(sha256_of(folder / name) != digest for name, digest in manifest.files.items()):
            raise damaged
    except (OSError, ValidationError) as error:
        raise damaged from error
    return manifest


def engine_files(folder: Path) -> list[str]:
    """Return the names of an engine's files in its folder; an empty list if it is no engine."""
    try:
        manifest = EngineManifest.model_validate_json((folder / MANIFEST).read_bytes())
    except (OSError, ValidationError):
        return []
    return [MANIFEST, *manifest.files]


def is_engine(folder: Path) -> bool:
    """Return whether the folder holds a valid manifest; the other files may be damaged."""
    return bool(engine_files(folder))


def require_same_machine(folder: Path, manifest: EngineManifest, installed: dict[str, str]) -> None:
    """Refuse an engine that was built on another machine or with other versions.

    Args:
        folder: The engine's folder.
        manifest: Its manifest.
        installed: The versions of the backend's packages on this machine.

    Raises:
        Unavailable: Names the difference.
    """
    machine = this_machine()
    if manifest.machine != machine:
        raise Unavailable(
            f"The engine in {folder} was built and checked on another machine, {manifest.machine}, "
            f"and this is {machine}: build it here with dltlab optimize."
        )
    if manifest.versions != installed or manifest.format != _FORMAT:
        changes = [
            f"{package} {version}, now {installed.get(package)}"
            for package, version in manifest.versions.items()
            if installed.get(package) != version
        ]
        raise Unavailable(
            f"The engine in {folder} is outdated ({', '.join(changes) or 'an older dltlab'}): "
            "build it again with dltlab optimize."
        )


def _is_outside(name: str) -> bool:
    return Path(name).is_absolute() or ".." in Path(name).parts
