"""The check that a training fits into the memory."""

import math
from types import SimpleNamespace
from typing import Any

import keras
import pytest
import tensorflow as tf

from dltlab.errors import Unavailable
from dltlab.training import memory
from dltlab.training.memory import free_bytes, require_memory


def dense(units: int, loss: Any, optimizer: Any = "adam") -> keras.Model:
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(units)])
    model.compile(optimizer, loss)
    return model


@pytest.mark.parametrize(
    ("optimizer", "slots"),
    [(keras.optimizers.SGD(), 0), (keras.optimizers.SGD(momentum=0.9), 1), ("adam", 2)],
)
def test_memory_includes_the_slots_of_the_optimizer(
    optimizer: Any, slots: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = dense(1000, "mse", optimizer)
    params = 4 * 1000
    activations = 4 * (2 * 1000 + 3)
    needed = 4 * (1 + slots) * params + activations
    monkeypatch.setattr(memory, "free_bytes", lambda: needed)
    require_memory(model, 1)
    monkeypatch.setattr(memory, "free_bytes", lambda: needed - 1)
    with pytest.raises(Unavailable):
        require_memory(model, 1)


def test_memory_of_a_model_with_unknown_inputs_is_not_checked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    inputs = keras.Input((None,))
    model = keras.Model(inputs, keras.ops.sum(inputs, axis=1))
    monkeypatch.setattr(memory, "free_bytes", lambda: 0)
    require_memory(model, 1)


def test_free_memory_is_that_of_the_machine_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    monkeypatch.setattr(memory, "memory_info", lambda: SimpleNamespace(available=123))
    assert free_bytes() == 123


@pytest.mark.parametrize(("usable", "expected"), [([7e9, 5e9], 5e9), ([], math.inf)])
def test_free_memory_is_the_least_of_the_gpus(
    usable: list[float], expected: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus = [SimpleNamespace(usable_bytes=value) for value in usable]
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["a GPU"])
    monkeypatch.setattr(memory, "list_gpus", lambda: gpus)
    assert free_bytes() == expected
