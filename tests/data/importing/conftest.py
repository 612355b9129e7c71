"""Every test of imports has a store of its own."""

import pytest


@pytest.fixture(autouse=True)
def _own_store(own_store: object) -> None:
    """Use the test's own store."""
