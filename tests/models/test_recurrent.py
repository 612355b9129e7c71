"""`char_rnn`: its shapes, its precision, and its arguments."""

import keras
import numpy as np
import pytest

from dltlab import models
from dltlab.errors import Invalid


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("num_layers", [1, 2])
def test_outputs_are_logits_at_each_position_of_a_window_of_any_length(
    cell, num_layers: int
) -> None:
    model = models.char_rnn(7, cell=cell, units=8, embedding=4, num_layers=num_layers, dropout=0.1)
    for length in (1, 5):
        assert model(np.zeros((2, length), np.int32)).shape == (2, length, 7)
    kinds = [type(layer).__name__ for layer in model.layers]
    assert kinds.count(cell.upper()) == num_layers
    assert kinds.count("Dropout") == num_layers + 1


def test_later_symbols_do_not_change_earlier_outputs() -> None:
    model = models.char_rnn(7, units=8, embedding=4)
    first, second = (np.asarray(model(np.array([[1, 2, last]]))) for last in (3, 4))
    assert np.allclose(first[:, :2], second[:, :2])
    assert not np.allclose(first[:, 2], second[:, 2])


def test_logits_are_float32_in_mixed_precision() -> None:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = models.char_rnn(7, units=8, embedding=4)
        assert model.layers[2].compute_dtype == "bfloat16"
        assert model(np.zeros((1, 3), np.int32)).dtype == "float32"
    finally:
        keras.config.set_dtype_policy(before)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_symbols": 0}, "num_symbols is 0"),
        ({"units": 0}, "units is 0"),
        ({"embedding": 0}, "embedding is 0"),
        ({"num_layers": 0}, "num_layers is 0"),
        ({"cell": "rnn"}, "cell is 'rnn'; it must be one of lstm, gru"),
        ({"dropout": 1.0}, r"dropout is 1\.0"),
        ({"dropout": float("nan")}, "dropout is nan"),
    ],
)
def test_argument_out_of_range_is_refused(arguments: dict, message: str) -> None:
    with pytest.raises(Invalid, match=message):
        models.char_rnn(**{"num_symbols": 7, **arguments})
