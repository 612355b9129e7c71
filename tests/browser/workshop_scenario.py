"""An instructor and three learners in browsers, in a real workshop: run inside a namespace.

Prints what was seen as JSON. `python workshop_scenario.py FOLDER CHROMIUM`
"""

import asyncio
import html
import json
import pwd
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import (
    Browser,
    BrowserContext,
    Dialog,
    Page,
    Playwright,
    expect,
    sync_playwright,
)

from dltlab.workshop.connection import free_ports
from dltlab.workshop.folder import WorkshopFolder
from dltlab.workshop.learner_server import FOLDER
from dltlab.workshop.roster import read_members
from dltlab.workshop.settings import read_settings
from dltlab.workshop.supervisor import read_status
from tests.browser.conftest import HANG_MILLISECONDS
from tests.browser.notebook_page import run_with, wait_until_idle
from tests.deadlines import wait_until
from tests.workshop.namespace import REPOSITORY

STEP_MILLISECONDS = HANG_MILLISECONDS / 3  # of the time that the test waits for this program
COMMAND = [sys.executable, "-c", "from dltlab.cli import main; main()", "workshop"]
NAMES = ["Ada Lovelace", "<img src=x onerror=alert(1)>", "Emmy Noether"]
ANSWER = """from dltlab.checks import first_network as ex
def softmax(logits):
    return logits
ex.softmax.check(softmax)
ex.softmax.solution()"""
# What a page of the Hub's origin, such as of a learner's server, does to the board.
ATTACK = """async (board) => {
  const command = {method: "POST", credentials: "include", body: '{"text": "Free beer"}'};
  await fetch(`${board}announce`, {...command, mode: "no-cors"}).catch(() => null);
  const headers = {"Content-Type": "application/json"};
  const sent = fetch(`${board}announce`, {...command, headers});
  const read = fetch(board, {credentials: "include"});
  return Promise.all([sent, read].map((reply) => reply.then(() => "allowed", () => "refused")));
}"""
# One task of lab 18 on few signals, evaluated as all are: a training takes seconds, not a minute.
ASSESS = """from dataclasses import replace
from dltlab.checks import assessment
from dltlab.cli import main
assessment.TASKS = ("read_morse",)
assessment.evaluate_with(replace(assessment.FULL, signals=200))
main()"""
SOLVED = REPOSITORY / "solutions" / "18_assessment.ipynb"
HIDDEN = "Your instructor releases the solutions of this lab later."


def make(path: Path) -> WorkshopFolder:
    """Write a workshop, and return its folder."""
    port, board_port = free_ports(2)
    folder = WorkshopFolder(path)
    folder.roster_file.write_text("\n".join(["name", *NAMES, ""]))
    folder.settings_file.write_text(
        f'labs = ["01", "18"]\n[address]\nport = {port}\nboard_port = {board_port}\n'
    )
    return folder


async def num_ready(folder: WorkshopFolder) -> int:
    """Return how many learners' servers are ready; ask the Hub once a second."""
    await asyncio.sleep(1)
    return int((await read_status(folder)).get("servers", {}).get("ready", 0))


def printed_codes(folder: WorkshopFolder) -> dict[str, str]:
    """Return the codes on the printed cards, by name."""
    text = (folder.path / "cards.html").read_text()
    codes = re.findall(r"\b[a-z0-9]{4}(?:-[a-z0-9]{4}){2}\b", text)
    names = [*NAMES, "Instructor"]
    places = sorted((text.index(html.escape(name)), name) for name in names)
    return dict(zip([name for _, name in places], dict.fromkeys(codes), strict=True))


def sign_in(browser: Browser, url: str, code: str, faults: list[str]) -> Page:
    """Type a code from a card, and return the page that follows."""

    def note(dialog: Dialog) -> None:
        faults.append(dialog.message)
        dialog.dismiss()

    context: BrowserContext = browser.new_context(viewport={"width": 1400, "height": 900})
    page = context.new_page()
    page.set_default_timeout(STEP_MILLISECONDS)
    page.on("dialog", note)
    page.goto(url)
    page.get_by_label("The code on your card").fill(code)
    page.keyboard.press("Enter")
    return page


@contextmanager
def browser_of(playwright: Playwright, chromium: str) -> Iterator[Browser]:
    """Yield a browser; where the block fails, say what its pages showed."""
    browser = playwright.chromium.launch(
        executable_path=chromium, args=["--no-sandbox", "--disable-gpu"]
    )
    try:
        yield browser
    except Exception:
        for page in (page for context in browser.contexts for page in context.pages):
            text = page.locator("body").inner_text()[:1500]
            print(f"--- {page.url}\n{text}", file=sys.stderr)
        raise
    finally:
        browser.close()


def shows(page: Page, text: str) -> bool:
    """Return whether a page has a text, and load it again if not.

    The board waits some seconds for the server of a learner who has not handed in anything.
    """
    if page.get_by_text(text).count():
        return True
    page.reload()
    return False


def hand_in_lab_18(page: Page, url: str, account: str) -> None:
    """Solve lab 18, and hand it in."""
    copy = Path(pwd.getpwnam(account).pw_dir) / FOLDER / SOLVED.name
    copy.write_bytes(SOLVED.read_bytes())
    # In a new workspace no other notebook is open, whose button could be the visible one.
    page.goto(f"{url}/user/{account}/lab/workspaces/assessment/tree/{copy.name}")
    expect(page.get_by_role("button", name="Hand in")).to_be_visible()
    wait_until_idle(page)
    page.get_by_role("button", name="Hand in").press("Enter")
    receipt = page.locator(".Toastify__toast", has_text="Lab 18 was handed in at")
    expect(receipt).to_contain_text("Receipt: ")


def start_assessing(folder: WorkshopFolder, account: str) -> "subprocess.Popen[bytes]":
    """Evaluate what a learner has handed in, as an instructor does."""
    command = [sys.executable, "-c", ASSESS, "workshop", "assess", str(folder.path), account]
    log = (folder.path / "assess.log").open("w")
    return subprocess.Popen(command, stdout=log, stderr=log)


def verify(browser: Browser, certificate: Path) -> dict[str, object]:
    """Verify a certificate and a changed one, by the command and by the page without a network."""
    changed = certificate.with_name("changed.pdf")
    changed.write_bytes(certificate.read_bytes().replace(b"/Title", b"/Titel"))
    page = browser.new_page()
    page.goto(certificate.with_name("verify.html").as_uri())
    facts: dict[str, object] = {}
    for file in (certificate, changed):
        command = [*COMMAND, "verify", str(file)]
        done = subprocess.run(command, capture_output=True, text=True)
        page.get_by_label("The certificate, a PDF").set_input_files(file)
        expect(page.get_by_role("status")).to_have_class("good" if file == certificate else "bad")
        facts[file.stem] = [
            done.returncode,
            done.stdout + done.stderr,
            page.get_by_role("status").inner_text(),
        ]
    return facts


def play(folder: WorkshopFolder, chromium: str) -> dict[str, object]:
    facts: dict[str, object] = {}
    faults: list[str] = []
    settings = read_settings(folder).content
    url = settings.url
    expect.set_options(timeout=STEP_MILLISECONDS)
    wait_until(lambda: asyncio.run(num_ready(folder)) >= len(NAMES))
    codes = printed_codes(folder)
    with sync_playwright() as playwright, browser_of(playwright, chromium) as browser:
        board = sign_in(browser, url, codes["Instructor"], faults)
        expect(board.get_by_role("row", name=NAMES[0])).to_be_visible()
        learners = [sign_in(browser, url, codes[name], faults) for name in NAMES]
        for page in learners:
            page.get_by_role("link", name="Start with lab 01").click()
            expect(page.get_by_role("button", name="I need help")).to_be_visible()
            wait_until_idle(page)  # JupyterLab asks for a kernel where there is none yet
        expect(board.get_by_role("status")).to_contain_text("3 of 3 connected")

        ada, bob, emmy = learners
        run_with(ada, ada.locator(".jp-CodeCell").first, ANSWER)
        expect(ada.locator("[data-outcome='not yet']")).to_be_visible()
        expect(ada.get_by_text(HIDDEN)).to_be_visible()
        ada_row = board.get_by_role("row", name=NAMES[0])
        expect(ada_row.get_by_label("softmax: not yet, 1 attempts")).to_be_visible()
        facts["wrong answers"] = board.locator("#wrong li").all_inner_texts()

        bob.get_by_role("button", name="I need help").press("Enter")
        expect(board.locator("#hands li")).to_contain_text(f"{NAMES[1]}, lab 01")
        emmy.get_by_role("button", name="Hand in").press("Enter")
        receipt = emmy.locator(".Toastify__toast", has_text="Lab 01 was handed in at")
        expect(receipt).to_contain_text("Receipt: ")
        account = next(one.account for one in read_members(folder) if one.name == NAMES[2])
        hand_in_lab_18(emmy, url, account)
        assessing = start_assessing(folder, account)
        board.get_by_label("To everybody").fill("Lunch at <b>12:30</b>")
        board.get_by_role("button", name="Announce").press("Enter")
        for page in learners:
            expect(page.get_by_text("Lunch at <b>12:30</b>")).to_be_visible()
        expect(board.get_by_text("seen by 3 of 3")).to_be_visible()

        with board.expect_popup() as popup:
            ada_row.get_by_role("link", name=NAMES[0]).press("Enter")
        wait_until(lambda: shows(popup.value, "Your first network"))
        board.get_by_role("button", name="Release the solutions of lab 01").press("Enter")
        expect(board.get_by_role("button", name="Hide the solutions")).to_be_visible()
        run_with(ada, ada.locator(".jp-CodeCell").first, ANSWER)
        expect(ada.get_by_text(HIDDEN)).to_have_count(0)
        facts["cells"] = board.locator("tbody tr").first.locator("td").all_inner_texts()[-2:]

        attacker = board.context.new_page()
        attacker.goto(f"{url}/hub/home")
        assert attacker.evaluate(ATTACK, settings.board_url) == ["refused", "refused"]
        attacker.close()
        expect(board.locator("#announcements li")).to_have_count(1)

        # The first request signs in.
        address = settings.board_url
        facts["a learner at the board"] = [ada.request.get(address).status for _ in range(2)][1]
        reply = board.request.get(f"{url}/user/learner01/lab")
        facts["the instructor at a learner's server"] = reply.status

        assert assessing.wait() == 0
        facts["certificates"] = verify(browser, folder.path / "certificates" / f"{account}.pdf")
    logs = [path.read_text().splitlines() for path in folder.logs.glob("*.log")]
    facts["faults"] = faults + [line for log in logs for line in log if "] 500 " in line]
    return facts


def main() -> None:
    folder = make(Path(sys.argv[1]))
    log = (folder.path / "serve.log").open("w")
    process = subprocess.Popen([*COMMAND, "serve", folder.path], stdout=log, stderr=log)
    try:
        print(json.dumps(play(folder, sys.argv[2])))
    finally:
        subprocess.run([*COMMAND, "stop", folder.path], capture_output=True)
        process.wait()


if __name__ == "__main__":
    main()
