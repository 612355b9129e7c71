"""Trainings on one device and on three replicas; run as a script, which prints what differs.

Usage: replicated_cases.py. Prints JSON: for each case the largest differences of the weights, of
the history and among the copies of a weight.
"""

import json
import sys
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from dltlab import distribute
from dltlab.errors import LabError

NUM_REPLICAS = 3
generator = np.random.default_rng(1)
X = generator.standard_normal((31, 6)).astype(np.float32)
Y = (X[:, :1] * 2 + np.sin(X[:, 1:2])).astype(np.float32)
TEXTS = generator.integers(0, 50, (31, 5))

# Batches of 10 rows, which three replicas cannot share evenly, and one of a single row.
Trained = tuple[keras.Model, dict[str, Any]]
Prepare = Callable[[keras.Model], keras.Model]


def train(model: keras.Model, prepare: Prepare, x: Any = X, y: Any = Y, **options: Any) -> Trained:
    batches = tf.data.Dataset.from_tensor_slices((x, y)).batch(10)
    prepare(model)
    # One iterator for all epochs: making another one takes seconds on a busy machine.
    history = model.fit(batches.repeat(), steps_per_epoch=4, epochs=2, verbose=0, **options)
    return model, history.history


def dense(*hidden: keras.Layer) -> keras.Model:
    return keras.Sequential([keras.Input((6,)), layers.Dense(8, "tanh"), *hidden, layers.Dense(1)])


def clipping_moving_average_synchronized_normalization_and_two_losses(prepare: Prepare) -> Trained:
    inputs = keras.Input((6,))
    hidden = layers.BatchNormalization(synchronized=True)(layers.Dense(8, "tanh")(inputs))
    model = keras.Model(inputs, {"a": layers.Dense(1)(hidden), "b": layers.Dense(1)(hidden)})
    options = {"global_clipnorm": 0.1, "use_ema": True, "ema_overwrite_frequency": 3}
    optimizer = keras.optimizers.AdamW(0.01, weight_decay=0.1, **options)
    model.compile(optimizer, {"a": "mse", "b": "mae"}, metrics={"a": ["mae"]})
    return train(model, prepare, y={"a": Y, "b": -Y})


def accumulation_regularizers_and_a_sum(prepare: Prepare) -> Trained:
    model = dense(layers.Dense(8, kernel_regularizer="l2", activity_regularizer="l2"))
    optimizer = keras.optimizers.SGD(0.001, momentum=0.9, gradient_accumulation_steps=3)
    model.compile(optimizer, keras.losses.MeanSquaredError(reduction="sum"))
    return train(model, prepare)


def masked_texts_evaluated_and_predicted(prepare: Prepare) -> Trained:
    model = keras.Sequential(
        [
            keras.Input((5,), dtype="int32"),
            layers.Embedding(50, 4, mask_zero=True),
            layers.Dense(1),
        ]
    )
    model.compile(keras.optimizers.Adam(0.01), "mse")
    targets = (TEXTS % 3).astype(np.float32)[..., None]
    model, history = train(model, prepare, TEXTS, targets)
    options = {"batch_size": 10, "verbose": 0}
    history["evaluated"] = model.evaluate(TEXTS, targets, **options)
    return model, history | {"predicted": model.predict(TEXTS, **options).ravel().tolist()}


def local_batch_normalization(prepare: Prepare) -> Trained:
    model = dense(layers.BatchNormalization())
    model.compile(keras.optimizers.SGD(0.05), "mse")
    return train(model, prepare)


CASES = (
    clipping_moving_average_synchronized_normalization_and_two_losses,
    accumulation_regularizers_and_a_sum,
    masked_texts_evaluated_and_predicted,
    local_batch_normalization,
)


def largest(first: Any, second: Any) -> float:
    pairs = zip(first, second, strict=True)
    return float(max(np.abs(np.subtract(a, b)).max() for a, b in pairs))


def compare(case: Callable[[Prepare], Trained], plan: Any) -> dict[str, float]:
    keras.utils.set_random_seed(1)
    one, expected = case(lambda model: model)
    keras.utils.set_random_seed(1)
    with plan.scope():
        model, history = case(plan.prepare)
    copies = [[copy.numpy() for copy in variable.value.values] for variable in model.weights]
    return {
        "weights": largest(model.get_weights(), one.get_weights()),
        "history": largest(history.values(), expected.values()),
        "copies": max(largest(of_one[1:], of_one[:1] * (len(of_one) - 1)) for of_one in copies),
    }


def message(function: Callable[[], Any]) -> str:
    try:
        function()
    except LabError as error:
        return str(error)
    return ""


def refused(plan: Any) -> list[str]:
    with plan.scope():
        unusual = dense()
        unusual.compile("sgd", "mse", steps_per_execution=2)
        inside = message(distribute.strategy)
    outside = dense()
    outside.compile("sgd", "mse")
    return [
        inside,
        message(lambda: plan.prepare(unusual)),
        message(lambda: plan.prepare(outside)),
        message(lambda: plan.prepare(dense())),
        message(lambda: distribute.strategy(replicas=NUM_REPLICAS + 1)),
    ]


def main() -> None:
    """Split the CPU, train, and print what was found."""
    plan = distribute.strategy(replicas=NUM_REPLICAS)
    found: dict[str, Any] = {case.__name__: compare(case, plan) for case in CASES}
    some, one = distribute.strategy(replicas=2), distribute.strategy(replicas=1)
    found["two"] = compare(accumulation_regularizers_and_a_sum, some)
    found["plans"] = [repr(plan), repr(distribute.strategy()), repr(some), repr(one)]
    found["refused"] = refused(plan)
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
