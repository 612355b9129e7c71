"""Requests to the batching queue, without HTTP."""

import asyncio

import pytest

from dltlab.errors import Invalid
from dltlab.inference import queue_test
from tests.inference_fixtures import DoublingEngine, ones


def test_requests_that_wait_together_share_calls():
    engine = DoublingEngine()

    result = queue_test(engine, ones(1), concurrency=4, seconds=0.05)

    answered = sum(engine.calls) - sum((1, 2, 4))  # those of the warm-up
    assert len(result.latencies) == answered > 0
    assert max(engine.calls) == 4
    assert result.concurrency == 4
    assert 0 < result.percentile(50) <= result.percentile(99)
    assert result.errors == {}


def test_it_runs_where_an_event_loop_runs_already_as_in_a_notebook():
    async def cell() -> int:
        return len(queue_test(DoublingEngine(), ones(1), concurrency=1, seconds=0.01).latencies)

    assert asyncio.run(cell()) > 0


def test_an_engine_that_fails_is_not_hidden():
    with pytest.raises(ValueError, match="negative"):
        queue_test(DoublingEngine(), -ones(1), seconds=0.01)


def test_inputs_and_numbers_that_do_not_fit_are_refused():
    with pytest.raises(Invalid, match="the network takes"):
        queue_test(DoublingEngine(), ones(1, length=3))
    with pytest.raises(Invalid, match="concurrency is 0"):
        queue_test(DoublingEngine(), ones(1), concurrency=0)
    with pytest.raises(Invalid, match="seconds 0"):
        queue_test(DoublingEngine(), ones(1), seconds=0)
