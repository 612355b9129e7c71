"""The progress of a training; `test_fitting` covers its files."""

from pathlib import Path

import keras
import pytest

from dltlab.errors import Invalid
from dltlab.training.run_state import RunState


@pytest.fixture
def model() -> keras.Model:
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dropout(0.5), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


def test_history_has_the_logged_values_only(model: keras.Model) -> None:
    state = RunState(None, epochs=3)
    state.add_epoch(model, {"loss": 2.0})
    state.add_epoch(model, {"loss": 1.0, "mae": 3.0})
    history = state.history(model)
    assert history.history == {"loss": [2.0, 1.0], "mae": [3.0]}
    assert history.epoch == [0, 1]
    assert not state.finished


@pytest.mark.parametrize(
    ("losses", "is_out"), [([3.0, 2.0, 2.5], False), ([3.0, 4.0, 5.0], True), ([3.0, 3.0], False)]
)
def test_patience_counts_epochs_without_improvement(
    model: keras.Model, losses: list[float], is_out: bool
) -> None:
    state = RunState(None, epochs=9, patience=2)
    for loss in losses:
        state.add_epoch(model, {"loss": 0.0, "val_loss": loss})
    assert state.is_out_of_patience is state.finished is is_out


def test_state_is_loaded_as_it_was_saved(model: keras.Model, tmp_path: Path) -> None:
    state = RunState(tmp_path, 3, patience=2, steps_per_epoch=7, class_weight={0: 2.0, 3: 1.0})
    state.add_epoch(model, {"loss": 2.0})
    loaded, _ = RunState.load(tmp_path, trusted=False, custom_objects=None)
    assert (loaded.rows, loaded.class_weight) == (state.rows, state.class_weight)
    assert (loaded.patience, loaded.steps_per_epoch, loaded.finished) == (2, 7, False)
    assert loaded.best is not None


@pytest.mark.filterwarnings("ignore:`compile..` was not called as part of model loading")
def test_class_with_a_compile_method_of_its_own_is_named(tmp_path: Path) -> None:
    class OwnCompile(keras.Sequential):
        def compile(self, rate: float) -> None:
            super().compile(keras.optimizers.SGD(rate), "mse")

    model = OwnCompile([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(0.1)
    RunState(tmp_path, 3).add_epoch(model, {"loss": 2.0})
    with pytest.raises(Invalid, match="OwnCompile of the model has a compile method of its own"):
        RunState.load(tmp_path, trusted=False, custom_objects={"OwnCompile": OwnCompile})


@pytest.mark.parametrize("name", ["epochs", "patience", "batch_size", "steps_per_epoch"])
def test_numbers_below_one_are_refused(name: str) -> None:
    with pytest.raises(Invalid, match=f"{name} is 0; it must be a whole number, 1 or more"):
        RunState(None, **({"epochs": 1} | {name: 0}))  # type: ignore[arg-type]


def test_texts_and_fractions_are_no_numbers_of_epochs() -> None:
    for epochs in ("3", 2.5):
        with pytest.raises(Invalid, match=f"epochs is {epochs!r}; it must be a whole number"):
            RunState(None, epochs)  # type: ignore[arg-type]
