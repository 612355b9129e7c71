"""`TextSampler`: what its sliders and its button do, and what it shows."""

import html
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from dltlab.data import Vocabulary
from dltlab.errors import Invalid, LabError
from dltlab.widgets import TextSampler, text_sampler
from tests.deadlines import wait_until

VOCABULARY = Vocabulary.of("\n<abc>")


@pytest.fixture(scope="module")
def model() -> keras.Model:
    """A network that gives '<' the highest probability, then 'a'."""
    model = keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            layers.Embedding(len(VOCABULARY), 1, embeddings_initializer="zeros"),
            layers.Dense(len(VOCABULARY)),
        ]
    )
    model.layers[-1].bias.assign(np.log([0.1, 0.4, 0.1, 0.25, 0.1, 0.05]))
    return model


def descendants(widget: Any) -> list[Any]:
    children = getattr(widget, "children", ())
    return [widget, *(inner for child in children for inner in descendants(child))]


def control(sampler: TextSampler, description: str) -> Any:
    """The input or button with this description."""
    (found,) = [
        widget
        for widget in descendants(sampler.widget)
        if getattr(widget, "description", "") == description
    ]
    return found


def shown(sampler: TextSampler) -> str:
    """The HTML of the sampler: its status and its text."""
    values = [getattr(widget, "value", "") for widget in descendants(sampler.widget)]
    return "\n".join(value for value in values if isinstance(value, str))


def write(sampler: TextSampler) -> None:
    """Click the button and wait for the end of the text."""
    button = control(sampler, "Write")
    button.click()
    wait_until(lambda: button.description == "Write")


def test_text_has_the_requested_length(model: keras.Model) -> None:
    sampler = TextSampler(model, VOCABULARY, prompt="ab", num_characters=50)
    text = sampler.write(seed=1)
    assert len(text) == 50
    assert sampler.text == text == sampler.write(seed=1)
    assert "50 characters" in shown(sampler)


def test_sliders_set_which_characters_are_drawn(model: keras.Model) -> None:
    sampler = TextSampler(model, VOCABULARY, num_characters=200)
    temperature, top_k, top_p = (
        control(sampler, name) for name in ("Temperature", "Top-k", "Top-p")
    )
    assert len(set(sampler.write(seed=1))) > 4
    top_k.value = 2
    assert set(sampler.write(seed=1)) == {"<", "a"}
    top_p.value = 0.05
    assert set(sampler.write(seed=1)) == {"<"}
    top_k.value, top_p.value = len(VOCABULARY), 1
    temperature.value = 0
    assert set(sampler.write(seed=1)) == {"<"}


def test_button_writes_a_text_and_shows_the_speed(model: keras.Model) -> None:
    sampler = TextSampler(model, VOCABULARY, num_characters=30)
    write(sampler)
    assert len(sampler.text) == 30
    assert "30 characters" in shown(sampler)


def test_button_stops_a_text(model: keras.Model) -> None:
    sampler = TextSampler(model, VOCABULARY, num_characters=10**9)
    button = control(sampler, "Write")
    button.click()
    assert button.description == "Stop"
    button.click()
    assert button.description == "Write"
    assert len(sampler.text) < 10**9


def test_a_change_of_a_setting_starts_the_text_again(model: keras.Model) -> None:
    sampler = TextSampler(model, VOCABULARY, num_characters=10**9)
    button, top_k, prompt = (control(sampler, name) for name in ("Write", "Top-k", "Prompt"))
    top_k.value = 3
    assert button.description == "Write"

    button.click()
    wait_until(lambda: len(set(sampler.text)) == 3)
    top_k.value = 1
    wait_until(lambda: len(sampler.text) > 100)
    assert set(sampler.text) == {"<"}
    assert button.description == "Stop"

    prompt.value = "?"
    assert button.description == "Write"
    assert "U+003F" in shown(sampler)


def test_text_and_prompt_are_escaped(model: keras.Model) -> None:
    sampler = TextSampler(model, VOCABULARY, prompt="<b>", num_characters=100)
    sampler.write(seed=1)
    text = shown(sampler).partition('<pre aria-label="The text">')[2]
    assert text.startswith("<b>&lt;b&gt;</b>")
    assert "<" in sampler.text
    assert "<" not in text.partition("</b>")[2].removesuffix("</pre>")


def test_prompt_with_an_unknown_character_is_reported(model: keras.Model) -> None:
    sampler = TextSampler(model, VOCABULARY)
    control(sampler, "Prompt").value = "ab<i>"
    write(sampler)
    assert "&#x27;i&#x27; (U+0069" in shown(sampler)
    assert sampler.text == ""
    with pytest.raises(LabError, match=r"U\+0069"):
        sampler.write()


def test_error_while_writing_is_shown(model: keras.Model) -> None:
    broken = keras.models.clone_model(model)
    broken.set_weights([weight * np.nan for weight in broken.get_weights()])
    sampler = TextSampler(broken, VOCABULARY)
    write(sampler)
    assert "returns NaN" in shown(sampler)


def test_every_control_has_a_name(model: keras.Model) -> None:
    widgets = descendants(TextSampler(model, VOCABULARY).widget)
    names = [widget.description for widget in widgets if getattr(widget, "tooltip", None)]
    assert names == ["Temperature", "Top-k", "Top-p", "Write"]


def test_notebook_keeps_the_last_text(model: keras.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    stored: list[str] = []

    def show_widget(widget: Any, text: str, first: str) -> Any:
        stored.append(first)
        return stored.append

    monkeypatch.setattr(text_sampler, "show_widget", show_widget)
    sampler = TextSampler(model, VOCABULARY, prompt="<", num_characters=20)
    sampler.show()
    first = sampler.text
    write(sampler)

    assert f"<b>&lt;</b>{html.escape(first)}</pre>" in stored[0]
    assert f"<b>&lt;</b>{html.escape(sampler.text)}</pre>" in stored[-1]


def test_text_is_printed_without_a_front_end(
    model: keras.Model, capsys: pytest.CaptureFixture[str]
) -> None:
    sampler = TextSampler(model, VOCABULARY, prompt="abc", num_characters=40)
    sampler.show()
    assert capsys.readouterr().out == f"abc{sampler.text}\n"
    assert len(sampler.text) == 40


def test_length_must_be_positive(model: keras.Model) -> None:
    with pytest.raises(Invalid, match="num_characters is 0"):
        TextSampler(model, VOCABULARY, num_characters=0)
