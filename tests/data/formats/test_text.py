"""A text file that is divided by the sizes of its card."""

from pathlib import Path

import pytest

from dltlab import data
from dltlab.errors import Unavailable
from dltlab.files import sha256_of

TEXT = "Der Fuß, die Füße. " * 10
CARD = """
name = "feet"
title = "Feet."
format = "text"
license = "CC0-1.0"
citation = "None."
version = "1"
[splits.train]
size = 150
[splits.validation]
size = 40
[[files]]
name = "feet.txt"
urls = ["http://127.0.0.1:9/feet.txt"]
size = {size}
sha256 = "{sha256}"
"""


@pytest.fixture
def text_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of the data set `feet`, in the mirror folder."""
    path = tmp_path / "mirror" / "feet.txt"
    path.parent.mkdir()
    path.write_text(TEXT, encoding="utf-8")
    (tmp_path / "datasets").mkdir()
    card = CARD.format(size=path.stat().st_size, sha256=sha256_of(path))
    (tmp_path / "datasets" / "feet.toml").write_text(card)
    monkeypatch.setenv("DLTLAB_COURSE", str(tmp_path))
    monkeypatch.setenv("DLTLAB_DATA_MIRROR", str(path.parent))
    monkeypatch.setenv("DLTLAB_DATA_DIR", str(tmp_path / "store"))
    return path


def test_the_splits_follow_each_other_by_characters(text_file: Path) -> None:
    assert data.text("feet", "train") == TEXT[:150]
    assert data.text("feet", "validation") == TEXT[150:190]
    assert data.text("feet") == TEXT


def test_a_split_is_one_document(text_file: Path) -> None:
    (document,) = data.load("feet", "validation")
    assert document.numpy().decode() == TEXT[150:190]


def test_a_file_that_is_not_available_is_named(text_file: Path) -> None:
    text_file.unlink()
    with pytest.raises(Unavailable, match=r"feet\.txt of the data set 'feet' is not available"):
        data.text("feet")
