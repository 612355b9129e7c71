# Part of the draft of lab 19. It was never run. It becomes
# - tests/models/test_transformer.py (all but what is listed here),
# - tests/models/test_attention.py: the tests of the layers, up to the line "char_transformer",
# - additions to tests/models/test_stepping.py, tests/models/test_flop_rules.py,
#   tests/inference/test_stepping.py and tests/training/test_generation.py: the last parts.
"""`char_transformer`, its layers, its steps with a cache, and its cost."""

from itertools import islice

import keras
import numpy as np
import pytest
from dltlab.models.attention import CausalAttention

from dltlab import data, inference, models, training
from dltlab.errors import Invalid

SYMBOLS = np.random.default_rng(2).integers(9, size=20)
CONTEXT = 6


def small(**options) -> keras.Model:
    """A Transformer of two blocks whose context is shorter than `SYMBOLS`."""
    keras.utils.set_random_seed(3)
    sizes = {"width": 8, "num_blocks": 2, "heads": 2, "context": CONTEXT, **options}
    return models.char_transformer(9, **sizes)


def logits(model: keras.Model, ids: np.ndarray) -> np.ndarray:
    return np.asarray(model(ids[np.newaxis], training=False))[0]


# The layers.


def expected_weights(query: np.ndarray, key: np.ndarray, slope: float) -> np.ndarray:
    """The weights of one head, in float64 and with loops."""
    rows = np.zeros((len(query), len(key)))
    for i, q in enumerate(query):
        place = len(key) - len(query) + i
        seen = range(max(0, place - CONTEXT + 1), place + 1)
        scores = [q @ key[j] / np.sqrt(len(q)) - slope * (place - j) for j in seen]
        powers = np.exp(np.array(scores) - max(scores))
        rows[i, list(seen)] = powers / powers.sum()
    return rows


@pytest.mark.parametrize(("num_queries", "num_keys"), [(10, 10), (3, 10), (1, 4)])
def test_attention_is_that_of_its_definition(num_queries, num_keys):
    generator = np.random.default_rng(1)
    query = generator.normal(size=(2, num_queries, 8)).astype("float32")
    key, value = generator.normal(size=(2, 2, num_keys, 8)).astype("float32")
    layer = CausalAttention(heads=2, context=CONTEXT)
    result = np.asarray(layer(query, key, value))
    for head, slope in enumerate([2**-4, 2**-8]):
        part = slice(4 * head, 4 * head + 4)
        for example in range(2):
            weights = expected_weights(query[example, :, part], key[example, :, part], slope)
            np.testing.assert_allclose(
                result[example, :, part], weights @ value[example, :, part], atol=1e-5
            )


def test_keys_that_do_not_exist_are_not_seen():
    query, key, value = np.random.default_rng(1).normal(size=(3, 1, 4, 8)).astype("float32")
    layer, filled = CausalAttention(heads=2, context=8), np.array([[0, 0, 1, 1]], "float32")
    result = np.asarray(layer(query[:, -1:], key, value, filled))
    expected = np.asarray(layer(query[:, -1:], key[:, 2:], value[:, 2:]))
    np.testing.assert_allclose(result, expected, atol=1e-6)


def test_weights_add_up_to_one_also_in_bfloat16():
    query, key = np.random.default_rng(1).normal(size=(2, 1, 5, 8)).astype("float32")
    layer = CausalAttention(heads=2, context=8, dtype="mixed_bfloat16")
    weights = np.asarray(layer.attention_weights(query, key)).astype("float32")
    np.testing.assert_allclose(weights.sum(axis=-1), 1, atol=0.02)


# char_transformer


def test_outputs_are_logits_at_each_position_of_a_text_of_any_length():
    model = small(dropout=0.1)
    for length in (1, 5, 3 * CONTEXT):
        assert model(np.zeros((2, length), np.int32)).shape == (2, length, 9)


def test_later_symbols_do_not_change_earlier_outputs():
    model, changed = small(), SYMBOLS.copy()
    changed[12:] = (changed[12:] + 1) % 9
    before, after = logits(model, SYMBOLS), logits(model, changed)
    np.testing.assert_allclose(before[:12], after[:12], atol=1e-6)
    assert not np.allclose(before[12:], after[12:], atol=1e-3)


def test_symbols_beyond_the_context_of_one_block_change_nothing():
    model, changed = small(num_blocks=1), SYMBOLS.copy()
    changed[0] = (changed[0] + 1) % 9
    before, after = logits(model, SYMBOLS), logits(model, changed)
    np.testing.assert_allclose(before[CONTEXT:], after[CONTEXT:], atol=1e-6)
    assert not np.allclose(before[CONTEXT - 1], after[CONTEXT - 1], atol=1e-4)


def test_the_order_of_the_symbols_counts():
    model, swapped = small(), SYMBOLS.copy()
    swapped[[17, 18]] = (1, 2)
    other = swapped.copy()
    other[[17, 18]] = (2, 1)
    assert not np.allclose(logits(model, swapped)[-1], logits(model, other)[-1], atol=1e-4)


def test_a_saved_model_is_loaded(tmp_path):
    model = small()
    model.save(tmp_path / "text.keras")
    loaded = models.load_model(tmp_path / "text.keras")
    np.testing.assert_array_equal(logits(loaded, SYMBOLS), logits(model, SYMBOLS))


def test_logits_are_float32_in_mixed_precision_and_close():
    model = small()
    converted = models.in_precision(model, "bfloat16")
    assert converted(SYMBOLS[np.newaxis]).dtype == "float32"
    np.testing.assert_allclose(logits(converted, SYMBOLS), logits(model, SYMBOLS), atol=0.1)


def test_equal_models_have_equal_hashes():
    model, other = small(), small()
    assert models.model_hash(model) == models.model_hash(other)
    assert models.model_hash(small(context=CONTEXT + 1)) != models.model_hash(model)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_symbols": 0}, "num_symbols is 0"),
        ({"width": 0}, "width is 0"),
        ({"num_blocks": 0}, "num_blocks is 0"),
        ({"heads": 0}, "heads is 0"),
        ({"context": 0}, "context is 0"),
        ({"width": 10, "heads": 4}, "heads must divide width"),
        ({"dropout": 1.0}, r"dropout is 1\.0"),
    ],
)
def test_argument_out_of_range_is_refused(arguments, message):
    with pytest.raises(Invalid, match=message):
        models.char_transformer(**{"num_symbols": 9, **arguments})


def test_a_small_network_learns_to_repeat():
    """A text of period 5: the network must look back, since each symbol has two followers."""
    text = np.tile([0, 1, 2, 0, 3], 200)
    model = small(width=16)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss, jit_compile=False)
    windows = data.windows(text, 20, 8, shuffle=True, seed=1)
    model.fit(windows, epochs=20, verbose=0)
    correct = logits(model, text[:20]).argmax(axis=1)[4:] == text[5:21]
    assert correct.all()


def test_maps_are_what_the_blocks_compute():
    maps = models.attention_maps(small(), SYMBOLS)
    assert maps.shape == (2, 2, 20, 20)
    np.testing.assert_allclose(maps.sum(axis=-1), 1, atol=1e-5)
    distance = np.subtract.outer(np.arange(20), np.arange(20))
    assert (maps[..., (distance < 0) | (distance >= CONTEXT)] == 0).all()
    assert (maps[..., (distance >= 0) & (distance < CONTEXT)] > 0).all()


def test_maps_need_blocks_and_a_text():
    recurrent = models.char_rnn(9, units=4, embedding=4)
    with pytest.raises(Invalid, match="no block of attention"):
        models.attention_maps(recurrent, SYMBOLS)
    with pytest.raises(Invalid, match=r"shape \(0,\)"):
        models.attention_maps(small(), SYMBOLS[:0])


# step_model: the same as the whole network, also where the text is longer than the context.


@pytest.mark.parametrize("options", [{}, {"num_blocks": 1}, {"dropout": 0.3}, {"context": 40}])
def test_steps_return_what_the_model_returns_for_the_whole_text(options):
    model = small(**options)
    step = models.step_model(model)
    states = [np.zeros((1, *state.shape[1:]), state.dtype) for state in step.inputs[1:]]
    for symbol, expected in zip(SYMBOLS, logits(model, SYMBOLS), strict=True):
        output, *states = map(np.asarray, step([np.array([[symbol]]), *states], training=False))
        np.testing.assert_allclose(output[0], expected, atol=1e-5)


def test_weights_are_copied_in_the_same_order():
    model = small()
    step = models.step_model(model)
    model.set_weights([weight + 1 for weight in model.get_weights()])
    step.set_weights(model.get_weights())
    for copied, weight in zip(step.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(copied, weight)


def test_inputs_are_the_symbol_and_the_caches():
    step = models.step_model(small())
    cache = [(None, CONTEXT, 8), (None, CONTEXT, 8), (None, CONTEXT)]
    assert [tensor.shape for tensor in step.inputs] == [(None, 1), *cache, *cache]
    assert [tensor.shape for tensor in step.outputs] == [(None, 9), *cache, *cache]


# cost: dense layers by their weights, attention by the square of the length.


def test_cost_grows_with_the_square_of_the_length():
    model = small()
    dense = 2 * 12 * 8 * 8 + 8 * 9  # of one position
    for length in (5, 50):
        cost = models.cost(model, (length,))
        assert cost.uncounted == ()
        assert cost.macs == length * dense + 2 * 2 * length**2 * 8


# generate


def test_the_most_probable_text_is_that_of_the_model():
    model, vocabulary = small(), data.Vocabulary.of("abcdefghi")
    letters = training.generate(model, vocabulary, "abc", temperature=0)
    text = "abc" + "".join(islice(letters, 20))
    predicted = logits(model, vocabulary.encode(text)).argmax(axis=1)
    assert vocabulary.decode(predicted[2:-1]) == text[3:]


# step_engine


@pytest.mark.parametrize("backend", ["keras", "openvino", "onnxruntime", "litert"])
def test_an_engine_computes_what_the_model_computes(backend):
    model = small()
    engine = inference.step_engine(model, backend=backend)
    for _ in range(2):
        engine.reset()
        outputs = np.array([engine(symbol) for symbol in SYMBOLS])
        np.testing.assert_allclose(outputs, logits(model, SYMBOLS), atol=1e-4)
