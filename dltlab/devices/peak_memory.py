"""Measure the memory that a computation needs: `peak_memory`."""

import ctypes
from collections.abc import Callable
from threading import Event, Thread
from typing import Any

_INTERVAL = 0.001  # seconds between two readings


def peak_memory(call: Callable[[], Any]) -> int:
    """Return the most bytes that a call has allocated at one time, beyond what was there before.

    It calls `call` twice, because the first time TensorFlow also compiles and allocates what it
    keeps. On a GPU, TensorFlow counts the bytes. On the CPU, the memory of the process is read
    every millisecond, so a shorter peak may be missed, and what other threads of the process
    allocate is counted, too. There a result below some megabytes says little.

    Args:
        call: A computation without arguments, such as a training step. It must have ended when it
            returns: convert one of its results with `numpy()`.
    """
    import tensorflow as tf

    call()
    if tf.config.list_physical_devices("GPU"):
        return _on_gpu(tf, call)
    return _in_process(call)


def _on_gpu(tf: Any, call: Callable[[], Any]) -> int:
    memory = tf.config.experimental
    before = memory.get_memory_info("GPU:0")["current"]
    memory.reset_memory_stats("GPU:0")
    call()
    return max(0, int(memory.get_memory_info("GPU:0")["peak"]) - int(before))


def _in_process(call: Callable[[], Any]) -> int:
    import psutil

    process, ended = psutil.Process(), Event()
    _return_free_memory()
    before = peak = process.memory_info().rss

    def watch() -> None:
        nonlocal peak
        while not ended.wait(_INTERVAL):
            peak = max(peak, process.memory_info().rss)

    thread = Thread(target=watch, daemon=True)
    thread.start()
    try:
        call()
    finally:
        ended.set()
        thread.join()
    return int(peak - before)


def _return_free_memory() -> None:
    """Let the C library return what it keeps free: a call that used it would seem to need less."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's
    if trim is not None:
        trim(0)
