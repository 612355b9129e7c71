"""A workshop in browsers: a learner's JupyterLab and the instructor's board."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from dltlab.exercises import Outcome
from dltlab.exercises.progress import record_outcome
from tests.browser.conftest import HANG_MILLISECONDS
from tests.workshop.board.fake_hub import LAB, NAMES, RunningBoard, make_folder, running_board

SCRIPT = "<img src=x onerror=alert(1)>"


@pytest.fixture
def board(tmp_path: Path) -> Iterator[RunningBoard]:
    expect.set_options(timeout=HANG_MILLISECONDS)
    with running_board(make_folder(tmp_path / "class")) as board:
        yield board


def new_page(browser: Browser, faults: list[str], width: int = 1400) -> Page:
    """Return a page that notes its errors, and what scripts of others would do."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme="dark")
    page.set_default_timeout(HANG_MILLISECONDS)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("dialog", lambda dialog: faults.append(dialog.message))
    return page


def test_learner_and_instructor_hear_of_each_other(
    browser: Browser,
    board: RunningBoard,
    serve: Callable[..., str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DLTLAB_ROOM", str(board.folder.runtime))
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", "token-of-learner02")
    monkeypatch.setenv("DLTLAB_PROGRESS", str(tmp_path / "progress.jsonl"))
    faults: list[str] = []
    shown = new_page(browser, faults)
    shown.goto(board.address)
    row = shown.get_by_role("row", name=NAMES[1])
    expect(row).to_be_visible()

    page = new_page(browser, faults)
    page.goto(serve(tmp_path / "workspace", "01"))
    help_button = page.get_by_role("button", name="I need help")
    expect(help_button).to_be_visible()
    record_outcome(LAB, "softmax", Outcome.NOT_YET, f"A row adds up to 2. {SCRIPT}")
    expect(row.get_by_label("softmax: not yet, 1 attempts")).to_be_visible()
    wrong = shown.get_by_role("region", name="Common wrong answers")
    expect(wrong.last).to_contain_text(f"1 × A row adds up to 2. {SCRIPT}")

    help_button.press("Enter")
    expect(page.get_by_role("button", name="Help is coming")).to_be_visible()
    helped = shown.get_by_role("button", name=f"{NAMES[1]} has been helped")
    helped.press("Enter")
    expect(help_button).to_be_visible()

    shown.get_by_label("To everybody").fill(f"Lunch is at 12:30. {SCRIPT}")
    shown.keyboard.press("Tab")
    shown.keyboard.press("Enter")
    toast = page.locator(".Toastify__toast")
    expect(toast).to_contain_text(f"Lunch is at 12:30. {SCRIPT}")
    expect(shown.get_by_text("seen by 1 of 3")).to_be_visible()

    page.get_by_role("button", name="Hand in").press("Enter")
    receipt = page.locator(".Toastify__toast", has_text="Lab 01 was handed in at")
    expect(receipt).to_contain_text("Receipt: ")
    expect(row).not_to_contain_text("away")
    with shown.expect_popup() as popup:
        row.get_by_role("link", name=NAMES[1]).press("Enter")
    expect(popup.value.get_by_text("Your first network").first).to_be_visible()

    shown.get_by_role("button", name="Release the solutions of lab 01").press("Enter")
    expect(shown.get_by_role("button", name="Hide the solutions of lab 01 again")).to_be_visible()
    shown.get_by_label("Hide names").check()
    expect(shown.get_by_role("row", name="learner02")).to_be_visible()
    expect(shown.locator("tbody").get_by_text(NAMES[1])).to_have_count(0)

    board.process.kill()
    expect(shown.get_by_role("status")).to_contain_text("The connection is lost")
    assert faults == []


@pytest.mark.parametrize("width", [1280, 1920])
def test_the_board_needs_no_scrolling_sideways(
    browser: Browser, board: RunningBoard, width: int
) -> None:
    faults: list[str] = []
    page = new_page(browser, faults, width)
    page.goto(board.address)
    expect(page.get_by_role("row", name=NAMES[0])).to_be_visible()

    assert page.evaluate("document.documentElement.scrollWidth") == width
    table = page.locator(".scroll")
    assert table.evaluate("node => node.scrollWidth - node.clientWidth") <= 0
