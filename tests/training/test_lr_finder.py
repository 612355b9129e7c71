"""The learning-rate range test."""

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from dltlab.errors import LabError
from dltlab.training import lr_range_test, one_cycle


def build(optimizer: Any) -> keras.Model:
    keras.utils.set_random_seed(1)
    layers = keras.layers
    model = keras.Sequential(
        [
            *(keras.Input((4,)), layers.Dense(8), layers.BatchNormalization()),
            *(layers.Dropout(0.2), layers.Dense(3)),
        ]
    )
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


@pytest.fixture(scope="module")
def train() -> tf.data.Dataset:
    random = np.random.default_rng(1)
    labels = random.integers(3, size=96)
    inputs = random.normal(size=(96, 4)) + labels[:, np.newaxis]
    return tf.data.Dataset.from_tensor_slices((inputs, labels)).batch(32)


@pytest.mark.parametrize(
    "optimizer", [keras.optimizers.SGD(0.1, 0.9), keras.optimizers.AdamW(one_cycle(0.1, 20))]
)
def test_the_model_and_its_optimizer_are_as_before(optimizer: Any, train: tf.data.Dataset) -> None:
    optimizer = type(optimizer).from_config(optimizer.get_config())
    model = build(optimizer)
    model.fit(train, verbose=0)
    variables = [*model.variables, *optimizer.variables]
    before = [np.array(each) for each in variables]
    lr_range_test(model, train, num_steps=20)
    assert model.optimizer is optimizer
    assert all(map(np.array_equal, before, map(np.array, variables)))
    model.fit(train, verbose=0)
    assert int(optimizer.iterations) == 6
    assert not np.array_equal(before[0], model.get_weights()[0])


def test_a_model_that_was_never_trained_trains_afterwards_as_if_untested(
    train: tf.data.Dataset,
) -> None:
    tested, untested = (build(keras.optimizers.Adam(0.01)) for _ in range(2))
    lr_range_test(tested, train, num_steps=10)
    for model in (tested, untested):
        model.fit(train, verbose=0, shuffle=False)
    for one, other in zip(tested.get_weights(), untested.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_it_ends_where_the_loss_explodes(train: tf.data.Dataset) -> None:
    found = lr_range_test(build("sgd"), train, highest=1e6, num_steps=60)
    assert found.exploded
    assert len(found.rates) < 60
    assert len(found.rates) == len(found.losses) == len(found.smoothed)
    assert np.isfinite(found.losses).all()
    assert found.suggestion == pytest.approx(found.lowest / 10)
    assert "then it explodes" in str(found)


def test_it_suggests_a_rate_that_learns(train: tf.data.Dataset) -> None:
    found = lr_range_test(build("adam"), train)
    model = build(keras.optimizers.Adam(found.suggestion))
    first, *_, last = model.fit(train, epochs=30, verbose=0).history["loss"]
    assert last < first / 2


def test_the_image_is_labeled_and_said_in_words(train: tf.data.Dataset) -> None:
    found = lr_range_test(build("adam"), train, num_steps=20)
    figure, alt = found.figure()
    (axes,) = figure.axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("learning rate", "loss")
    assert f"Suggested: {found.suggestion:.2g}" in alt


def test_what_makes_no_sense_is_refused(train: tf.data.Dataset) -> None:
    model = build("adam")
    with pytest.raises(LabError, match=r"lowest is 1\.0 and highest 0\.1"):
        lr_range_test(model, train, lowest=1.0, highest=0.1)
    with pytest.raises(LabError, match="num_steps is 1; it must be 2 or more"):
        lr_range_test(model, train, num_steps=1)
    with pytest.raises(LabError, match="The training data are empty"):
        lr_range_test(model, train.take(0))
    with pytest.raises(LabError, match="The loss is nan at the first step already"):
        lr_range_test(model, train.map(lambda x, y: (x * float("nan"), y)))
    with pytest.raises(LabError, match="The model is not compiled"):
        lr_range_test(keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]), train)
