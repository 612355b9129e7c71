"""A recurrent network as an engine that reads one symbol at a time."""

import keras
import numpy as np
import pytest
from keras import layers

from dltlab.errors import Invalid
from dltlab.inference import step_engine
from dltlab.inference.stepping import StepEngine
from dltlab.models import char_rnn, char_transformer

SYMBOLS = np.random.default_rng(2).integers(9, size=20)


@pytest.fixture(scope="module", params=["lstm", "gru"])
def model(request) -> keras.Model:
    return char_rnn(9, cell=request.param, units=12, embedding=5, num_layers=2, dropout=0.2)


@pytest.fixture(scope="module")
def engine(model) -> StepEngine:
    return step_engine(model)


def test_its_steps_compute_what_the_model_computes_for_the_whole_text(model, engine):
    expected = model.predict(SYMBOLS[np.newaxis], verbose=0)[0]
    for _ in range(2):
        engine.reset()
        outputs = np.array([engine(symbol) for symbol in SYMBOLS])
        np.testing.assert_allclose(outputs, expected, atol=1e-5)


def test_its_engine_is_checked_on_64_symbols_with_their_states(engine):
    manifest = engine.engine.manifest
    assert manifest.precision == "float32"
    assert manifest.accuracy.num_examples == 64
    assert [spec.shape for spec in manifest.inputs][:2] == [(1,), (12,)]
    assert engine.engine.settings.threads == 1


def test_an_output_is_not_changed_by_the_next_step(engine):
    output = engine(3)
    expected = output.copy()
    engine(4)
    np.testing.assert_array_equal(output, expected)


@pytest.mark.parametrize("symbol", [-1, 9])
def test_a_symbol_that_does_not_exist_is_refused(engine, symbol):
    with pytest.raises(Invalid, match=f"There is no symbol {symbol}: .* from 0 to 8"):
        engine(symbol)


def test_a_network_reads_the_symbols_of_its_embedding_however_many_outputs_it_has():
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
    with pytest.raises(Invalid, match="from 0 to 8"):
        engine(9)


@pytest.mark.parametrize("backend", ["keras", "xla", "openvino", "onnxruntime", "litert"])
def test_a_transformer_computes_the_same_on_every_backend_also_beyond_its_context(backend):
    keras.utils.set_random_seed(3)
    model = char_transformer(9, width=8, num_blocks=2, heads=2, context=6)
    expected = model.predict(SYMBOLS[np.newaxis], verbose=0)[0]
    engine = step_engine(model, backend=backend)
    for _ in range(2):
        engine.reset()
        outputs = np.array([engine(symbol) for symbol in SYMBOLS])
        np.testing.assert_allclose(outputs, expected, atol=1e-4)


def test_a_network_without_an_embedding_is_refused():
    model = keras.Sequential(
        [keras.Input((None, 3)), layers.GRU(4, return_sequences=True, name="gru"), layers.Dense(2)]
    )
    with pytest.raises(Invalid, match="begins with gru, so it does not read symbols"):
        step_engine(model)


def test_int8_is_refused_since_errors_add_up(model):
    with pytest.raises(Invalid, match="cannot run step by step in int8"):
        step_engine(model, precision="int8")


def test_a_saved_model_is_loaded(model, tmp_path):
    model.save(tmp_path / "text.keras")
    assert step_engine(tmp_path / "text.keras", backend="keras")(3).shape == (9,)


def test_a_network_trained_in_bfloat16_runs_in_float32():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = char_rnn(9, units=8, embedding=4)
    finally:
        keras.config.set_dtype_policy(before)
    engine = step_engine(model)
    in_float32 = char_rnn(9, units=8, embedding=4)
    in_float32.set_weights(model.get_weights())
    outputs = np.array([engine(symbol) for symbol in SYMBOLS])
    expected = in_float32.predict(SYMBOLS[np.newaxis], verbose=0)[0]
    np.testing.assert_allclose(outputs, expected, atol=1e-5)
