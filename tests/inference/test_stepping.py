"""A recurrent network as an engine that takes symbols one at a time."""

import keras
import numpy as np
import pytest
from keras import layers

from dltlab.errors import LabError
from dltlab.inference import StepEngine, step_engine
from dltlab.models import char_rnn

SYMBOLS = np.random.default_rng(2).integers(9, size=20)


@pytest.fixture(scope="module", params=["lstm", "gru"])
def model(request) -> keras.Model:
    return char_rnn(9, cell=request.param, units=12, embedding=5, num_layers=2, dropout=0.2)


@pytest.fixture(scope="module")
def engine(model) -> StepEngine:
    return step_engine(model)


def test_its_steps_give_what_the_model_gives_for_the_whole_text(model, engine):
    expected = model.predict(SYMBOLS[np.newaxis], verbose=0)[0]
    for _ in range(2):
        engine.reset()
        found = np.array([engine(symbol) for symbol in SYMBOLS])
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_it_says_what_runs(engine):
    about = engine.engine.manifest
    assert about.precision == "float32"
    assert about.check.num_examples == 64
    assert [each.shape for each in about.inputs][:2] == [(1,), (12,)]


def test_an_answer_is_not_changed_by_the_next_step(engine):
    first = engine(3)
    kept = first.copy()
    engine(4)
    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize("symbol", [-1, 9])
def test_a_symbol_that_there_is_not_is_refused(engine, symbol):
    with pytest.raises(LabError, match=f"There is no symbol {symbol}: .* from 0 to 8"):
        engine(symbol)


def test_a_network_that_reads_backwards_is_refused():
    model = keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            layers.Embedding(9, 4),
            layers.LSTM(4, return_sequences=True, go_backwards=True, name="back"),
            layers.Dense(9),
        ]
    )
    with pytest.raises(LabError, match=r"The layer back \(LSTM\) reads backward"):
        step_engine(model)


def test_a_network_reads_the_symbols_of_its_embedding_however_many_it_writes():
    model = keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            layers.Embedding(9, 4),
            layers.GRU(4, return_sequences=True),
            layers.Dense(2),
        ]
    )
    engine = step_engine(model, backend="keras")
    assert engine(8).shape == (2,)
    with pytest.raises(LabError, match="from 0 to 8"):
        engine(9)


def test_a_network_that_reads_no_symbols_is_refused():
    model = keras.Sequential(
        [keras.Input((None, 3)), layers.GRU(4, return_sequences=True, name="gru"), layers.Dense(2)]
    )
    with pytest.raises(LabError, match="begins with gru, so it does not read symbols"):
        step_engine(model)


def test_int8_is_refused_since_errors_add_up(model):
    with pytest.raises(LabError, match="not read step by step in int8"):
        step_engine(model, precision="int8")


def test_a_network_trained_in_bfloat16_takes_its_steps_in_float32():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = char_rnn(9, units=8, embedding=4)
    finally:
        keras.config.set_dtype_policy(before)
    engine = step_engine(model)
    exact = char_rnn(9, units=8, embedding=4)
    exact.set_weights(model.get_weights())
    found = np.array([engine(symbol) for symbol in SYMBOLS])
    expected = exact.predict(SYMBOLS[np.newaxis], verbose=0)[0]
    np.testing.assert_allclose(found, expected, atol=1e-5)
