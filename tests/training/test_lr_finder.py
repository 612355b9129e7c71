"""The learning-rate range test."""

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from dltlab.errors import Invalid
from dltlab.training import lr_finder, lr_range_test, one_cycle


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
def test_model_and_optimizer_are_restored(optimizer: Any, train: tf.data.Dataset) -> None:
    optimizer = type(optimizer).from_config(optimizer.get_config())
    model = build(optimizer)
    model.fit(train, verbose=0, shuffle=False)
    variables = [*model.variables, *optimizer.variables]
    before = [np.array(variable) for variable in variables]
    lr_range_test(model, train, num_steps=20)
    assert model.optimizer is optimizer
    assert all(map(np.array_equal, before, map(np.array, variables)))
    model.fit(train, verbose=0, shuffle=False)
    assert int(optimizer.iterations) == 6
    assert not np.array_equal(before[0], model.get_weights()[0])


def test_untrained_model_trains_afterwards_as_without_a_test(
    train: tf.data.Dataset,
) -> None:
    tested, untested = (build(keras.optimizers.Adam(0.01)) for _ in range(2))
    lr_range_test(tested, train, num_steps=10)
    for model in (tested, untested):
        model.fit(train, verbose=0, shuffle=False)
    for weight, expected in zip(tested.get_weights(), untested.get_weights(), strict=True):
        np.testing.assert_allclose(weight, expected, atol=1e-6)


def test_test_ends_when_the_loss_diverges(train: tf.data.Dataset) -> None:
    result = lr_range_test(build("sgd"), train, highest=1e6, num_steps=60)
    assert result.diverged
    assert len(result.rates) < 60
    assert len(result.rates) == len(result.losses) == len(result.smoothed)
    assert np.isfinite(result.losses).all()
    assert result.suggestion == pytest.approx(result.lowest / 10)
    assert "then it diverges" in result.summary


def test_suggested_rate_trains(train: tf.data.Dataset) -> None:
    result = lr_range_test(build("adam"), train)
    model = build(keras.optimizers.Adam(result.suggestion))
    first, *_, last = model.fit(train, epochs=30, verbose=0, shuffle=False).history["loss"]
    assert last < first / 2


def test_figure_table_and_description_show_the_losses(train: tf.data.Dataset) -> None:
    result = lr_range_test(build("adam"), train, num_steps=20)
    (axes,) = result.figure().axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("learning rate", "loss")
    assert f"Suggested: {result.suggestion:.2g}" in result.alt
    assert result.table["loss"].tolist() == result.losses.tolist()


def test_wrong_argument_is_refused(train: tf.data.Dataset) -> None:
    model = build("adam")
    with pytest.raises(Invalid, match=r"lowest is 1\.0 and highest 0\.1"):
        lr_range_test(model, train, lowest=1.0, highest=0.1)
    with pytest.raises(Invalid, match="num_steps is 1; it must be 2 or more"):
        lr_range_test(model, train, num_steps=1)
    with pytest.raises(Invalid, match="The training data are empty"):
        lr_range_test(model, train.take(0))
    with pytest.raises(Invalid, match="The loss is not finite in the first step"):
        lr_range_test(model, train.map(lambda x, y: (x * float("nan"), y)))
    with pytest.raises(Invalid, match="The model is not compiled"):
        lr_range_test(keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]), train)


def test_arrays_and_generators_are_tested_too() -> None:
    x, y = np.ones((40, 4)), np.arange(40) % 3
    assert len(lr_range_test(build("adam"), (x, y), num_steps=5, batch_size=10).losses) == 5
    batches = ((x[:8], y[:8]) for _ in range(5))
    assert len(lr_range_test(build("adam"), batches, num_steps=5).losses) == 5


def test_interrupted_test_returns_what_it_has_measured(
    train: tf.data.Dataset, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = build("adam")
    before = model.get_weights()

    train_on_batch = model.train_on_batch

    def interrupted(*batch: Any, **options: Any) -> Any:
        if int(model.optimizer.iterations) == 3:
            raise KeyboardInterrupt
        return train_on_batch(*batch, **options)

    monkeypatch.setattr(model, "train_on_batch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        lr_range_test(model, train, num_steps=9)
    monkeypatch.setattr(lr_finder, "in_notebook", lambda: True)
    assert len(lr_range_test(model, train, num_steps=9).losses) == 3
    assert capsys.readouterr().out == "Stopped after 3 of 9 steps.\n"
    assert all(map(np.array_equal, before, model.get_weights()))
