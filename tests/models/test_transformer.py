"""`char_transformer`: what it computes, what it learns, and its maps of attention."""

import keras
import numpy as np
import pytest

from dltlab import data, models
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
    assert models.model_hash(loaded) == models.model_hash(model)


def test_logits_are_float32_in_mixed_precision_and_close():
    model = small()
    converted = models.in_precision(model, "bfloat16")
    assert converted(SYMBOLS[np.newaxis]).dtype == "float32"
    np.testing.assert_allclose(logits(converted, SYMBOLS), logits(model, SYMBOLS), atol=0.1)


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
    """A text of period 5: the network must look back, since 0 has two followers."""
    text = np.tile([0, 1, 2, 0, 3], 200)
    model = small(width=16, context=3)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss, jit_compile=False)
    windows = data.windows(text, 20, 8, shuffle=True, seed=1)
    model.fit(windows, epochs=20, shuffle=False, verbose=0)
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


@pytest.mark.parametrize("symbol", [-1, 9])
def test_maps_of_a_symbol_that_does_not_exist_are_refused(symbol):
    with pytest.raises(Invalid, match=f"{symbol}.*the network has symbols from 0 to 8"):
        models.attention_maps(small(), np.array([3, symbol]))


def test_cost_grows_with_the_square_of_the_length():
    model = small()
    dense = 2 * 12 * 8 * 8 + 8 * 9  # of one position
    for length in (5, 50):
        cost = models.cost(model, (length,))
        assert cost.uncounted == ()
        assert cost.macs == length * dense + 2 * 2 * length**2 * 8
