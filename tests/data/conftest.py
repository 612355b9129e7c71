"""What tests of the data room share: a store of their own, and a folder for what they import."""

from pathlib import Path

import pytest


@pytest.fixture
def own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty store, and no mirror."""
    monkeypatch.setenv("DLTLAB_DATA_DIR", str(tmp_path / "store"))
    monkeypatch.delenv("DLTLAB_DATA_MIRROR", raising=False)
    return tmp_path / "store"


@pytest.fixture
def own_cards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_store: Path) -> Path:
    """The folder `datasets` of a course of one's own."""
    folder = tmp_path / "course" / "datasets"
    folder.mkdir(parents=True)
    monkeypatch.setenv("DLTLAB_COURSE", str(folder.parent))
    return folder


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Where to write the images; it does not exist yet."""
    return tmp_path / "source"
