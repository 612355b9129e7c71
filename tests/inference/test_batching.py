"""Requests share calls of the network; one that fails or is cancelled affects no other."""

import asyncio

import numpy as np
import pytest

from dltlab.inference.batching import Batcher, compiled_sizes
from dltlab.inference.manifest import TensorSpec
from tests.inference_fixtures import DoublingEngine, ones


def run_together(batcher: Batcher, *requests: np.ndarray, cancel: int | None = None) -> list:
    """Return the outputs of requests that wait at the same time, or their exceptions."""

    async def main() -> list:
        tasks = [asyncio.create_task(batcher.run([inputs])) for inputs in requests]
        await asyncio.sleep(0)  # all of them wait now
        if cancel is not None:
            tasks[cancel].cancel()
        serving = asyncio.create_task(batcher.serve())
        results = await asyncio.gather(*tasks, return_exceptions=True)
        serving.cancel()
        await asyncio.wait([serving])
        return results

    return asyncio.run(main())


def batches_after_two(wait: float, *later: np.ndarray) -> list[int]:
    """Return the sizes of batches when two requests come together, and others one by one."""
    batches: list[int] = []
    batcher = Batcher(DoublingEngine(), wait, batches.append)

    async def main() -> None:
        serving = asyncio.create_task(batcher.serve())
        await asyncio.gather(batcher.run([ones(1)]), batcher.run([ones(1)]))
        tasks = []
        for inputs in later:
            tasks.append(asyncio.create_task(batcher.run([inputs])))
            for _ in range(9):  # until everything that can run has run
                await asyncio.sleep(0)
        await asyncio.gather(*tasks)
        serving.cancel()
        await asyncio.wait([serving])

    asyncio.run(main())
    return batches


@pytest.fixture
def engine() -> DoublingEngine:
    return DoublingEngine()


@pytest.fixture
def batcher(engine) -> Batcher:
    """A batcher of `engine`, after its warm-up."""
    batcher = Batcher(engine, 0)
    del engine.calls[:]
    return batcher


def test_a_large_request_runs_in_several_batches(engine, batcher):
    inputs = np.arange(20, dtype=np.float32).reshape(10, 2)

    ((outputs,),) = run_together(batcher, inputs)

    assert engine.calls == [4, 4, 2]
    np.testing.assert_array_equal(outputs, 2 * inputs)


def test_after_a_part_of_a_request_has_failed_the_others_do_not_run(engine, batcher):
    (result, *_) = run_together(batcher, -ones(40), ones(1))

    assert isinstance(result, ValueError)
    assert engine.calls == [4, 4, 1]  # the second batch was already running


def test_one_bad_request_fails_alone(batcher, caplog):
    results = run_together(batcher, ones(1), -ones(1), ones(2))

    assert isinstance(results[1], ValueError)
    np.testing.assert_array_equal(results[0][0], 2 * ones(1))
    np.testing.assert_array_equal(results[2][0], 2 * ones(2))
    assert "A batch of 3 requests failed; each is run by itself." in caplog.text


def test_the_smallest_compiled_batch_that_holds_the_examples_runs():
    assert compiled_sizes(1) == [1]
    assert compiled_sizes(8) == [1, 2, 4, 8]
    assert compiled_sizes(12) == [1, 2, 4, 8, 12]


def test_all_batch_sizes_are_run_once_before_the_first_request(engine):
    Batcher(engine, 0)
    assert sorted(engine.calls) == [1, 2, 4]


def test_a_cancelled_request_does_not_affect_its_batch(engine):
    batches: list[int] = []
    batcher = Batcher(engine, 0, batches.append)

    results = run_together(batcher, ones(1), ones(1), ones(2), cancel=1)

    assert isinstance(results[1], asyncio.CancelledError)
    assert [len(outputs[0]) for outputs in (results[0], results[2])] == [1, 2]
    assert batches == [3]


def test_only_examples_of_one_shape_share_a_batch():
    batches: list[int] = []
    text = TensorSpec(shape=(None,), dtype="float32")
    batcher = Batcher(DoublingEngine(text), 0, batches.append)

    results = run_together(batcher, ones(1), ones(1), ones(1, length=3), ones(1))

    assert [output.shape for (output,) in results] == [(1, 2), (1, 2), (1, 3), (1, 2)]
    assert batches == [2, 1, 1]


def test_waiting_requests_are_counted_in_parts(batcher):
    async def main() -> int:
        task = asyncio.create_task(batcher.run([ones(10)]))
        await asyncio.sleep(0)
        count = len(batcher)
        task.cancel()
        return count

    assert asyncio.run(main()) == 3


def test_a_batch_waits_for_as_many_examples_as_the_last_one_had():
    assert batches_after_two(3600, ones(1), ones(1)) == [2, 2]


def test_a_batch_waits_no_longer_than_the_given_time():
    assert batches_after_two(0.01, ones(1)) == [2, 1]


def test_a_full_batch_does_not_wait_for_more_examples():
    assert batches_after_two(3600, ones(4), ones(4)) == [2, 4, 4]
