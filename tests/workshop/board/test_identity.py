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
    address = board.learner_address + path
    reply = httpx.request(method, address, headers=headers, timeout=HANG_SECONDS)

    assert reply.status_code == 403


def test_learners_neither_see_nor_steer_the_board(board, ada):
    token = httpx.Client(base_url=board.address, headers=ada.headers)
    with board.browser("learner01") as browser, httpx.Client(base_url=board.address) as nobody:
        for client in (token, browser, nobody):
            for path in ("stream", f"notebook/learner02/{LAB}"):
                assert client.get(path).status_code == 403
            for path in ("announce", "release", "helped"):
                body = {"text": "Free beer", "lab": LAB, "released": True, "account": "x"}
                headers = {"Origin": board.settings.board_origin}
                assert client.post(path, json=body, headers=headers).status_code == 403
        reply = httpx.get(board.address, cookies=browser.cookies)
    token.close()
    assert reply.status_code == 403
    assert reply.text == "This page is for instructors: sign in with their card."


def test_the_instructors_routes_and_the_learners_are_on_ports_of_their_own(board, instructor, ada):
    for path in ("", "board/", "board/stream", "stream", "board.js"):
        address = board.learner_address + path
        reply = httpx.get(address, headers=ada.headers, cookies=instructor.cookies)
        assert reply.status_code == 404
    for path in ("events", "news", "/events", "/news"):
        assert instructor.get(path, headers=ada.headers).status_code == 404
    root = httpx.get(board.settings.board_origin, follow_redirects=False)
    assert root.headers["location"] == "/board/"


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
        headers = {"Content-Type": "application/json"} | headers
        content = b'{"text": "Free beer"}'
        assert instructor.post(path, content=content, headers=headers).status_code == status
    assert board.overview(instructor)["announcements"] == before


def test_a_page_on_the_hubs_origin_neither_commands_nor_reads_the_board(board, instructor):
    """Browsers send the instructor's cookie along, as the Hub's host is that of the board."""
    hub = {"Origin": board.settings.url, "Sec-Fetch-Site": "same-site"}
    for headers in (hub, hub | {"Sec-Fetch-Site": "same-origin"}, hub | {"Host": "127.0.0.1"}):
        reply = instructor.post("announce", json={"text": "Free beer"}, headers=headers)
        assert reply.status_code == 403
    preflight = hub | {"Access-Control-Request-Method": "POST"}
    replies = [instructor.options("announce", headers=preflight)]
    for path in ("stream", f"notebook/learner01/{LAB}"):
        replies.append(instructor.get(path, headers=hub))
        assert replies[-1].status_code == 403
    replies.append(instructor.get("", headers=hub))
    assert replies[-1].status_code == 200
    for reply in replies:
        assert not any(name.startswith("access-control-") for name in reply.headers)
        assert "frame-ancestors 'none'" in reply.headers["content-security-policy"]
        assert reply.headers["cross-origin-resource-policy"] == "same-origin"
        assert reply.headers["cross-origin-opener-policy"] == "same-origin"


def test_the_session_is_out_of_reach_of_scripts_other_sites_and_learners_servers(board):
    with httpx.Client(base_url=board.address, follow_redirects=True) as client:
        client.get("")
        session = next(cookie for cookie in client.cookies.jar if cookie.name == "dltlab-board")
        server = client.build_request("GET", f"{board.settings.url}/user/learner01/lab")
    assert session.path == "/board/"
    assert session.has_nonstandard_attr("HttpOnly")
    assert session.get_nonstandard_attr("SameSite") == "strict"
    assert not session.secure
    assert "cookie" not in server.headers


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
