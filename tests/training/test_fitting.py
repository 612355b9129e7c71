"""`fit` and `resume`: what they save, what they refuse, and how a training continues."""

import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from dltlab import data
from dltlab.errors import Damaged, Invalid, LabError, NotFound, Unavailable
from dltlab.training import fit, fitting, one_cycle, resume, sanity_checks

STEPS = 22  # per epoch
LOGGED = {"loss", "accuracy", "val_loss", "val_accuracy"}


def build(rate: Any = None, epochs: int = 4, loss: Any = None, units: int = 10) -> keras.Model:
    """A network with every kind of state: statistics, dropout, moments, a schedule."""
    keras.utils.set_random_seed(1)
    layers = keras.layers
    model = keras.Sequential(
        [
            *(keras.Input((8, 8, 1)), layers.Conv2D(4, 3), layers.BatchNormalization()),
            *(layers.ReLU(), layers.Flatten(), layers.Dropout(0.3), layers.Dense(units)),
        ]
    )
    model.compile(
        keras.optimizers.AdamW(one_cycle(0.02, epochs * STEPS) if rate is None else rate),
        loss or keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def train() -> tf.data.Dataset:
    augment = data.augmentation(crop=1)
    return data.load("digits", "train", batch_size=64, augment=augment, seed=3)


def validation() -> tf.data.Dataset:
    return data.load("digits", "test", batch_size=150)


class StopAt(keras.callbacks.Callback):
    """Ctrl-C after a step."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.step = step

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if int(self.model.optimizer.iterations) == self.step:
            raise KeyboardInterrupt


def test_history_is_that_of_keras_and_the_loss_falls() -> None:
    model = build()
    history = fit(model, train(), epochs=4, validation=validation(), title=None)
    assert set(history.history) == LOGGED
    assert {len(values) for values in history.history.values()} == {4}
    assert history.history["loss"][3] < history.history["loss"][0] / 2
    assert history is model.history
    assert history.model is model


def test_step_is_traced_once() -> None:
    traces = []

    class Recording(keras.layers.Layer):
        def call(self, inputs: Any, training: bool | None = None) -> Any:
            if training:
                traces.append(self)
            return inputs

    model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), Recording()])
    model.add(keras.layers.Dense(10))
    model.compile("adam", build().loss, metrics=["accuracy"])
    fit(model, train(), epochs=2, title=None)
    assert len(traces) == 1


def test_run_folder_has_model_history_data_and_tensorboard_records(
    tmp_path: Path,
) -> None:
    model = build()
    fit(model, train(), epochs=2, run_dir=tmp_path / "one", title=None)
    assert json.loads((tmp_path / "one" / "data.json").read_text())[0]["name"]
    assert list((tmp_path / "one" / "train").glob("events.out.tfevents*"))
    loaded = keras.saving.load_model(tmp_path / "one" / "model.keras")
    assert all(map(np.array_equal, model.get_weights(), loaded.get_weights()))
    assert not list((tmp_path / "one").glob(".*"))


@pytest.mark.parametrize("step", [STEPS + 5, 2 * STEPS])
def test_interrupted_training_continues_as_without_interruption(
    step: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    uninterrupted = fit(build(), train(), epochs=4, validation=validation(), title=None)
    model = build()
    options: dict[str, Any] = {"validation": validation(), "title": None}
    with pytest.raises(KeyboardInterrupt):
        fit(model, train(), epochs=4, run_dir=tmp_path, callbacks=[StopAt(step)], **options)
    assert "Stopped at step" in capsys.readouterr().out
    assert len(model.history.history["loss"]) == 1
    model.predict(np.zeros((1, 8, 8, 1)), verbose=0)

    resumed = resume(tmp_path, train(), **options)

    assert resumed.epoch == [0, 1, 2, 3]
    for name in LOGGED:
        np.testing.assert_allclose(resumed.history[name], uninterrupted.history[name], rtol=1e-4)
    pairs = zip(resumed.model.get_weights(), uninterrupted.model.get_weights(), strict=True)
    for weight, expected in pairs:
        np.testing.assert_allclose(weight, expected, atol=1e-5)


def test_stop_button_of_a_notebook_returns_the_history(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fitting, "in_notebook", lambda: True)
    history = fit(build(), train(), epochs=4, title=None, callbacks=[StopAt(STEPS + 3)])
    assert len(history.history["loss"]) == 1
    assert capsys.readouterr().out == (
        "Stopped at step 2 of epoch 2 of 4. The model can be used as it is; call fit again to "
        "train it further.\n"
    )


KILLED = """
import os, signal, sys
import keras
sys.path.insert(0, sys.argv[1])
from test_fitting import build, train, fit

class KillAt(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if int(self.model.optimizer.iterations) == 50:
            os.kill(os.getpid(), signal.SIGKILL)

fit(build(), train(), epochs=4, run_dir=sys.argv[2], title=None, callbacks=[KillAt()])
"""


def test_killed_training_continues_after_its_last_finished_epoch(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(Path(__file__).parent), str(tmp_path / "run")]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    history = resume(tmp_path / "run", train(), title=None)
    uninterrupted = fit(build(), train(), epochs=4, title=None)
    np.testing.assert_allclose(history.history["loss"], uninterrupted.history["loss"], rtol=1e-4)


def test_history_that_is_ahead_of_its_model_is_shortened(tmp_path: Path) -> None:
    fit(build(), train(), epochs=2, run_dir=tmp_path, title=None)
    older = (tmp_path / "model.keras").read_bytes()
    resume(tmp_path, train(), epochs=3, title=None)
    (tmp_path / "model.keras").write_bytes(older)  # killed before the model was written
    history = resume(tmp_path, train(), title=None)
    assert len(history.history["loss"]) == 3
    assert int(history.model.optimizer.iterations) == 3 * STEPS


def test_complete_training_is_returned_and_can_be_extended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(build(), train(), epochs=1, run_dir=tmp_path, title=None)
    assert len(resume(tmp_path, train(), title=None).history["loss"]) == 1
    assert capsys.readouterr().out == f"{tmp_path} is complete: 1 epochs.\n"
    assert len(resume(tmp_path, train(), epochs=2, title=None).history["loss"]) == 2


def test_patience_stops_and_restores_the_best_epoch(tmp_path: Path) -> None:
    model = build(rate=0.05)
    history = fit(
        model, train(), epochs=60, validation=validation(), patience=2, run_dir=tmp_path, title=None
    )
    losses = history.history["val_loss"]
    assert len(losses) < 60
    assert len(losses) == np.argmin(losses) + 3
    loss, _ = model.evaluate(validation(), verbose=0)
    assert loss == pytest.approx(min(losses), rel=1e-3)
    saved = keras.saving.load_model(tmp_path / "model.keras")
    assert all(map(np.array_equal, saved.get_weights(), model.get_weights()))


def test_patience_keeps_the_best_epoch_across_an_interruption(tmp_path: Path) -> None:
    model = build(rate=0.01)
    options: dict[str, Any] = {"title": None}
    with pytest.raises(KeyboardInterrupt):
        fit(
            model, train(), epochs=9, patience=1, run_dir=tmp_path, callbacks=[StopAt(STEPS + 1)],
            **options,
        )  # fmt: skip
    saved = json.loads((tmp_path / "history.json").read_text())
    saved["rows"][0]["loss"] = 0.0  # no later epoch is better
    (tmp_path / "history.json").write_text(json.dumps(saved))
    best = keras.saving.load_model(tmp_path / "best.keras").get_weights()
    history = resume(tmp_path, train(), **options)
    assert len(history.history["loss"]) == 2
    assert all(map(np.array_equal, best, history.model.get_weights()))


def test_nan_loss_ends_training_and_restores_the_last_epoch() -> None:
    class InsertNan(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            if int(self.model.optimizer.iterations) == STEPS + 4:
                self.model.layers[0].kernel.assign(self.model.layers[0].kernel * np.nan)

    expected = build(rate=0.01)
    fit(expected, train(), epochs=1, title=None)
    model = build(rate=0.01)
    message = "The loss became nan at step 5 of epoch 2, with a learning rate of 0.01: try a tenth"
    with pytest.raises(LabError, match=message):
        fit(model, train(), epochs=4, title=None, callbacks=[InsertNan()])
    for weight, expected_weight in zip(model.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_allclose(weight, expected_weight, atol=1e-5)
    state = [np.array(variable) for variable in model.optimizer.variables]
    assert all(np.isfinite(values).all() for values in state)


def with_nan(images: tf.Tensor, labels: tf.Tensor) -> Any:
    return tf.where(tf.equal(labels[:, None, None, None], 7), np.nan, images), labels


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y: (x, y + 1), "Step 1 of epoch 1: the label 10 is not one of the model's 10"),
        (lambda x, y: (x, y - 1), "the label -1 is not one of the model's 10 classes, which are"),
        (lambda x, y: (x, 0 * y + 3), "Every label of the training data is 3"),
        (with_nan, "Step 1 of epoch 1: some pixels are NaN or infinite"),
        (lambda x, y: (x[:, :4], y), "takes inputs of shape 8×8×1 and those of the data are 4×8×1"),
        (lambda x, y: x, "The training data have no labels"),
    ],
)
def test_wrong_data_are_refused(change: Any, message: str) -> None:
    with pytest.raises(LabError, match=message):
        fit(build(), train().map(change), epochs=2, title=None)


def test_wrong_label_in_a_later_batch_is_named_with_its_step() -> None:
    correct = train().take(3)
    wrong = train().take(1).map(lambda x, y: (x, y + 10))
    with pytest.raises(Invalid, match=r"Step 4 of epoch 1: the label 1. is not one"):
        fit(build(), correct.concatenate(wrong), epochs=1, title=None)


def test_other_errors_of_the_data_are_not_changed() -> None:
    broken = train().map(lambda x, y: (tf.ensure_shape(tf.reshape(x, [-1, 8, 8, 1]), x.shape), y))
    broken = broken.map(lambda x, y: (x, tf.debugging.check_numerics(x, "mine")[:, 0, 0, 0] / 0))
    with pytest.raises((tf.errors.InvalidArgumentError, LabError, ValueError)):
        fit(
            build(loss="mse", units=1),
            broken.map(lambda x, y: (x, tf.reshape(y, [-1, 3]))),
            epochs=1,
        )


def test_number_of_label_values_must_equal_the_number_of_outputs() -> None:
    model = build(loss=keras.losses.CategoricalCrossentropy(from_logits=True))
    wide = train().map(lambda x, y: (x, tf.one_hot(y, 12)))
    with pytest.raises(LabError, match="for each of 12 classes, and the model has 10 outputs"):
        fit(model, wide, epochs=1, title=None)
    fit(model, train().map(lambda x, y: (x, tf.one_hot(y, 10))), epochs=1, title=None)


def test_wrong_argument_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="epochs is 0; it must be 1 or more"):
        fit(build(), train(), epochs=0)
    with pytest.raises(LabError, match="patience is 0; it must be 1 or more"):
        fit(build(), train(), epochs=1, patience=0)
    with pytest.raises(LabError, match="The training data are empty"):
        fit(build(), train().take(0), epochs=1)
    with pytest.raises(LabError, match="not in batches"):
        fit(build(), train().unbatch(), epochs=1)
    with pytest.raises(LabError, match="The model is not compiled"):
        fit(keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten()]), train(), epochs=1)
    (tmp_path / "history.json").write_text("{}")
    with pytest.raises(LabError, match=r"already contains a training: continue it with"):
        fit(build(), train(), epochs=1, run_dir=tmp_path)


def test_memory_is_checked_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build()
    monkeypatch.setattr(sanity_checks, "free_bytes", lambda: 200_000.0)
    with pytest.raises(Unavailable, match=r"needs at least 0\.0 GB of memory.*: use batches of"):
        fit(model, train(), epochs=1)
    assert int(model.optimizer.iterations) == 0
    monkeypatch.setattr(sanity_checks, "free_bytes", lambda: 10.0)
    with pytest.raises(Unavailable, match="use a smaller model, or smaller images"):
        fit(model, train(), epochs=1)


def test_folder_without_a_complete_training_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="contains no training: name the folder that was given"):
        resume(tmp_path, train())
    fit(build(), train(), epochs=1, run_dir=tmp_path / "run", title=None)
    for name in ("model.keras", "history.json"):
        copy = shutil.copytree(tmp_path / "run", tmp_path / name)
        content = (copy / name).read_bytes()
        (copy / name).write_bytes(content[: len(content) // 2])
        with pytest.raises(Damaged, match=r"cannot be read .*: start again in another folder"):
            resume(copy, train())


def test_folder_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="cannot be written"):
        fit(build(), train(), epochs=1, run_dir=tmp_path / "file" / "run", title=None)


def test_mixed_precision_and_a_subclassed_model_train() -> None:
    class Subclassed(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.flat, self.dense = keras.layers.Flatten(), keras.layers.Dense(10, dtype="float32")

        def call(self, inputs: Any) -> Any:
            return self.dense(self.flat(inputs))

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        for model in (build(), Subclassed()):
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
            model.compile("adam", loss, metrics=["accuracy"])
            history = fit(model, train(), epochs=2, title=None).history
            assert history["loss"][1] < history["loss"][0]
    finally:
        keras.config.set_dtype_policy(before)


def test_line_has_the_fraction_of_waiting(capsys: pytest.CaptureFixture[str]) -> None:
    fit(build(), train(), epochs=1, title="Digits")
    assert re.search(r"Digits: epoch 1 of 1, .*waiting \d+%, loss", capsys.readouterr().out)
