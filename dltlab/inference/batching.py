"""Let concurrent requests share calls of the network: `Batcher`."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from dltlab.inference.arrays import example_inputs, pad_batch
from dltlab.inference.backends.base import Arrays, Runner
from dltlab.inference.engine import Engine

BATCH_WAIT = 0.002  # seconds to wait for as many examples as in the last batch; see `Batcher`

_LOG = logging.getLogger(__name__)


class Batcher:
    """Gathers waiting examples into batches, runs them in threads, and returns the outputs.

    While all streams are busy, the next batch gathers by itself. A free stream takes the waiting
    examples, at most `engine.settings.batch_size`; if there are fewer than in the last batch, it
    first waits briefly for as many. So a single client never waits, and clients whose answers came
    together stay together. NVIDIA Triton's dynamic batcher works in the same way, with a fixed
    delay (Triton Inference Server user guide, "Batchers",
    https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/batcher.html).
    An engine runs batches of one size, so it is compiled for 1, 2, 4, … examples and the batch
    size, and the smallest one that holds the examples runs.

    Args:
        engine: Its settings define the largest batch and the number of streams.
        wait: Seconds to wait for as many examples as in the last batch.
        on_batch: Called with the number of examples of each batch.
    """

    def __init__(
        self, engine: Engine, wait: float, on_batch: Callable[[int], object] = lambda size: None
    ) -> None:
        self._batch_size, self._wait = engine.settings.batch_size, wait
        self._on_batch = on_batch
        self._last_size = 1  # examples in the last batch
        self._waiting: deque[_Part] = deque()
        self._num_waiting = 0  # examples
        self._num_wanted = 1  # examples, for `_enough` to be set
        self._enough = asyncio.Event()
        streams = engine.settings.streams
        self._threads = ThreadPoolExecutor(streams, "stream")
        self._free: asyncio.Queue[_Stream] = asyncio.Queue()
        engines = [engine.configured(batch_size=size) for size in compiled_sizes(self._batch_size)]
        for _ in range(streams):
            runners = {compiled.settings.batch_size: compiled.runner() for compiled in engines}
            for size, run in runners.items():
                run(example_inputs(engine.manifest.inputs, size))  # the first call compiles
            self._free.put_nowait(_Stream(runners))

    def __len__(self) -> int:
        """Return the number of waiting requests; a request larger than a batch counts in parts."""
        return len(self._waiting)

    async def run(self, inputs: Arrays) -> Arrays:
        """Return the network's outputs; `serve` must be running.

        Args:
            inputs: As `Engine.check_inputs` returns them.

        Returns:
            An array for each output, `(n, …)`.

        Raises:
            Exception: What the engine raised.
        """
        loop = asyncio.get_running_loop()
        parts = [
            _Part(
                [array[start : start + self._batch_size] for array in inputs], loop.create_future()
            )
            for start in range(0, len(inputs[0]), self._batch_size)
        ]
        self._waiting.extend(parts)
        self._num_waiting += len(inputs[0])
        if self._num_waiting >= self._num_wanted:
            self._enough.set()
        try:
            if len(parts) == 1:
                return await parts[0].outputs
            outputs = await asyncio.gather(*(part.outputs for part in parts))
        finally:
            for part in parts:  # after one has failed, nobody waits for the others
                part.outputs.cancel()
        return [np.concatenate(arrays) for arrays in zip(*outputs, strict=True)]

    async def serve(self) -> None:
        """Run batches until this task is cancelled."""
        try:
            async with asyncio.TaskGroup() as running:
                while True:
                    stream = await self._free.get()
                    running.create_task(self._work(stream, await self._next_batch()))
        finally:
            self._threads.shutdown()

    async def _next_batch(self) -> "list[_Part]":
        """Wait for the parts of the next batch and return them: at least one."""
        while True:
            await self._until_waiting(1)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._wait):
                    await self._until_waiting(self._last_size)
            if parts := self._take_batch():
                self._last_size = sum(map(len, parts))
                self._on_batch(self._last_size)
                return parts

    async def _until_waiting(self, count: int) -> None:
        """Return when at least `count` examples are waiting."""
        if self._num_waiting < count:
            self._num_wanted = count
            self._enough.clear()
            await self._enough.wait()

    def _take_batch(self) -> "list[_Part]":
        """Take the waiting parts that fit into one batch, in order, without cancelled ones."""
        parts: list[_Part] = []
        room = self._batch_size
        while self._waiting:
            part = self._waiting[0]
            if not part.outputs.done():
                if len(part) > room or (parts and part.shapes != parts[0].shapes):
                    break
                parts.append(part)
                room -= len(part)
            self._waiting.popleft()
            self._num_waiting -= len(part)
        return parts

    async def _work(self, stream: "_Stream", parts: "list[_Part]") -> None:
        try:
            await self._run_batch(stream, parts)
        finally:
            self._free.put_nowait(stream)

    async def _run_batch(self, stream: "_Stream", parts: "list[_Part]") -> None:
        """Run a batch; if it fails, run each part by itself, so that others are not affected."""
        loop = asyncio.get_running_loop()
        try:
            outputs = await loop.run_in_executor(self._threads, stream.run, parts)
        except Exception as error:
            if len(parts) > 1:
                _LOG.warning("A batch of %d requests failed; each is run by itself.", len(parts))
                for part in parts:
                    await self._run_batch(stream, [part])
            elif not parts[0].outputs.done():
                parts[0].outputs.set_exception(error)
            return
        start = 0
        for part in parts:
            end = start + len(part)
            if not part.outputs.done():  # the client may have disconnected
                part.outputs.set_result([array[start:end] for array in outputs])
            start = end


@dataclass(frozen=True)
class _Part:
    """The examples of one request, at most a batch, and its future outputs."""

    inputs: Arrays
    outputs: "asyncio.Future[Arrays]"

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """The shapes of one example; only equal ones share a batch."""
        return [array.shape[1:] for array in self.inputs]

    def __len__(self) -> int:
        return len(self.inputs[0])


@dataclass(frozen=True)
class _Stream:
    """A runner for each compiled batch size; one of them runs at a time."""

    runners: dict[int, Runner]

    def run(self, parts: list[_Part]) -> Arrays:
        inputs = [
            np.concatenate(arrays) for arrays in zip(*(part.inputs for part in parts), strict=True)
        ]
        count = len(inputs[0])
        size = min(size for size in self.runners if size >= count)
        outputs = self.runners[size]([pad_batch(array, size) for array in inputs])
        return [np.array(array[:count]) for array in outputs]


def compiled_sizes(batch_size: int) -> list[int]:
    """Return the batch sizes to compile for: the powers of 2 below `batch_size`, and itself."""
    return [*(1 << power for power in range((batch_size - 1).bit_length())), batch_size]
