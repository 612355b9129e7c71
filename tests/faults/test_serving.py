"""What `dltlab serve` survives: bad requests, clients that go or stall, and its own end."""

import io
import os
import random
import re
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

from dltlab.inference.serving import listener

TOKEN = "secret"
SHAPE = (16, 16, 3)
REFUSED = {400, 401, 404, 405, 413, 415, 422, 429}
MAX_REQUESTS = 256


@dataclass
class Server:
    """A process that serves."""

    process: subprocess.Popen[str]
    address: tuple[str, int]

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, timeout=60)

    def ask(self, request: bytes) -> tuple[int, bytes]:
        with self.connect() as connection:
            connection.sendall(request)
            return answer(connection.makefile("rb"))

    def metric(self, name: str) -> float:
        _, text = self.ask(request("GET", "/metrics"))
        return float(re.search(rf"^{name} (.+)$", text.decode(), re.MULTILINE).group(1))

    def wait_for(self, name: str, value: float) -> None:
        while self.metric(name) != value:  # pytest's timeout ends this
            assert self.process.poll() is None


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny network, compiled."""
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
        return optimize(model, backend="openvino", precision="float32").save(folder / "engine")


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
        about, where = process.stdout.readline(), process.stdout.readline()
        assert about.startswith("tiny on openvino in float32, batch 8")
        port = re.fullmatch(rf"http://127.0.0.1:(\d+)/predict, token: {TOKEN}\n", where).group(1)
        yield Server(process, ("127.0.0.1", int(port)))
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def request(method: str, path: str, body: bytes = b"", **headers: str) -> bytes:
    """An HTTP request; `headers` add to, or replace, those of a good one."""
    about = {
        "host": "localhost",
        "authorization": f"Bearer {TOKEN}",
        "content_length": str(len(body)),
        **headers,
    }
    lines = [f"{method} {path} HTTP/1.1"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in about.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def predict(body: bytes, kind: str = "application/x-npy", **headers: str) -> bytes:
    return request("POST", "/predict", body, content_type=kind, accept=kind, **headers)


def examples(count: int) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.random.default_rng(1).random((count, *SHAPE), np.float32))
    return stream.getvalue()


def answer(stream: io.BufferedReader) -> tuple[int, bytes]:
    """Status and body of the next answer; an empty one where the connection was closed."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        line = stream.readline()
        if not line:
            return 0, b""
        head += line
    length = re.search(rb"content-length: (\d+)", head)
    return int(head[9:12]), stream.read(int(length.group(1)) if length else -1)


def spoilt(content: bytes, chance: random.Random) -> bytes:
    """The same with some of its first bytes changed, taken away or doubled, or cut short."""
    body = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        place = chance.randrange(min(len(body), 140))
        new = chance.choice([b"", chance.randbytes(1), bytes(body[place : place + 9]) * 2])
        body[place : place + 1] = new
    return bytes(body[: chance.choice([len(body), chance.randrange(len(body))])])


def bad_requests(chance: random.Random) -> Iterator[bytes]:
    """Whole HTTP requests that cannot be answered, without end."""
    array = examples(1)
    text = b'{"inputs": [[[[1.5, -2e3, true], [0, null, "x"]]]]}'
    while True:
        yield predict(spoilt(array, chance))
        yield predict(spoilt(text, chance), "application/json")
        yield chance.choice(
            [
                predict(array, authorization=f"Bearer {chance.random()}"),
                predict(array, "application/x-www-form-urlencoded"),
                predict(b"", content_encoding="gzip"),
                predict(array[:-1]),
                request("GET", "/predict"),
                request("DELETE", "/metrics"),
                request("GET", f"/{chance.randbytes(20).hex()}?%00=%ff"),
                request("GET", "/../../etc/passwd"),
            ]
        )


def malformed(chance: random.Random) -> bytes:
    """What is no HTTP."""
    return chance.choice(
        [
            chance.randbytes(50) + b"\r\n\r\n",
            b"GET\r\n\r\n",
            predict(b"", content_length="-1"),
            predict(b"", content_length="many"),
            predict(b"zz\r\n", transfer_encoding="chunked").replace(b"content-length: 4\r\n", b""),
            request("GET", "/", cookie="x" * 100_000),
        ]
    )


def test_ten_thousand_bad_requests_are_refused_and_the_next_good_one_is_answered(server):
    chance = random.Random(1)
    good = predict(examples(3))
    before = server.ask(good)
    memory = psutil.Process(server.process.pid).memory_info().rss
    statuses = Counter[int]()
    with server.connect() as connection:
        stream = connection.makefile("rb")
        for bad in bad_requests(chance):
            connection.sendall(bad)
            status, _ = answer(stream)
            statuses[status] += 1
            if statuses.total() - statuses[200] == 8_500:
                break
    del statuses[200]  # what was spoilt, and still right
    for _ in range(500):
        statuses[server.ask(malformed(chance))[0]] += 1
    for _ in range(1_000):
        with server.connect() as connection:  # and gone before its body was whole
            connection.sendall(good[: chance.randrange(20, len(good))])

    assert statuses.keys() <= REFUSED
    assert statuses.total() == 9_000
    server.wait_for("dltlab_requests_in_progress", 0)
    assert server.ask(good) == before
    assert before[0] == 200
    assert psutil.Process(server.process.pid).memory_info().rss - memory < 100e6
    assert ended(server) == (0, "")


def test_clients_that_stall_are_limited_and_when_they_go_others_are_served(server):
    good = predict(examples(1))
    stalled = [server.connect() for _ in range(MAX_REQUESTS)]
    for connection in stalled:
        connection.sendall(good[:-1])
    server.wait_for("dltlab_requests_in_progress", MAX_REQUESTS)

    status, says = server.ask(good)
    assert (status, b"try again" in says) == (429, True)
    assert server.ask(request("GET", "/healthz"))[0] == 200
    for connection in stalled:
        connection.close()
    server.wait_for("dltlab_requests_in_progress", 0)
    assert server.ask(good)[0] == 200


def test_a_body_that_says_it_is_too_large_is_refused_before_it_comes(server):
    assert server.ask(predict(b"", content_length=str(10**12)))[0] == 413


def test_what_is_under_way_at_sigterm_under_load_is_answered(server):
    clients, good = 64, predict(examples(3))
    right = server.ask(good)
    slow = [server.connect() for _ in range(clients)]
    for connection in slow:
        connection.sendall(good[:-1])
    server.wait_for("dltlab_requests_in_progress", clients)
    with ThreadPoolExecutor(4) as threads:
        load = [threads.submit(answers_until_closed, server, good) for _ in range(4)]
        while server.metric("dltlab_predict_seconds_count") < 100:
            pass
        server.process.send_signal(signal.SIGTERM)
        while is_open(server):
            pass
        for connection in slow:
            connection.sendall(good[-1:])
        answers = [answer(connection.makefile("rb")) for connection in slow]
        for connection in slow:
            connection.close()
        others = set().union(*(each.result() for each in load))

    assert answers == [right] * clients
    assert others == {right}
    assert ended(server) == (0, "")


def answers_until_closed(server: Server, request: bytes) -> set[tuple[int, bytes]]:
    """Ask again and again over one connection, until the server closes it between two answers."""
    found = set()
    with server.connect() as connection:
        stream = connection.makefile("rb")
        while True:
            try:
                connection.sendall(request)
                status, body = answer(stream)
            except ConnectionError:
                return found
            if not status:
                return found
            found.add((status, body))


def is_open(server: Server) -> bool:
    try:
        server.connect().close()
    except ConnectionError:
        return False
    return True


def ended(server: Server) -> tuple[int, str]:
    """Exit code, and all that was said to standard error, after SIGTERM."""
    server.process.terminate()
    _, said = server.process.communicate(timeout=60)
    return server.process.returncode, said


def test_a_taken_port_is_one_sentence_and_exit_code_2(engine, dltlab):
    with listener("127.0.0.1", 0, "") as taken:
        port = taken.getsockname()[1]
        found = dltlab("serve", engine, "--port", port)

    assert (found.code, found.out) == (2, "")
    assert f"127.0.0.1:{port} cannot be used" in found.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere"], "nowhere is no engine"),
        ([".", "--host", "0.0.0.0", "--token", ""], "give a token"),
        ([".", "--host", "no such host"], "no such host:8000 cannot be used"),
    ],
)
def test_what_cannot_be_served_is_one_sentence_and_exit_code_2(dltlab, arguments, says):
    found = dltlab("serve", *arguments)

    assert (found.code, found.out) == (2, "")
    assert says in found.err
    assert found.err.count("\n") == 1


@pytest.mark.parametrize("option", ["--batch", "--streams"])
def test_numbers_below_one_are_refused(engine, dltlab, option):
    found = dltlab("serve", engine, option, "0", "--port", "0")

    assert (found.code, found.out) == (2, "")
    assert "is 0; it must be a whole number from 1 on." in found.err


def test_a_missing_package_is_one_sentence_and_exit_code_2(dltlab, monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "dltlab.inference.serving")
    monkeypatch.delattr("dltlab.inference.serving")

    found = dltlab("serve", ".")

    assert (found.code, found.out) == (2, "")
    assert found.err.endswith("uvicorn is not installed. Run: pip install 'dltlab[inference]'\n")
