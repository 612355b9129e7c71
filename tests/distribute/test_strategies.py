"""Strategies that are refused, and one device; test_replicas has those of several devices."""

from typing import Any

import keras
import pytest

from dltlab import distribute
from dltlab.errors import Invalid
from tests.distribute import replicated_cases


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("keras.distribution", "does nothing on TensorFlow"),
        ("parameter_server", "fit refuses"),
        ("multi_worker_mirrored", "dltlab launch"),
        ("mirror", "There is no strategy 'mirror'"),
    ],
)
def test_a_strategy_that_does_not_work_is_refused_with_the_reason(name: str, message: str) -> None:
    with pytest.raises(Invalid, match=message):
        distribute.strategy(name)


def test_keras_distribution_is_refused_where_it_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keras.distribution, "distribution", lambda: object())
    with pytest.raises(Invalid, match="does nothing on TensorFlow"):
        distribute.strategy()


@pytest.mark.parametrize("replicas", [0, -1, 1.5])
def test_a_number_of_replicas_out_of_its_range_is_refused(replicas: Any) -> None:
    with pytest.raises(Invalid, match="must be a positive integer"):
        distribute.strategy(replicas=replicas)


def test_a_model_on_one_device_is_not_changed() -> None:
    plan = distribute.strategy(replicas=1)
    with plan.scope():
        model = replicated_cases.dense()
        model.compile("sgd", "mse")
    assert plan.prepare(model) is model
    assert "fit" not in vars(model)
