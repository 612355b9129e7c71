"""Requests that come at the same time share a call of the network: `Batcher`."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from dltlab.inference.backends import Arrays, Lane
from dltlab.inference.engine import Engine, examples, pad_batch

_LOG = logging.getLogger(__name__)


class Batcher:
    """Gathers waiting examples into batches, runs them in threads, and hands out the answers.

    While all streams are busy, the next batch gathers by itself. A stream that is free takes what
    waits, at most `engine.settings.batch` examples; where these are fewer than in the last batch,
    it first waits a moment for as many. So nobody who asks alone waits, and a crowd whose answers
    came together stays together. NVIDIA Triton's dynamic batcher gathers in the same way, with a
    fixed delay (Triton Inference Server user guide, "Batchers",
    https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/batcher.html).
    An engine runs batches of one size, so it is compiled for 1, 2, 4, … examples and the batch, and
    the smallest one that holds the examples runs.

    Args:
        engine: What runs; its settings say how many examples at a time, in how many streams.
        wait: Seconds to wait for as many examples as the last time.
        on_batch: Is told the number of examples of each batch.
    """

    def __init__(
        self, engine: Engine, wait: float, on_batch: Callable[[int], object] = lambda size: None
    ) -> None:
        self._batch, self._wait, self._on_batch = engine.settings.batch, wait, on_batch
        self._last = 1  # examples in the last batch
        self._waiting: deque[_Part] = deque()
        self._arrived = asyncio.Event()
        streams = engine.settings.streams
        self._threads = ThreadPoolExecutor(streams, "stream")
        self._free: asyncio.Queue[_Stream] = asyncio.Queue()
        engines = [engine.configured(batch=size) for size in sizes(self._batch)]
        for _ in range(streams):
            lanes = {each.settings.batch: each.lane() for each in engines}
            for size, lane in lanes.items():
                lane(examples(engine.manifest.inputs, size))  # the first call compiles
            self._free.put_nowait(_Stream(lanes))

    def __len__(self) -> int:
        """Requests that wait, or parts of them that fit into a batch."""
        return len(self._waiting)

    async def run(self, inputs: Arrays) -> Arrays:
        """The network's outputs, while `serve` runs.

        Args:
            inputs: As `Engine.checked` returns them.

        Returns:
            `(n, …)` each.

        Raises:
            Exception: What the engine raised.
        """
        loop = asyncio.get_running_loop()
        parts = [
            _Part([each[first : first + self._batch] for each in inputs], loop.create_future())
            for first in range(0, len(inputs[0]), self._batch)
        ]
        self._waiting.extend(parts)
        self._arrived.set()
        try:
            found = await asyncio.gather(*(part.answer for part in parts))
        finally:
            for part in parts:  # nobody asks for the others after one has failed
                part.answer.cancel()
        return [np.concatenate(each) for each in zip(*found, strict=True)]

    async def serve(self) -> None:
        """Run what comes, until this is cancelled."""
        try:
            async with asyncio.TaskGroup() as running:
                while True:
                    stream = await self._free.get()
                    running.create_task(self._work(stream, await self._gathered()))
        finally:
            self._threads.shutdown()

    async def _gathered(self) -> "list[_Part]":
        """The parts of the next batch: at least one."""
        while True:
            while not self._waiting:
                await self._arrival()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._wait):
                    while sum(map(len, self._waiting)) < self._last:
                        await self._arrival()
            if parts := self._taken():
                self._last = sum(map(len, parts))
                self._on_batch(self._last)
                return parts

    async def _arrival(self) -> None:
        self._arrived.clear()
        await self._arrived.wait()

    def _taken(self) -> "list[_Part]":
        """What fits into one batch, in order of arrival, without what was cancelled."""
        parts: list[_Part] = []
        left = self._batch
        while self._waiting:
            part = self._waiting[0]
            if not part.answer.done():
                if len(part) > left or (parts and part.shapes != parts[0].shapes):
                    break
                parts.append(part)
                left -= len(part)
            self._waiting.popleft()
        return parts

    async def _work(self, stream: "_Stream", parts: "list[_Part]") -> None:
        try:
            await self._answer(stream, parts)
        finally:
            self._free.put_nowait(stream)

    async def _answer(self, stream: "_Stream", parts: "list[_Part]") -> None:
        """Run a batch; where that fails, each part alone, so that one spoils no other."""
        loop = asyncio.get_running_loop()
        try:
            found = await loop.run_in_executor(self._threads, stream.run, parts)
        except Exception as error:
            if len(parts) > 1:
                _LOG.warning("A batch of %d requests failed; each is run alone.", len(parts))
                for part in parts:
                    await self._answer(stream, [part])
            elif not parts[0].answer.done():
                parts[0].answer.set_exception(error)
            return
        first = 0
        for part in parts:
            last = first + len(part)
            if not part.answer.done():  # whoever asked may have gone
                part.answer.set_result([each[first:last] for each in found])
            first = last


@dataclass(frozen=True)
class _Part:
    """Examples of one request, at most a batch."""

    inputs: Arrays
    answer: "asyncio.Future[Arrays]"

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Of one example; only equal ones share a batch."""
        return [each.shape[1:] for each in self.inputs]

    def __len__(self) -> int:
        return len(self.inputs[0])


@dataclass(frozen=True)
class _Stream:
    """A function for each size of batch; one of them runs at a time."""

    lanes: dict[int, Lane]

    def run(self, parts: list[_Part]) -> Arrays:
        inputs = [np.concatenate(each) for each in zip(*(one.inputs for one in parts), strict=True)]
        count = len(inputs[0])
        size = min(size for size in self.lanes if size >= count)
        found = self.lanes[size]([pad_batch(each, size) for each in inputs])
        return [np.array(each[:count]) for each in found]


def sizes(batch: int) -> list[int]:
    """The sizes that the network is compiled for: the powers of 2 below `batch`, and `batch`."""
    return [*(1 << power for power in range((batch - 1).bit_length())), batch]
