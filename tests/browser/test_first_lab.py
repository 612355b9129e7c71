"""Lab 01 in the real JupyterLab and a real browser, as a learner meets it."""

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

from dltlab.course.catalog import Course
from dltlab.course.workspace import Workspace

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
MINUTE = 60_000
WRONG = "def softmax(logits):\n    return logits / logits.sum()\n\nex.softmax.check(softmax)"
RIGHT = (
    "def softmax(logits):\n"
    "    powers = np.exp(logits - logits.max(axis=1, keepdims=True))\n"
    "    return powers / powers.sum(axis=1, keepdims=True)\n\n"
    "ex.softmax.check(softmax)"
)

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
    pytest.mark.timeout(600),
]


@pytest.fixture
def address(tmp_path: Path, script: str) -> Iterator[str]:
    """JupyterLab on a workspace in which lab 01 is set to small trainings, opened at that lab."""
    workspace = Workspace(tmp_path / "workspace", Course.own())
    workspace.update()
    (lab,) = workspace.course.read(["01"])
    copy = workspace.copy(lab.name)
    notebook = nbformat.read(copy, 4)
    (cell,) = (c for c in notebook.cells if "parameters" in c.metadata.get("tags", ()))
    values = lab.parameters | lab.front_matter.profiles.smoke
    cell.source = "\n".join(f"{name} = {value!r}" for name, value in values.items())
    nbformat.write(notebook, copy)
    server = subprocess.Popen(
        [script, "lab", "01", "--no-browser", "--dir", workspace.folder],
        env=os.environ
        | {
            "DLTLAB_PROGRESS": str(tmp_path / "progress.jsonl"),
            "JUPYTERLAB_WORKSPACES_DIR": str(tmp_path / "layout"),  # no notebook of another day
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        assert server.stdout is not None
        lines = iter(server.stdout.readline, "")
        found = (re.search(r"http://127\.0\.0\.1:\d+/lab\S*token=\w+", line) for line in lines)
        yield next(match[0] for match in found if match)
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(timeout=60)


@pytest.fixture
def page(address: str) -> Iterator[Page]:
    """The lab's page, its kernel ready."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        page.set_default_timeout(MINUTE)
        expect.set_options(timeout=MINUTE)
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

    run_with(page, exercise, RIGHT)
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
    expect(tensorboard.get_by_text("epoch_loss").first).to_be_visible(timeout=2 * MINUTE)

    page.keyboard.press("ControlOrMeta+s")
    choose(page, "Kernel", "Shut Down Kernel")
    expect(page.locator("#jp-main-statusbar")).to_contain_text("No Kernel")  # or the page finds it
    page.reload()
    expect(code_cell(page, "ex.first_loss.ask()").locator("[data-outcome=passed]")).to_be_visible()
    assert "Error displaying widget" not in page.locator(".jp-Notebook").inner_text()


def choose(page: Page, menu: str, item: str) -> None:
    """Choose an item of one of JupyterLab's menus."""
    page.get_by_role("menuitem", name=menu, exact=True).click()
    page.get_by_role("menuitem", name=item).first.click()


def wait_until_idle(page: Page) -> None:
    """Every cell that was started has ended."""
    status = page.locator("#jp-main-statusbar")
    expect(status).to_contain_text("(ipykernel) | Idle", timeout=5 * MINUTE)


def code_cell(page: Page, text: str) -> Locator:
    """The code cell that contains `text` now, whatever is written into it later."""
    found = page.locator(".jp-CodeCell", has_text=text).first
    found.scroll_into_view_if_needed()
    place = found.get_attribute("data-windowed-list-index")
    return page.locator(f".jp-CodeCell[data-windowed-list-index='{place}']")


def run_with(page: Page, cell: Locator, source: str) -> None:
    """Replace a cell's source as a learner would, and run it."""
    cell.locator(".cm-content").click()
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.insert_text(source)
    page.keyboard.press("Control+Enter")
    wait_until_idle(page)
