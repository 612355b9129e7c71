"""Cards, figures and widgets in JupyterLab: the keyboard, the pointer, and without a kernel."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import Locator, Page, expect

from dltlab.course import Course, Workspace
from tests.browser.notebook_page import choose, code_cell, wait_until_idle

RUN_AGAIN = "Run this cell again to bring it back to life."
CELLS = {
    "card": "def softmax(logits):\n    return logits\n\nex.softmax.check(softmax)",
    "question": "ex.first_loss.ask()",
    "long question": "ex.why_shift.ask()",
    "pad": "DigitPad(lambda image: np.eye(10)[int(image.sum()) % 10]).show()",
    "figure": "figure, axis = plt.subplots()\nshow(figure, 'Two empty axes.')",
    "busy": "sum(range(200_000_000))",  # holds Python's lock for seconds
    "text": "print('a long sentence of many words ' * 20)",
}
IMPORTS = """import matplotlib.pyplot as plt
import numpy as np

from dltlab.checks import first_network as ex
from dltlab.display import show
from dltlab.widgets import DigitPad"""


@pytest.fixture
def page(tmp_path: Path, serve: Callable[..., str], open_notebook: Callable[[str], Page]) -> Page:
    """The page of a notebook with `CELLS`, which have been run."""
    workspace = Workspace(tmp_path / "workspace", Course.own())
    workspace.update()
    cells = [nbformat.v4.new_code_cell(source) for source in (IMPORTS, *CELLS.values())]
    notebook = nbformat.v4.new_notebook(cells=cells)
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3 (ipykernel)"}
    nbformat.write(notebook, workspace.folder / "page.ipynb")
    address, token = serve(workspace.folder, "01").split("/lab")
    page = open_notebook(f"{address}/lab/tree/page.ipynb?token={token.partition('token=')[2]}")
    choose(page, "Run", "Run All Cells")
    expect(cell(page, "text").locator(".jp-OutputArea-output")).to_contain_text("a long sentence")
    wait_until_idle(page)
    return page


def cell(page: Page, name: str) -> Locator:
    return code_cell(page, CELLS[name].splitlines()[-1])


def test_widgets_without_a_kernel_say_how_to_start_them_and_keep_what_was_chosen(
    page: Page,
) -> None:
    choose_b(page)
    choose(page, "Kernel", "Restart Kernel…")
    page.get_by_role("button", name="Confirm Kernel Restart").click()
    expect_stopped(page)

    choose(page, "Run", "Run All Cells")
    choose_b(page)
    page.keyboard.press("ControlOrMeta+s")
    choose(page, "Kernel", "Shut Down Kernel")
    expect_stopped(page)
    page.reload()  # which starts a new kernel
    wait_until_idle(page)
    expect_stopped(page)


def choose_b(page: Page) -> None:
    """Choose a wrong option of the question."""
    question = cell(page, "question")
    expect(question.get_by_role("button", name="Check")).to_have_count(1)
    question.get_by_role("radio").nth(1).check()
    question.get_by_role("button", name="Check").click()
    expect(question.locator("[data-outcome='not yet']:visible")).to_have_count(1)
    for name in ("question", "pad"):
        expect(cell(page, name).get_by_text(RUN_AGAIN)).to_be_hidden()


def expect_stopped(page: Page) -> None:
    question, pad = cell(page, "question"), cell(page, "pad")
    expect(question.get_by_text(RUN_AGAIN)).to_be_visible()
    expect(question.get_by_text("You chose b) 0.9")).to_be_visible()
    expect(question.locator("[data-outcome='not yet']:visible")).to_have_count(1)
    expect(question.get_by_role("radio")).to_have_count(0)
    expect(pad.get_by_text(RUN_AGAIN)).to_be_visible()
    expect(pad.locator(".dltlab-pixel:visible")).to_have_count(0)


def test_pointer_keyboard_and_screen_reader_reach_everything(page: Page) -> None:
    paint_by_dragging_and_with_the_keyboard(cell(page, "pad"))
    expect_no_overlapping_options(cell(page, "long question"))
    check_while_the_kernel_is_busy(page)
    move_between_options_with_the_arrow_keys(cell(page, "question"))
    open_a_hint_with_the_keyboard(cell(page, "card"))

    expect(cell(page, "figure").get_by_role("img", name="Two empty axes.")).to_be_visible()
    text = cell(page, "text").locator(".jp-OutputArea-output pre")
    expect(text).to_have_css("word-break", "normal")


def paint_by_dragging_and_with_the_keyboard(pad: Locator) -> None:
    pixels = pad.get_by_role("button", name="row")
    expect(pixels).to_have_count(64)
    assert pressed(pixels) == []

    mouse, keyboard = pad.page.mouse, pad.page.keyboard
    start, end = pixels.nth(1).bounding_box(), pixels.nth(41).bounding_box()
    assert start
    assert end
    mouse.move(start["x"] + 9, start["y"] + 9)
    mouse.down()
    mouse.move(end["x"] + 9, end["y"] + 9, steps=20)
    mouse.up()
    expect(pad.locator(".dltlab-bars")).to_contain_text("reads this as 6")
    assert pressed(pixels) == [1, 9, 17, 25, 33, 41]

    for key in ("ArrowRight", "ArrowDown", "Space", "ArrowUp", "ArrowLeft", "Enter"):
        keyboard.press(key)
    expect(pad.locator(".dltlab-bars")).to_contain_text("reads this as 6")
    assert pressed(pixels) == [9, 10, 17, 25, 33, 41]


def pressed(pixels: Locator) -> list[int]:
    """Return the places of the pixels that a screen reader announces as pressed."""
    states = pixels.evaluate_all("all => all.map((pixel) => pixel.getAttribute('aria-pressed'))")
    return [place for place, state in enumerate(states) if state == "true"]


def move_between_options_with_the_arrow_keys(question: Locator) -> None:
    radios = question.get_by_role("radio")
    radios.first.check()
    for _ in range(2):
        question.page.keyboard.press("ArrowDown")
    expect(radios.nth(2)).to_be_checked()
    question.get_by_role("button", name="Check").press("Enter")
    expect(question.locator("[data-outcome=passed]:visible")).to_have_count(1)


def check_while_the_kernel_is_busy(page: Page) -> None:
    """The kernel may handle the click before the choices, and shows the verdict all the same."""
    choose_b(page)
    cell(page, "busy").locator(".cm-content").click()
    page.keyboard.press("Control+Enter")
    question = cell(page, "question")
    for place in (0, 1, 2):
        question.get_by_role("radio").nth(place).check()
    question.get_by_role("button", name="Check").click()

    expect(question.locator("[data-outcome=passed]:visible")).to_have_count(1)
    wait_until_idle(page)
    expect(question.locator("[data-outcome=passed]:visible")).to_have_count(1)
    expect(question.get_by_role("radio").nth(2)).to_be_checked()
    question.get_by_role("radio").nth(1).check()
    expect(question.locator("[data-outcome]:visible")).to_have_count(0)
    question.get_by_role("radio").nth(2).check()
    expect(question.locator("[data-outcome=passed]:visible")).to_have_count(1)


def expect_no_overlapping_options(question: Locator) -> None:
    page = question.page
    size = page.viewport_size
    assert size
    page.set_viewport_size({"width": 700, "height": size["height"]})
    options = question.locator("label:has(input)")
    expect(options).to_have_count(4)
    boxes = [box for option in options.all() if (box := option.bounding_box())]
    assert max(box["height"] for box in boxes) > 1.5 * min(box["height"] for box in boxes)
    for box, next_box in pairwise(boxes):
        assert box["y"] + box["height"] <= next_box["y"]
    page.set_viewport_size(size)


def open_a_hint_with_the_keyboard(card: Locator) -> None:
    card.get_by_text("Hint 1 of 3").press("Enter")
    expect(card.get_by_text("First the powers")).to_be_visible()
    expect(card.locator("details", has_text="Solution")).not_to_have_attribute("open", "")
    card.get_by_text("Hint 1 of 3").press("Space")
    expect(card.get_by_text("First the powers")).to_be_hidden()
