"""The vocabulary: any text there and back, and what it does not know."""

from pathlib import Path

import numpy as np
import pytest

from dltlab.data import Vocabulary
from dltlab.errors import LabError

TEXTS = {
    "plain": "to be or not to be",
    "line ends": "one\r\ntwo\nthree\r",
    "control characters": "a\0b\x1b\x7f",
    "emoji of several code points": "👩‍👩‍👧 🏳️‍🌈",
    "combining accents": "e\u0301 is not é",
    "many scripts": "Ж中あ𝔘ß",
    "a lone surrogate": "a\ud800b",
    "surrogates that would be a pair": "\ud83d\ude00",
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_any_text_comes_back_as_it_was(text: str) -> None:
    vocabulary = Vocabulary.of(text)
    ids = vocabulary.encode(text)
    assert (ids.dtype, ids.shape) == (np.int32, (len(text),))
    assert vocabulary.decode(ids) == text


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_a_saved_vocabulary_is_loaded_as_it_was(text: str, tmp_path: Path) -> None:
    vocabulary = Vocabulary.of(text)
    vocabulary.save(tmp_path / "vocabulary.json")
    assert Vocabulary.load(tmp_path / "vocabulary.json") == vocabulary


def test_symbols_are_numbered_in_the_order_of_their_code_points() -> None:
    vocabulary = Vocabulary.of("caba𝔘あ")
    assert vocabulary.symbols == ("a", "b", "c", "あ", "𝔘")
    assert len(vocabulary) == 5
    assert vocabulary.encode("abc𝔘").tolist() == [0, 1, 2, 4]


def test_no_text_has_no_numbers() -> None:
    assert Vocabulary.of("ab").encode("").shape == (0,)
    assert Vocabulary.of("ab").decode(np.zeros(0, np.int32)) == ""


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("abé", r"'é' \(U\+00E9, LATIN SMALL LETTER E WITH ACUTE\) at place 2 is none of the 2"),
        ("\0", r"'\\x00' \(U\+0000\) at place 0"),
        ("a\ud800", r"'\\ud800' \(U\+D800\) at place 1"),
        ("😀", r"U\+1F600, GRINNING FACE"),
    ],
)
def test_an_unknown_character_is_named(text: str, sentence: str) -> None:
    with pytest.raises(LabError, match=sentence):
        Vocabulary.of("ab").encode(text)


@pytest.mark.parametrize("number", [-1, 2])
def test_a_number_of_no_symbol_is_refused(number: int) -> None:
    with pytest.raises(LabError, match=f"There is no symbol {number}.*from 0 to 1"):
        Vocabulary.of("ab").decode(np.array([0, number]))


@pytest.mark.parametrize("symbols", [(), ("b", "a"), ("a", "a"), ("ab",), ("",)])
def test_what_is_no_vocabulary_is_refused(symbols: tuple[str, ...]) -> None:
    with pytest.raises(LabError):
        Vocabulary(symbols)


@pytest.mark.parametrize(
    "content", ["", "[]", '{"symbols": 3}', '{"symbols": ["b", "a"]}', "\ufffe"]
)
def test_a_damaged_file_is_named(content: str, tmp_path: Path) -> None:
    path = tmp_path / "vocabulary.json"
    path.write_text(content, encoding="utf-16")
    with pytest.raises(LabError, match=r"vocabulary\.json holds no vocabulary"):
        Vocabulary.load(path)
    path.write_text(content, encoding="utf-8")
    with pytest.raises(LabError, match=r"vocabulary\.json holds no vocabulary"):
        Vocabulary.load(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"none\.json cannot be read"):
        Vocabulary.load(tmp_path / "none.json")
