"""`generate` follows the network's own outputs and the sampling settings."""

import gc
import weakref
from collections import Counter
from itertools import islice

import keras
import numpy as np
import pytest
from keras import layers

from dltlab import models
from dltlab.data import Vocabulary
from dltlab.errors import Damaged, Invalid, LabError
from dltlab.training import TextGenerator, generate, generation

VOCABULARY = Vocabulary.of("\nabcdef")
NUM_SYMBOLS = len(VOCABULARY)
UNIFORM = [1 / NUM_SYMBOLS] * NUM_SYMBOLS
UNEVEN = np.array([0.05, 0.1, 0.15, 0.2, 0.3, 0.15, 0.05])


def chain(*middle: keras.layers.Layer) -> keras.Model:
    """A network with weights so large that its choices are clear."""
    keras.utils.set_random_seed(4)
    wide = keras.initializers.RandomNormal(stddev=3, seed=5)
    return keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            layers.Embedding(NUM_SYMBOLS, 6, embeddings_initializer=wide),
            *middle,
            layers.Dense(NUM_SYMBOLS, kernel_initializer=wide),
        ]
    )


def constant(probabilities: list[float] | np.ndarray) -> keras.Model:
    """A network with the same output after every symbol."""
    model = keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            layers.Embedding(NUM_SYMBOLS, 1, embeddings_initializer="zeros"),
            layers.Dense(NUM_SYMBOLS),
        ]
    )
    model.layers[-1].bias.assign(np.log(probabilities))
    return model


def most_probable(model: keras.Model, prompt: str, text: str) -> str:
    """The most probable symbol after the prompt and after each character of the text but one."""
    ids = VOCABULARY.encode(prompt + text)[np.newaxis, :-1]
    if len(model.output_shape) == 3:
        logits = np.asarray(model(ids))[0, len(prompt) - 1 :]
    else:
        ends = range(len(prompt), ids.shape[1] + 1)
        logits = np.concatenate([model(ids[:, :end]) for end in ends])
    return VOCABULARY.decode(np.argmax(logits, axis=1))


def sample(num_characters: int, *arguments, **settings) -> str:
    return "".join(islice(generate(*arguments, **settings), num_characters))


def shares(text: str) -> np.ndarray:
    counts = Counter(text)
    return np.array([counts[symbol] / len(text) for symbol in VOCABULARY.symbols])


@pytest.mark.parametrize(
    "middle",
    [
        [layers.LSTM(9, return_sequences=True)],
        [layers.GRU(9)],
        [
            layers.RNN([layers.LSTMCell(5), layers.GRUCell(4)], return_sequences=True),
            layers.LayerNormalization(),
            layers.GRU(8, return_sequences=True),
        ],
    ],
    ids=["lstm", "last position only", "several"],
)
def test_temperature_0_continues_as_the_whole_text_says(middle) -> None:
    model = chain(*middle)
    text = sample(20, model, VOCABULARY, "abcab", temperature=0)
    assert text == most_probable(model, "abcab", text)


def test_a_transformer_continues_a_prompt_that_is_longer_than_its_context() -> None:
    keras.utils.set_random_seed(4)
    model = models.char_transformer(NUM_SYMBOLS, width=8, num_blocks=2, heads=2, context=4)
    text = sample(20, model, VOCABULARY, "abcabfed", temperature=0)
    assert text == most_probable(model, "abcabfed", text)


def test_model_in_mixed_precision_generates() -> None:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = models.char_rnn(NUM_SYMBOLS, units=8, embedding=4, num_layers=2, dropout=0.1)
        assert set(sample(50, model, VOCABULARY, "ab", seed=1)) <= set(VOCABULARY.symbols)
    finally:
        keras.config.set_dtype_policy(before)


@pytest.mark.parametrize("outputs", ["logits", "probabilities"])
def test_symbols_occur_as_often_as_the_network_says(outputs: str) -> None:
    model = constant(UNEVEN)
    if outputs == "probabilities":
        model = keras.Sequential([keras.Input((None,), dtype="int32"), model, layers.Softmax()])
    text = sample(4000, model, VOCABULARY, seed=1)
    assert np.abs(shares(text) - UNEVEN).max() < 0.03


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_temperature_is_an_exponent_of_the_probabilities(temperature: float) -> None:
    text = sample(4000, constant(UNEVEN), VOCABULARY, temperature=temperature, seed=1)
    expected = UNEVEN ** (1 / temperature)
    assert np.abs(shares(text) - expected / expected.sum()).max() < 0.03


def test_temperature_near_0_is_like_0() -> None:
    model = chain(layers.LSTM(9, return_sequences=True))
    at_zero, near_zero = (sample(30, model, VOCABULARY, temperature=t) for t in (0, 1e-30))
    assert at_zero == near_zero


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
def test_only_allowed_symbols_are_drawn(settings: dict, allowed: str) -> None:
    model = constant([0.05, 0.09, 0.16, 0.21, 0.3, 0.14, 0.05])
    assert set(sample(600, model, VOCABULARY, seed=1, **settings)) == set(allowed)


def test_top_k_is_exact_among_equally_probable_symbols() -> None:
    assert len(set(sample(300, constant(UNIFORM), VOCABULARY, top_k=2, seed=1))) == 2


def test_equal_seeds_give_equal_texts_and_none_a_new_one() -> None:
    model = constant(UNIFORM)
    first, second = (sample(60, model, VOCABULARY, seed=7) for _ in range(2))
    assert first == second
    assert len({sample(60, model, VOCABULARY, seed=seed) for seed in (7, 8, None, None)}) == 4


def test_without_a_prompt_the_text_begins_as_after_the_end_of_a_line() -> None:
    model = chain(layers.GRU(9, return_sequences=True))
    text = sample(20, model, VOCABULARY, temperature=0)
    assert text == most_probable(model, "\n", text)


def test_a_text_is_continued_with_the_weights_that_the_model_has_then() -> None:
    model = chain(layers.GRU(9, return_sequences=True))
    text = generate(model, VOCABULARY, "a", temperature=0)
    assert set(islice(text, 32)) != {"c"}
    bias = 1e4 * np.eye(len(VOCABULARY))[VOCABULARY.symbols.index("c")]
    model.layers[-1].bias.assign(bias)
    assert set(islice(text, 32)) == {"c"}


def test_a_text_begins_with_the_weights_that_the_model_has_then() -> None:
    model = chain(layers.GRU(9, return_sequences=True))
    generator = TextGenerator(model, VOCABULARY)
    before = "".join(islice(generator.characters("a", temperature=0), 30))
    model.set_weights([-weight for weight in model.get_weights()])
    after = "".join(islice(generator.characters("a", temperature=0), 30))
    assert before != after == most_probable(model, "a", after)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": -0.1}, r"temperature is -0\.1; it must be a finite number"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"temperature": float("inf")}, "temperature is inf"),
        ({"top_k": 0}, "top_k is 0; it must be a whole number of 1 or more"),
        ({"top_k": -3}, "top_k is -3"),
        ({"top_k": 1.5}, r"top_k is 1\.5"),
        ({"top_p": 0}, "top_p is 0; it must be above 0 and at most 1"),
        ({"top_p": 1.5}, r"top_p is 1\.5"),
        ({"top_p": float("nan")}, "top_p is nan"),
        ({"prompt": "abz"}, r"'z' \(U\+007A, LATIN SMALL LETTER Z\)"),
    ],
)
def test_wrong_setting_is_refused_before_the_first_character(settings: dict, message: str) -> None:
    with pytest.raises(LabError, match=message):
        generate(constant(UNIFORM), VOCABULARY, **settings)


def test_a_model_is_prepared_once_and_freed_with_its_generator(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prepared = []

    def count(model: keras.Model) -> keras.Model:
        prepared.append(model.name)
        return models.step_model(model)

    monkeypatch.setattr(generation, "step_model", count)
    model = chain(layers.GRU(9, return_sequences=True))
    for prompt in ("", "ab"):
        sample(5, model, VOCABULARY, prompt)
    assert len(prepared) == 1
    reference = weakref.ref(model)
    del model
    gc.collect()
    assert reference() is None


def test_vocabulary_of_another_size_is_refused() -> None:
    with pytest.raises(Invalid, match="outputs for 7 symbols and the vocabulary has 2"):
        generate(constant(UNIFORM), Vocabulary.of("ab"))


def test_model_that_cannot_run_step_by_step_is_refused() -> None:
    with pytest.raises(Invalid, match="cannot run step by step"):
        generate(chain(layers.Bidirectional(layers.GRU(3, return_sequences=True))), VOCABULARY)


def test_nan_outputs_are_reported() -> None:
    model = chain(layers.LSTM(4, return_sequences=True))
    model.set_weights([weight * np.nan for weight in model.get_weights()])
    with pytest.raises(Damaged, match="returns NaN: its weights are damaged"):
        sample(1, model, VOCABULARY, seed=1)
