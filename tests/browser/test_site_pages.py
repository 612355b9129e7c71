"""The site in a browser: on a phone and a laptop, in light and dark colors, by axe-core's rules."""

from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser

PHONE, LAPTOP = {"width": 390, "height": 844}, {"width": 1280, "height": 800}
PAGES = [
    "index.html",
    "try_it.html",
    "course/index.html",
    "course/01_first_network.html",
    "guide/learn.html",
    "how_it_works/shared_zygote.html",
    "reference/dltlab.data.html",
    "gallery.html",
    "glossary.html",
    "benchmarks/index.html",
]
# Violations of these do not keep anyone from reading or operating a page.
IMPACTS = ("serious", "critical")


class Quiet(SimpleHTTPRequestHandler):
    """Serves files without a log."""

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def address(site: Path) -> Iterator[str]:
    """The address of the site on this machine."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site)))
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("size", "scheme"),
    [(PHONE, "light"), (LAPTOP, "dark")],
    ids=["a light phone", "a dark laptop"],
)
def test_pages_fit_have_no_serious_fault_and_load_nothing_from_elsewhere(
    browser: Browser, address: str, size: dict[str, int], scheme: str
) -> None:
    context = browser.new_context(viewport=size, color_scheme=scheme)  # type: ignore[arg-type]
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on(
        "request",
        lambda request: (
            None if request.url.startswith((address, "data:")) else errors.append(request.url)
        ),
    )
    options: dict[str, Any] = {"resultTypes": ["violations"]}
    if scheme == "dark":  # which changes nothing but the colors
        options["runOnly"] = ["color-contrast"]
    faults = []
    for name in PAGES:
        page.goto(f"{address}/{name}", wait_until="load")
        width = page.evaluate("document.documentElement.scrollWidth")
        if width > size["width"]:
            faults.append(f"{name}: {width} pixels wide")
        found = Axe().run(page, options=options).response["violations"]
        faults += [
            f"{name}: {violation['id']}: {node['target']} {node['failureSummary']}"
            for violation in found
            if violation["impact"] in IMPACTS
            for node in violation["nodes"]
        ]
    context.close()

    assert errors == []
    assert faults == []
