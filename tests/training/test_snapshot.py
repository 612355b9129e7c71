"""`snapshot` restores everything that training changes."""

import keras
import numpy as np

from dltlab.training.snapshot import snapshot


def build() -> keras.Model:
    keras.utils.set_random_seed(1)
    layers = keras.layers
    model = keras.Sequential(
        [
            *(keras.Input((3,)), layers.Dense(4), layers.BatchNormalization()),
            *(layers.Dropout(0.5), layers.Dense(2)),
        ]
    )
    model.compile("adam", "mse")
    return model


def train(model: keras.Model) -> None:
    model.train_on_batch(np.ones((4, 3)), np.ones((4, 2)))


def values(model: keras.Model) -> list[np.ndarray]:
    return [np.array(variable) for variable in [*model.variables, *model.optimizer.variables]]


def test_weights_seeds_and_optimizer_are_restored() -> None:
    model = build()
    train(model)
    before = values(model)
    restore = snapshot(model)
    train(model)
    assert not all(map(np.array_equal, before, values(model)))
    restore()
    assert all(map(np.array_equal, before, values(model)))


def test_variables_that_the_optimizer_created_since_are_0() -> None:
    model = build()
    restore = snapshot(model)
    train(model)
    restore()
    assert int(model.optimizer.iterations) == 0
    moments = [variable for variable in model.optimizer.variables if "momentum" in variable.path]
    assert moments
    assert not any(np.array(moment).any() for moment in moments)


def test_every_optimizer_of_a_model_is_restored() -> None:
    class TwoOptimizers(keras.Sequential):
        """Has a second optimizer, as a generator with its discriminator does."""

    model = TwoOptimizers([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    model.second = keras.optimizers.Adam()
    model.second.build(model.trainable_variables)
    restore = snapshot(model)
    model.second.iterations.assign(5)
    restore()
    assert int(model.second.iterations) == 0
