"""Coroutines that run in a thread of their own."""

import asyncio
import threading

import pytest

from dltlab.inference.event_loop import run_in_thread


async def thread() -> int:
    await asyncio.sleep(0)
    return threading.get_ident()


async def failure() -> None:
    raise ValueError("too small")


def test_a_coroutine_runs_in_another_thread():
    assert run_in_thread(thread()) != threading.get_ident()


def test_it_runs_where_an_event_loop_runs_already():
    async def notebook() -> int:
        return run_in_thread(thread())

    assert asyncio.run(notebook()) != threading.get_ident()


def test_an_exception_is_passed_on():
    with pytest.raises(ValueError, match="too small"):
        run_in_thread(failure())
