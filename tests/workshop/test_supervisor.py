"""A real Hub, real accounts and kernels: what holds when it is attacked and killed in parts."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from dltlab.errors import Unavailable
from dltlab.workshop.folder import WorkshopFolder
from dltlab.workshop.supervisor import is_running, serve, stop
from tests.workshop.namespace import Namespace

pytest_plugins = ["tests.workshop.namespace"]
SCENARIO = Path(__file__).with_name("hub_scenario.py")


@pytest.fixture(scope="module")
def facts(namespace: Namespace, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What was seen in one workshop with two learners, and later three."""
    folder = tmp_path_factory.mktemp("workshop")
    done = namespace.run([sys.executable, SCENARIO, folder])
    logs = "".join(path.read_text()[-3000:] for path in folder.rglob("*.log"))
    assert done.returncode == 0, done.stdout + done.stderr + logs
    return dict(json.loads(done.stdout.splitlines()[-1]))


def test_a_learner_works_in_an_account_that_is_closed_to_others(facts):
    assert facts["account"] == "learner01 /home/learner01/dltlab 700"
    assert facts["secrets"] == "False"


def test_nobody_else_opens_a_learners_server(facts):
    assert facts["neighbor's server"] == 403
    assert facts["instructor in a learner's server"] == 403


def test_an_instructor_sees_the_board_first_and_can_stop_servers(facts):
    assert facts["the board comes first, and back"]
    assert facts["instructor in the Hub's admin page"] == 200
    assert facts["learner at the board"] == 403
    assert facts["the board on the Hub's origin"] == 404


def test_guesses_are_slowed_down_and_a_right_code_is_not(facts):
    assert facts["wrong code"].startswith("No card has this code.")
    assert facts["after many"].startswith("Too many wrong codes. Try again in ")
    assert facts["neighbor"] == "signed in"


def test_a_link_holds_once(facts):
    assert facts["link"][0] == "signed in"
    assert facts["link"][1] != "signed in"


def test_kernels_go_on_when_zygote_hub_proxy_or_supervisor_is_killed(facts):
    assert facts["x after the zygote"] == "42"
    assert facts["a new kernel after the zygote"] == "1"
    assert facts["x while the Hub is down"] == "42"
    assert facts["x after the Hub"] == "42"
    assert facts["x after the proxy"] == "42"
    assert facts["server outlives Hub, proxy and zygote"]
    assert facts["the new server is a fork"]
    assert facts["faults of servers"] == []
    assert facts["x after the supervisor"] == "43"


def test_the_roster_is_followed_while_the_workshop_runs(facts):
    assert facts["whoever leaves the roster is signed out"]
    assert facts["left the roster"].startswith("No card has this code.")
    assert facts["joined the roster"] == "learner03"
    assert facts["cards"] == ["cards-2.html", "cards.html"]


def test_a_workshop_is_served_once(facts):
    code, message = facts["served twice"]
    assert code == 2
    assert "is already being served. Stop it with: dltlab workshop stop" in message


def test_stopping_leaves_nothing_behind(facts):
    assert facts["stopped"] == [0, 0]
    assert facts["left over"] == 0


def test_nothing_of_who_was_erased_is_left_and_all_of_the_others(facts):
    before, one_less, none = facts["traces"]

    assert facts["erase learner01"] == facts["erase --all"] == [0, ""]
    assert before["learner01"] == [
        *("account", "files", "code", "results", "handed in", "the Hub", "name"),
    ]
    assert {"account", "files", "code", "the Hub", "name"} <= set(before["learner03"])
    assert one_less == before | {"learner01": []}
    assert set(none) == {"learner01", "learner02", "learner03", "instructor01"}
    assert not any(none.values())


def test_codes_are_in_no_log_and_names_are_no_html(facts):
    assert facts["codes in the log"] == []
    assert not facts["script in a card"]


def test_what_is_not_running_is_not_stopped(tmp_path):
    assert not is_running(WorkshopFolder(tmp_path))
    assert not stop(WorkshopFolder(tmp_path))


def test_a_port_in_use_is_named_before_anything_starts(tmp_path, monkeypatch):
    import socket

    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        (tmp_path / "roster.csv").write_text("name\nAda\n")
        (tmp_path / "workshop.toml").write_text(f"[address]\nport = {port}\n")

        with pytest.raises(Unavailable, match=rf"Port {port} of 127\.0\.0\.1 cannot be used"):
            serve(WorkshopFolder(tmp_path), print, False)
    WorkshopFolder(tmp_path).runtime.rmdir()
