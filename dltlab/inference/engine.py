"""A compiled network: `Engine`."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np

from dltlab.devices import cpu_info
from dltlab.errors import Invalid
from dltlab.files import atomic_folder
from dltlab.inference.arrays import check_arrays, example_inputs, pad_batch
from dltlab.inference.backends import get_backend
from dltlab.inference.backends.base import Arrays, Operation, Runner, Settings
from dltlab.inference.manifest import (
    Accuracy,
    EngineManifest,
    is_engine,
    read_manifest,
    require_same_machine,
    update_manifest,
)


class Engine:
    """A compiled network; `optimize` builds one, `Engine.load` opens a saved one.

    An engine runs batches of one size. It takes any number of examples: it cuts them into batches
    and pads the last one. It is not thread-safe; each thread needs a `runner` of its own.

    Args:
        folder: What the backend wrote.
        manifest: Describes it.
        settings: How it uses the processor.

    Attributes:
        folder: Where it is on disk.
        manifest: Backend, precision, versions, accuracy, and so on.
        settings: Batch size, streams, threads.
        notes: What `optimize` decided, and why.
    """

    def __init__(self, folder: Path, manifest: EngineManifest, settings: Settings) -> None:
        self.folder, self.manifest, self.settings = folder, manifest, settings
        self.notes: list[str] = []
        self._session = get_backend(manifest.backend).open(folder, manifest.precision, settings)
        self._run = self._session.runner()

    @classmethod
    def load(cls, folder: str | Path, *, batch_size: int = 1) -> "Engine":
        """Open an engine that `save` wrote.

        Raises:
            NotFound: The folder holds no engine.
            Damaged: The engine is damaged.
            Unavailable: It was built on another machine or with other versions, or its backend
                cannot run here.
            Invalid: The batch size is below 1.
        """
        folder = Path(folder)
        manifest = read_manifest(folder)
        require_same_machine(folder, manifest, get_backend(manifest.backend).versions())
        return cls(folder, manifest, default_settings(batch_size))

    def save(self, folder: str | Path) -> Path:
        """Copy the engine to a folder, completely or not at all.

        Raises:
            Invalid: The folder holds something else.
            Unavailable: The folder cannot be written.
        """
        folder = Path(folder)
        if folder.exists() and not is_engine(folder):
            raise Invalid(f"{folder} exists and is not an engine: choose another folder.")
        with atomic_folder(folder) as new:
            for name in self.manifest.files:
                (new / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(self.folder / name, new / name)
            update_manifest(new, self.manifest)
        return folder

    @property
    def accuracy(self) -> Accuracy | None:
        """How accurate it is, compared with the float32 model."""
        return self.manifest.accuracy

    def __call__(self, *inputs: Any) -> Any:
        """Run the network.

        Args:
            inputs: An array for each input, `(n, …)`, of the model's dtype; or one dict of them.

        Returns:
            The output, `(n, …)`, usually float32; a dict where the model returns one, else a list
            where it has several outputs.

        Raises:
            Invalid: An input has not the model's shape or dtype.
        """
        by_name = len(inputs) == 1 and isinstance(inputs[0], Mapping)
        outputs = self.run(self.check_inputs(inputs[0] if by_name else inputs))
        if self.manifest.outputs:
            return dict(zip(self.manifest.outputs, outputs, strict=True))
        return outputs[0] if len(outputs) == 1 else outputs

    def run(self, inputs: Arrays) -> Arrays:
        """Return a list of outputs for a list of inputs, as `check_inputs` returns it."""
        batch_size, count = self.settings.batch_size, len(inputs[0])
        outputs: Arrays = []
        for start in range(0, count, batch_size):
            batch = [pad_batch(array[start : start + batch_size], batch_size) for array in inputs]
            results = self._run(batch)
            outputs = outputs or [
                np.empty((count, *result.shape[1:]), result.dtype) for result in results
            ]
            for output, result in zip(outputs, results, strict=True):
                output[start : start + batch_size] = result[: count - start]
        return outputs

    def check_inputs(self, inputs: Sequence[Any] | Mapping[str, Any]) -> Arrays:
        """Return the inputs, a list or by their names, as arrays that a runner takes.

        Raises:
            Invalid: Their number, shape or dtype is not the model's, or there is no example.
        """
        return check_arrays(inputs, self.manifest.inputs, "The input")

    def runner(self) -> Runner:
        """Return a function that runs one batch, for use in one thread.

        It takes and returns a list of arrays. The arrays that it returns are valid until it is
        called again.
        """
        return self._session.runner()

    def configured(
        self,
        *,
        batch_size: int | None = None,
        streams: int | None = None,
        threads: int | None = None,
    ) -> "Engine":
        """Return the same network, compiled for another batch size or other streams and threads.

        Returns this engine where nothing changes.

        Raises:
            Invalid: A number is below 1.
        """
        options = {"batch_size": batch_size, "streams": streams, "threads": threads}
        settings = replace(
            self.settings, **{name: value for name, value in options.items() if value is not None}
        )
        check_settings(settings)
        if settings == self.settings:
            return self
        engine = Engine(self.folder, self.manifest, settings)
        engine.notes = list(self.notes)
        return engine

    def operations(self) -> list[Operation]:
        """Return the operations that run, with times; empty where the backend reports none."""
        inputs = example_inputs(self.manifest.inputs, self.settings.batch_size)
        return self._session.operations(inputs)

    def __repr__(self) -> str:
        settings = self.settings
        accuracy = f"; it {self.accuracy}" if self.accuracy else ""
        return (
            f"{self.manifest.title}, batch size {settings.batch_size}, "
            f"{_count(settings.streams, 'stream')}, {_count(settings.threads, 'thread')}{accuracy}"
        )


def default_settings(batch_size: int) -> Settings:
    """Return settings with one stream on every core that this process may use.

    Raises:
        Invalid: The batch size is below 1.
    """
    settings = Settings(batch_size, 1, max(1, int(cpu_info().cores)))
    check_settings(settings)
    return settings


def check_settings(settings: Settings) -> None:
    """Raise `Invalid` if a number is below 1 or not an integer."""
    for name in ("batch_size", "streams", "threads"):
        value = getattr(settings, name)
        if not isinstance(value, Integral) or value < 1:
            raise Invalid(f"{name} is {value}; it must be an integer of at least 1.")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("s" if number != 1 else "")
