"""A workshop's folder for tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from dltlab.workshop.folder import WorkshopFolder


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[WorkshopFolder]:
    """A folder with a roster of Ada and Eve, as serving makes it."""
    folder = WorkshopFolder(tmp_path)
    folder.create()
    folder.roster_file.write_text("name\nAda\nEve\n")
    runtime = folder.runtime
    yield folder
    runtime.rmdir()
