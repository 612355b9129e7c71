"""What the board keeps of what it is sent, and what it answers."""

import json
import threading

import pytest

from tests.deadlines import HANG_SECONDS
from tests.workshop.board.fake_hub import (
    LAB,
    MORNING,
    line,
    messages,
    notebook,
    post,
    results,
)


@pytest.mark.parametrize(
    "records",
    [
        [[0, "not JSON"]],
        [[0, "[" * 10_000]],
        [[0, line(outcome="perfect")]],
        [[0, line(lab="99_none")]],
        [[0, line(exercise="none")]],
        [[0, line(time="yesterday")]],
        [[0, line(time="0001-01-01T00:00:00")]],
        [[0, json.dumps({"time": MORNING})]],
        [[0, "\ud800".encode("utf-8", "surrogatepass").decode("utf-8", "replace")]],
    ],
)
def test_what_is_no_record_is_left_out_and_the_rest_kept(board, instructor, records):
    before = results(board, instructor, "learner03")
    with board.learner("learner03") as client:
        assert client.post("events", json={"records": records}).status_code == 204

    assert results(board, instructor, "learner03") == before


def test_a_time_in_the_future_is_now(board, instructor):
    with board.learner("learner03") as client:
        post(client, line(exercise="cross_entropy", time="2999-01-01T00:00:00+00:00"), start=7)
    overview = board.overview(instructor)

    assert 0 < overview["learners"][2]["last"] <= overview["now"]


def test_solutions_are_released_and_hidden_for_every_kernel_to_read(board, instructor, ada):
    def hidden():
        path = board.folder.runtime / "room.json"
        assert path.stat().st_mode & 0o777 == 0o644
        return json.loads(path.read_text())["hidden_solutions"]

    labs = [LAB, "02_image_classification"]
    assert hidden() == labs
    with ada.stream("GET", "news") as response:
        news = messages(response)
        assert next(news)["news"]["hidden_solutions"] == labs
        instructor.post("release", json={"lab": LAB, "released": True})
        assert hidden() == labs[1:]
        assert next(news)["news"]["hidden_solutions"] == labs[1:]
    instructor.post("release", json={"lab": LAB, "released": False})
    assert hidden() == labs
    reply = instructor.post("release", json={"lab": "99_none", "released": True})
    assert (reply.status_code, reply.text) == (400, "This workshop has no lab '99_none'.")


def test_the_learners_server_is_asked_for_the_notebook_as_it_is_now(board, instructor, bob, ada):
    replies = []
    with bob.stream("GET", "news") as response:
        told = messages(response)
        next(told)
        address = f"notebook/learner02/{LAB}"
        thread = threading.Thread(target=lambda: replies.append(instructor.get(address)))
        thread.start()
        asked = next(message["send"] for message in told if "send" in message)
        assert asked["lab"] == LAB
        ada.put(f"view/{asked['ticket']}", content=notebook(source="forged = 1"))
        bob.put(f"view/{asked['ticket']}", content=notebook(source="genuine = 1"))
        thread.join(HANG_SECONDS)

    assert "genuine" in replies[0].text
    assert "forged" not in replies[0].text


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (f"notebook/learner03/{LAB}", 404),
        ("notebook/learner01/99_none", 404),
        (f"notebook/nobody/{LAB}", 404),
        (f"notebook/..%2F..%2Fetc/{LAB}", 404),
        ("notebook/learner01/..%2f..%2f..%2froster", 404),
    ],
)
def test_what_is_no_learners_notebook_is_not_found(instructor, path, status):
    assert instructor.get(path).status_code == status


@pytest.mark.parametrize(
    ("path", "content"),
    [
        (f"hand-in/{LAB}", b"no notebook"),
        ("hand-in/99_none", b"{}"),
        ("hand-in/..%2F..%2Fx", b"{}"),
    ],
)
def test_what_is_no_notebook_of_the_workshop_is_refused_with_a_sentence(ada, path, content):
    reply = ada.put(path, content=content)

    assert reply.status_code in (400, 404)
    assert reply.text
