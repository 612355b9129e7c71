"""Measure the batching queue of a service without HTTP: `queue_test`."""

import asyncio
import time
from typing import Any

import numpy as np

from dltlab.errors import Invalid
from dltlab.inference.backends.base import Arrays
from dltlab.inference.batching import BATCH_WAIT, Batcher
from dltlab.inference.engine import Engine
from dltlab.inference.event_loop import run_in_thread
from dltlab.inference.load_testing import LoadTest


def queue_test(
    engine: Engine, inputs: Any, *, concurrency: int = 8, seconds: float = 5.0
) -> LoadTest:
    """Send requests to the queue that `serve` gathers batches with, in this process.

    As for `load_test`, `concurrency` clients each send one request after another. What `load_test`
    measures more than this is HTTP: the connection, and the bodies of requests and answers.

    Args:
        engine: Its settings define the largest batch and the number of streams.
        inputs: The examples of each request, `(n, …)`.
        concurrency: Requests in progress at any time.
        seconds: Requests in progress at the end are waited for.

    Raises:
        Invalid: The inputs do not fit the network, or a number is not positive.
    """
    if concurrency < 1 or not seconds > 0:
        raise Invalid(f"concurrency is {concurrency} and seconds {seconds}; both must be positive.")
    arrays = engine.check_inputs([inputs])
    batcher = Batcher(engine, BATCH_WAIT)
    return run_in_thread(_send_until_end(batcher, arrays, concurrency, seconds))


async def _send_until_end(
    batcher: Batcher, arrays: Arrays, concurrency: int, seconds: float
) -> LoadTest:
    latencies: list[float] = []
    begin = time.perf_counter()

    async def client() -> None:
        while (start := time.perf_counter()) < begin + seconds:
            await batcher.run(arrays)
            latencies.append(time.perf_counter() - start)

    serving = asyncio.create_task(batcher.serve())
    await asyncio.gather(*(client() for _ in range(concurrency)))
    elapsed = time.perf_counter() - begin
    serving.cancel()
    await asyncio.wait([serving])
    return LoadTest(concurrency, len(latencies) / elapsed, np.array(latencies), {})
