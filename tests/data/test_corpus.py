"""A text and its two parts, a data set's and one's own."""

from pathlib import Path

import pytest

from dltlab import data
from dltlab.errors import LabError


def test_a_data_set_is_divided_as_its_card_says() -> None:
    corpus = data.corpus("python_docs")
    assert corpus.name == "python_docs"
    assert corpus.train == data.text("python_docs", "train")
    assert corpus.validation == data.text("python_docs", "validation")
    assert set(corpus.vocabulary.symbols) == set(corpus.train + corpus.validation)


def test_of_a_file_the_first_nine_tenths_train(tmp_path: Path) -> None:
    path = tmp_path / "own.txt"
    path.write_bytes("Zeile für Zeile\r\n".encode() * 20)
    corpus = data.corpus(path)
    assert corpus.name == "own.txt"
    assert corpus.train + corpus.validation == "Zeile für Zeile\r\n" * 20
    assert len(corpus.train) == 306
    assert data.corpus(str(path)) == corpus
    assert len(data.corpus(path, validation=0.5).train) == 170


def test_a_corpus_shows_its_size_and_not_its_text(tmp_path: Path) -> None:
    path = tmp_path / "own.txt"
    path.write_text("secret" * 1000)
    shown = "Corpus('own.txt': 5,400 characters to learn from, 600 to validate, 5 symbols)"
    assert repr(data.corpus(path)) == shown


def test_the_mark_before_a_text_is_no_part_of_it(tmp_path: Path) -> None:
    path = tmp_path / "own.txt"
    path.write_text("abab", encoding="utf-8-sig")
    assert data.corpus(path).vocabulary.symbols == ("a", "b")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is empty: there is nothing to learn"),
        ("\ufeff".encode(), "is empty"),
        (b"a" * 1000, r"only repeats the character 'a' \(U\+0061, LATIN SMALL LETTER A\)"),
        (b"\n", r"only repeats the character '\\n'"),
        (b"na\xefve", r"no text in UTF-8 \(the byte 0xef at offset 2\).*encoding UTF-8"),
        ("text".encode("utf-16"), r"no text in UTF-8 \(the byte 0xff at offset 0\)"),
        (b"caf\xc3", r"the byte 0xc3 at offset 3"),
    ],
)
def test_a_file_with_nothing_to_learn_is_refused(
    content: bytes, sentence: str, tmp_path: Path
) -> None:
    path = tmp_path / "own.txt"
    path.write_bytes(content)
    with pytest.raises(LabError, match=sentence):
        data.corpus(path)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"none\.txt cannot be read \(No such file"):
        data.corpus("none.txt")
    with pytest.raises(LabError, match="cannot be read"):
        data.corpus(tmp_path)


def test_a_name_is_that_of_a_data_set_of_text() -> None:
    with pytest.raises(LabError, match="no_such_text"):
        data.corpus("no_such_text")
    with pytest.raises(LabError, match="holds images, no text"):
        data.corpus("digits")


@pytest.mark.parametrize("share", [0, 1, -0.1, float("nan")])
def test_a_share_that_leaves_nothing_is_refused(share: float) -> None:
    with pytest.raises(LabError, match="between 0 and 1"):
        data.corpus("python_docs", validation=share)
