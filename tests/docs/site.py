"""The site, built once for all tests that look at it."""

import os
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple

import filelock
import pytest

from tests.deadlines import HANG_SECONDS

REPOSITORY = Path(__file__).resolve().parents[2]


class Element(NamedTuple):
    """A start tag of a page."""

    tag: str
    attributes: dict[str, str | None]


class _Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.elements: list[Element] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(Element(tag, dict(attrs)))


def elements(page: Path) -> list[Element]:
    """Return the start tags of a page."""
    parser = _Elements()
    parser.feed(page.read_text(encoding="utf-8"))
    return parser.elements


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the site, as `make docs` builds it, for a repository on GitHub.

    The first worker that needs it builds it, the others wait.
    """
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # which all workers of this run share
    folder = base / "site"
    with filelock.FileLock(folder.with_suffix(".lock")):
        if not (folder / "index.html").is_file():
            options = ["--quiet", "--fail-on-warning", "--keep-going"]
            options += ["-D", "repository=https://github.com/someone/dltlab"]
            command = [sys.executable, "-m", "sphinx", *options]
            done = subprocess.run(
                [*command, "-d", str(folder.with_name("site-doctrees")), "docs", str(folder)],
                cwd=REPOSITORY,
                capture_output=True,
                text=True,
                timeout=HANG_SECONDS,
            )
            assert done.returncode == 0, done.stdout + done.stderr
    return folder
