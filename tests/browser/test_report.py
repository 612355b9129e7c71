"""The report of a batch in a browser, opened from disk."""

import pytest
from playwright.sync_api import expect

from dltlab.batch.report import Report
from dltlab.batch.run_folder import Status
from tests.batch.fabricated_runs import fabricate
from tests.deadlines import HANG_SECONDS

SCRIPT = "<script>document.title='broken'</script>"


@pytest.fixture
def report(tmp_path):
    """The address of a report of runs with two metrics; one has failed."""
    expect.set_options(timeout=HANG_SECONDS * 1000)
    for rate, optimizer in ((0.001, "adam"), (0.01, SCRIPT), (0.1, "sgd"), (0.5, "sgd")):
        metrics = {"accuracy": [0.1, 1 - rate], "loss": float("nan") if rate > 0.2 else rate}
        fabricate(tmp_path, {"lr": rate, "optimizer": optimizer}, metrics, started=1e9 + rate)
    parameters = {"lr": 1.0, "optimizer": "adam"}
    fabricate(tmp_path, parameters, status=Status.FAILED, reason="Cell 3 failed.")
    return Report(tmp_path).write().as_uri()


def test_it_is_sorted_filtered_and_drawn(browser, report):
    page = browser.new_page(viewport={"width": 1280, "height": 900}, color_scheme="dark")
    errors: list[str] = []
    page.on("console", lambda message: errors.append(message.text))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on(
        "request",
        lambda request: errors.append(request.url) if "file:" not in request.url else None,
    )
    page.goto(report)
    statuses = page.locator("tbody tr td:first-child")
    expect(statuses.first).to_contain_text("failed")
    expect(page.get_by_role("row", name="Cell 3 failed.")).to_be_visible()

    heading = page.get_by_role("columnheader", name="loss")
    losses = page.locator("tbody tr td:nth-child(6)")
    page.get_by_role("button", name="loss").focus()
    page.keyboard.press("Enter")
    expect(heading).to_have_attribute("aria-sort", "ascending")
    expect(losses).to_have_text(["0.001", "0.01", "0.1", "nan", "–"])
    page.keyboard.press("Enter")
    expect(heading).to_have_attribute("aria-sort", "descending")
    expect(losses).to_have_text(["0.1", "0.01", "0.001", "–", "nan"])

    page.get_by_label("failed (1)").uncheck()
    expect(page.get_by_role("status")).to_have_text("4 of 5 runs are shown")
    page.reload()
    expect(heading).to_have_attribute("aria-sort", "descending")
    expect(page.get_by_label("failed (1)")).not_to_be_checked()
    page.get_by_label("Find").fill("adam")
    expect(page.get_by_role("status")).to_have_text("1 of 5 runs are shown")

    expect(page.get_by_role("img", name="The best accuracy so far")).to_be_visible()
    expect(page.get_by_role("img", name="Parallel coordinates of lr, optimizer")).to_be_visible()
    expect(page.get_by_role("img", name="accuracy by step of 4 runs")).to_be_visible()
    page.get_by_role("combobox", name="Metric").select_option("loss")
    expect(page.get_by_label("lower is better")).to_be_checked()
    expect(page.get_by_role("img", name="The best loss so far")).to_be_visible()
    page.locator("svg .point.best").first.click()
    expect(page.locator("tr.chosen")).to_contain_text("adam")
    assert "Runs in" in page.title()
    assert [text for text in errors if not text.startswith(("file:", "data:"))] == []


def test_a_phone_shows_it_without_scrolling_the_page_sideways(browser, report):
    page = browser.new_page(viewport={"width": 400, "height": 800}, color_scheme="light")
    page.goto(report)

    assert page.evaluate("document.documentElement.scrollWidth") == 400
    expect(page.get_by_role("img", name="accuracy of 4 runs by the parameter lr")).to_be_visible()
