"""The places that `Recorder` names; `test_fitting` covers what it records."""

from typing import Any

import keras
import numpy as np
import pytest

from dltlab.errors import Invalid
from dltlab.training.recorder import Recorder
from dltlab.training.run_state import RunState

X = np.ones((6, 1), np.float32)


class Places(keras.callbacks.Callback):
    """Collects the place of each batch before it is read."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self.recorder = recorder
        self.places: list[str] = []

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self.places.append(self.recorder.place)

    def on_test_batch_begin(self, batch: int, logs: Any = None) -> None:
        self.places.append(self.recorder.place)


@pytest.fixture
def model() -> keras.Model:
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


def test_place_is_the_batch_that_is_read(model: keras.Model) -> None:
    recorder = Recorder(RunState(None, epochs=2), None)
    places = Places(recorder)
    model.fit(
        X, X, batch_size=3, epochs=2, validation_data=(X, X), validation_batch_size=3, verbose=0,
        callbacks=[recorder, places],
    )  # fmt: skip
    assert places.places == [
        f"Step {step} of {part}{epoch}"
        for epoch in (1, 2)
        for part in ("epoch ", "the validation after epoch ")
        for step in (1, 2)
    ]


def test_every_loss_must_be_finite(model: keras.Model) -> None:
    recorder = Recorder(RunState(None, epochs=2), None)
    recorder.set_model(model)
    recorder.on_epoch_begin(0)
    recorder.on_train_batch_end(0, {"g_loss": 1.0, "accuracy": float("nan")})
    with pytest.raises(
        Invalid, match="The g_loss became nan at step 2 of epoch 1, with a learning"
    ):
        recorder.on_train_batch_end(1, {"g_loss": float("nan")})
