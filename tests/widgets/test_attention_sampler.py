"""`AttentionSampler`: what it colors, and what its head and its slider change."""

import re
from typing import Any

import keras
import numpy as np
import pytest

from dltlab.data import Vocabulary
from dltlab.errors import Invalid
from dltlab.models import attention_maps, char_rnn, char_transformer
from dltlab.widgets import AttentionSampler

VOCABULARY = Vocabulary.of("\n<abc>")


@pytest.fixture(scope="module")
def model() -> keras.Model:
    keras.utils.set_random_seed(1)
    return char_transformer(len(VOCABULARY), width=8, num_blocks=2, heads=2, context=4)


def control(sampler: AttentionSampler, description: str) -> Any:
    (found,) = [
        widget
        for widget in sampler.widget.children
        if getattr(widget, "description", "") == description
    ]
    return found


def shown(sampler: AttentionSampler) -> str:
    return str(sampler.widget.children[-1].value)


def strengths(sampler: AttentionSampler) -> list[float]:
    """The strengths of the colors, in the order of the colored characters."""
    return [float(value) for value in re.findall(r"rgba\(86, 180, 233, ([\d.]+)\)", shown(sampler))]


def test_a_text_is_written_and_can_be_read(model):
    sampler = AttentionSampler(model, VOCABULARY, prompt="<ab", num_characters=5)
    text = sampler.write(seed=1)
    plain = re.sub(r"<[^>]+>", "", shown(sampler)).replace("↵", "")
    assert plain.replace("&lt;", "<").replace("&gt;", ">") == f"<ab{text}"


def test_colors_are_the_weights_of_the_last_character(model):
    sampler = AttentionSampler(model, VOCABULARY, prompt="abca", num_characters=1)
    text = "abca" + sampler.write(seed=1)
    control(sampler, "Head").value = "block 2, head 1"
    row = attention_maps(model, VOCABULARY.encode(text))[1, 0, -1]
    expected = [strength for strength in np.sqrt(row[:-1] / row.max()) if strength >= 0.1]
    np.testing.assert_allclose(strengths(sampler), expected, atol=0.006)


def test_the_slider_goes_back_to_an_earlier_character(model):
    sampler = AttentionSampler(model, VOCABULARY, prompt="abcabc", num_characters=3)
    sampler.write(seed=1)
    slider = control(sampler, "Look from")
    assert (slider.value, slider.max) == (8, 8)
    slider.value = 2
    assert '<mark class="dltlab-present">c</mark>' in shown(sampler)
    assert len(strengths(sampler)) <= 2  # nothing later is colored


def test_each_head_has_an_entry(model):
    options = control(AttentionSampler(model, VOCABULARY), "Head").options
    assert options == (
        "all heads", "block 1, head 1", "block 1, head 2", "block 2, head 1", "block 2, head 2",
    )  # fmt: skip


def test_a_network_without_attention_is_refused():
    with pytest.raises(Invalid, match="no block of attention"):
        AttentionSampler(char_rnn(len(VOCABULARY), units=4, embedding=4), VOCABULARY)


def test_a_prompt_longer_than_the_context_and_what_is_read_is_continued(model):
    sampler = AttentionSampler(model, VOCABULARY, prompt="abc" * 200, num_characters=3)
    text = "abc" * 200 + sampler.write(seed=1)
    assert re.sub(r"<[^>]+>", "", shown(sampler)).replace("↵", "").startswith("abc" * 200)
    assert len(strengths(sampler)) < 4  # of the context of each block of two
    control(sampler, "Look from").value = 10  # farther back than what is read
    assert strengths(sampler) == []
    assert len(text) == 603


def test_a_prompt_with_an_unknown_character_is_refused(model):
    sampler = AttentionSampler(model, VOCABULARY, prompt="abd", num_characters=3)
    with pytest.raises(Invalid, match="d"):
        sampler.write()
