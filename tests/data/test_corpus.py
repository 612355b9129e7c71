"""A text in two parts, of a data set and of a file."""

from pathlib import Path

import pytest

from dltlab import data
from dltlab.errors import Invalid, LabError, NotFound, Unavailable


def test_a_data_set_is_divided_as_its_card_says() -> None:
    corpus = data.corpus("python_docs")
    assert corpus.name == "python_docs"
    assert corpus.train == data.text("python_docs", "train")
    assert corpus.validation == data.text("python_docs", "validation")
    assert set(corpus.vocabulary.symbols) == set(corpus.train + corpus.validation)


def test_the_last_tenth_of_a_file_validates_by_default(tmp_path: Path) -> None:
    path = tmp_path / "own.txt"
    path.write_bytes("Zeile für Zeile\r\n".encode() * 20)
    corpus = data.corpus(path)
    assert corpus.name == "own.txt"
    assert corpus.train + corpus.validation == "Zeile für Zeile\r\n" * 20
    assert len(corpus.train) == 306
    assert data.corpus(str(path)) == corpus
    assert len(data.corpus(path, validation=0.5).train) == 170


def test_the_repr_shows_sizes_and_not_the_text(tmp_path: Path) -> None:
    path = tmp_path / "own.txt"
    path.write_text("secret" * 1000)
    expected = "Corpus('own.txt': 5,400 characters to train on, 600 to validate on, 5 symbols)"
    assert repr(data.corpus(path)) == expected


def test_a_byte_order_mark_is_not_part_of_the_text(tmp_path: Path) -> None:
    path = tmp_path / "own.txt"
    path.write_text("abab", encoding="utf-8-sig")
    assert data.corpus(path).vocabulary.symbols == ("a", "b")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty: name a longer text"),
        ("\ufeff".encode(), "is empty"),
        (b"a" * 1000, r"only repeats the character 'a' \(U\+0061, LATIN SMALL LETTER A\)"),
        (b"\n", r"only repeats the character '\\n'"),
        (b"na\xefve", r"not a text in UTF-8 \(byte 0xef at offset 2\).*encoding UTF-8"),
        ("text".encode("utf-16"), r"not a text in UTF-8 \(byte 0xff at offset 0\)"),
        (b"caf\xc3", r"byte 0xc3 at offset 3"),
    ],
)
def test_a_file_without_a_usable_text_is_refused(
    content: bytes, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "own.txt"
    path.write_bytes(content)
    with pytest.raises(Invalid, match=message):
        data.corpus(path)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"none\.txt does not exist: name a text file"):
        data.corpus("none.txt")
    with pytest.raises(Unavailable, match=r"cannot be read \(Is a directory\)"):
        data.corpus(tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [("no_such_text", "no data set 'no_such_text'"), ("digits", "holds images, not text")],
)
def test_a_name_must_be_that_of_a_text(name: str, message: str) -> None:
    with pytest.raises(LabError, match=message):
        data.corpus(name)


@pytest.mark.parametrize("fraction", [0, 1, -0.1, float("nan")])
def test_both_parts_must_hold_something(fraction: float) -> None:
    with pytest.raises(Invalid, match="must be a fraction between 0 and 1"):
        data.corpus("python_docs", validation=fraction)
