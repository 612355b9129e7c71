"""Who may do what, as the Hub says; forged identities and other sites."""

import json

import httpx
import pytest

from tests.deadlines import HANG_SECONDS
from tests.workshop.board.fake_hub import (
    LAB,
    line,
    results,
)


def test_an_event_counts_for_the_account_of_its_token_whatever_it_says(board, instructor, bob):
    before = results(board, instructor, "learner03")
    forged = json.loads(line()) | {"account": "learner03", "user": "learner03"}
    body = {"records": [[0, json.dumps(forged)]], "account": "learner03", "name": "learner03"}

    headers = {"X-Forwarded-User": "learner03", "Cookie": "dltlab-board=token-of-learner03"}
    assert bob.post("events", json=body, headers=headers).status_code == 204

    assert [LAB, "softmax", "not yet", 1] in results(board, instructor, "learner02")
    assert results(board, instructor, "learner03") == before


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "token",
        "token wrong-token",
        "Basic dG9rZW4tb2YtbGVhcm5lcjAx",
        "token token-of-a-service",
        "token token-of-../learner01",
        "token token-of-learner01\tx",
        f"token {'x' * 5000}",
    ],
)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "events"),
        ("POST", "events"),
        ("POST", "hand"),
        ("POST", "read"),
        ("GET", "news"),
        ("PUT", f"hand-in/{LAB}"),
        ("PUT", "view/ticket"),
    ],
)
def test_nobody_without_a_learners_token_sends_or_learns_anything(
    board, authorization, method, path
):
    headers = {} if authorization is None else {"Authorization": authorization}
    reply = httpx.request(method, board.address + path, headers=headers, timeout=HANG_SECONDS)

    assert reply.status_code == 403


def test_learners_neither_see_nor_steer_the_board(board, ada):
    with board.browser("learner01") as browser, httpx.Client(base_url=board.address) as nobody:
        for client in (ada, browser, nobody):
            for path in ("stream", f"notebook/learner02/{LAB}"):
                assert client.get(path).status_code == 403
            for path in ("announce", "release", "helped"):
                body = {"text": "Free beer", "lab": LAB, "released": True, "account": "x"}
                headers = {"Origin": board.address.removesuffix("/services/board/")}
                assert client.post(path, json=body, headers=headers).status_code == 403
        reply = httpx.get(board.address, cookies=browser.cookies)
    assert reply.status_code == 403
    assert reply.text == "This page is for instructors: sign in with their card."


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "https://elsewhere.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": ""}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
    ],
)
def test_another_sites_page_cannot_use_the_instructors_session(board, instructor, headers, status):
    before = board.overview(instructor)["announcements"]
    for path in ("announce", "release", "helped"):
        content = b'{"text": "Free beer"}'
        assert instructor.post(path, content=content, headers=headers).status_code == status
    assert board.overview(instructor)["announcements"] == before


def test_the_session_is_out_of_reach_of_scripts_and_other_sites(board):
    with httpx.Client(base_url=board.address, follow_redirects=True) as client:
        client.get("")
        cookies = {cookie.name: cookie for cookie in client.cookies.jar}
    session = cookies["dltlab-board"]
    assert session.path == "/services/board/"
    assert session.has_nonstandard_attr("HttpOnly")
    assert session.get_nonstandard_attr("SameSite") == "strict"
    assert not session.secure
    with httpx.Client(
        base_url=board.address, headers={"X-Forwarded-Proto": "https"}, follow_redirects=False
    ) as client:
        assert "secure" in client.get("").headers["set-cookie"].lower()


@pytest.mark.parametrize("query", ["", "?code=x", "?code=x&state=y", "?state=&code=x"])
def test_a_sign_in_that_was_not_begun_here_is_refused(board, query):
    reply = httpx.get(f"{board.address}oauth_callback{query}")

    assert (reply.status_code, reply.text) == (
        400,
        "This sign-in has expired: open the board again.",
    )


def test_while_the_hub_is_down_requests_are_to_be_sent_again(board):
    board.hub.is_up = False
    try:
        with board.learner("learner-unknown") as client:
            reply = client.get("events")
    finally:
        board.hub.is_up = True

    assert (reply.status_code, reply.text) == (503, "The Hub does not answer; try again.")
