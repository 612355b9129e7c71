"""Requests to a service: one (`predict`), or many (`load_test`)."""

import math
import socket
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from dltlab.errors import Invalid, Unavailable
from dltlab.inference import load_test, predict
from dltlab.inference.load_testing import LoadTest
from dltlab.inference.serving import address_of, listener
from tests.inference_fixtures import TOKEN, Client, DoublingEngine, ones, running_service


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with running_service(DoublingEngine()) as client:
        yield client


def serve_answers(server: socket.socket, answer: bytes, count: int) -> threading.Thread:
    """Answer `count` requests, each on a connection of its own, then close the server."""

    def run() -> None:
        for _ in range(count):
            connection, _ = server.accept()
            with connection:
                connection.recv(2**16)
                connection.sendall(answer)
        server.close()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_one_request_gets_its_outputs(client):
    outputs = predict(str(client.base_url), TOKEN, ones(2))
    np.testing.assert_array_equal(outputs, 2 * ones(2))


def test_a_refusal_quotes_the_service(client):
    with pytest.raises(Invalid, match=r"answers with status 422: The input has the shape"):
        predict(str(client.base_url), TOKEN, np.ones((1, 3), "float32"))


def test_a_failure_of_the_service_is_not_the_callers_fault(client):
    with pytest.raises(Unavailable, match=r"answers with status 500: The service failed"):
        predict(str(client.base_url), TOKEN, -ones(1))


@pytest.mark.parametrize(
    "address",
    [
        "https://127.0.0.1:8000",
        "127.0.0.1:8000",
        "http://127.0.0.1:8000/predict",
        "",
        "http://127.0.0.1:99999",
        "http://127.0.0.1:port",
    ],
)
def test_another_address_is_refused_before_the_token_is_sent(address):
    with pytest.raises(Invalid, match="pass http://HOST:PORT"):
        predict(address, TOKEN, ones(1))


def test_an_answer_that_is_not_from_a_service_is_quoted():
    answer = b"HTTP/1.1 404 Not Found\r\nContent-Length: 6\r\n\r\n<html>"
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = serve_answers(server, answer, count=1)
        with pytest.raises(Invalid, match="answers with status 404: <html>"):
            predict(address_of(server), TOKEN, ones(1))
        thread.join()


def test_a_load_test_counts_answers_and_refusals():
    with running_service(DoublingEngine(), max_requests=1) as client:
        result = load_test(str(client.base_url), TOKEN, ones(1), concurrency=4, seconds=0.3)
        answered = client.metric('dltlab_requests_total{path="/predict",status="200"}')
        refused = client.metric('dltlab_requests_total{path="/predict",status="429"}')

    assert len(result.latencies) + 1 == answered > 1  # one to see whether the service answers
    assert result.errors.get("429", 0) == refused
    assert 0 < result.percentile(50) <= result.percentile(99)


@pytest.mark.parametrize("media_type", ["application/x-npy", "application/json"])
def test_a_load_test_asks_in_the_given_format(media_type):
    with running_service(DoublingEngine()) as client:
        address = str(client.base_url)
        result = load_test(address, TOKEN, ones(2), seconds=0.1, media_type=media_type)

    assert len(result.latencies)
    assert not result.errors


def test_an_answer_that_closes_the_connection_counts_and_another_is_opened():
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = serve_answers(server, answer, count=3)
        result = load_test(address_of(server), TOKEN, ones(1), concurrency=1, seconds=0.3)
        thread.join()

    assert len(result.latencies) == 2  # one more was to see whether the service answers


def test_an_answer_that_is_not_http_is_a_failed_connection():
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = serve_answers(server, b"SSH-2.0\r\n", count=1)
        with pytest.raises(Unavailable, match="does not answer"):
            predict(address_of(server), TOKEN, ones(1))
        thread.join()


@pytest.mark.parametrize("token", ["a\r\nHost: other", "sch\u00f6n"])
def test_a_token_that_a_header_cannot_hold_is_refused(token):
    with pytest.raises(Invalid, match="The token has characters"):
        predict("http://127.0.0.1:1", token, ones(1))


def test_failed_connections_are_counted_by_their_exception(client):
    """After the first answer the server accepts connections no more."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = address_of(server)
        thread = serve_answers(server, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", count=1)
        result = load_test(address, TOKEN, ones(1), concurrency=1, seconds=0.1)
        thread.join()

    assert len(result.latencies) == 0
    assert set(result.errors) <= {"ConnectionRefusedError", "ConnectionResetError"}
    assert sum(result.errors.values()) > 0
    assert math.isnan(result.percentile(50))


def test_a_load_test_that_cannot_start_says_why(client):
    with pytest.raises(Invalid, match=r"401.*token"):
        load_test(str(client.base_url), "wrong", ones(1))
    with pytest.raises(Invalid, match="media_type is 'text/csv'"):
        load_test(str(client.base_url), TOKEN, ones(1), media_type="text/csv")
    with pytest.raises(Invalid, match="concurrency is 0"):
        load_test(str(client.base_url), TOKEN, ones(1), concurrency=0)
    with listener("127.0.0.1", 0, "") as closed:
        address = address_of(closed)
    with pytest.raises(Unavailable, match="does not answer"):
        load_test(address, "", ones(1))


def test_the_result_is_a_sentence_and_a_row():
    result = LoadTest(8, 1234.5, np.full(10, 0.004), {"429": 3})
    assert result.summary == (
        "8 at a time: 1,234 requests/s, p50 4 ms, p99 4 ms, 3 errors {'429': 3}"
    )
    assert result.table.loc[0].to_dict() == {
        "concurrency": 8, "requests/s": 1234.5, "p50 (ms)": 4.0, "p99 (ms)": 4.0, "errors": 3,
    }  # fmt: skip
