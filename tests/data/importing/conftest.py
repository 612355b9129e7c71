"""What tests of imports share: a store of their own, and a folder for the source."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def store_dir(own_store: Path) -> Path:
    """The test's own store."""
    return own_store


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Where to write the images; it does not exist yet."""
    return tmp_path / "source"
