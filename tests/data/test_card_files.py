"""The cards of a course: which are valid, and how the error of an invalid one names its key."""

from pathlib import Path

import pytest

from dltlab.data import info
from dltlab.data.card import DatasetCard
from dltlab.data.card_files import card_names
from dltlab.errors import Invalid

KINDS = {
    "captioned_shapes": "images", "cifar10": "images", "digits": "images",
    "fashion_mnist": "images", "gravitational_waves": "signals", "gw150914": "series",
    "gw150914_4khz": "series", "mackey_glass": "series", "mnist": "images",
    "python_docs": "text", "shapes": "images",
    "small_molecules": "molecules", "small_molecules_xtb": "molecules", "tinyshakespeare": "text",
}  # fmt: skip
DIGITS = Path(__file__).parents[2] / "datasets" / "digits.toml"


@pytest.fixture
def card_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of a card in another course."""
    monkeypatch.setenv("DLTLAB_COURSE", str(tmp_path))
    (tmp_path / "datasets").mkdir()
    return tmp_path / "datasets" / "digits.toml"


def test_a_card_holds_urls_and_hashes() -> None:
    card = info("mnist")
    assert isinstance(card, DatasetCard)
    assert len(card.files) == 4
    assert all(len(file.urls) == 2 and len(file.sha256) == 64 for file in card.files)
    assert sum(split.size or 0 for split in card.splits.values()) == 70_000


@pytest.mark.parametrize("name", card_names())
def test_every_card_is_valid_and_its_files_come_from_the_web(name: str) -> None:
    card = info(name)
    assert (card.name, card.kind) == (name, KINDS[name])
    assert all(url.startswith("http") for file in card.files for url in file.urls)


def test_the_cards_of_another_course_have_precedence(card_path: Path) -> None:
    card_path.write_text(DIGITS.read_text().replace("CC BY 4.0", "mine"))
    assert info("digits").license == "mine"
    assert info("mnist").name == "mnist"


@pytest.mark.parametrize(
    ("valid", "invalid", "message"),
    [
        ("license =", "licence =", "the key 'license' is missing"),
        ("files = []", "files = []\nsource = 'x'", "unknown key 'source'"),
        (
            '"sklearn_digits"',
            '"parquet"',
            "'format': it must be one of captioned_shapes, cifar, csv, gravitational_waves",
        ),
        (
            'format = "sklearn_digits"',
            "",
            "'format': it must be one of captioned_shapes, cifar, csv, gravitational_waves",
        ),
        ('"sklearn_digits"', '"shapes"', "the key 'seed' is missing"),
        ('"sklearn_digits"', '"cifar"', "'files': list should have at least 1 item"),
        ("every = 4", "every = 4\nhow = 'so'", "unknown key 'hold_out.how'"),
        ("every = 4", "every = 1", "'hold_out.every': input should be greater than"),
        ('name = "digits"', 'name = "numbers"', "the name is 'numbers'"),
        ("[splits.test]\nsize = 450", "", "describe the split 'train'"),
        ("[8, 8, 1]", "[8, 8", "cannot be read as a card"),
        ('"sklearn_digits"', '"idx"', "the key 'splits.train.images' is missing"),
        (
            "size = 1347",
            "size = 1347\nimages = 'a.gz'\nlabels = 'b.gz'",
            "unknown key 'splits.train.images'",
        ),
    ],
)
def test_an_invalid_card_is_named_with_the_key(
    card_path: Path, valid: str, invalid: str, message: str
) -> None:
    assert valid in DIGITS.read_text()
    card_path.write_text(DIGITS.read_text().replace(valid, invalid))
    with pytest.raises(Invalid) as caught:
        info("digits")
    assert str(card_path) in str(caught.value)
    assert message in str(caught.value)


def test_a_split_whose_file_has_no_entry_is_named(card_path: Path) -> None:
    mnist = (DIGITS.parent / "mnist.toml").read_text()
    card_path.with_name("mnist.toml").write_text(
        mnist.replace('labels = "t10k-labels-idx1-ubyte.gz"', 'labels = "none.gz"')
    )
    with pytest.raises(Invalid, match=r"split 'test' names the file none\.gz, which has no entry"):
        info("mnist")


def test_the_card_in_the_guide_for_contributors_is_valid(card_path: Path, repository: Path) -> None:
    guide = (repository / "CONTRIBUTING.md").read_text()
    card = guide.partition("```toml\n")[2].partition("```")[0]
    card_path.with_name("leaves.toml").write_text(card.replace('"SHA256"', f'"{64 * "0"}"'))
    assert info("leaves").contents == "1,200 color images 64×64, 2 classes"
    assert all(f"| `{name}` |" in guide for name in ("cifar", "csv", "idx", "image_folder", "npz"))
