"""`fit` and `resume`: what they save, what they refuse, and how a training continues."""

import json
import math
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
from dltlab.training import fit, fitting, memory, one_cycle, resume

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


def classifier(loss: Any = None) -> keras.Model:
    """A network of one layer, for tests that need no other state: TensorFlow traces it quickly."""
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten()])
    model.add(keras.layers.Dense(10))
    loss = loss or keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, metrics=["accuracy"])
    return model


@pytest.fixture(scope="module")
def uninterrupted() -> keras.callbacks.History:
    """The history of `build()` after four epochs with validation."""
    return fit(build(), train(), epochs=4, validation=validation(), title=None)


class StopAt(keras.callbacks.Callback):
    """Ctrl-C after a step."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.step = step

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if int(self.model.optimizer.iterations) == self.step:
            raise KeyboardInterrupt


def test_values_of_every_epoch_are_logged_and_the_loss_falls(uninterrupted) -> None:
    history = uninterrupted.history
    assert set(history) == LOGGED
    assert {len(values) for values in history.values()} == {4}
    assert history["loss"][3] < history["loss"][0] / 2


def test_history_is_that_of_the_model() -> None:
    model = regression()
    history = fit(model, (ROWS, SUMS), epochs=1, title=None)
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
    model = classifier()
    fit(model, train(), epochs=2, run_dir=tmp_path / "one", title=None)
    assert json.loads((tmp_path / "one" / "data.json").read_text())[0]["name"]
    assert list((tmp_path / "one" / "train").glob("events.out.tfevents*"))
    loaded = keras.saving.load_model(tmp_path / "one" / "model.keras")
    assert all(map(np.array_equal, model.get_weights(), loaded.get_weights()))
    assert not list((tmp_path / "one").glob(".*"))


@pytest.mark.parametrize("step", [STEPS + 5, 2 * STEPS])
def test_interrupted_training_continues_as_without_interruption(
    step: int, uninterrupted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
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


def test_program_that_is_run_again_continues_its_training(
    uninterrupted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def program(*callbacks: keras.callbacks.Callback) -> keras.callbacks.History:
        options: dict[str, Any] = {"validation": validation(), "title": None, "patience": 9}
        return fit(
            build(), train(), epochs=4, run_dir=tmp_path, resume=True, callbacks=callbacks,
            **options,
        )  # fmt: skip

    with pytest.raises(KeyboardInterrupt):
        program(StopAt(STEPS + 5))
    capsys.readouterr()

    resumed = program()

    assert resumed.epoch == [0, 1, 2, 3]
    for name in LOGGED:
        np.testing.assert_allclose(resumed.history[name], uninterrupted.history[name], rtol=1e-4)
    program()
    assert capsys.readouterr().out == f"{tmp_path} is complete: 4 epochs.\n"


def test_training_to_resume_must_be_of_the_same_model_and_complete(tmp_path: Path) -> None:
    options: dict[str, Any] = {"run_dir": tmp_path, "title": None, "resume": True}
    fit(regression(), (ROWS, SUMS), epochs=1, **options)
    with pytest.raises(Invalid, match=r"model.keras has the weights of another model"):
        fit(classifier(), train(), epochs=2, **options)
    content = (tmp_path / "model.keras").read_bytes()
    (tmp_path / "model.keras").write_bytes(content[:-200])
    with pytest.raises(Damaged, match=r"model.keras is damaged"):
        fit(regression(), (ROWS, SUMS), epochs=2, **options)


def test_epochs_of_some_steps_continue_where_the_data_were_left(tmp_path: Path) -> None:
    options: dict[str, Any] = {"title": None}
    expected = fit(classifier(), train(), epochs=4, steps_per_epoch=15, **options)
    with pytest.raises(KeyboardInterrupt):
        fit(
            classifier(), train(), epochs=4, steps_per_epoch=15, run_dir=tmp_path,
            callbacks=StopAt(35), **options,
        )  # fmt: skip
    resumed = resume(tmp_path, train(), **options)
    np.testing.assert_allclose(resumed.history["loss"], expected.history["loss"], rtol=1e-4)


def test_stop_button_of_a_notebook_returns_the_history(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fitting, "in_notebook", lambda: True)
    history = fit(classifier(), train(), epochs=4, title=None, callbacks=[StopAt(STEPS + 3)])
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


def test_killed_training_continues_after_its_last_finished_epoch(
    uninterrupted, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", KILLED, str(Path(__file__).parent), str(tmp_path / "run")]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    keras.utils.set_random_seed(1)  # the order of the data depends on it, too
    history = resume(tmp_path / "run", train(), title=None)
    np.testing.assert_allclose(history.history["loss"], uninterrupted.history["loss"], rtol=1e-4)


def test_history_that_is_ahead_of_its_model_is_shortened(tmp_path: Path) -> None:
    fit(classifier(), train(), epochs=2, run_dir=tmp_path, title=None)
    older = (tmp_path / "model.keras").read_bytes()
    resume(tmp_path, train(), epochs=3, title=None)
    (tmp_path / "model.keras").write_bytes(older)  # killed before the model was written
    history = resume(tmp_path, train(), title=None)
    assert len(history.history["loss"]) == 3
    assert int(history.model.optimizer.iterations) == 3 * STEPS


def test_complete_training_is_returned_and_can_be_extended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(classifier(), train(), epochs=1, run_dir=tmp_path, title=None)
    assert len(resume(tmp_path, train(), title=None).history["loss"]) == 1
    assert capsys.readouterr().out == f"{tmp_path} is complete: 1 epochs.\n"
    assert len(resume(tmp_path, train(), epochs=2, title=None).history["loss"]) == 2


def test_patience_stops_and_restores_the_best_epoch(tmp_path: Path) -> None:
    # On the way from weights of 0 to those of SUMS, the network passes those of SUMS / 2.
    model = regression(keras.layers.BatchNormalization(), kernel_initializer="zeros")
    model.optimizer.learning_rate = 0.02
    validation = (ROWS, SUMS / 2)
    history = fit(
        model, (ROWS, SUMS), epochs=60, validation=validation, patience=2, run_dir=tmp_path,
        title=None,
    )  # fmt: skip
    losses = history.history["val_loss"]
    assert 3 < len(losses) < 60
    assert len(losses) == np.argmin(losses) + 3
    loss, _ = model.evaluate(*validation, verbose=0)
    assert loss == pytest.approx(min(losses), rel=1e-3)
    saved = keras.saving.load_model(tmp_path / "model.keras")
    assert all(map(np.array_equal, saved.get_weights(), model.get_weights()))


def test_patience_keeps_the_best_epoch_across_an_interruption(tmp_path: Path) -> None:
    model = classifier()
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

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            expected.extend(self.model.get_weights())

    expected: list[np.ndarray] = []
    model = build(rate=0.01)
    message = "The loss became nan at step 5 of epoch 2, with a learning rate of 0.01: try a tenth"
    with pytest.raises(LabError, match=message):
        fit(model, train(), epochs=4, title=None, callbacks=[InsertNan()])
    for weight, expected_weight in zip(model.get_weights(), expected, strict=True):
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
        (
            lambda x, y: (x[:, :4], y),
            "takes inputs of shape 8×8×1 and those of the training data are 4×8×1",
        ),
        (lambda x, y: x, "The training data have no labels"),
    ],
)
def test_wrong_data_are_refused(change: Any, message: str) -> None:
    with pytest.raises(LabError, match=message):
        fit(classifier(), train().map(change), epochs=2, title=None)


def test_wrong_label_in_a_later_batch_is_named_with_its_step() -> None:
    correct = train().take(3)
    wrong = train().take(1).map(lambda x, y: (x, y + 10))
    with pytest.raises(Invalid, match=r"Step 4 of epoch 1: the label 1. is not one"):
        fit(classifier(), correct.concatenate(wrong), epochs=1, title=None)


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
    model = classifier(keras.losses.CategoricalCrossentropy(from_logits=True))
    wide = train().map(lambda x, y: (x, tf.one_hot(y, 12)))
    with pytest.raises(
        LabError, match="targets are of shape 12 and the outputs of the model are 10: build"
    ):
        fit(model, wide, epochs=1, title=None)
    fit(model, train().map(lambda x, y: (x, tf.one_hot(y, 10))), epochs=1, title=None)


def test_wrong_argument_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="epochs is 0; it must be a whole number, 1 or more"):
        fit(classifier(), train(), epochs=0)
    with pytest.raises(LabError, match="patience is 0; it must be a whole number"):
        fit(classifier(), train(), epochs=1, patience=0)
    with pytest.raises(LabError, match="The training data are empty"):
        fit(classifier(), train().take(0), epochs=1)
    with pytest.raises(LabError, match="not in batches"):
        fit(classifier(), train().unbatch(), epochs=1)
    with pytest.raises(LabError, match="The model is not compiled"):
        fit(keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten()]), train(), epochs=1)
    (tmp_path / "history.json").write_text("{}")
    with pytest.raises(LabError, match=r"already contains a training: continue it with"):
        fit(classifier(), train(), epochs=1, run_dir=tmp_path)


def test_memory_is_checked_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build()
    monkeypatch.setattr(memory, "free_bytes", lambda: 200_000.0)
    with pytest.raises(Unavailable, match=r"needs at least 0\.0 GB of memory.*: use batches of"):
        fit(model, train(), epochs=1)
    assert int(model.optimizer.iterations) == 0
    monkeypatch.setattr(memory, "free_bytes", lambda: 10.0)
    with pytest.raises(Unavailable, match="use a smaller model, or smaller images"):
        fit(model, train(), epochs=1)


def test_folder_without_a_complete_training_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="contains no training: name the folder that was given"):
        resume(tmp_path, train())
    fit(classifier(), train(), epochs=1, run_dir=tmp_path / "run", title=None)
    for name in ("model.keras", "history.json"):
        copy = shutil.copytree(tmp_path / "run", tmp_path / name)
        content = (copy / name).read_bytes()
        (copy / name).write_bytes(content[: len(content) // 2])
        with pytest.raises(
            Damaged, match=r"is damaged or not a Keras model|cannot be read: start again"
        ):
            resume(copy, train())


def test_folder_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="cannot be written"):
        fit(classifier(), train(), epochs=1, run_dir=tmp_path / "file" / "run", title=None)


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
    fit(classifier(), train(), epochs=1, title="Digits")
    assert re.search(r"Digits: epoch 1 of 1, .*waiting \d+%, loss", capsys.readouterr().out)


ROWS = np.random.default_rng(1).normal(size=(40, 3)).astype(np.float32)
SUMS = ROWS.sum(axis=1, keepdims=True)


class Penalized(keras.layers.Layer):
    """Adds a loss of its own."""

    def call(self, inputs: Any) -> Any:
        self.add_loss(0.1 * keras.ops.mean(keras.ops.square(inputs)))
        return inputs


def regression(*middle: keras.layers.Layer, loss: Any = "mse", **options: Any) -> keras.Model:
    keras.utils.set_random_seed(1)
    dense = keras.layers.Dense(1, **options)
    model = keras.Sequential([keras.Input((3,)), *middle, dense])
    model.compile("adam", loss, metrics=["mae"])
    return model


@pytest.mark.parametrize(
    ("middle", "options"),
    [
        ([], {"kernel_regularizer": "l2"}),
        ([], {"activity_regularizer": "l1"}),
        ([keras.layers.ActivityRegularization(0.1)], {}),
        ([Penalized()], {}),
    ],
)
def test_regularizers_and_added_losses_count_as_in_keras(middle: Any, options: Any) -> None:
    dataset = tf.data.Dataset.from_tensor_slices((ROWS, SUMS)).batch(10)
    expected = (
        regression(*middle, **options)
        .fit(dataset, epochs=2, shuffle=False, verbose=0)
        .history["loss"]
    )
    history = fit(regression(*middle, **options), dataset, epochs=2, title=None).history
    np.testing.assert_allclose(history["loss"], expected, rtol=1e-5)
    if options:
        plain = fit(regression(*middle), dataset, epochs=2, title=None).history
        assert history["loss"][0] > plain["loss"][0]


def two_inputs() -> keras.Model:
    a, b = keras.Input((3,), name="a"), keras.Input((2,), name="b")
    joined = keras.layers.Concatenate()([a, b])
    model = keras.Model([a, b], keras.layers.Dense(1, name="out")(joined))
    model.compile("adam", "mse")
    return model


@pytest.mark.parametrize(
    "inputs", [(ROWS, ROWS[:, :2]), [ROWS, ROWS[:, :2]], {"b": ROWS[:, :2], "a": ROWS}]
)
def test_several_inputs_train(inputs: Any) -> None:
    history = fit(two_inputs(), (inputs, SUMS), epochs=2, validation=(inputs, SUMS), title=None)
    assert history.history["loss"][1] < history.history["loss"][0]


def test_dict_of_inputs_and_targets_trains() -> None:
    inputs = {"a": keras.Input((3,), name="a"), "b": keras.Input((2,), name="b")}
    joined = keras.layers.Concatenate()([inputs["a"], inputs["b"]])
    outputs = {"sum": keras.layers.Dense(1)(joined), "class": keras.layers.Dense(2)(joined)}
    model = keras.Model(inputs, outputs)
    sparse = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", {"sum": "mse", "class": sparse}, metrics={"class": "accuracy"})
    targets = {"sum": SUMS, "class": np.int64(SUMS[:, 0] > 0)}
    dataset = tf.data.Dataset.from_tensor_slices(({"a": ROWS, "b": ROWS[:, :2]}, targets))
    assert fit(model, dataset.batch(8), epochs=1, title=None).history["class_accuracy"]
    targets["class"] += 1
    with pytest.raises(Invalid, match="the label 2 is not one of the model's 2 classes"):
        fit(model, ({"a": ROWS, "b": ROWS[:, :2]}, targets), epochs=1, title=None)


def test_missing_input_is_named() -> None:
    with pytest.raises(Invalid, match="data are 'a', 'c', and the model takes 'a', 'b': give"):
        fit(two_inputs(), ({"a": ROWS, "c": ROWS}, SUMS), epochs=1)
    with pytest.raises(Invalid, match="The model has 2 inputs and the training data have 1"):
        fit(two_inputs(), (ROWS, SUMS), epochs=1)


class Autoencoder(keras.Model):
    """Has a training step of its own, and needs no labels."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = keras.layers.Dense(3)

    def call(self, inputs: Any) -> Any:
        return self.dense(inputs)

    def train_step(self, inputs: Any) -> dict[str, Any]:
        with tf.GradientTape() as tape:
            loss = keras.ops.mean(keras.ops.square(self(inputs) - inputs))
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        return {"reconstruction_loss": loss}


@pytest.mark.parametrize(
    "data", [ROWS, tf.data.Dataset.from_tensor_slices(ROWS).batch(40)], ids=["array", "data set"]
)
def test_model_with_its_own_training_step_needs_no_labels(
    data: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    model = Autoencoder()
    model.compile(keras.optimizers.Adam(0.05))
    history = fit(model, data, epochs=3, batch_size=40, run_dir=tmp_path).history
    assert history["reconstruction_loss"][2] < history["reconstruction_loss"][0]
    output = capsys.readouterr().out
    assert "reconstruction loss" in output
    assert "examples/s" not in output  # such a model does not count them
    with pytest.raises(Invalid, match="patience needs a logged loss, and the model logs"):
        fit(model, data, epochs=3, patience=1, title=None)


def test_model_with_two_optimizers_trains(tmp_path: Path) -> None:
    class Pair(keras.Model):
        """As a generator with its discriminator: it gives Keras no optimizer."""

        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = keras.layers.Dense(3), keras.layers.Dense(1)

        def compile(self, *optimizers: keras.optimizers.Optimizer) -> None:
            super().compile(optimizer=None)
            self.optimizers = optimizers

        def call(self, inputs: Any) -> Any:
            return self.second(self.first(inputs))

        def train_step(self, inputs: Any) -> dict[str, Any]:
            losses = {}
            layers = {"g_loss": self.first, "d_loss": self.second}
            for (name, layer), optimizer in zip(layers.items(), self.optimizers, strict=True):
                with tf.GradientTape() as tape:
                    losses[name] = keras.ops.mean(keras.ops.square(self(inputs)))
                variables = layer.trainable_variables
                gradients = tape.gradient(losses[name], variables)
                optimizer.apply_gradients(zip(gradients, variables, strict=True))
            return losses

    model = Pair()
    model.compile(keras.optimizers.Adam(0.05), keras.optimizers.SGD(0.05))
    history = fit(model, ROWS, epochs=3, batch_size=40, run_dir=tmp_path, title=None).history
    assert history["d_loss"][2] < history["d_loss"][0]
    assert len(history["g_loss"]) == 3


@pytest.mark.parametrize(
    ("loss", "labels", "message"),
    [
        ("sparse_categorical_crossentropy", np.eye(2)[[0, 1] * 20], "CategoricalCrossentropy for"),
        ("sparse_categorical_crossentropy", np.array([0, 5] * 20), "the label 5 is not one of the"),
        ("categorical_crossentropy", np.array([0, 1] * 20), "The labels are class numbers, and"),
    ],
)
def test_wrong_labels_of_a_model_with_unknown_outputs_are_explained(
    loss: str, labels: np.ndarray, message: str
) -> None:
    class Subclassed(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.dense = keras.layers.Dense(2)

        def call(self, inputs: Any) -> Any:
            return self.dense(inputs)

    model = Subclassed()
    model.compile("adam", loss)
    with pytest.raises(Invalid, match=message):
        fit(model, (ROWS, labels), epochs=1, title=None)


def test_loss_that_the_model_adds_itself_needs_no_labels() -> None:
    inputs = keras.Input((3,))
    model = keras.Model(inputs, Penalized()(keras.layers.Dense(3)(inputs)))
    model.compile("adam")
    history = fit(model, ROWS, epochs=2, title=None).history["loss"]
    assert history[1] < history[0]


def test_model_without_a_loss_is_refused() -> None:
    with pytest.raises(Invalid, match="The model has no loss: compile it with one"):
        fit(regression(loss=None), (ROWS, SUMS), epochs=1, title=None)


class Sequence(keras.utils.PyDataset):
    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> Any:
        return ROWS[8 * index : 8 * index + 8], SUMS[8 * index : 8 * index + 8]


def endless() -> Any:
    while True:
        yield from map(Sequence().__getitem__, range(5))


@pytest.mark.parametrize(
    ("make", "steps"),
    [
        (lambda: (ROWS, SUMS), None),
        (lambda: (ROWS, SUMS, SUMS[:, 0] ** 2), 3),
        (Sequence, None),
        (endless, 5),
        (tf.data.Dataset.from_tensor_slices((ROWS, SUMS)).batch(8).repeat, 5),
        (tf.data.Dataset.from_tensor_slices((ROWS, SUMS)).batch(8).__iter__, 2),
    ],
    ids=["arrays", "weights", "PyDataset", "generator", "endless data set", "iterator"],
)
def test_data_of_every_kind_train(make: Any, steps: int | None) -> None:
    history = fit(
        regression(), make(), epochs=2, validation=(ROWS, SUMS), steps_per_epoch=steps,
        batch_size=8, title=None,
    )  # fmt: skip
    assert history.history["val_loss"][1] < history.history["val_loss"][0]
    assert int(history.model.optimizer.iterations) == 2 * (steps or 5)


def test_endless_data_need_steps_per_epoch() -> None:
    dataset = tf.data.Dataset.from_tensor_slices((ROWS, SUMS)).batch(8).repeat()
    with pytest.raises(Invalid, match="The training data have no end: pass steps_per_epoch"):
        fit(regression(), dataset, epochs=1)
    with pytest.raises(
        Invalid, match=r"from a generator, which does not say .*: pass steps_per_epoch"
    ):
        fit(regression(), endless(), epochs=1)
    with pytest.raises(Invalid, match="The validation data have no end: pass arrays, or a part"):
        fit(regression(), (ROWS, SUMS), epochs=1, validation=dataset)


def test_generator_that_ends_early_is_reported() -> None:
    batches = map(Sequence().__getitem__, range(5))
    with pytest.raises(Invalid, match="The training data ended after step 2 of epoch 2"):
        fit(regression(), batches, epochs=2, steps_per_epoch=3, title=None)


def test_ragged_batches_train() -> None:
    class Mean(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.dense = keras.layers.Embedding(9, 4), keras.layers.Dense(1)

        def call(self, inputs: Any) -> Any:
            padded = inputs.to_tensor() if isinstance(inputs, tf.RaggedTensor) else inputs
            return self.dense(keras.ops.mean(self.embedding(padded), axis=1))

    words = tf.ragged.constant([[1, 2], [3], [4, 5, 6], [7]])
    dataset = tf.data.Dataset.from_tensor_slices((words, np.ones((4, 1)))).batch(2)
    model = Mean()
    model.compile("adam", "mse")
    history = fit(model, dataset, epochs=3, title=None).history["loss"]
    assert history[2] < history[0]


@pytest.mark.parametrize("one_hot", [False, True])
def test_class_weight_counts_as_in_keras(one_hot: bool) -> None:
    labels = np.int64(SUMS[:, 0] > 0)
    kind = keras.losses.CategoricalCrossentropy
    kind = kind if one_hot else keras.losses.SparseCategoricalCrossentropy
    targets = np.eye(2)[labels] if one_hot else labels
    dataset = tf.data.Dataset.from_tensor_slices((ROWS, targets)).batch(10)
    losses, weights = [], {0: 3.0, 1: 0.5}
    for train in (
        lambda model: model.fit(dataset, class_weight=weights, shuffle=False, verbose=0),
        lambda model: fit(model, dataset, epochs=1, class_weight=weights, title=None),
    ):
        keras.utils.set_random_seed(1)
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        model.compile("adam", kind(from_logits=True))
        losses.append(train(model).history["loss"])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)


def test_images_without_an_axis_of_channels_train_as_in_keras() -> None:
    images, labels = data.arrays("digits", "test")
    history = fit(classifier(), (images[..., 0], labels), epochs=1, title=None)
    assert np.isfinite(history.history["loss"]).all()
    two_dimensional = classifier().fit  # Keras accepts them, too
    two_dimensional(images[:64, ..., 0], labels[:64], verbose=0)


def test_single_callback_needs_no_list() -> None:
    epochs: list[int] = []
    callback = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: epochs.append(epoch))
    fit(regression(), (ROWS, SUMS), epochs=2, title=None, callbacks=callback)
    assert epochs == [0, 1]


def test_home_folder_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    fit(regression(), (ROWS, SUMS), epochs=1, run_dir="~/run", title=None)
    assert (tmp_path / "run" / "model.keras").exists()
    history = resume("~/run", (ROWS, SUMS), epochs=2, title=None)
    assert len(history.history["loss"]) == 2


def test_nan_in_the_targets_is_named_and_not_the_learning_rate() -> None:
    with pytest.raises(Invalid, match="Step 1 of epoch 1: some targets are NaN or infinite: look"):
        fit(regression(), (ROWS, SUMS * np.nan), epochs=1, title=None)


def test_loss_that_is_not_finite_from_the_start_does_not_blame_the_learning_rate() -> None:
    def logarithm(targets: Any, outputs: Any) -> Any:
        return keras.ops.log(keras.ops.mean(outputs) * 0.0)

    with pytest.raises(Invalid, match="step 1 of epoch 1, before the weights had changed: look"):
        fit(regression(loss=logarithm), (ROWS, SUMS), epochs=1, title=None)


@pytest.mark.parametrize(
    ("change", "loss", "message"),
    [
        (lambda y: y - 1, None, "label -1 .*: number the classes from 0, and remove examples"),
        (lambda y: np.eye(10)[y], None, "the loss takes class numbers: use keras.losses.Cat"),
        (lambda y: y, "categorical_crossentropy", "are class numbers, and the loss takes a value"),
        (lambda y: y.astype(str), None, "The labels are text: give each class a number"),
    ],
)
@pytest.mark.parametrize("part", ["training", "validation"])
def test_wrong_labels_are_explained(change: Any, loss: Any, message: str, part: str) -> None:
    images, labels = data.arrays("digits", "test")
    wrong = (images, change(labels))
    correct = (images, np.eye(10)[labels] if loss else labels)
    train, validation = (wrong, correct) if part == "training" else (correct, wrong)
    with pytest.raises(Invalid, match=message):
        fit(classifier(loss), train, epochs=1, validation=validation, title=None)


def test_labels_of_a_binary_cross_entropy_may_be_booleans() -> None:
    model = regression(loss="binary_crossentropy", activation="sigmoid")
    history = fit(model, (ROWS, SUMS > 0), epochs=1, title=None).history
    assert math.isfinite(history["loss"][0])


def test_metrics_of_several_numbers_are_in_the_history_and_survive_a_resumption(
    tmp_path: Path,
) -> None:
    model = regression(loss="binary_crossentropy", activation="sigmoid")
    model.compile("adam", "binary_crossentropy", metrics=[keras.metrics.F1Score()])
    pair = ROWS, SUMS > 0
    fit(model, pair, epochs=1, validation=pair, run_dir=tmp_path, title="F1")
    history = resume(tmp_path, pair, epochs=2, validation=pair, title=None).history
    assert np.shape(history["f1_score"]) == np.shape(history["val_f1_score"]) == (2, 1)


def test_several_steps_in_one_call_end_with_the_data_as_in_keras() -> None:
    dataset = tf.data.Dataset.from_tensor_slices((ROWS, SUMS)).batch(16)  # three batches
    losses = []
    for train in (
        lambda model: model.fit(dataset, epochs=2, shuffle=False, verbose=0),
        lambda model: fit(model, dataset, epochs=2, title=None),
    ):
        model = regression()
        model.compile("adam", "mse", steps_per_execution=2)
        losses.append(train(model).history["loss"])
        assert int(model.optimizer.iterations) == 6
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)


def test_batch_of_another_shape_than_the_first_ones_is_reported() -> None:
    batches = iter([(np.ones((2, length)), np.ones((2, 1))) for length in (5, 5, 7)])
    model = keras.Sequential([keras.Input((None,)), keras.layers.Reshape((-1, 1))])
    model.add(keras.layers.GlobalAveragePooling1D())
    model.add(keras.layers.Dense(1))
    model.compile("adam", "mse")
    with pytest.raises(Invalid, match=r"^Step 3 of epoch 1: a batch has the shape \(2, 7\), and"):
        fit(model, batches, epochs=1, steps_per_epoch=3, title=None)


def test_wrong_label_in_the_validation_is_named_with_its_step() -> None:
    images, labels = data.arrays("digits", "test")
    wrong = np.where(np.arange(len(labels)) == 100, 12, labels)
    message = "Step 2 of the validation after epoch 1: the label 12 is not one"
    with pytest.raises(Invalid, match=message):
        fit(
            classifier(), (images, labels), epochs=1, validation=(images, wrong), batch_size=64,
            title=None,
        )  # fmt: skip


def test_label_that_the_loss_ignores_is_accepted() -> None:
    images, labels = data.arrays("digits", "test")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=-1)
    fit(classifier(loss), (images, np.where(labels == 3, -1, labels)), epochs=1, title=None)


class Doubled(keras.layers.Layer):
    def call(self, inputs: Any) -> Any:
        return 2 * inputs


def custom_loss(targets: Any, outputs: Any) -> Any:
    return keras.ops.mean(keras.ops.abs(targets - outputs))


class Falling(keras.optimizers.schedules.LearningRateSchedule):
    def __call__(self, step: Any) -> Any:
        return 0.1 / (1.0 + keras.ops.cast(step, "float32"))

    def get_config(self) -> dict[str, Any]:
        return {}


class OwnStep(keras.Sequential):
    def train_step(self, batch: Any) -> Any:
        return super().train_step(batch)


def own_parts(part: str) -> keras.Model:
    model_class = OwnStep if part == "OwnStep" else keras.Sequential
    middle = {"Doubled": [Doubled()], "lambda": [keras.layers.Lambda(lambda x: 2 * x)]}
    model = model_class([keras.Input((3,)), *middle.get(part, []), keras.layers.Dense(1)])
    model.compile(
        keras.optimizers.Adam(Falling() if part == "Falling" else 0.01),
        custom_loss if part == "custom_loss" else "mse",
        metrics=[custom_loss] if part == "metric" else None,
    )
    return model


@pytest.mark.parametrize("part", ["Doubled", "custom_loss", "metric", "Falling", "OwnStep"])
def test_resume_names_what_the_model_needs_and_takes_it(part: str, tmp_path: Path) -> None:
    fit(own_parts(part), (ROWS, SUMS), epochs=1, patience=3, run_dir=tmp_path, title=None)
    name = "custom_loss" if part == "metric" else part
    with pytest.raises(Unavailable, match=f"needs the .* '{name}', .* custom_objects={{'{name}'"):
        resume(tmp_path, (ROWS, SUMS), epochs=2, title=None)
    custom_objects = {name: globals()[name]}
    history = resume(tmp_path, (ROWS, SUMS), epochs=2, title=None, custom_objects=custom_objects)
    assert len(history.history["loss"]) == 2
    assert part != "OwnStep" or isinstance(history.model, OwnStep)


def test_resume_runs_code_in_the_model_only_if_it_is_trusted(tmp_path: Path) -> None:
    fit(own_parts("lambda"), (ROWS, SUMS), epochs=1, run_dir=tmp_path, title=None)
    with pytest.raises(Invalid, match=r"contains Python code .*trusted=True to training.resume"):
        resume(tmp_path, (ROWS, SUMS), epochs=2, title=None)
    history = resume(tmp_path, (ROWS, SUMS), epochs=2, title=None, trusted=True)
    assert len(history.history["loss"]) == 2


def test_resume_keeps_the_settings_of_fit(tmp_path: Path) -> None:
    labels = np.int64(SUMS[:, 0] > 0)
    options: dict[str, Any] = {"batch_size": 5, "steps_per_epoch": 3, "class_weight": {0: 0.0}}

    def classifier() -> keras.Model:
        keras.utils.set_random_seed(1)
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        return model

    fit(classifier(), (ROWS, labels), epochs=1, run_dir=tmp_path, title=None, **options)
    model = resume(tmp_path, (ROWS, labels), epochs=2, title=None).model
    assert int(model.optimizer.iterations) == 6
    saved = json.loads((tmp_path / "history.json").read_text())
    assert {name: saved[name] for name in ("batch_size", "steps_per_epoch")} == {
        "batch_size": 5,
        "steps_per_epoch": 3,
    }
    assert saved["class_weight"] == {"0": 0.0}
