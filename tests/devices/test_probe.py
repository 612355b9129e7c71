"""The probe of TensorFlow, with fakes of devices that fail."""

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from dltlab.devices.probe import probe


class FakeError(Exception):
    message = "the device is lost"


@pytest.fixture
def tensorflow_with(monkeypatch):
    """Replace TensorFlow by one whose device multiplies matrices with a given function."""

    def replace(matmul):
        tf: Any = ModuleType("tensorflow")
        tf.config = SimpleNamespace(
            list_logical_devices=lambda: [SimpleNamespace(name="/device:GPU:0")]
        )
        tf.device = lambda name: np.errstate()  # a context manager
        tf.linalg = SimpleNamespace(matmul=matmul)
        tf.eye, tf.ones, tf.reduce_max = np.eye, np.ones, np.max
        tf.errors = SimpleNamespace(OpError=FakeError)
        monkeypatch.setitem(sys.modules, "tensorflow", tf)

    return replace


def fail(a, b):
    raise FakeError


@pytest.mark.parametrize(
    ("matmul", "message"),
    [(np.matmul, None), (np.add, "the product is wrong"), (fail, "the device is lost")],
)
def test_each_device_is_probed(tensorflow_with, matmul, message):
    tensorflow_with(matmul)

    outcome = probe()

    assert outcome["devices"] == {"GPU:0": message}
    assert outcome["import_seconds"] >= 0
