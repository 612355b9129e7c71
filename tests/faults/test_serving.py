"""`dltlab serve` under bad requests, clients that disconnect or stall, and SIGTERM."""

import io
import json
import os
import random
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from dltlab.inference.serving import listener
from tests.deadlines import HANG_SECONDS, wait_until

TOKEN = "secret"
SHAPE = (16, 16, 3)
REFUSED = {400, 401, 404, 405, 413, 415, 422, 429}
RESET = 0  # in place of a status
MAX_REQUESTS = 256
CLASSES = [f"class {index}" for index in range(10)]


@dataclass
class Server:
    """A process of `dltlab serve`."""

    process: subprocess.Popen[str]
    address: tuple[str, int]
    curl: str  # the command line that it prints

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, timeout=HANG_SECONDS)

    def send(self, request: bytes) -> tuple[int, bytes]:
        """Send a request over a connection of its own; return status and body."""
        with self.connect() as connection:
            connection.sendall(request)
            return read_answer(connection.makefile("rb"))

    def metric(self, name: str) -> float:
        _, text = self.send(request("GET", "/metrics"))
        return float(re.search(rf"^{name} (.+)$", text.decode(), re.MULTILINE).group(1))

    def wait_for(self, name: str, value: float) -> None:
        def is_reached() -> bool:
            assert self.process.poll() is None
            return self.metric(name) == value

        wait_until(is_reached)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an engine of a tiny network."""
    import keras
    from keras import layers

    from dltlab.inference import optimize

    folder = tmp_path_factory.mktemp("engines")
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input(SHAPE),
            layers.Conv2D(8, 3, activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(10),
        ],
        name="tiny",
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DLTLAB_ENGINE_DIR", str(folder / "cache"))
        engine = optimize(model, backend="openvino", precision="float32", class_names=CLASSES)
        return engine.save(folder / "engine")


@pytest.fixture
def server(engine: Path, script: str) -> Iterator[Server]:
    process = subprocess.Popen(
        [script, "serve", engine, "--port", "0"],
        env=os.environ | {"DLTLAB_TOKEN": TOKEN},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        description, address, curl = (process.stdout.readline() for _ in range(3))
        assert description.startswith("tiny on openvino in float32, batch size 8")
        pattern = rf"http://127.0.0.1:(\d+)/predict, token: {TOKEN}\n"
        port = re.fullmatch(pattern, address).group(1)
        yield Server(process, ("127.0.0.1", int(port)), curl.removeprefix("Try it: "))
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def request(method: str, path: str, body: bytes = b"", **headers: str) -> bytes:
    """Return an HTTP request; `headers` add to, or replace, those of a good one."""
    fields = {
        "host": "localhost",
        "authorization": f"Bearer {TOKEN}",
        "content_length": str(len(body)),
        **headers,
    }
    lines = [f"{method} {path} HTTP/1.1"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def predict_request(body: bytes, media_type: str = "application/x-npy", **headers: str) -> bytes:
    return request("POST", "/predict", body, content_type=media_type, accept=media_type, **headers)


def examples(count: int) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.random.default_rng(1).random((count, *SHAPE), np.float32))
    return stream.getvalue()


def read_answer(stream: io.BufferedReader) -> tuple[int, bytes]:
    """Return status and body of the next answer; (0, b"") where the connection was closed."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        line = stream.readline()
        if not line:
            return 0, b""
        head += line
    length = re.search(rb"content-length: (\d+)", head)
    return int(head[9:12]), stream.read(int(length.group(1)) if length else -1)


def corrupted(content: bytes, rng: random.Random) -> bytes:
    """Return a copy with some of its first bytes changed, removed or repeated, or truncated."""
    body = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        index = rng.randrange(min(len(body), 140))
        new = rng.choice([b"", rng.randbytes(1), bytes(body[index : index + 9]) * 2])
        body[index : index + 1] = new
    return bytes(body[: rng.choice([len(body), rng.randrange(len(body))])])


def bad_requests(rng: random.Random) -> Iterator[bytes]:
    """Yield complete HTTP requests that cannot be answered, without end."""
    array = examples(1)
    text = b'{"inputs": [[[[1.5, -2e3, true], [0, null, "x"]]]]}'
    while True:
        yield predict_request(corrupted(array, rng))
        yield predict_request(corrupted(text, rng), "application/json")
        yield rng.choice(
            [
                predict_request(array, authorization=f"Bearer {rng.random()}"),
                predict_request(array, "application/x-www-form-urlencoded"),
                predict_request(b"", content_encoding="gzip"),
                predict_request(array[:-1]),
                request("GET", "/predict"),
                request("DELETE", "/metrics"),
                request("GET", f"/{rng.randbytes(20).hex()}?%00=%ff"),
                request("GET", "/../../etc/passwd"),
            ]
        )


def malformed(rng: random.Random) -> bytes:
    """Return bytes that are not valid HTTP."""
    return rng.choice(
        [
            rng.randbytes(50) + b"\r\n\r\n",
            b"GET\r\n\r\n",
            predict_request(b"", content_length="-1"),
            predict_request(b"", content_length="many"),
            predict_request(b"zz\r\n", transfer_encoding="chunked").replace(
                b"content-length: 4\r\n", b""
            ),
            request("GET", "/", cookie="x" * 100_000),
        ]
    )


def refusal(server: Server, malformed: bytes) -> int:
    """Return the status with which bytes that are not valid HTTP are refused.

    The server closes the connection before it has read them all. The system then resets the
    connection, and the answer may be lost.
    """
    try:
        return server.send(malformed)[0]
    except ConnectionResetError:
        return RESET


def test_ten_thousand_bad_requests_are_refused_and_the_next_good_one_is_answered(server):
    rng = random.Random(1)
    good = predict_request(examples(3))
    before = server.send(good)
    memory = psutil.Process(server.process.pid).memory_info().rss
    statuses = Counter[int]()
    with server.connect() as connection:
        stream = connection.makefile("rb")
        for bad in bad_requests(rng):
            connection.sendall(bad)
            status, _ = read_answer(stream)
            statuses[status] += 1
            if statuses.total() - statuses[200] == 8_500:
                break
    del statuses[200]  # corrupted, but still valid
    for _ in range(500):
        statuses[refusal(server, malformed(rng))] += 1
    for _ in range(1_000):
        with server.connect() as connection:  # disconnects before its body is complete
            connection.sendall(good[: rng.randrange(20, len(good))])

    assert statuses.keys() <= REFUSED | {RESET}
    assert statuses.total() == 9_000
    server.wait_for("dltlab_requests_in_progress", 0)
    assert server.send(good) == before
    assert before[0] == 200
    assert psutil.Process(server.process.pid).memory_info().rss - memory < 100e6
    assert terminate(server) == (0, "")


def test_stalled_clients_are_limited_and_after_they_disconnect_others_are_served(server):
    good = predict_request(examples(1))
    stalled = [server.connect() for _ in range(MAX_REQUESTS)]
    for connection in stalled:
        connection.sendall(good[:-1])
    server.wait_for("dltlab_requests_in_progress", MAX_REQUESTS)

    status, body = server.send(good)
    assert (status, b"try again" in body) == (429, True)
    assert server.send(request("GET", "/healthz"))[0] == 200
    for connection in stalled:
        connection.close()
    server.wait_for("dltlab_requests_in_progress", 0)
    assert server.send(good)[0] == 200


def test_the_printed_command_line_works_with_a_photo(server, tmp_path):
    Image.new("RGB", (40, 30), "red").save(tmp_path / "photo.jpg")
    result = subprocess.run(
        [*shlex.split(server.curl), "--silent", "--show-error"],
        cwd=tmp_path, capture_output=True, text=True, timeout=HANG_SECONDS,
    )  # fmt: skip
    assert (result.returncode, result.stderr) == (0, "")
    answer = json.loads(result.stdout)
    assert np.shape(answer["outputs"]) == (1, 10)
    (prediction,) = answer["predictions"]
    assert prediction["class"] in CLASSES
    assert sum(prediction["probabilities"].values()) == pytest.approx(1)


def test_a_body_whose_length_is_too_large_is_refused_before_it_arrives(server):
    assert server.send(predict_request(b"", content_length=str(10**12)))[0] == 413


def test_requests_in_progress_at_sigterm_are_answered(server):
    clients, good = 64, predict_request(examples(3))
    expected = server.send(good)
    slow = [server.connect() for _ in range(clients)]
    for connection in slow:
        connection.sendall(good[:-1])
    server.wait_for("dltlab_requests_in_progress", clients)
    with ThreadPoolExecutor(4) as threads:
        load = [threads.submit(answers_until_closed, server, good) for _ in range(4)]
        wait_until(lambda: server.metric("dltlab_predict_seconds_count") >= 100)
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: not is_open(server))
        for connection in slow:
            connection.sendall(good[-1:])
        answers = [read_answer(connection.makefile("rb")) for connection in slow]
        for connection in slow:
            connection.close()
        others = set().union(*(future.result() for future in load))

    assert answers == [expected] * clients
    assert others == {expected}
    assert terminate(server) == (0, "")


def answers_until_closed(server: Server, request: bytes) -> set[tuple[int, bytes]]:
    """Send a request repeatedly over one connection, until the server closes it."""
    answers: set[tuple[int, bytes]] = set()
    with server.connect() as connection:
        stream = connection.makefile("rb")
        while True:
            try:
                connection.sendall(request)
                status, body = read_answer(stream)
            except ConnectionError:
                return answers
            if not status:
                return answers
            answers.add((status, body))


def is_open(server: Server) -> bool:
    try:
        server.connect().close()
    except ConnectionError:
        return False
    return True


def terminate(server: Server) -> tuple[int, str]:
    """Return the exit code and the standard error after SIGTERM."""
    server.process.terminate()
    _, error_output = server.process.communicate(timeout=HANG_SECONDS)
    return server.process.returncode, error_output


def test_a_taken_port_is_one_sentence_and_exit_code_2(engine, dltlab):
    with listener("127.0.0.1", 0, "") as taken:
        port = taken.getsockname()[1]
        result = dltlab("serve", engine, "--port", port)

    assert (result.code, result.out) == (2, "")
    assert f"127.0.0.1:{port} cannot be used" in result.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere is not an engine"),
        ([".", "--host", "0.0.0.0", "--token", ""], "give a token"),
        ([".", "--host", "no such host"], "no such host:8000 cannot be used"),
    ],
)
def test_an_engine_or_host_that_cannot_be_served_is_one_sentence_and_exit_code_2(
    dltlab, arguments, message
):
    result = dltlab("serve", *arguments)

    assert (result.code, result.out) == (2, "")
    assert message in result.err
    assert result.err.count("\n") == 1


@pytest.mark.parametrize("option", ["--batch-size", "--streams", "--threads"])
def test_numbers_below_one_are_refused(engine, dltlab, option):
    result = dltlab("serve", engine, option, "0", "--port", "0")

    assert (result.code, result.out) == (2, "")
    assert "is 0; it must be an integer of at least 1." in result.err


def test_a_missing_package_is_one_sentence_and_exit_code_2(dltlab, monkeypatch):
    monkeypatch.delattr("dltlab.inference.listener")  # it is imported again on the next use
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "dltlab.inference.serving")
    monkeypatch.delattr("dltlab.inference.serving")

    result = dltlab("serve", ".")

    assert (result.code, result.out) == (2, "")
    assert result.err.endswith("uvicorn is not installed. Run: pip install 'dltlab[inference]'\n")
