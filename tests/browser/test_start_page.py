"""The start page in JupyterLab and a browser, as a learner uses it."""

import re
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, Response, expect

from dltlab import __version__
from dltlab.exercises import Outcome
from dltlab.exercises.progress import record_outcome
from tests.browser.conftest import HANG_MILLISECONDS
from tests.browser.notebook_page import run_with, wait_until_idle
from tests.deadlines import wait_until


@pytest.fixture
def page(browser: Browser) -> Page:
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    page.set_default_timeout(HANG_MILLISECONDS)
    expect.set_options(timeout=HANG_MILLISECONDS)
    return page


def test_the_start_page_leads_a_learner_through_the_course(
    page: Page, serve: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DLTLAB_PROGRESS", str(tmp_path / "progress.jsonl"))
    monkeypatch.chdir(tmp_path)
    replies: list[Response] = []
    page.on("response", lambda reply: replies.append(reply))
    page.goto(serve(tmp_path / "workspace"))
    start = page.locator("#dltlab-start-page")
    expect(start.get_by_role("heading", level=1)).to_have_text("Accelerated deep learning")
    expect(page.locator(".jp-Launcher")).to_have_count(0)
    expect(start).to_contain_text("0 of ")

    details = start.locator("details").first
    details.locator("summary").press("Enter")
    record_outcome("01_first_network", "softmax", Outcome.PASSED)
    expect(start.get_by_role("listitem").first).to_contain_text("1 of ")
    expect(details).to_have_attribute("open", "")
    expect(details.locator("summary")).to_be_focused()
    expect(details.get_by_role("listitem").first).to_have_text("softmax: passed")

    start.get_by_role("link", name="Continue with lab 01: Your first network").press("Enter")
    expect(page.locator(".jp-Notebook .jp-CodeCell").first).to_be_visible()
    wait_until_idle(page)
    expect(start).to_be_hidden()

    tab(page).click()
    expect(start).to_be_visible()

    page.get_by_title("New Launcher").first.click()
    page.locator(".jp-LauncherCard", has_text="Terminal").click()
    page.locator(".jp-Terminal .xterm-screen").click()
    page.keyboard.type("dltlab --version > version.txt\n")
    version = tmp_path / "version.txt"
    wait_until(lambda: version.exists() and version.read_text() == f"dltlab {__version__}\n")
    assert [reply.url for reply in replies if reply.status == HTTPStatus.NOT_FOUND] == []
    assert re.findall(r"\[[WE] .*", (tmp_path / "terminal.txt").read_text()) == []


def test_the_start_page_stays_behind_a_lab_that_was_asked_for(
    page: Page, serve: Callable[..., str], tmp_path: Path
) -> None:
    page.goto(serve(tmp_path / "workspace", "02"))

    expect(page.locator(".jp-Notebook .jp-CodeCell").first).to_be_visible()
    wait_until_idle(page)
    expect(page.locator("#dltlab-start-page")).to_be_hidden()
    expect(tab(page)).to_be_visible()

    cell = page.locator(".jp-CodeCell").first
    run_with(page, cell, "print('a long sentence of many words ' * 20)")
    expect(cell.locator("pre", has_text="a long sentence")).to_have_css("word-break", "normal")


def tab(page: Page) -> Locator:
    """Return the tab of the start page."""
    return page.locator("#jp-main-dock-panel").get_by_role("tab").filter(has_text="Start")
