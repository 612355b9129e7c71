"""Lab 01 in JupyterLab and a browser, as a learner uses it."""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import Locator, Page, expect, sync_playwright

from dltlab.course import Course, Workspace
from tests.deadlines import HANG_SECONDS, spawn

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
HANG_MILLISECONDS = HANG_SECONDS * 1000
WRONG = "def softmax(logits):\n    return logits / logits.sum()\n\nex.softmax.check(softmax)"
CORRECT = (
    "def softmax(logits):\n"
    "    powers = np.exp(logits - logits.max(axis=1, keepdims=True))\n"
    "    return powers / powers.sum(axis=1, keepdims=True)\n\n"
    "ex.softmax.check(softmax)"
)

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")


@pytest.fixture
def address(tmp_path: Path, script: str, warm_kernels: None) -> Iterator[str]:
    """The address of JupyterLab at lab 01, in a workspace where it has the smoke profile."""
    workspace = Workspace(tmp_path / "workspace", Course.own())
    workspace.update()
    (lab,) = workspace.course.read(["01"])
    copy = workspace.copy(lab.name)
    notebook = nbformat.read(copy, 4)
    (cell,) = (c for c in notebook.cells if "parameters" in c.metadata.get("tags", ()))
    values = lab.parameters | lab.front_matter.profiles.smoke
    cell.source = "\n".join(f"{name} = {value!r}" for name, value in values.items())
    nbformat.write(notebook, copy)
    server = spawn(
        [script, "lab", "01", "--no-browser", "--dir", workspace.folder],
        env=os.environ
        | {
            "DLTLAB_PROGRESS": str(tmp_path / "progress.jsonl"),
            "JUPYTERLAB_WORKSPACES_DIR": str(tmp_path / "layout"),  # open no other notebook
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        assert server.stdout is not None
        lines = iter(server.stdout.readline, "")
        matches = (re.search(r"http://127\.0\.0\.1:\d+/lab\S*token=\w+", line) for line in lines)
        yield next(match[0] for match in matches if match)
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.communicate(timeout=HANG_SECONDS)


@pytest.fixture
def page(address: str) -> Iterator[Page]:
    """The lab's page with a kernel that is ready."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        page.set_default_timeout(HANG_MILLISECONDS)
        expect.set_options(timeout=HANG_MILLISECONDS)
        page.goto(address)
        page.locator(".jp-Notebook .jp-CodeCell").first.wait_for()
        wait_until_idle(page)
        yield page
        browser.close()


def test_a_learner_works_through_lab_01(page: Page) -> None:
    choose(page, "Run", "Run All Cells")
    expect(code_cell(page, "read_painting").locator(".jp-InputPrompt")).to_contain_text("*")
    wait_until_idle(page)

    exercise = code_cell(page, "def softmax(logits)")
    expect(exercise.locator("[data-outcome=unattempted]")).to_be_visible()
    assert "Traceback" not in page.locator(".jp-Notebook").inner_text()
    expect(page.locator("[data-mime-type='application/vnd.jupyter.stderr']")).to_have_count(0)

    run_with(page, exercise, WRONG)
    expect(exercise.locator("[data-outcome='not yet']")).to_contain_text("negative")

    run_with(page, exercise, "ex.softmax.hint()")
    expect(exercise.locator(".dltlab-card")).to_contain_text("hint 1 of 3")

    run_with(page, exercise, CORRECT)
    expect(exercise.locator("[data-outcome=passed]")).to_contain_text("Correct")

    question = code_cell(page, "ex.first_loss.ask()")
    question.get_by_role("radio", name=re.compile(r"^c\)")).check()
    question.get_by_role("button", name="Check").click()
    expect(question.locator("[data-outcome=passed]")).to_contain_text("ln 10")

    pad = code_cell(page, "read_painting")
    expect(pad.locator(".dltlab-bars")).to_contain_text("The network reads this as")
    pad.get_by_role("button", name="Clear").click()
    expect(pad.locator(".dltlab-bars")).to_contain_text("Paint a digit")
    for row in range(8):
        pad.locator(".dltlab-pixel").nth(8 * row + 4).click()
    expect(pad.locator(".dltlab-bars")).to_contain_text("The network reads this as")

    tensorboard = code_cell(page, 'tensorboard("runs")').frame_locator("iframe")
    expect(tensorboard.get_by_text("epoch_loss").first).to_be_visible()

    page.keyboard.press("ControlOrMeta+s")
    choose(page, "Kernel", "Shut Down Kernel")
    expect(page.locator("#jp-main-statusbar")).to_contain_text("No Kernel")
    page.reload()
    expect(code_cell(page, "ex.first_loss.ask()").locator("[data-outcome=passed]")).to_be_visible()
    assert "Error displaying widget" not in page.locator(".jp-Notebook").inner_text()


def choose(page: Page, menu: str, item: str) -> None:
    """Choose an item of one of JupyterLab's menus."""
    page.get_by_role("menuitem", name=menu, exact=True).click()
    page.get_by_role("menuitem", name=item).first.click()


def wait_until_idle(page: Page) -> None:
    """Wait until every cell that was started has ended."""
    expect(page.locator("#jp-main-statusbar")).to_contain_text("(ipykernel) | Idle")


def code_cell(page: Page, text: str) -> Locator:
    """Return the code cell that contains `text` now, even if its text changes later."""
    cell = page.locator(".jp-CodeCell", has_text=text).first
    cell.scroll_into_view_if_needed()
    index = cell.get_attribute("data-windowed-list-index")
    return page.locator(f".jp-CodeCell[data-windowed-list-index='{index}']")


def run_with(page: Page, cell: Locator, source: str) -> None:
    """Replace a cell's source as a learner does, and run it."""
    cell.locator(".cm-content").click()
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.insert_text(source)
    page.keyboard.press("Control+Enter")
    wait_until_idle(page)
