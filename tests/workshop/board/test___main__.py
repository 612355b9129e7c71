"""The process of the board."""

import subprocess
import sys

import httpx

from tests.deadlines import HANG_SECONDS
from tests.workshop.board.fake_hub import LAB, line, make_folder, notebook, post, running_board


def test_the_board_is_encrypted_as_the_workshop_is_and_learners_servers_reach_it_without(tmp_path):
    settings = 'labs = ["01"]\n[tls]\nself_signed = true'
    with running_board(make_folder(tmp_path / "class", settings)) as board:
        reply = httpx.get(board.address, verify=False)
        with board.learner("learner01") as ada:
            assert ada.get("events").status_code == 200

    assert board.address.startswith("https://127.0.0.1:")
    assert reply.headers["location"].startswith(f"{board.settings.url}/hub/api/oauth2/authorize?")
    cookie = reply.headers["set-cookie"]
    assert cookie.startswith("__Secure-dltlab-board-state=")
    assert "; HttpOnly; Max-Age=600; Path=/board/; SameSite=lax; Secure" in cookie


def test_all_is_kept_when_the_process_is_killed(tmp_path):
    folder = make_folder(tmp_path / "class", 'labs = ["01"]\nsolutions = "always"\n')
    with running_board(folder) as board:
        with board.learner("learner01") as ada:
            post(ada, line(outcome="passed"))
            ada.put(f"hand-in/{LAB}", content=notebook())
        board.process.kill()
        board.process.wait(HANG_SECONDS)
    with running_board(folder) as board, board.browser() as instructor:
        overview = board.overview(instructor)

    assert overview["learners"][0]["results"] == [[LAB, "softmax", "passed", 1]]
    assert list(overview["learners"][0]["handed_in"]) == [LAB]
    assert not overview["labs"][0]["hidden"]


def test_a_folder_that_is_no_workshop_is_an_error(tmp_path):
    command = [sys.executable, "-m", "dltlab.workshop.board", tmp_path / "none"]
    result = subprocess.run(command, capture_output=True, text=True)

    assert result.returncode == 1
    assert result.stderr.startswith("There is no roster ")
