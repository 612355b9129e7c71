"""A service: what it answers, what it refuses, and what it counts."""

import asyncio
import io
import json
import shlex
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from dltlab.errors import Invalid, Unavailable
from dltlab.inference import serving
from dltlab.inference.manifest import TensorSpec
from dltlab.inference.payloads import read_json
from dltlab.inference.serving import curl_command, listener
from tests.deadlines import HANG_SECONDS
from tests.inference_fixtures import (
    ACCEPT_NPY,
    JSON,
    NPY,
    Client,
    DoublingEngine,
    running_service,
)


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with running_service(DoublingEngine(), max_body=2000) as client:
        yield client


@contextmanager
def requesting(client: Client, *bodies: object) -> Iterator[list[httpx.Response]]:
    """Send requests at the same time; when the block ends, all answers are there, in no order."""
    answers: list[httpx.Response] = []
    threads = [
        threading.Thread(target=lambda body=body: answers.append(client.predict(body)))
        for body in bodies
    ]
    for thread in threads:
        thread.start()
    yield answers
    for thread in threads:
        thread.join()


def npy(array: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def test_json_is_answered_in_json(client):
    answer = client.predict({"inputs": [[1, 2.5], [3, 4]]})

    assert (answer.status_code, answer.json()) == (200, {"outputs": [[2.0, 5.0], [6.0, 8.0]]})


def test_an_image_is_answered_with_its_class(monkeypatch):
    pixels = TensorSpec(shape=(8, 8, 3), dtype="float32")
    engine = DoublingEngine(pixels, class_names=("dark", "light"), pixel_max=1)
    monkeypatch.setattr(engine, "runner", lambda: lambda inputs: [inputs[0][:, 0, 0, :2]])
    stream = io.BytesIO()
    Image.new("RGB", (20, 10), (51, 204, 0)).save(stream, "PNG")
    with running_service(engine) as client:
        answer = client.predict(stream.getvalue(), {"Content-Type": "image/png"})
        damaged = client.predict(b"no image", {"Content-Type": "image/png"})

    (prediction,) = answer.json()["predictions"]
    assert prediction["class"] == "light"
    assert prediction["probabilities"] == pytest.approx({"dark": 0.2, "light": 0.8})
    assert damaged.status_code == 422
    assert "is damaged or not an image" in damaged.json()["error"]


@pytest.mark.parametrize(
    ("specs", "body"),
    [
        ([TensorSpec(shape=(2,), dtype="float32")], {"inputs": [[0, 0]]}),
        (
            [TensorSpec(shape=(None,), dtype="int32"), TensorSpec(shape=(), dtype="uint8")],
            {"inputs": [[[0]], [0]]},
        ),
    ],
)
def test_the_printed_command_line_has_an_example_that_the_network_takes(specs, body):
    command = shlex.split(curl_command(DoublingEngine(*specs), "http://host:1", "se'cret"))
    assert command[:4] == ["curl", "http://host:1/predict", "-H", "Authorization: Bearer se'cret"]
    assert json.loads(command[-1]) == body
    assert "Authorization" not in curl_command(DoublingEngine(*specs), "http://host:1", "")


@pytest.mark.parametrize("media_type", ["application/x-npy", "application/octet-stream"])
def test_an_array_is_answered_with_an_array_where_it_is_accepted(client, media_type):
    array = np.random.default_rng(1).random((3, 2), np.float32)

    answer = client.predict(npy(array), {"Content-Type": media_type, "Accept": media_type})

    np.testing.assert_array_equal(np.load(io.BytesIO(answer.content)), 2 * array)


def test_several_inputs_and_outputs_are_lists_of_arrays():
    specs = [TensorSpec(shape=(1,), dtype="float32"), TensorSpec(shape=(), dtype="int32")]
    with running_service(DoublingEngine(*specs, outputs=2)) as client:
        answer = client.predict({"inputs": [[[1], [2]], [7, 8]]})
        array = client.predict({"inputs": [[[1], [2]], [7, 8]]}, JSON | ACCEPT_NPY)

    assert answer.json() == {"outputs": [[[2.0], [4.0]], [[2.0], [4.0]]]}
    assert "2 outputs" in array.json()["error"]


@pytest.mark.parametrize(
    ("body", "headers", "message"),
    [
        (b"", JSON, "not valid JSON"),
        (b'{"inputs": [[1, 1e300]]}', JSON, "NaN or infinity"),
        (b'{"inputs": [[1, NaN]]}', JSON, "NaN or infinity"),
        (b'{"inputs": []}', JSON, "shape (0,)"),
        (b'{"inputs": 1}', JSON, "shape (1,)"),
        (b'{"inputs": [[1, 2, 3]]}', JSON, "shape (1, 3)"),
        (b"", NPY, "not a .npy array"),
        (npy(np.ones((1, 2))), NPY, "float64"),
        (npy(np.ones((1, 2), ">f4")), NPY, ">f4"),
        (npy(np.ones((0, 2), np.float32)), NPY, "no example"),
        (npy(np.full((1, 2), np.inf, np.float32)), NPY, "NaN or infinity"),
    ],
)  # fmt: skip
def test_inputs_that_do_not_fit_the_network_get_status_422_and_one_sentence(
    client, body, headers, message
):
    answer = client.predict(body, headers)

    assert answer.status_code == 422
    assert message in answer.json()["error"]


def test_outputs_that_json_does_not_have_are_available_as_an_array(client):
    body = {"inputs": [[3e38, 1]]}

    refused, answer = client.predict(body), client.predict(body, JSON | ACCEPT_NPY)

    assert (refused.status_code, answer.status_code) == (422, 200)
    assert np.isinf(np.load(io.BytesIO(answer.content))[0, 0])


def test_a_large_body_is_read_while_others_are_answered(monkeypatch):
    """Reading it occupies a thread, and not the event loop."""
    is_reading, may_go_on = threading.Event(), threading.Event()

    def read_slowly(*arguments: Any) -> Any:
        is_reading.set()
        assert may_go_on.wait(HANG_SECONDS)
        return read_json(*arguments)

    monkeypatch.setattr(serving, "read_json", read_slowly)
    with running_service(DoublingEngine()) as client, ThreadPoolExecutor(1) as thread:
        slow = thread.submit(client.predict, {"inputs": [[1, 2]]})
        assert is_reading.wait(HANG_SECONDS)
        try:
            assert client.get("/healthz").status_code == 200
        finally:
            may_go_on.set()
        assert slow.result().json() == {"outputs": [[2, 4]]}


def test_a_body_above_the_limit_is_refused_with_or_without_its_length(client):
    with_length = client.predict(b" " * 2001)
    without = client.post("/predict", content=iter([b" " * 1500] * 2), headers=JSON)

    assert (with_length.status_code, without.status_code) == (413, 413)
    assert "larger than 2,000 bytes" in without.json()["error"]


def test_a_body_that_does_not_arrive_is_given_up(monkeypatch):
    timeout = asyncio.timeout
    monkeypatch.setattr(asyncio, "timeout", lambda seconds: timeout(seconds / 1000))
    with running_service(DoublingEngine()) as client:
        host, port = client.base_url.host, client.base_url.port
        with socket.create_connection((host, port)) as connection:
            head = "POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            head += "Authorization: Bearer secret\r\nContent-Length: 9\r\n\r\n"
            connection.sendall(head.encode())
            status_line = connection.makefile("rb").readline()

    assert status_line.startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("POST", "/predict", {"Authorization": "Bearer wrong"}, 401),
        ("POST", "/predict", {"Authorization": "Bearer sécret".encode()}, 401),
        ("GET", "/metrics", {"Authorization": ""}, 401),
        ("GET", "/predict", {}, 405),
        ("GET", "/nothing", {}, 404),
        ("POST", "/predict", {"Content-Type": "text/plain"}, 415),
        ("POST", "/predict", {}, 415),
    ],
)
def test_every_refusal_is_one_sentence_in_json(client, method, path, headers, status):
    answer = client.request(method, path, headers=headers)

    assert answer.status_code == status
    assert answer.json()["error"].endswith(".")


def test_health_needs_no_token(client):
    answer = httpx.get(f"{client.base_url}/healthz")

    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
    assert httpx.head(f"{client.base_url}/healthz").status_code == 200


def test_a_wrong_method_is_answered_with_the_right_one(client):
    assert client.get("/predict").headers["Allow"] == "POST"
    assert client.post("/healthz").headers["Allow"] == "GET, HEAD"


def test_requests_that_come_while_the_network_runs_share_its_next_call():
    engine = DoublingEngine()
    with running_service(engine) as client:
        del engine.calls[:]  # of the warm-up
        engine.gate.clear()
        with requesting(client, {"inputs": [[0, 0]]}) as first:
            client.wait_for("dltlab_batch_examples_count", 1)
            with requesting(client, *({"inputs": [[n, n]]} for n in range(1, 5))) as others:
                client.wait_for("dltlab_queue_length", 4)
                engine.gate.set()

    assert engine.calls == [1, 4]
    outputs = sorted(answer.json()["outputs"] for answer in first + others)
    assert outputs == [[[2.0 * n, 2.0 * n]] for n in range(5)]


def test_one_bad_request_of_a_batch_fails_alone():
    engine = DoublingEngine()
    with running_service(engine) as client:
        engine.gate.clear()
        with requesting(client, {"inputs": [[0, 0]]}):
            client.wait_for("dltlab_batch_examples_count", 1)
            with requesting(client, *({"inputs": [[n, n]]} for n in (1, -1, 2))) as answers:
                client.wait_for("dltlab_queue_length", 3)
                engine.gate.set()

    assert sorted(answer.status_code for answer in answers) == [200, 200, 500]


def test_a_failure_of_the_engine_has_status_500_and_is_logged(caplog):
    with running_service(DoublingEngine()) as client:
        answer = client.predict({"inputs": [[-1, 2]]})

    assert answer.status_code == 500
    assert "its log says why" in answer.json()["error"]
    assert "ValueError: negative" in caplog.text


def test_more_requests_than_allowed_are_told_to_try_again():
    engine = DoublingEngine()
    with running_service(engine, max_requests=2) as client:
        engine.gate.clear()
        with requesting(client, {"inputs": [[1, 1]]}, {"inputs": [[1, 1]]}) as answers:
            client.wait_for("dltlab_requests_in_progress", 2)
            refused = client.predict({"inputs": [[1, 1]]})
            engine.gate.set()
        after = client.predict({"inputs": [[1, 1]]})

    assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
    assert [answer.status_code for answer in [*answers, after]] == [200, 200, 200]


def test_a_request_of_too_many_examples_is_refused():
    with running_service(DoublingEngine(TensorSpec(shape=(), dtype="uint8"))) as client:
        answer = client.predict(npy(np.zeros(4097, np.uint8)), NPY)

    assert (answer.status_code, answer.json()["error"]) == (
        413, "There are 4,097 examples: send at most 4,096.",
    )  # fmt: skip


def test_each_service_counts_its_own_requests_by_status():
    with running_service(DoublingEngine()) as one, running_service(DoublingEngine()) as other:
        one.predict({"inputs": [[1, 2]] * 3})
        one.predict(b"")
        one.get("/nothing")

        assert one.metric('dltlab_requests_total{path="/predict",status="200"}') == 1
        assert one.metric('dltlab_requests_total{path="/predict",status="422"}') == 1
        assert one.metric('dltlab_requests_total{path="other",status="404"}') == 1
        assert one.metric("dltlab_batch_examples_sum") == 3
        assert one.metric("dltlab_predict_seconds_count") == 2
        assert other.metric("dltlab_batch_examples_sum") == 0


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_a_host_that_is_open_to_others_needs_a_token(host):
    with pytest.raises(Invalid, match="give a token"):
        listener(host, 0, "")


def test_a_port_in_use_is_named():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Unavailable, match=f"127.0.0.1:{port} cannot be used .Address already"):
            listener("127.0.0.1", port, "")
