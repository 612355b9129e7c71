"""`create_variables` creates everything that a training step would create."""

import keras
import numpy as np

from dltlab.training.variables import create_variables

BATCH = (np.ones((4, 3), np.float32), np.array([0, 1, 0, 1]))


def build() -> keras.Model:
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"])
    return model


def num_variables(model: keras.Model) -> int:
    return len(model.optimizer.variables) + len(model.metrics_variables)


def test_a_step_creates_no_further_variables() -> None:
    model = build()
    create_variables(model, BATCH)
    before = num_variables(model)
    model.train_on_batch(*BATCH)
    assert num_variables(model) == before


def test_values_do_not_change() -> None:
    model = build()
    weights = model.get_weights()
    create_variables(model, BATCH)
    assert all(map(np.array_equal, weights, model.get_weights()))
    assert not any(np.array(variable).any() for variable in model.metrics_variables)
    assert int(model.optimizer.iterations) == 0


def test_subclassed_model_is_left_as_it_is() -> None:
    class Subclassed(keras.Model):
        def call(self, inputs):
            return inputs

    model = Subclassed()
    model.compile("adam", "mse")
    create_variables(model, BATCH)
    assert not model.optimizer.built
