"""A compiled network: `Engine`."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dltlab.devices import cpu_info
from dltlab.errors import LabError
from dltlab.files import cannot_write
from dltlab.inference import cache
from dltlab.inference.backends import Arrays, Lane, Settings, backend, versions
from dltlab.inference.cache import Check, Manifest, Tensor

if TYPE_CHECKING:
    from dltlab.inference.benchmarking import Benchmark
    from dltlab.inference.report import Report


class Engine:
    """A compiled network; `optimize` makes one, `Engine.load` opens a saved one.

    An engine runs batches of one size. It takes any number of examples: it cuts them into batches
    and fills the last one up. It serves one thread; for several, ask for a `lane` each.

    Args:
        folder: What the backend wrote.
        manifest: What is known of it.
        settings: How it uses the processor.

    Attributes:
        folder: Where it is on disk.
        manifest: What is known of it: backend, precision, versions, check, and so on.
        settings: Batch, streams, threads.
        notes: What `optimize` decided, and why.
    """

    def __init__(self, folder: Path, manifest: Manifest, settings: Settings) -> None:
        self.folder, self.manifest, self.settings = folder, manifest, settings
        self.notes: list[str] = []
        self._session = backend(manifest.backend).open(folder, manifest.precision, settings)
        self._lane = self._session.lane()

    @classmethod
    def load(cls, folder: str | Path, *, batch: int = 1) -> "Engine":
        """Open an engine that `save` wrote.

        Raises:
            LabError: There is none, it is damaged or stale, it is from another machine, or its
                backend cannot run here.
        """
        folder = Path(folder)
        manifest = cache.read_manifest(folder)
        here = versions(backend(manifest.backend))
        cache.require_same_machine(folder, manifest, here)
        return cls(folder, manifest, default_settings(batch))

    def save(self, folder: str | Path) -> Path:
        """Copy the engine to a folder of yours, all of it or nothing.

        Raises:
            LabError: The folder holds something else, or cannot be written.
        """
        folder = Path(folder)
        if folder.exists() and not cache.is_engine(folder):
            raise LabError(f"{folder} exists and is no engine: choose another place.")
        new = cache.beside(folder)
        try:
            for name in (cache.MANIFEST, *self.manifest.files):
                (new / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(self.folder / name, new / name)
            cache.put(new, folder)
        except OSError as error:
            raise cannot_write(folder, error) from error
        finally:
            shutil.rmtree(new, ignore_errors=True)
        return folder

    @property
    def check(self) -> Check | None:
        """How right it is, beside the float32 model."""
        return self.manifest.check

    def __call__(self, *inputs: Any) -> Any:
        """Run the network.

        Args:
            inputs: An array for each input, `(n, …)`, of the model's dtype.

        Returns:
            `(n, …)`, float32 as a rule; a list where the network has several outputs.

        Raises:
            LabError: An input has another shape or dtype than the model's.
        """
        arrays = self.checked(inputs)
        found = self._in_batches(arrays)
        return found[0] if len(found) == 1 else found

    def _in_batches(self, arrays: Arrays) -> Arrays:
        batch, count = self.settings.batch, len(arrays[0])
        whole: Arrays = []
        for first in range(0, count, batch):
            part = self._lane([pad_batch(each[first : first + batch], batch) for each in arrays])
            whole = whole or [np.empty((count, *each.shape[1:]), each.dtype) for each in part]
            for array, some in zip(whole, part, strict=True):
                array[first : first + batch] = some[: count - first]
        return whole

    def checked(self, inputs: Sequence[Any]) -> Arrays:
        """The inputs as arrays that the backend takes as they are.

        Raises:
            LabError: Their number, shape or dtype is not the model's, or there is no example.
        """
        expected = self.manifest.inputs
        if len(inputs) != len(expected):
            raise LabError(f"The network takes {len(expected)} inputs, and got {len(inputs)}.")
        arrays = [np.ascontiguousarray(each) for each in inputs]
        for array, tensor in zip(arrays, expected, strict=True):
            require_fitting(array, tensor)
        if len({len(each) for each in arrays}) != 1:
            raise LabError("The inputs have different numbers of examples: give as many of each.")
        return arrays

    def lane(self) -> Lane:
        """A function that runs one batch, for a thread of its own."""
        return self._session.lane()

    def configured(
        self, *, batch: int | None = None, streams: int | None = None, threads: int | None = None
    ) -> "Engine":
        """The same engine, compiled for another batch or other streams and threads.

        Raises:
            LabError: A number is below 1.
        """
        settings = replace(
            self.settings,
            **{
                name: value
                for name, value in (("batch", batch), ("streams", streams), ("threads", threads))
                if value is not None
            },
        )
        require_settings(settings)
        other = Engine(self.folder, self.manifest, settings)
        other.notes = list(self.notes)
        return other

    def benchmark(
        self,
        *,
        batches: Sequence[int] | None = None,
        streams: Sequence[int] | None = None,
        seconds: float = 1.0,
    ) -> "Benchmark":
        """Latency and images/s for each number of batch and streams; see `measuring.benchmark`."""
        from dltlab.inference.benchmarking import benchmark

        return benchmark(self, batches=batches, streams=streams, seconds=seconds)

    def report(self) -> "Report":
        """The graph before and after, and where the time goes; see `report.Report`."""
        from dltlab.inference.report import report_of

        return report_of(self)

    def operations(self) -> list[Any]:
        """What the backend runs, timed; empty where it does not tell."""
        return self._session.operations(examples(self.manifest.inputs, self.settings.batch))

    def __repr__(self) -> str:
        about, here = self.manifest, self.settings
        return (
            f"{about.model} on {about.backend} in {about.precision}, batch {here.batch}, "
            f"{_counted(here.streams, 'stream')}, {_counted(here.threads, 'thread')}"
            + (f", which {about.check}" if about.check else "")
        )


def default_settings(batch: int) -> Settings:
    """One stream on every core that this process may use.

    Raises:
        LabError: The batch is below 1.
    """
    settings = Settings(batch, 1, max(1, int(cpu_info().cores)))
    require_settings(settings)
    return settings


def require_settings(settings: Settings) -> None:
    """Refuse numbers below 1."""
    for name in ("batch", "streams", "threads"):
        value = getattr(settings, name)
        if not isinstance(value, Integral) or value < 1:
            raise LabError(f"{name} is {value}; it must be a whole number from 1 on.")


def require_fitting(array: np.ndarray, tensor: Tensor, what: str = "The input") -> None:
    """Refuse examples that are not as the model's input.

    Raises:
        LabError: Names both shapes, or both dtypes.
    """
    has = array.shape[1:]
    if array.ndim != len(tensor.shape) + 1 or any(
        one not in (None, other) for one, other in zip(tensor.shape, has, strict=True)
    ):
        raise LabError(
            f"{what} has the shape {array.shape}, and the network takes "
            f"(n, {', '.join('any' if each is None else str(each) for each in tensor.shape)}): "
            "prepare it as for the training."
        )
    if array.dtype != tensor.dtype:
        raise LabError(
            f"{what} is {array.dtype}, and the network takes {tensor.dtype}: convert it with "
            f".astype('{tensor.dtype}'), and scale it as for the training."
        )
    if not len(array):
        raise LabError(f"{what} holds no example: give one or more.")


def examples(inputs: Sequence[Tensor], count: int) -> Arrays:
    """Examples to time a network on: its speed does not depend on what they hold."""
    random = np.random.default_rng(0)
    found = []
    for each in inputs:
        shape = [count, *(side or _ANY for side in each.shape)]
        floats = np.issubdtype(np.dtype(each.dtype), np.floating)
        found.append((random.random(shape) if floats else np.zeros(shape)).astype(each.dtype))
    return found


_ANY = 64  # the length taken where any will do


def pad_batch(array: np.ndarray, batch: int) -> np.ndarray:
    """The examples, with the last one again and again until they are a batch."""
    lacking = batch - len(array)
    return np.concatenate([array, np.repeat(array[-1:], lacking, axis=0)]) if lacking else array


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" + ("s" if number != 1 else "")
