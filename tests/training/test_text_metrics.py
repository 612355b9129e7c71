"""`bits_per_character` of simple networks, whose values are known."""

import keras
import numpy as np
import pytest
from keras import layers

from dltlab import models
from dltlab.errors import Invalid
from dltlab.training import bits_per_character


def constant(probabilities: list[float], as_logits: bool) -> keras.Model:
    """A network with the same output after every symbol."""
    model = keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            layers.Embedding(len(probabilities), 1, embeddings_initializer="zeros"),
            layers.Dense(len(probabilities), activation=None if as_logits else "softmax"),
        ]
    )
    model.layers[-1].bias.assign(np.log(probabilities))
    return model


@pytest.mark.parametrize("as_logits", [True, False])
@pytest.mark.parametrize("length", [1, 3, 5, 100])
def test_result_is_the_mean_over_all_characters_but_the_first(as_logits: bool, length: int) -> None:
    model = constant([0.5, 0.25, 0.25], as_logits)
    ids = np.array([2, 0, 0, 1, 0, 1])
    assert bits_per_character(model, ids, length=length) == pytest.approx(7 / 5, rel=1e-5)


def test_uniform_network_needs_the_logarithm_of_the_number_of_symbols() -> None:
    model = constant([1 / 8] * 8, as_logits=True)
    assert bits_per_character(model, np.arange(20_000) % 8) == pytest.approx(3, rel=1e-5)


def test_longer_window_helps_a_network_with_memory() -> None:
    keras.utils.set_random_seed(1)
    model = models.char_rnn(4, units=8, embedding=4)
    ids = np.tile([0, 1, 0, 2, 0, 3], 200)
    model.compile(
        keras.optimizers.Adam(0.03), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    windows = np.stack([ids[first : first + 25] for first in range(64)])
    model.fit(windows[:, :-1], windows[:, 1:], epochs=40, verbose=0)
    short, long = (bits_per_character(model, ids, length=length) for length in (2, 100))
    assert long < short / 2


@pytest.mark.parametrize(
    ("ids", "length", "message"),
    [([], 10, "has 0 characters"), ([1], 10, "has 1 characters"), ([0, 1], 0, "length is 0")],
)
def test_wrong_argument_is_refused(ids: list[int], length: int, message: str) -> None:
    with pytest.raises(Invalid, match=message):
        bits_per_character(constant([0.5, 0.5], True), np.array(ids), length=length)
