"""The text sampler: what its sliders and button do, and what it shows."""

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from dltlab.data import Vocabulary
from dltlab.errors import LabError
from dltlab.widgets import TextSampler

VOCABULARY = Vocabulary.of("\n<abc>")


@pytest.fixture(scope="module")
def model() -> keras.Model:
    """Says '<' most often, then 'a'."""
    model = keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            layers.Embedding(len(VOCABULARY), 1, embeddings_initializer="zeros"),
            layers.Dense(len(VOCABULARY)),
        ]
    )
    model.layers[-1].bias.assign(np.log([0.1, 0.4, 0.1, 0.25, 0.1, 0.05]))
    return model


def press(sampler: TextSampler) -> None:
    """Click the button, and wait for what it began."""
    sampler._button.click()
    if sampler._writer is not None:
        sampler._writer.join()


def test_it_writes_as_many_characters_as_asked(model: keras.Model) -> None:
    sampler = TextSampler(model, VOCABULARY, prompt="ab", num_characters=50)
    text = sampler.write(seed=1)
    assert len(text) == 50
    assert sampler.text == text == sampler.write(seed=1)
    assert "50 characters" in sampler._said.value


def test_the_sliders_say_what_may_be_drawn(model: keras.Model) -> None:
    sampler = TextSampler(model, VOCABULARY, num_characters=200)
    assert len(set(sampler.write(seed=1))) > 4
    sampler._top_k.value = 2
    assert set(sampler.write(seed=1)) == {"<", "a"}
    sampler._top_p.value = 0.05
    assert set(sampler.write(seed=1)) == {"<"}
    sampler._top_k.value, sampler._top_p.value = len(VOCABULARY), 1
    sampler._temperature.value = 0
    assert set(sampler.write(seed=1)) == {"<"}


def test_the_button_writes_and_says_how_fast(model: keras.Model) -> None:
    sampler = TextSampler(model, VOCABULARY, num_characters=30)
    press(sampler)
    assert len(sampler.text) == 30
    assert sampler._button.description == "Write"
    assert "30 characters" in sampler._said.value


def test_the_button_stops_what_is_being_written(model: keras.Model) -> None:
    sampler = TextSampler(model, VOCABULARY, num_characters=10**9)
    sampler._button.click()
    assert sampler._button.description == "Stop"
    assert sampler._writer is not None
    sampler._button.click()
    assert sampler._writer is None
    assert len(sampler.text) < 10**9
    assert sampler._button.description == "Write"


def test_what_it_shows_is_escaped(model: keras.Model) -> None:
    sampler = TextSampler(model, VOCABULARY, prompt="<b>", num_characters=100)
    sampler.write(seed=1)
    shown = sampler._output.value
    assert "<b>&lt;b&gt;</b>" in shown
    assert "<" in sampler.text
    assert "<" not in shown.partition("</b>")[2].removesuffix("</pre>")


def test_a_prompt_with_an_unknown_character_is_said_and_writes_nothing(model: keras.Model) -> None:
    sampler = TextSampler(model, VOCABULARY)
    sampler._prompt.value = "ab<i>"
    press(sampler)
    assert "&#x27;i&#x27; (U+0069" in sampler._said.value
    assert sampler.text == ""
    with pytest.raises(LabError, match=r"U\+0069"):
        sampler.write()


def test_what_goes_wrong_while_it_writes_is_said(model: keras.Model) -> None:
    broken = keras.models.clone_model(model)
    broken.set_weights([each * np.nan for each in broken.get_weights()])
    sampler = TextSampler(broken, VOCABULARY)
    press(sampler)
    assert "returns NaN" in sampler._said.value
    assert sampler._button.description == "Write"


def test_every_control_has_a_name(model: keras.Model) -> None:
    def descendants(widget: Any) -> list[Any]:
        children = getattr(widget, "children", ())
        return [widget, *(below for child in children for below in descendants(child))]

    controls = descendants(TextSampler(model, VOCABULARY)._widget)
    names = [each.description for each in controls if hasattr(each, "tooltip") and each.tooltip]
    assert names == ["Temperature", "Top-k", "Top-p", "Write"]


def test_without_a_front_end_a_sample_is_printed(
    model: keras.Model, capsys: pytest.CaptureFixture[str]
) -> None:
    sampler = TextSampler(model, VOCABULARY, prompt="abc", num_characters=40)
    sampler.show()
    assert capsys.readouterr().out == f"abc{sampler.text}\n"
    assert len(sampler.text) == 40


def test_a_text_of_no_length_is_refused(model: keras.Model) -> None:
    with pytest.raises(LabError, match="num_characters is 0"):
        TextSampler(model, VOCABULARY, num_characters=0)
