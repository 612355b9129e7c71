"""The process of the board."""

import os
import subprocess
import sys

from tests.deadlines import HANG_SECONDS
from tests.workshop.board.fake_hub import LAB, line, make_folder, notebook, post, running_board


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
    variables = {
        "JUPYTERHUB_SERVICE_URL": "http://127.0.0.1:1",
        "JUPYTERHUB_API_TOKEN": "x",
        "JUPYTERHUB_CLIENT_ID": "x",
    }
    command = [sys.executable, "-m", "dltlab.workshop.board", tmp_path / "none"]
    result = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True)

    assert result.returncode == 1
    assert result.stderr.startswith("There is no roster ")
