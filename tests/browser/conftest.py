"""JupyterLab in a browser: a server for a workspace, and its page."""

import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from dltlab.workshop.connection import free_ports
from tests.browser.notebook_page import wait_until_idle
from tests.deadlines import HANG_SECONDS, spawn, wait_for_port, wait_until

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
HANG_MILLISECONDS = HANG_SECONDS * 1000


@pytest.fixture
def serve(tmp_path: Path, script: str, warm_kernels: None) -> Iterator[Callable[..., str]]:
    """Return a function that serves a workspace and returns the address, with its token.

    Its arguments are those of `dltlab lab`. What the server prints is in terminal.txt.
    """
    servers = []
    terminal = tmp_path / "terminal.txt"

    def start(workspace: Path, *arguments: str) -> str:
        (port,) = free_ports(1)
        options = ["--dir", str(workspace), "--port", str(port)]
        with terminal.open("w") as output:
            server = spawn(
                [script, "lab", *arguments, "--no-browser", *options],
                env=os.environ
                | {
                    "DLTLAB_PROGRESS": str(tmp_path / "progress.jsonl"),
                    "JUPYTERLAB_WORKSPACES_DIR": str(tmp_path / "layout"),  # open no other notebook
                    "JUPYTERLAB_SETTINGS_DIR": str(tmp_path / "settings"),
                },
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        servers.append(server)
        pattern = r"http://127\.0\.0\.1:\d+/lab\S*token=\w+\n"
        wait_until(lambda: re.search(pattern, terminal.read_text()))
        wait_for_port(port)  # Jupyter prints its address before it listens
        return re.findall(pattern, terminal.read_text())[-1].strip()

    yield start
    for server in servers:
        # Not SIGTERM: Jupyter's threads that have just read a file may keep it from ending.
        os.killpg(server.pid, signal.SIGKILL)
        server.communicate(timeout=HANG_SECONDS)


@pytest.fixture
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        yield browser
        browser.close()


@pytest.fixture
def open_notebook(browser: Browser) -> Callable[[str], Page]:
    """Return a function that opens a notebook's address and waits for its kernel."""

    def open_page(address: str) -> Page:
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        page.set_default_timeout(HANG_MILLISECONDS)
        expect.set_options(timeout=HANG_MILLISECONDS)
        page.goto(address)
        page.locator(".jp-Notebook .jp-CodeCell").first.wait_for()
        wait_until_idle(page)
        return page

    return open_page
