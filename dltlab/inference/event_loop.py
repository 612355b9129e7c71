"""Run a coroutine where an event loop runs already, as in a notebook."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

_new_event_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
with contextlib.suppress(ModuleNotFoundError):  # not on Windows
    from uvloop import new_event_loop as _new_event_loop

_T = TypeVar("_T")


def run_in_thread(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine on an event loop of the same kind as a service's, in a thread of its own."""

    def run() -> _T:
        with asyncio.Runner(loop_factory=_new_event_loop) as runner:
            return runner.run(coroutine)

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(run).result()
