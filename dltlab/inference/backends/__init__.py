"""What can run a network: one module each, found by name with `backend`."""

import importlib
import importlib.metadata
import importlib.util
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, cast, get_args, runtime_checkable

import numpy as np

from dltlab.errors import LabError

if TYPE_CHECKING:
    import keras

Precision = Literal["float32", "bfloat16", "float16", "int8"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
Arrays = list[np.ndarray]
Lane = Callable[[Arrays], Arrays]
Score = Callable[[Arrays, Sequence[int]], float]

_MODULES = {
    "keras": "keras_eager",
    "tf.function": "tf_function",
    "xla": "xla",
    "litert": "litert",
    "onnxruntime": "onnx_runtime",
    "openvino": "openvino_runtime",
    "openvino-gpu": "openvino_gpu",
    "tensorrt": "tensorrt",
}
BACKENDS = tuple(_MODULES)
_INSTEAD = {"onnxruntime": "onnxruntime-gpu"}  # what holds the same module, and more


@dataclass(frozen=True)
class Settings:
    """How an engine uses the processor.

    Attributes:
        batch: Examples in a call.
        streams: Calls that run at once.
        threads: Of all streams together.
    """

    batch: int
    streams: int
    threads: int

    @property
    def threads_per_stream(self) -> int:
        """At least one."""
        return max(1, self.threads // self.streams)


@dataclass(frozen=True)
class Operation:
    """What the compiled engine runs as one piece.

    Attributes:
        name: As the backend calls it.
        kind: As in "Convolution".
        precision: What it computes in.
        sources: The names, in the exported graph, of what was fused into it.
        seconds: Of one call; None where the backend does not tell.
    """

    name: str
    kind: str
    precision: str
    sources: tuple[str, ...]
    seconds: float | None


class Session(Protocol):
    """A compiled network, ready to run."""

    def lane(self) -> Lane:
        """A function that runs a batch; each may run in a thread of its own at the same time.

        The arrays that it returns are valid until it is called again.
        """

    def operations(self, inputs: Arrays) -> list[Operation]:
        """What it runs, in order, timed on `inputs`; empty where the backend does not tell."""


class Backend(Protocol):
    """What every module of this folder offers."""

    PACKAGES: tuple[str, ...]

    def lacks(self) -> str:
        """What keeps it from running here and what mends that; empty where all is well."""

    def precisions(self) -> tuple[Precision, ...]:
        """Those that it computes in here."""

    def build(
        self,
        model: "keras.Model",
        precision: Precision,
        calibration: Sequence[Arrays],
        folder: Path,
    ) -> None:
        """Write what `open` needs to `folder`.

        Args:
            model: In float32, with a batch of any size.
            precision: One of `precisions()`.
            calibration: For int8: single examples, each with an array for every input.
            folder: Empty.

        Raises:
            LabError: The model has something that the backend does not know.
        """

    def open(self, folder: Path, precision: Precision, settings: Settings) -> Session:
        """Compile what `build` wrote."""


@runtime_checkable
class Mixing(Protocol):
    """A backend that can leave single layers in float32, where int8 costs too much accuracy."""

    def build_mixed(
        self,
        model: "keras.Model",
        calibration: Sequence[Arrays],
        examples: Arrays,
        score: Score,
        max_drop: float,
        folder: Path,
    ) -> None:
        """Write an int8 network in which as few layers as possible stay in float32.

        Args:
            model: As for `build`.
            calibration: As for `build`.
            examples: An array for each input, to compare on.
            score: Of outputs for the examples at those places; 1 is best.
            max_drop: The share of the score that may be lost.
            folder: Empty.

        Raises:
            LabError: As for `build`.
        """


def backend(name: str) -> Backend:
    """The backend of that name, if it can run here.

    Raises:
        LabError: There is none, or it lacks something, with how to get it.
    """
    if name not in _MODULES:
        raise LabError(f"backend is '{name}'; it must be auto or one of {', '.join(_MODULES)}.")
    module = cast("Backend", importlib.import_module(f"{__name__}.{_MODULES[name]}"))
    lacks = _missing_packages(module) or module.lacks()
    if lacks:
        raise LabError(f"The backend {name} cannot run here: {lacks}")
    return module


def versions(module: Backend) -> dict[str, str]:
    """The version of every package that a backend builds and runs with."""
    return dict(found for package in module.PACKAGES if (found := _installed(package)))


def widened(array: np.ndarray) -> np.ndarray:
    """The array itself; in float32 where it is of one of the two narrow types."""
    return array.astype(np.float32) if array.dtype.name in ("bfloat16", "float16") else array


def _installed(package: str) -> tuple[str, str] | None:
    """The package, or the one that has its place, with its version."""
    for name in (package, _INSTEAD.get(package)):
        with suppress(importlib.metadata.PackageNotFoundError):
            if name:
                return name, importlib.metadata.version(name)
    return None


def _missing_packages(module: Backend) -> str:
    missing = [package for package in module.PACKAGES if not _installed(package)]
    if not missing:
        return ""
    return f"{' and '.join(missing)} not installed. Run: pip install 'dltlab[inference]'"
