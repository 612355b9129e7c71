"""Trainings whose weights must not depend on the number of workers; run as a script by workers.

Usage: dltlab launch -n 2 --max-restarts 2 -- prepared_cases.py FOLDER. Each worker kills itself
once, and writes RANK.npz and RANK.json when it has been restarted.
"""

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from dltlab import training
from dltlab.distribute.checkpoint import Checkpoint
from dltlab.distribute.cluster import worker
from dltlab.distribute.group import Group, join
from dltlab.distribute.prepare import prepare
from dltlab.errors import Invalid

generator = np.random.default_rng(1)
X = generator.standard_normal((90, 6)).astype(np.float32)
Y = (X[:, :1] * 2 + np.sin(X[:, 1:2])).astype(np.float32)
LABELS = (Y[:, 0] > 0).astype(np.int64) + (Y[:, 0] > 1)
TEXTS = generator.integers(0, 50, (90, 5))
WEIGHTS = generator.random(90).astype(np.float32)


class Outcome(NamedTuple):
    """What must be the same on all workers, and in one process."""

    weights: list[np.ndarray]
    numbers: dict[str, Any]


def batches(size: int, rows: int = len(X)) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices((X[:rows], Y[:rows])).batch(size)


def dense(*hidden: keras.Layer) -> keras.Model:
    return keras.Sequential([keras.Input((6,)), layers.Dense(8, "tanh"), *hidden, layers.Dense(1)])


def train(model: keras.Model, *data: Any, group: Group | None = None, **options: Any) -> Outcome:
    if group:
        prepare(model, group)
    elif isinstance(data[0], tf.data.Dataset):
        options["shuffle"] = False  # without it, Keras warns that it does not shuffle
    history = model.fit(*data, verbose=0, **options)
    return Outcome(model.get_weights(), history.history)


Case = Callable[[Group | None], Outcome]
CASES: dict[str, Case] = {}


def case(function: Case) -> Case:
    CASES[function.__name__] = function
    return function


@case
def momentum(group):
    model = dense()
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9), "mse", metrics=["mae"])
    return train(model, batches(16, 80), epochs=10, group=group)


@case
def adam_with_a_ragged_last_batch(group):
    model = dense()
    model.compile(keras.optimizers.Adam(0.01), "mse", metrics=["mae"])
    return train(model, batches(16), epochs=8, group=group)


@case
def a_last_batch_of_one_row(group):
    model = dense()
    model.compile(keras.optimizers.Adam(0.01), "mse", metrics=["mae"])
    return train(model, batches(16, 81), epochs=8, group=group, validation_data=batches(16, 33))


@case
def clipping_weight_decay_and_moving_average(group):
    model = dense()
    optimizer = keras.optimizers.AdamW(
        0.01, weight_decay=0.1, global_clipnorm=0.1, use_ema=True, ema_overwrite_frequency=7
    )
    model.compile(optimizer, "mse")
    return train(model, batches(16), epochs=8, group=group)


@case
def gradient_accumulation(group):
    model = dense()
    model.compile(keras.optimizers.Adam(0.01, gradient_accumulation_steps=3), "mse")
    return train(model, batches(16), epochs=8, group=group)


@case
def several_steps_per_execution(group):
    model = dense()
    model.compile(keras.optimizers.Adam(0.01), "mse", steps_per_execution=4)
    return train(model, batches(16), epochs=8, group=group)


@case
def eagerly(group):
    model = dense()
    model.compile(keras.optimizers.Adam(0.01), "mse", run_eagerly=True)
    return train(model, batches(30), epochs=2, group=group)


@case
def regularizers_and_a_loss_that_sums(group):
    model = dense(layers.Dense(8, kernel_regularizer="l2", activity_regularizer="l2"))
    model.compile(keras.optimizers.SGD(0.001), keras.losses.MeanSquaredError(reduction="sum"))
    return train(model, batches(16), epochs=8, group=group)


@case
def synchronized_batch_normalization(group):
    model = dense(layers.BatchNormalization(synchronized=True))
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9), "mse", metrics=["mae"])
    return train(model, batches(16), epochs=8, group=group)


@case
def an_embedding_of_masked_texts(group):
    model = keras.Sequential(
        [
            keras.Input((5,), dtype="int32"),
            layers.Embedding(50, 4, mask_zero=True),
            layers.Dense(1),
        ]
    )
    model.compile(keras.optimizers.Adam(0.01), "mse")
    targets = (TEXTS % 3).astype(np.float32)[..., None]
    data = tf.data.Dataset.from_tensor_slices((TEXTS, targets)).batch(16)
    return train(model, data, epochs=8, group=group)


@case
def class_and_sample_weights_and_auc(group):
    model = keras.Sequential([keras.Input((6,)), layers.Dense(8, "tanh"), layers.Dense(3)])
    model.compile(
        keras.optimizers.Adam(0.01),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        weighted_metrics=["sparse_categorical_crossentropy"],
    )
    data = tf.data.Dataset.from_tensor_slices((X, LABELS)).batch(16)
    outcome = train(model, data, epochs=6, class_weight={0: 1, 1: 2, 2: 3}, group=group)
    weighted = tf.data.Dataset.from_tensor_slices((X, LABELS, WEIGHTS)).batch(16)
    again = model.fit(weighted, epochs=2, verbose=0, shuffle=False)
    binary = keras.Sequential([keras.Input((6,)), layers.Dense(1, "sigmoid")])
    binary.compile("adam", "binary_crossentropy", metrics=[keras.metrics.AUC(name="auc")])
    area = train(
        binary,
        tf.data.Dataset.from_tensor_slices((X, (LABELS > 0)[:, None])).batch(16),
        epochs=2,
        group=group,
    )
    return Outcome(
        [*model.get_weights(), *binary.get_weights()],
        outcome.numbers | {"again": again.history["loss"]} | area.numbers,
    )


@case
def dicts_several_losses_evaluate_and_predict(group):
    inputs = {"first": keras.Input((6,), name="first"), "second": keras.Input((6,), name="second")}
    joined = layers.Concatenate()([inputs["first"], inputs["second"]])
    model = keras.Model(inputs, {"a": layers.Dense(1)(joined), "b": layers.Dense(2)(joined)})
    model.compile(
        keras.optimizers.Adam(0.01), {"a": "mse", "b": "mae"}, loss_weights={"a": 2.0, "b": 1.0}
    )
    x, y = {"first": X, "second": X[::-1]}, {"a": Y, "b": np.hstack([Y, Y])}
    # The last batch has 5 rows, which workers cannot share evenly.
    data = tf.data.Dataset.from_tensor_slices((x, y)).take(85).batch(16)
    outcome = train(model, data, epochs=4, group=group)
    predicted = model.predict(x, batch_size=16, verbose=0)
    numbers = outcome.numbers | {"evaluated": model.evaluate(data, verbose=0)}
    return Outcome([*outcome.weights, predicted["a"], predicted["b"]], numbers)


@case
def arrays_of_which_the_last_are_for_validation(group):
    model = dense()
    model.compile(keras.optimizers.Adam(0.01), "mse")
    arrays = {"batch_size": 16, "validation_split": 0.2, "shuffle": False}
    return train(model, X, Y, epochs=4, group=group, **arrays)


@case
def a_half_precision_optimizer(group):
    model = keras.Sequential(
        [keras.Input((6,)), layers.Dense(8, "tanh", dtype="mixed_bfloat16"), layers.Dense(1)]
    )
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.01))
    model.compile(optimizer, "mse")
    return train(model, batches(16, 80), epochs=4, group=group)


class PyBatches(keras.utils.PyDataset):
    """Batches of 15 rows that are read by two threads."""

    num_batches = 6

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        rows = slice(15 * index, 15 * (index + 1))
        return X[rows], Y[rows]


@case
def a_py_dataset(group):
    model = dense()
    model.compile(keras.optimizers.Adam(0.01), "mse")
    data = PyBatches(workers=2, max_queue_size=3)
    outcome = train(model, data, epochs=3, shuffle=False, group=group)
    model.fit(data, epochs=2, verbose=0)  # in a random order
    losses = [model.evaluate(X, Y, verbose=0)]
    numbers = {
        "are shuffled in the same way": len({*(group.exchange(losses[0]) if group else losses)})
    }
    return Outcome(outcome.weights, outcome.numbers | numbers)


@case
def batches_of_own_rows(group):
    model = dense()
    model.compile(keras.optimizers.Adam(0.01), "mse", metrics=["mae"])
    rank, size = (group.rank, group.size) if group else (0, 1)
    prepare(model, group, sharded=True)
    own = tf.data.Dataset.from_tensor_slices((X, Y)).shard(size, rank).batch(16 // size)
    history = model.fit(own, epochs=4, verbose=0, shuffle=False)
    predicted = model.predict(own, verbose=0)
    assert len(predicted) == len(X[rank::size])
    return Outcome(model.get_weights(), history.history | {"evaluated": model.evaluate(own)})


class Adversaries(keras.Model):
    """Two networks with an optimizer and a training step of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = dense(), dense(layers.BatchNormalization(synchronized=True))
        self.build((None, 6))
        self.first_optimizer = keras.optimizers.Adam(0.01)
        self.second_optimizer = keras.optimizers.SGD(0.01)

    def call(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        return self.first(x, training=training)

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        x, y = data
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((self.first(x, training=True) - y) ** 2)
        weights = self.first.trainable_variables
        self.first_optimizer.apply(tape.gradient(loss, weights), weights)
        with tf.GradientTape() as tape:
            other = tf.reduce_mean((self.second(x, training=True) + self.first(x)) ** 2)
        weights = self.second.trainable_variables
        self.second_optimizer.apply(tape.gradient(other, weights), weights)
        return {"loss": loss}


@case
def a_model_with_two_optimizers(group):
    model = Adversaries()
    model.compile()
    return train(model, batches(16), epochs=4, group=group)


@case
def a_loss_that_is_not_a_number_on_one_worker(group):
    model = dense()
    model.compile("sgd", "mse")
    targets = np.where(np.arange(len(Y)) == 50, np.nan, Y[:, 0])[:, None]
    data = tf.data.Dataset.from_tensor_slices((X, targets)).batch(16)
    return train(model, data, epochs=2, callbacks=[keras.callbacks.TerminateOnNaN()], group=group)


@case
def a_training_that_one_worker_stops(group):
    model = dense()
    model.compile("sgd", "mse")
    stop = StopAfter(4 if group is None or group.rank == group.size - 1 else None)
    return train(model, batches(15), epochs=2, callbacks=[stop], group=group)


class StopAfter(keras.callbacks.Callback):
    """Stops the training after a number of batches."""

    def __init__(self, num_batches: int | None) -> None:
        super().__init__()
        self.num_batches = num_batches

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.model.stop_training |= batch + 1 == self.num_batches


def random_network(group: Group) -> keras.Model:
    """Return a model whose training is random: its order, its dropout."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(1)
    model = dense(layers.BatchNormalization(), layers.Dropout(0.3))
    model.compile(keras.optimizers.Adam(0.01), "mse")
    return prepare(model, group)


def shuffled_batches() -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices((X, Y)).shuffle(len(X), seed=1).batch(16)


class KillOnce(keras.callbacks.Callback):
    """Kills one worker in the third epoch: worker 0 at once, worker 1 after the first restart."""

    def __init__(self, killed: int) -> None:
        super().__init__()
        self.killed = killed

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        rank = worker().rank
        if rank == self.killed == worker().attempt and (self.epoch, batch) == (2, 1):
            os.kill(os.getpid(), signal.SIGKILL)


def keras_backup(group: Group, folder: Path, interrupted: bool) -> keras.Model:
    model = random_network(group)
    callbacks = [keras.callbacks.BackupAndRestore(folder)]
    callbacks += [KillOnce(0)] if interrupted else []
    model.fit(X, Y, 16, epochs=5, callbacks=callbacks, verbose=0)
    return model


def run_folder(group: Group, folder: Path, interrupted: bool) -> keras.Model:
    model = random_network(group)
    callbacks = [KillOnce(1)] if interrupted else []
    training.fit(
        model, shuffled_batches(), epochs=5, run_dir=folder, resume=True, callbacks=callbacks
    )
    return model


def checkpoint(group: Group, folder: Path, interrupted: bool) -> keras.Model:
    for epochs in (3, 5) if interrupted else (5,):
        model = random_network(group)
        model.fit(shuffled_batches(), epochs=epochs, callbacks=[Checkpoint(folder)], verbose=0)
    return model


RESUMABLE = (keras_backup, run_folder, checkpoint)


def refusals(group: Group) -> dict[str, str]:
    """Return why trainings are refused that are not the same on all workers."""

    def refusal(*hidden: keras.Layer, num_batches: int = 2) -> str:
        model = dense(*hidden)
        model.compile("sgd", "mse")
        try:
            prepare(model, group).fit(batches(16).take(num_batches), verbose=0)
        except Invalid as error:
            return str(error)
        return ""

    return {
        "number of batches": refusal(num_batches=2 + group.rank),
        "model": refusal(layers.Dense(8 + group.rank)),
    }


def run(name: str, group: Group | None) -> Outcome:
    keras.backend.clear_session()
    keras.utils.set_random_seed(1)
    return CASES[name](group)


def main(folder: Path) -> None:
    group = join()
    outcomes = {}
    for interrupted in (True, False):
        for train_resumable in RESUMABLE:
            name = f"{train_resumable.__name__} {interrupted}"
            model = train_resumable(group, folder / name, interrupted)
            outcomes[name] = Outcome(model.get_weights(), {})
    outcomes |= {name: run(name, group) for name in CASES}
    outcomes["refusals"] = Outcome([], refusals(group))
    arrays: dict[str, np.ndarray] = {}
    for name, outcome in outcomes.items():
        arrays |= {f"{name}:{index}": part for index, part in enumerate(outcome.weights)}
    np.savez(folder / f"{group.rank}.npz", **arrays)  # type: ignore[arg-type]
    numbers = {name: outcome.numbers for name, outcome in outcomes.items()}
    (folder / f"{group.rank}.json").write_text(json.dumps(numbers))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
