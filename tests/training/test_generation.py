"""`generate`: the text is what the network's own outputs say, and settings do what they say."""

import gc
from collections import Counter
from itertools import islice

import keras
import numpy as np
import pytest
from keras import layers

from dltlab import models
from dltlab.data import Vocabulary
from dltlab.errors import LabError
from dltlab.training import generate, generation
from dltlab.training.generation import Generator

VOCABULARY = Vocabulary.of("\nabcdef")
NUM = len(VOCABULARY)


def row(*stack: keras.layers.Layer, last: str | None = None) -> keras.Model:
    """The layers between an embedding and the logits; weights so large that choices are clear."""
    keras.utils.set_random_seed(4)
    wide = keras.initializers.RandomNormal(stddev=3, seed=5)
    return keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            layers.Embedding(NUM, 6, embeddings_initializer=wide),
            *stack,
            layers.Dense(NUM, kernel_initializer=wide, activation=last),
        ]
    )


def fixed(probabilities: list[float]) -> keras.Model:
    """Says the same after every symbol."""
    model = keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            layers.Embedding(NUM, 1, embeddings_initializer="zeros"),
            layers.Dense(NUM),
        ]
    )
    model.layers[-1].bias.assign(np.log(probabilities))
    return model


def naive(model: keras.Model, prompt: str, num: int) -> str:
    """The most probable continuation, by a network that reads everything anew each time."""
    ids = VOCABULARY.encode(prompt).tolist()
    for _ in range(num):
        logits = np.asarray(model(np.array([ids]))).reshape(-1, NUM)  # of each place, or the last
        ids.append(int(np.argmax(logits[-1])))
    return VOCABULARY.decode(ids[len(prompt) :])


def taken(num: int, *arguments, **settings) -> str:
    return "".join(islice(generate(*arguments, **settings), num))


STACKS = {
    "lstm": lambda: [layers.LSTM(9, return_sequences=True)],
    "gru": lambda: [layers.GRU(9, return_sequences=True)],
    "gru, old kind": lambda: [layers.GRU(9, return_sequences=True, reset_after=False)],
    "simple": lambda: [layers.SimpleRNN(9, return_sequences=True)],
    "last place only": lambda: [layers.LSTM(9)],
    "stateful": lambda: [layers.GRU(9, return_sequences=True, stateful=False, unroll=False)],
    "stack of cells": lambda: [
        layers.RNN([layers.LSTMCell(5), layers.GRUCell(4)], return_sequences=True)
    ],
    "several, with others between": lambda: [
        layers.Dropout(0.5),
        layers.LSTM(9, return_sequences=True),
        layers.LayerNormalization(),
        layers.GRU(8, return_sequences=True),
        layers.BatchNormalization(),
        layers.Dense(7),
        layers.Activation("tanh"),
        layers.RMSNormalization(),
    ],
    "inner model": lambda: [
        keras.Sequential([keras.Input((None, 6)), layers.LSTM(9, return_sequences=True)])
    ],
}


@pytest.mark.parametrize("stack", STACKS.values(), ids=STACKS.keys())
def test_with_temperature_0_it_is_what_reading_everything_anew_gives(stack) -> None:
    model = row(*stack())
    assert taken(40, model, VOCABULARY, "abcab", temperature=0) == naive(model, "abcab", 40)


def test_a_functional_model_in_mixed_precision_writes() -> None:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = models.char_rnn(NUM, units=8, embedding=4, num_layers=2, dropout=0.1)
        assert set(taken(50, model, VOCABULARY, "ab", seed=1)) <= set(VOCABULARY.symbols)
    finally:
        keras.config.set_dtype_policy(before)


@pytest.mark.parametrize("last", [None, "softmax"])
def test_symbols_come_as_often_as_the_network_says(last: str | None) -> None:
    shares = np.array([0.05, 0.1, 0.15, 0.2, 0.3, 0.15, 0.05])
    model = fixed(shares)
    if last:
        model = keras.Sequential([keras.Input((None,), dtype="int32"), model, layers.Softmax()])
    counts = Counter(taken(4000, model, VOCABULARY, seed=1))
    found = [counts[symbol] / 4000 for symbol in VOCABULARY.symbols]
    assert np.abs(found - shares).max() < 0.03


def test_a_temperature_makes_the_probable_more_or_less_so() -> None:
    shares = np.array([0.05, 0.1, 0.15, 0.2, 0.3, 0.15, 0.05])
    for temperature in (0.5, 2.0):
        counts = Counter(taken(4000, fixed(shares), VOCABULARY, temperature=temperature, seed=1))
        expected = shares ** (1 / temperature)
        found = [counts[symbol] / 4000 for symbol in VOCABULARY.symbols]
        assert np.abs(found - expected / expected.sum()).max() < 0.03


def test_a_temperature_near_0_is_as_0() -> None:
    model = row(layers.LSTM(9, return_sequences=True))
    cold, colder = (taken(30, model, VOCABULARY, temperature=t) for t in (0, 1e-30))
    assert cold == colder


@pytest.mark.parametrize(
    ("settings", "allowed"),
    [
        ({"top_k": 1}, "d"),
        ({"top_k": 3}, "cdb"),
        ({"top_k": 1000}, "\nabcdef"),
        ({"top_p": 0.29}, "d"),
        ({"top_p": 0.31}, "dc"),
        ({"top_p": 1e-9}, "d"),
        ({"top_p": 1.0}, "\nabcdef"),
        ({"top_k": 3, "top_p": 0.7}, "dc"),
    ],
)
def test_only_the_symbols_that_the_settings_allow_are_drawn(settings: dict, allowed: str) -> None:
    model = fixed([0.05, 0.09, 0.16, 0.21, 0.3, 0.14, 0.05])
    assert set(taken(600, model, VOCABULARY, seed=1, **settings)) == set(allowed)


def test_of_symbols_that_are_equally_probable_top_k_takes_no_more_than_it_says() -> None:
    assert len(set(taken(300, fixed([1 / NUM] * NUM), VOCABULARY, top_k=2, seed=1))) == 2


def test_equal_seeds_give_equal_texts_and_none_another_each_time() -> None:
    model = fixed([1 / NUM] * NUM)
    one, other = (taken(60, model, VOCABULARY, seed=7) for _ in "ab")
    assert one == other
    texts = {taken(60, model, VOCABULARY, seed=seed) for seed in (7, 8, None, None)}
    assert len(texts) == 4


def test_without_a_prompt_it_begins_as_after_the_end_of_a_line() -> None:
    model = row(layers.GRU(9, return_sequences=True))
    assert taken(20, model, VOCABULARY, temperature=0) == naive(model, "\n", 20)


def test_a_generator_writes_as_its_model_does_after_more_training() -> None:
    model = row(layers.GRU(9, return_sequences=True))
    generator = Generator(model, VOCABULARY)
    before = "".join(islice(generator.characters("a", temperature=0), 30))
    model.set_weights([-each for each in model.get_weights()])
    after = "".join(islice(generator.characters("a", temperature=0), 30))
    assert before != after == naive(model, "a", 30)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"temperature": -0.1}, r"temperature is -0\.1; it must be 0"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"temperature": float("inf")}, "temperature is inf"),
        ({"top_k": 0}, "top_k is 0; it must be a whole number from 1 on"),
        ({"top_k": -3}, "top_k is -3"),
        ({"top_k": 1.5}, r"top_k is 1\.5"),
        ({"top_p": 0}, "top_p is 0; it must be above 0 and at most 1"),
        ({"top_p": 1.5}, r"top_p is 1\.5"),
        ({"top_p": float("nan")}, "top_p is nan"),
        ({"prompt": "abz"}, r"'z' \(U\+007A, LATIN SMALL LETTER Z\) at place 2 is none of"),
    ],
)
def test_what_chooses_no_symbol_is_refused_at_once(settings: dict, sentence: str) -> None:
    with pytest.raises(LabError, match=sentence):
        generate(fixed([1 / NUM] * NUM), VOCABULARY, **settings)


def test_what_was_compiled_serves_the_next_text_and_goes_with_the_model() -> None:
    model = row(layers.GRU(9, return_sequences=True))
    taken(5, model, VOCABULARY)
    made = generation._GENERATORS[model]
    taken(5, model, VOCABULARY, "ab", temperature=0.5)
    assert generation._GENERATORS[model] is made
    num = len(generation._GENERATORS)
    del model
    gc.collect()
    assert len(generation._GENERATORS) < num


def test_a_model_that_does_not_know_its_input_is_refused() -> None:
    model = keras.Sequential([layers.Embedding(NUM, 4), layers.Dense(NUM)], name="unbuilt")
    with pytest.raises(LabError, match=r"unbuilt has no weights yet: begin it with keras\.Input"):
        generate(model, VOCABULARY)


@pytest.mark.parametrize(
    ("stack", "sentence"),
    [
        ([layers.Bidirectional(layers.LSTM(4, return_sequences=True), name="both")], "layer both"),
        ([layers.Conv1D(4, 3, padding="causal")], r"conv1d.* \(Conv1D\) needs more than one"),
        ([layers.LSTM(4, return_sequences=True, go_backwards=True)], "reads backward"),
        ([layers.LayerNormalization(axis=1)], "works across places"),
    ],
)
def test_a_layer_that_cannot_be_run_step_by_step_is_named(stack: list, sentence: str) -> None:
    inputs = keras.Input((5,), dtype="int32")
    x = layers.Embedding(NUM, 6)(inputs)
    for layer in stack:
        x = layer(x)
    with pytest.raises(LabError, match=sentence):
        generate(keras.Model(inputs, layers.Dense(NUM)(x)), VOCABULARY)


def test_an_embedding_that_masks_is_named() -> None:
    model = keras.Sequential(
        [keras.Input((None,)), layers.Embedding(NUM, 4, mask_zero=True), layers.Dense(NUM)]
    )
    with pytest.raises(LabError, match="masks the symbol 0"):
        generate(model, VOCABULARY)


def test_models_that_are_no_row_are_refused() -> None:
    class Own(keras.Model):
        def call(self, ids):
            return ids

    inputs = [keras.Input((None,), dtype="int32") for _ in "ab"]
    x = layers.Add()([layers.Embedding(NUM, NUM)(each) for each in inputs])
    for model in (Own(), keras.Model(inputs, x)):
        with pytest.raises(LabError, match="no row of layers"):
            generate(model, VOCABULARY)


def test_a_vocabulary_of_another_size_is_refused() -> None:
    with pytest.raises(LabError, match="tells 7 symbols apart and the vocabulary has 2"):
        generate(fixed([1 / NUM] * NUM), Vocabulary.of("ab"))


def test_damaged_weights_are_said() -> None:
    model = row(layers.LSTM(4, return_sequences=True))
    model.set_weights([each * np.nan for each in model.get_weights()])
    with pytest.raises(LabError, match="gives NaN: its weights are damaged"):
        taken(1, model, VOCABULARY, seed=1)
