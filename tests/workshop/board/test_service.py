"""The board's web service: what it shows, and what learners send it."""

import json

import nbformat
import pytest

from tests.deadlines import wait_until
from tests.workshop.board.fake_hub import (
    LAB,
    NAMES,
    SCRIPT,
    line,
    messages,
    notebook,
    post,
)


def test_answers_are_on_the_board_at_once_and_only_once(board, instructor, ada):
    with instructor.stream("GET", "stream") as response:
        overviews = messages(response)
        before = next(overviews)
        for _ in range(2):
            assert post(ada, line(message="A row."), line(outcome="passed")) == 204
        shown = next(overview for overview in overviews if overview["learners"][0]["results"])

    assert [learner["name"] for learner in before["learners"]] == [*NAMES]
    assert shown["learners"][0]["results"] == [[LAB, "softmax", "passed", 2]]
    assert shown["learners"][0]["lab"] == LAB
    assert shown["wrong"] == [
        {"lab": LAB, "exercise": "softmax", "message": "A row.", "num_learners": 1, "num_stuck": 0}
    ]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"[]",
        b'{"records": 1}',
        b'{"records": [[-1, ""]]}',
        b'{"records": [[1e99, ""]]}',
        b'{"records": [["0", ""]]}',
        b'{"records": [[0]]}',
        b'{"records": ' + b"[" * 100_000,
        b"\xff\xfe",
        json.dumps({"records": [[0, "x" * 30_000]]}).encode(),
        json.dumps({"records": [[n, ""] for n in range(300)]}).encode(),
    ],
)
def test_a_body_that_is_not_a_list_of_records_is_refused(ada, content):
    assert ada.post("events", content=content).status_code == 400


def test_bodies_that_are_too_large_are_refused(ada, instructor):
    for path in ("events", "hand", "read"):
        assert ada.post(path, content=b"x" * 1_100_000).status_code == 413
    assert ada.put(f"hand-in/{LAB}", content=b"x" * 20_500_000).status_code == 413
    headers = {"Content-Type": "application/json"}
    reply = instructor.post("announce", content=b"x" * 1_100_000, headers=headers)
    assert reply.status_code == 413


def test_a_raised_hand_is_seen_and_lowered_from_either_side(board, instructor, ada):
    with ada.stream("GET", "news") as response:
        news = messages(response)
        assert not next(news)["news"]["hand_raised"]
        ada.post("hand", json={"raised": True, "lab": LAB})
        assert next(news)["news"]["hand_raised"]
        (hand,) = board.overview(instructor)["hands"]
        assert (hand["account"], hand["lab"]) == ("learner01", LAB)

        instructor.post("helped", json={"account": "learner01"})
        assert not next(news)["news"]["hand_raised"]
    ada.post("hand", json={"raised": True, "lab": LAB})
    ada.post("hand", json={"raised": False})
    assert board.overview(instructor)["hands"] == []


def test_who_is_connected_is_known(board, instructor, bob):
    def connected():
        return [learner["connected"] for learner in board.overview(instructor)["learners"]]

    with bob.stream("GET", "news") as response:
        news = messages(response)  # which closes the connection when it is forgotten
        next(news)
        wait_until(lambda: connected() == [False, True, False])
    wait_until(lambda: connected() == [False, False, False])


def test_one_account_does_not_hold_all_connections(board, bob):
    streams = [bob.stream("GET", "news") for _ in range(5)]
    statuses = [stream.__enter__().status_code for stream in streams]
    for stream in streams:
        stream.__exit__(None, None, None)

    assert statuses == [200, 200, 200, 200, 503]


def test_an_announcement_waits_for_those_who_are_away(board, instructor, ada, bob):
    assert instructor.post("announce", json={"text": f" Lunch \n{SCRIPT}"}).status_code == 204
    assert instructor.post("announce", json={"text": "Back"}).status_code == 204
    with ada.stream("GET", "news") as response:
        unread = next(messages(response))["news"]["announcements"]
        assert [one["text"] for one in unread] == [f"Lunch {SCRIPT}", "Back"]
        ada.post("read", json={"number": unread[0]["number"]})
    for client, expected in ((ada, ["Back"]), (bob, [f"Lunch {SCRIPT}", "Back"])):
        with client.stream("GET", "news") as response:
            unread = next(messages(response))["news"]["announcements"]
            assert [one["text"] for one in unread] == expected

    shown = board.overview(instructor)["announcements"]
    assert [one["readers"] for one in shown] == [1, 0]
    for text in ("", " ", "x" * 501):
        reply = instructor.post("announce", json={"text": text})
        assert (reply.status_code, reply.text) == (
            400,
            "An announcement has 1 to 500 characters.",
        )


def test_a_notebook_is_handed_in_with_a_receipt_and_shown_without_its_scripts(
    board, instructor, ada
):
    output = nbformat.v4.new_output(
        "display_data", data={"text/html": f"{SCRIPT}<b onclick='alert(1)'>bold</b><img src=x>"}
    )
    content = notebook(output, source="y = 2  # </script><script>alert(1)</script>")
    receipt, again = (ada.put(f"hand-in/{LAB}", content=content).json() for _ in range(2))
    assert receipt == again
    assert receipt["account"] == "learner01"

    shown = board.overview(instructor)["learners"][0]
    assert list(shown["handed_in"]) == [LAB]
    reply = instructor.get(f"notebook/learner01/{LAB}")
    assert reply.status_code == 200
    policy = reply.headers["content-security-policy"]
    assert policy.startswith("sandbox; default-src 'none'; ")
    assert "script-src" not in policy
    assert "<b>bold</b>" in reply.text
    for part in (SCRIPT, "onclick", "alert(1)</script>"):
        assert part not in reply.text


def test_every_page_forbids_scripts_of_others(board, instructor):
    for path in ("", "board.js", "board.css", "nothing", "oauth_callback"):
        headers = instructor.get(path).headers
        assert headers["content-security-policy"].startswith(
            "default-src 'none'; script-src 'self'"
        )
        assert headers["x-content-type-options"] == "nosniff"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
    page = instructor.get("").text
    assert "<script>" not in page
    assert " style=" not in page


def test_a_flood_of_one_account_is_slowed_down_and_disturbs_no_other(board, bob):
    with board.learner("learner03") as flood:
        statuses = {flood.post("read", json={"number": 0}).status_code for _ in range(300)}
    assert statuses == {204, 429}
    assert bob.get("events").status_code == 200
