"""The interface of a backend, and the types that every backend uses."""

import importlib.metadata
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, TypeAlias, get_args

if TYPE_CHECKING:
    import keras
    import numpy as np

Precision = Literal["float32", "bfloat16", "float16", "int8"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
Arrays: TypeAlias = "list[np.ndarray]"
Runner: TypeAlias = "Callable[[Arrays], Arrays]"
Score: TypeAlias = "Callable[[Arrays, Sequence[int]], float]"

CACHE_FOLDER = "cache"  # in an engine's folder: what a backend can build again; never verified


@dataclass(frozen=True)
class Settings:
    """How an engine uses the processor.

    Attributes:
        batch_size: Examples in a call.
        streams: Calls that run at the same time.
        threads: Threads of all streams together.
    """

    batch_size: int
    streams: int
    threads: int

    @property
    def threads_per_stream(self) -> int:
        """At least one."""
        return max(1, self.threads // self.streams)


@dataclass(frozen=True)
class Operation:
    """An operation that a compiled network runs as one piece.

    Attributes:
        name: The backend's name of it.
        kind: Such as "Convolution".
        precision: The dtype that it computes in.
        sources: The names of the operations of the exported graph that were fused into it.
        seconds: Time in one call; None where the backend does not report it.
    """

    name: str
    kind: str
    precision: str
    sources: tuple[str, ...]
    seconds: float | None


class Session(ABC):
    """A compiled network, ready to run."""

    @abstractmethod
    def runner(self) -> Runner:
        """Return a function that runs one batch, for use in one thread.

        Several runners may run at the same time. The arrays that a runner returns are valid until
        it is called again.
        """

    def operations(self, inputs: Arrays) -> list[Operation]:
        """Return the operations that run, in order, timed on `inputs`.

        The list is empty where the backend does not report them.
        """
        return []


class Backend(ABC):
    """A compiler or a runtime for trained networks.

    Attributes:
        name: What users call it.
        packages: The Python packages that it builds and runs with.
        substitutes: For a package: another one that contains the same module.
        mixes_precisions: Whether `build_mixed_precision` is implemented.
    """

    name: ClassVar[str]
    packages: ClassVar[tuple[str, ...]]
    substitutes: ClassVar[Mapping[str, str]] = {"tensorflow": "tensorflow-cpu"}
    mixes_precisions: ClassVar[bool] = False

    def unavailable_reason(self) -> str:
        """Return why it cannot run here and how to fix that; empty where it can."""
        missing = [package for package in self.packages if not self._installed(package)]
        if not missing:
            return ""
        return f"{' and '.join(missing)} not installed. Run: pip install 'dltlab[inference]'"

    def auto_rank(self) -> int | None:
        """Return its place in the order in which "auto" tries backends on this machine.

        The smallest is tried first; None means that "auto" never takes it.
        """
        return None

    def versions(self) -> dict[str, str]:
        """Return the version of every package that it builds and runs with."""
        installed = (self._installed(package) for package in self.packages)
        return dict(package for package in installed if package)

    def _installed(self, package: str) -> tuple[str, str] | None:
        """Return the name and version of a package or of its substitute; None without both."""
        for name in (package, self.substitutes.get(package)):
            with suppress(importlib.metadata.PackageNotFoundError):
                if name:
                    return name, importlib.metadata.version(name)
        return None

    @abstractmethod
    def precisions(self) -> tuple[Precision, ...]:
        """Return the precisions that it computes in on this machine."""

    @abstractmethod
    def build(
        self,
        model: "keras.Model",
        precision: Precision,
        calibration: Sequence[Arrays],
        folder: Path,
    ) -> None:
        """Write everything that `open` needs to `folder`.

        Args:
            model: In float32, with a batch of any size.
            precision: One of `precisions()`.
            calibration: For int8: single examples, each with an array for every input.
            folder: An empty folder.

        Raises:
            Unsupported: The backend does not support something in the model.
        """

    def build_mixed_precision(
        self,
        model: "keras.Model",
        calibration: Sequence[Arrays],
        examples: Arrays,
        score: Score,
        max_accuracy_drop: float,
        folder: Path,
    ) -> None:
        """Write an int8 network in which as few layers as possible stay in float32.

        Args:
            model: As for `build`.
            calibration: As for `build`.
            examples: An array for each input, to compute the score on.
            score: Returns the score of outputs for the examples at the given indices; 1 is best.
            max_accuracy_drop: The fraction of the score that may be lost.
            folder: An empty folder.

        Raises:
            Unsupported: The backend does not support something in the model.
        """
        raise NotImplementedError(f"{self.name} cannot mix precisions.")

    @abstractmethod
    def open(self, folder: Path, precision: Precision, settings: Settings) -> Session:
        """Compile what `build` wrote for batches of one size.

        Raises:
            Unavailable: The backend does not start on this machine.
        """


def widened(array: "np.ndarray") -> "np.ndarray":
    """Return bfloat16 and float16 arrays as float32, all others as they are."""
    return array.astype("float32") if array.dtype.name in ("bfloat16", "float16") else array
