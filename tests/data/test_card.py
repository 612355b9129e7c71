"""Cards: what is accepted, and how a wrong one is named."""

from pathlib import Path

import pytest

from dltlab.data import info
from dltlab.data.card import card_names
from dltlab.errors import LabError

KINDS = {
    "cifar10": "images", "digits": "images", "fashion_mnist": "images", "mackey_glass": "series",
    "mnist": "images", "python_docs": "text", "shapes": "images", "tinyshakespeare": "text",
}  # fmt: skip
DIGITS = Path(__file__).parents[2] / "datasets" / "digits.toml"


@pytest.fixture
def card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of a card in a course of one's own."""
    monkeypatch.setenv("DLTLAB_COURSE", str(tmp_path))
    (tmp_path / "datasets").mkdir()
    return tmp_path / "datasets" / "digits.toml"


def test_a_card_says_where_the_data_come_from_and_how_to_know_them() -> None:
    card = info("mnist")
    assert len(card.files) == 4
    assert all(len(file.urls) == 2 and len(file.sha256) == 64 for file in card.files)
    assert sum(split.size for split in card.splits.values()) == 70_000


@pytest.mark.parametrize("name", card_names())
def test_every_card_is_right_and_a_file_is_fetched_from_the_web_alone(name: str) -> None:
    card = info(name)
    assert (card.name, card.kind) == (name, KINDS[name])
    assert all(url.startswith("http") for file in card.files for url in file.urls)


def test_a_course_of_ones_own_brings_its_cards_first(card: Path) -> None:
    card.write_text(DIGITS.read_text().replace("CC BY 4.0", "mine"))
    assert info("digits").license == "mine"
    assert info("mnist").name == "mnist"


@pytest.mark.parametrize(
    ("right", "wrong", "sentence"),
    [
        ("license =", "licence =", "the key 'license' is missing"),
        ("files = []", "files = []\nsource = 'x'", "unknown key 'source'"),
        ('"sklearn_digits"', '"parquet"', "'format': it must be one of 'sklearn_digits', 'idx'"),
        ('"sklearn_digits"', '"shapes"', "the key 'seed' is missing"),
        ('"sklearn_digits"', '"cifar"', "'files': list should have at least 1 item"),
        ("every = 4", "every = 4\nhow = 'so'", "unknown key 'hold_out.how'"),
        ("every = 4", "every = 1", "'hold_out.every': input should be greater than"),
        ('name = "digits"', 'name = "numbers"', "the name is 'numbers'"),
        ("[splits.test]\nsize = 450", "", "describe the split 'train'"),
        ("[8, 8, 1]", "[8, 8", "cannot be read as a card"),
        ('"sklearn_digits"', '"idx"', "split 'train' names the file None"),
    ],
)
def test_a_wrong_card_is_named_with_the_key(
    card: Path, right: str, wrong: str, sentence: str
) -> None:
    assert right in DIGITS.read_text()
    card.write_text(DIGITS.read_text().replace(right, wrong))
    with pytest.raises(LabError) as caught:
        info("digits")
    assert str(card) in str(caught.value)
    assert sentence in str(caught.value)
