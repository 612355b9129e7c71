"""`step_model` computes the same as the whole network, one symbol at a time."""

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from dltlab.errors import Invalid
from dltlab.models import char_rnn, char_transformer, step_model

SYMBOLS = np.random.default_rng(2).integers(9, size=12)


def chain(*middle: keras.layers.Layer, last: str | None = None) -> keras.Model:
    """An embedding of 9 symbols, the given layers, and 9 outputs."""
    keras.utils.set_random_seed(4)
    return keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            layers.Embedding(9, 6),
            *middle,
            layers.Dense(9, activation=last),
        ]
    )


def transformer(**options: Any) -> keras.Model:
    """Two blocks that see 5 symbols, fewer than there are in `SYMBOLS`."""
    keras.utils.set_random_seed(4)
    sizes = {"width": 8, "num_blocks": 2, "heads": 2, "context": 5, **options}
    return char_transformer(9, **sizes)


def outputs_step_by_step(step: keras.Model) -> np.ndarray:
    states = [np.zeros((1, *state.shape[1:]), state.dtype) for state in step.inputs[1:]]
    outputs = []
    for symbol in SYMBOLS:
        results = keras.tree.flatten(step([np.array([[symbol]]), *states], training=False))
        output, *states = map(np.asarray, results)
        outputs.append(output[0])
    return np.array(outputs)


MODELS = {
    "lstm": lambda: chain(layers.LSTM(7, return_sequences=True)),
    "gru": lambda: chain(layers.GRU(7, return_sequences=True)),
    "gru with reset before": lambda: chain(layers.GRU(7, return_sequences=True, reset_after=False)),
    "simple": lambda: chain(layers.SimpleRNN(7, return_sequences=True)),
    "stacked cells": lambda: chain(
        layers.RNN([layers.LSTMCell(5), layers.GRUCell(4)], return_sequences=True)
    ),
    "two of a kind": lambda: char_rnn(9, units=7, embedding=6, num_layers=2, dropout=0.2),
    "pointwise layers": lambda: chain(
        layers.Dropout(0.5),
        layers.LSTM(7, return_sequences=True),
        layers.LayerNormalization(),
        layers.BatchNormalization(),
        layers.Dense(7),
        layers.Activation("tanh"),
        layers.RMSNormalization(),
        layers.GRU(8, return_sequences=True),
        last="softmax",
    ),
    "nested model": lambda: chain(
        keras.Sequential([keras.Input((None, 6)), layers.LSTM(7, return_sequences=True)])
    ),
    "no recurrent layer": lambda: chain(),
    "transformer": transformer,
    "transformer of one block": lambda: transformer(num_blocks=1),
    "transformer with dropout": lambda: transformer(dropout=0.3),
    "transformer that sees all": lambda: transformer(context=40),
}


@pytest.mark.parametrize("build", MODELS.values(), ids=MODELS.keys())
def test_steps_return_what_the_model_returns_for_the_whole_text(build) -> None:
    model = build()
    expected = np.asarray(model(SYMBOLS[np.newaxis], training=False))[0]
    np.testing.assert_allclose(outputs_step_by_step(step_model(model)), expected, atol=1e-5)


@pytest.mark.parametrize(
    "build", [lambda: char_rnn(9, units=8, embedding=4, num_layers=2), transformer]
)
def test_weights_are_copied_and_can_be_updated(build) -> None:
    model = build()
    step = step_model(model)
    before = step.get_weights()
    model.set_weights([weight + 1 for weight in model.get_weights()])
    for weight, copied in zip(step.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, copied)
    step.set_weights(model.get_weights())
    expected = np.asarray(model(SYMBOLS[np.newaxis]))[0]
    np.testing.assert_allclose(outputs_step_by_step(step), expected, atol=1e-4)


def test_inputs_and_outputs_are_the_symbol_and_the_states() -> None:
    step = step_model(char_rnn(9, units=8, embedding=4))
    assert [tensor.shape for tensor in step.inputs] == [(None, 1), (None, 8), (None, 8)]
    assert [tensor.shape for tensor in step.outputs] == [(None, 9), (None, 8), (None, 8)]


def test_inputs_and_outputs_of_a_transformer_are_the_symbol_and_the_caches() -> None:
    step = step_model(transformer())
    cache = [(None, 5, 8), (None, 5, 8), (None, 5)]
    assert [tensor.shape for tensor in step.inputs] == [(None, 1), *cache, *cache]
    assert [tensor.shape for tensor in step.outputs] == [(None, 9), *cache, *cache]


def test_unbuilt_model_is_refused() -> None:
    model = keras.Sequential([layers.Embedding(9, 4), layers.Dense(9)], name="unbuilt")
    with pytest.raises(Invalid, match=r"unbuilt has no weights yet: begin it with keras\.Input"):
        step_model(model)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (layers.Bidirectional(layers.LSTM(4, return_sequences=True), name="both"), "layer both"),
        (layers.Conv1D(4, 3, padding="causal"), r"conv1d.* \(Conv1D\) needs more than one"),
        (layers.LSTM(4, return_sequences=True, go_backwards=True), "reads backward"),
        (layers.LayerNormalization(axis=1), "works across positions"),
    ],
)
def test_layer_that_needs_several_positions_is_named(layer, message: str) -> None:
    inputs = keras.Input((5,), dtype="int32")
    x = layer(layers.Embedding(9, 6)(inputs))
    with pytest.raises(Invalid, match=message):
        step_model(keras.Model(inputs, layers.Dense(9)(x)))


def test_embedding_with_a_mask_is_refused() -> None:
    model = keras.Sequential(
        [keras.Input((None,)), layers.Embedding(9, 4, mask_zero=True), layers.Dense(9)]
    )
    with pytest.raises(Invalid, match="masks the symbol 0"):
        step_model(model)


def test_network_without_an_embedding_is_refused() -> None:
    model = keras.Sequential(
        [keras.Input((None, 3)), layers.GRU(4, return_sequences=True, name="gru"), layers.Dense(2)]
    )
    with pytest.raises(Invalid, match="begins with gru, so it does not read symbols"):
        step_model(model)


class Subclassed(keras.Model):
    def call(self, ids):
        return ids


def two_inputs() -> keras.Model:
    inputs = [keras.Input((None,), dtype="int32") for _ in "ab"]
    embedded = [layers.Embedding(9, 9)(ids) for ids in inputs]
    return keras.Model(inputs, layers.Add()(embedded))


def layer_called_twice() -> keras.Model:
    inputs, dense = keras.Input((None,), dtype="int32"), layers.Dense(6)
    return keras.Model(inputs, dense(dense(layers.Embedding(9, 6)(inputs))))


@pytest.mark.parametrize("build", [Subclassed, two_inputs, layer_called_twice])
def test_model_that_is_not_a_chain_is_refused(build) -> None:
    with pytest.raises(Invalid, match="is not a chain of layers"):
        step_model(build())
