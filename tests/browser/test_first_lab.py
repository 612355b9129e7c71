"""Lab 01 in JupyterLab and a browser, as a learner uses it."""

import re
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import Page, expect

from dltlab.course import Course, Workspace
from tests.browser.notebook_page import choose, code_cell, run_with, wait_until_idle

WRONG = "def softmax(logits):\n    return logits / logits.sum()\n\nex.softmax.check(softmax)"
CORRECT = (
    "def softmax(logits):\n"
    "    powers = np.exp(logits - logits.max(axis=1, keepdims=True))\n"
    "    return powers / powers.sum(axis=1, keepdims=True)\n\n"
    "ex.softmax.check(softmax)"
)


@pytest.fixture
def page(tmp_path: Path, serve: Callable[..., str], open_notebook: Callable[[str], Page]) -> Page:
    """The page of lab 01, in a workspace where it has the smoke profile."""
    workspace = Workspace(tmp_path / "workspace", Course.own())
    workspace.update()
    (lab,) = workspace.course.read(["01"])
    copy = workspace.copy(lab.name)
    notebook = nbformat.read(copy, 4)
    (cell,) = (c for c in notebook.cells if "parameters" in c.metadata.get("tags", ()))
    values = lab.parameters | lab.front_matter.profiles.smoke
    cell.source = "\n".join(f"{name} = {value!r}" for name, value in values.items())
    nbformat.write(notebook, copy)
    return open_notebook(serve(workspace.folder, "01"))


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
    expect(question.locator("[data-outcome=passed]:visible")).to_contain_text("ln 10")

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
    question = code_cell(page, "ex.first_loss.ask()")
    expect(question.locator("[data-outcome=passed]:visible")).to_have_count(1)
    expect(question.get_by_text("Run this cell again")).to_be_visible()
    assert "Error displaying widget" not in page.locator(".jp-Notebook").inner_text()
