"""The one-cycle schedule."""

from pathlib import Path

import keras
import numpy as np
import pytest

from dltlab.errors import LabError
from dltlab.training import one_cycle


def rates(schedule: keras.optimizers.schedules.LearningRateSchedule, *steps: float) -> np.ndarray:
    return np.array([float(schedule(step)) for step in steps])


def test_it_rises_along_a_line_and_falls_along_half_a_cosine() -> None:
    found = rates(one_cycle(2.0, 100), 0, 15, 30, 65, 100)
    np.testing.assert_allclose(found, [0.08, 1.04, 2.0, 1.0, 0.0], atol=1e-6)


def test_past_the_end_it_stays_at_the_end() -> None:
    np.testing.assert_allclose(rates(one_cycle(2.0, 100), 101, 1000), 0, atol=1e-6)


def test_the_share_of_steps_in_which_it_rises_can_be_chosen() -> None:
    assert rates(one_cycle(1.0, 10, warmup=0.5), 4, 5, 6).argmax() == 1


def test_an_optimizer_follows_it_and_a_saved_model_keeps_it(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(one_cycle(1.0, 10)), "mse")
    for _ in range(3):
        model.train_on_batch(np.ones((2, 1)), np.ones((2, 1)))
    assert float(model.optimizer.learning_rate) == pytest.approx(1.0)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    again.train_on_batch(np.ones((2, 1)), np.ones((2, 1)))
    assert float(again.optimizer.learning_rate) == pytest.approx(
        float(one_cycle(1.0, 10)(4)), rel=1e-5
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.0, 10), "peak is 0.0; a learning rate must be above 0"),
        ((float("nan"), 10), "peak is nan"),
        ((1.0, 0), "num_steps is 0; it must be 1 or more"),
        ((1.0, 10, 1.0), "warmup is 1.0; it must lie between 0 and 1"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: tuple, message: str) -> None:
    with pytest.raises(LabError, match=message):
        one_cycle(*arguments)
