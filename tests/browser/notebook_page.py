"""What a learner does on the page of a notebook in JupyterLab."""

from playwright.sync_api import Locator, Page, expect

from tests.deadlines import wait_until


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
    editor = cell.locator(".cm-content")

    def is_typed() -> bool:
        editor.click()
        page.keyboard.press("ControlOrMeta+a")
        page.keyboard.insert_text(source)
        return source.splitlines()[-1] in editor.inner_text()

    wait_until(is_typed)  # a notebook that is still being laid out may lose the focus
    page.keyboard.press("Control+Enter")
    wait_until_idle(page)
