"""The vocabulary: any text is encoded and decoded without loss; unknown symbols are named."""

from pathlib import Path

import numpy as np
import pytest

from dltlab.data import Vocabulary
from dltlab.errors import Damaged, Invalid, NotFound, Unavailable

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
def test_decoding_is_the_inverse_of_encoding(text: str) -> None:
    vocabulary = Vocabulary.of(text)
    ids = vocabulary.encode(text)
    assert (ids.dtype, ids.shape) == (np.int32, (len(text),))
    assert vocabulary.decode(ids) == text


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_a_saved_vocabulary_is_loaded_unchanged(text: str, tmp_path: Path) -> None:
    vocabulary = Vocabulary.of(text)
    vocabulary.save(tmp_path / "vocabulary.json")
    assert Vocabulary.load(tmp_path / "vocabulary.json") == vocabulary


def test_ids_follow_the_order_of_the_code_points() -> None:
    vocabulary = Vocabulary.of("caba𝔘あ")
    assert vocabulary.symbols == ("a", "b", "c", "あ", "𝔘")
    assert len(vocabulary) == 5
    assert vocabulary.encode("abc𝔘").tolist() == [0, 1, 2, 4]


def test_an_empty_text_has_no_ids() -> None:
    assert Vocabulary.of("ab").encode("").shape == (0,)
    assert Vocabulary.of("ab").decode(np.zeros(0, np.int32)) == ""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("abé", r"'é' \(U\+00E9, LATIN SMALL LETTER E WITH ACUTE\) at index 2 is not one of the 2"),
        ("\0", r"'\\x00' \(U\+0000\) at index 0"),
        ("a\ud800", r"'\\ud800' \(U\+D800\) at index 1"),
        ("😀", r"U\+1F600, GRINNING FACE"),
    ],
)
def test_an_unknown_character_is_named(text: str, message: str) -> None:
    with pytest.raises(Invalid, match=message):
        Vocabulary.of("ab").encode(text)


@pytest.mark.parametrize("id_", [-1, 2])
def test_an_id_without_a_symbol_is_refused(id_: int) -> None:
    with pytest.raises(Invalid, match=f"There is no symbol {id_}.*from 0 to 1"):
        Vocabulary.of("ab").decode(np.array([0, id_]))


@pytest.mark.parametrize("symbols", [(), ("b", "a"), ("a", "a"), ("ab",), ("",)])
def test_symbols_must_be_single_different_and_in_order(symbols: tuple[str, ...]) -> None:
    with pytest.raises(Invalid):
        Vocabulary(symbols)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8"])
@pytest.mark.parametrize(
    "content", ["", "[]", '{"symbols": 3}', '{"symbols": ["b", "a"]}', "\ufffe"]
)
def test_a_damaged_file_is_named(content: str, encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "vocabulary.json"
    path.write_text(content, encoding=encoding)
    with pytest.raises(Damaged, match=r"vocabulary\.json does not hold a vocabulary"):
        Vocabulary.load(path)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"none\.json does not exist"):
        Vocabulary.load(tmp_path / "none.json")
    with pytest.raises(Unavailable, match=r"cannot be read \(Is a directory\)"):
        Vocabulary.load(tmp_path)
