"""The memory that a computation needs."""

import time

import numpy as np
import pytest
import tensorflow as tf

from dltlab.devices import peak_memory

MEGABYTES = 64


def allocate(megabytes: int) -> None:
    array = np.ones(megabytes * 1_000_000, np.uint8)
    time.sleep(0.05)  # much longer than between two readings
    del array


@pytest.mark.parametrize("megabytes", [MEGABYTES, 2 * MEGABYTES])
def test_peak_is_what_was_allocated_at_one_time(megabytes: int) -> None:
    def call() -> None:
        for _ in range(3):
            allocate(megabytes)

    assert peak_memory(call) == pytest.approx(megabytes * 1e6, rel=0.2)


def test_what_was_there_before_does_not_count() -> None:
    present = np.ones(MEGABYTES * 1_000_000, np.uint8)

    assert peak_memory(lambda: time.sleep(0.01)) < present.nbytes / 2


def test_an_error_of_the_call_is_passed_on() -> None:
    def call() -> None:
        raise ValueError("of the learner")

    with pytest.raises(ValueError, match="of the learner"):
        peak_memory(call)


def test_tensorflow_counts_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["GPU:0"])
    memory = tf.config.experimental
    monkeypatch.setattr(memory, "reset_memory_stats", calls.append)
    monkeypatch.setattr(memory, "get_memory_info", lambda _: {"current": 100, "peak": 350})

    assert peak_memory(lambda: calls.append("call")) == 250
    assert calls == ["call", "GPU:0", "call"]
