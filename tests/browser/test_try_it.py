"""The page on which a network runs in the browser: it computes what NumPy computes."""

import base64
import json
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect

from dltlab import data

FOLDER = Path(__file__).parents[2] / "docs" / "static" / "taste"
NETWORK = json.loads(
    (FOLDER / "network.js").read_text().removeprefix("const dltlabNetwork = ").rstrip().rstrip(";")
)


def scores(images: np.ndarray) -> np.ndarray:
    """The network's scores `(n, 10)` for images `(n, 64)`."""
    values = images.astype(np.float32)
    for place, layer in enumerate(NETWORK["layers"]):
        kernel, bias = (
            np.frombuffer(base64.b64decode(layer[name]), "<f4") for name in ("kernel", "bias")
        )
        values = values @ kernel.reshape(layer["shape"]) + bias
        if place < len(NETWORK["layers"]) - 1:
            values = np.maximum(values, 0)
    return values


def percents(image: np.ndarray) -> list[str]:
    """What the page shows for an image."""
    exponentials = np.exp(scores(image.reshape(1, 64))[0])
    return [f"{value:.1%}" for value in exponentials / exponentials.sum()]


@pytest.fixture
def page(browser: Browser, site: Path) -> Page:
    """The page as a file, opened with no network at all."""
    context = browser.new_context(offline=True)
    page = context.new_page()
    page.goto((site / "try_it.html").as_uri())
    return page


def shown(page: Page) -> tuple[np.ndarray, list[str]]:
    pressed = page.locator(".dltlab-taste-pad button").evaluate_all(
        "pixels => pixels.map(pixel => pixel.getAttribute('aria-pressed') === 'true')"
    )
    return np.array(pressed), page.locator(".dltlab-taste-percent").all_text_contents()


def test_the_network_has_the_accuracy_that_the_page_states():
    images, labels = data.arrays("digits", "test")

    right = scores(images.reshape(-1, 64) >= 0.5).argmax(axis=1) == labels

    assert len(labels) == NETWORK["numTest"]
    assert right.mean() == pytest.approx(NETWORK["accuracy"], abs=1e-4)
    assert NETWORK["accuracy"] > 0.9


def test_what_the_page_loads_is_small():
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 1e6


def test_a_painted_digit_is_read_as_numpy_reads_it(page):
    sentence = page.locator("#dltlab-taste p")
    expect(sentence).to_contain_text("The network reads this as")
    image, percentages = shown(page)
    assert "".join("01"[int(pixel)] for pixel in image) == NETWORK["examples"][0]
    assert percentages == percents(image)
    expect(page.locator("#dltlab-taste-accuracy")).to_have_text("92.4% of 450")

    page.get_by_role("button", name="Clear").click()
    expect(sentence).to_have_text("Paint a digit: drag over the pixels.")
    assert not shown(page)[0].any()

    boxes = [page.get_by_label(f"row {row}, column 4").bounding_box() for row in (2, 7)]
    (x, top), (_, bottom) = ((box["x"] + 16, box["y"] + 16) for box in boxes)
    page.mouse.move(x, top)
    page.mouse.down()
    page.mouse.move(x, bottom, steps=20)
    page.mouse.up()
    image, percentages = shown(page)
    expected = np.zeros((8, 8), bool)
    expected[1:7, 3] = True
    assert (image.reshape(8, 8) == expected).all()
    assert percentages == percents(image)
    expect(sentence).to_contain_text("The network reads this as 1.")


def test_the_pad_is_operated_with_the_keyboard(page):
    page.get_by_role("button", name="Clear").click()
    page.get_by_label("row 1, column 1", exact=True).focus()

    for key in ("ArrowUp", "ArrowRight", "ArrowDown", "ArrowDown", "Space"):
        page.keyboard.press(key)

    assert np.flatnonzero(shown(page)[0]).tolist() == [2 * 8 + 1]
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Tab")
    expect(page.get_by_label("row 3, column 2")).to_be_focused()
