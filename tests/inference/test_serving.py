"""A service: what it answers, what it refuses, and that requests share calls of the network."""

import asyncio
import copy
import io
import json
import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import httpx
import numpy as np
import pytest
import uvicorn

from dltlab.errors import LabError
from dltlab.inference import Engine, load_test, predict
from dltlab.inference.backends import Settings
from dltlab.inference.batching import Batcher, sizes
from dltlab.inference.cache import Manifest, Tensor
from dltlab.inference.serving import address_of, listener, service

JSON = {"Content-Type": "application/json"}
NPY = {"Content-Type": "application/x-npy"}
BIG = 2**70
AS_NPY = {"Accept": "application/x-npy"}
TOKEN = {"Authorization": "Bearer secret"}


class Doubling(Engine):
    """Doubles its first input; a negative number breaks it, and `gate` can hold it up."""

    def __init__(self, *inputs: Tensor, batch: int = 4, outputs: int = 1) -> None:
        inputs = inputs or (Tensor(shape=(2,), dtype="float32"),)
        self.settings = Settings(batch, 1, 1)
        self.manifest = Manifest(
            model="doubling", model_hash="", backend="", versions={}, precision="float32",
            machine="", inputs=inputs, layers=(),
        )  # fmt: skip
        self.outputs = outputs
        self.calls: list[int] = []
        self.gate = threading.Event()
        self.gate.set()

    def configured(self, *, batch: int) -> "Doubling":
        other = copy.copy(self)
        other.settings = replace(self.settings, batch=batch)
        return other

    def lane(self):
        def run(inputs):
            assert self.gate.wait(20)
            self.calls.append(len(inputs[0]))
            if (inputs[0] < 0).any():
                raise ValueError("negative")
            with np.errstate(over="ignore"):
                return [2 * inputs[0]] * self.outputs

        return run


class Client(httpx.Client):
    """What a test asks with."""

    def predict(self, body: object, headers: dict[str, str] = JSON) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body)
        return self.post("/predict", content=content, headers=headers)

    def metric(self, name: str) -> float:
        lines = [line.split() for line in self.get("/metrics").text.splitlines()]
        return sum(float(line[-1]) for line in lines if line[0] == name)

    def wait_for(self, name: str, value: float) -> None:
        while self.metric(name) != value:  # pytest's timeout ends this
            pass


@contextmanager
def running(engine: Engine, **options: object) -> Iterator[Client]:
    listening = listener("127.0.0.1", 0, "secret")
    application = service(engine, token="secret", **options)
    server = uvicorn.Server(uvicorn.Config(application, ws="none", log_level="error"))
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    try:
        with Client(base_url=address_of(listening), headers=TOKEN, timeout=30) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with running(Doubling(), max_body=2000) as client:
        yield client


@contextmanager
def asking(client: Client, *bodies: object) -> Iterator[list[httpx.Response]]:
    """Ask at the same time; when this ends, the answers are there, in no order."""
    found: list[httpx.Response] = []
    threads = [
        threading.Thread(target=lambda body=body: found.append(client.predict(body)))
        for body in bodies
    ]
    for thread in threads:
        thread.start()
    yield found
    for thread in threads:
        thread.join()


def npy(array: object) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def npy_of(header: bytes) -> bytes:
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header


def test_json_is_answered_in_json(client):
    answer = client.predict({"inputs": [[1, 2.5], [3, 4]]})

    assert (answer.status_code, answer.json()) == (200, {"outputs": [[2.0, 5.0], [6.0, 8.0]]})


@pytest.mark.parametrize("kind", ["application/x-npy", "application/octet-stream"])
def test_an_array_is_answered_with_an_array_where_it_is_accepted(client, kind):
    array = np.random.default_rng(1).random((3, 2), np.float32)

    answer = client.predict(npy(array), {"Content-Type": kind, "Accept": kind})

    np.testing.assert_array_equal(np.load(io.BytesIO(answer.content)), 2 * array)


def test_several_inputs_and_outputs_are_lists_of_arrays():
    two = [Tensor(shape=(1,), dtype="float32"), Tensor(shape=(), dtype="int32")]
    with running(Doubling(*two, outputs=2)) as client:
        answer = client.predict({"inputs": [[[1], [2]], [7, 8]]})
        one_short = client.predict({"inputs": [[[1], [2]]]})
        array = client.predict({"inputs": [[[1], [2]], [7, 8]]}, JSON | AS_NPY)

    assert answer.json() == {"outputs": [[[2.0], [4.0]], [[2.0], [4.0]]]}
    assert "list of 2 arrays" in one_short.json()["error"]
    assert "2 outputs" in array.json()["error"]


@pytest.mark.parametrize(
    ("body", "headers", "says"),
    [
        (b"", JSON, "no JSON"),
        (b'{"inputs": [[1, 2]', JSON, "no JSON"),
        (b"\xff\xfe", JSON, "no JSON"),
        (b'{"inputs": ' + b"[" * 900, JSON, "no JSON"),
        (b"[1, 2]", JSON, 'no "inputs"'),
        (b"{}", JSON, 'no "inputs"'),
        (b'{"inputs": [[1, 2], [3]]}', JSON, "differ in length"),
        (b'{"inputs": [["1", "2"]]}', JSON, "no array of numbers"),
        (b'{"inputs": [[null, {}]]}', JSON, "no array of numbers"),
        (b'{"inputs": [[1, 1' + b"0" * 400 + b"]]}", JSON, "no array of numbers"),
        (b'{"inputs": [[1, 1e300]]}', JSON, "NaN or infinity"),
        (b'{"inputs": [[1, NaN]]}', JSON, "NaN or infinity"),
        (b'{"inputs": []}', JSON, "shape (0,)"),
        (b'{"inputs": 1}', JSON, "shape (1,)"),
        (b'{"inputs": [[1, 2, 3]]}', JSON, "shape (1, 3)"),
        (b"", NPY, "no .npy array"),
        (npy(np.ones((1, 2), np.float32))[:-1], NPY, "no .npy array"),
        (npy(np.ones((1, 2), np.float32)) + b"!", NPY, "goes on"),
        (npy(np.array([{}, None])), NPY, "no .npy array"),
        (npy(np.ones((1, 2))), NPY, "float64"),
        (npy(np.ones((1, 2), ">f4")), NPY, ">f4"),
        (npy(np.ones((0, 2), np.float32)), NPY, "no example"),
        (npy_of(b"if 1:\n  1\n 1"), NPY, "no .npy array"),
        (npy_of(b"{'descr': 'f4', 'fortran_order': False, 'shape': (%d,)}" % BIG), NPY, "no .npy"),
        (npy(np.full((1, 2), np.inf, np.float32)), NPY, "NaN or infinity"),
    ],
)  # fmt: skip
def test_what_the_network_does_not_take_is_refused_with_422_and_one_sentence(
    client, body, headers, says
):
    answer = client.predict(body, headers)

    assert answer.status_code == 422
    assert says in answer.json()["error"]


def test_an_array_that_claims_more_than_it_holds_takes_no_memory(client):
    body = npy(np.ones((1, 2), np.float32)).replace(b"(1, 2), }       ", b"(10000000000,)}")

    assert client.predict(body, NPY).status_code == 422


@pytest.mark.parametrize("value", [300, -1, 1.5, 1e30])
def test_json_numbers_that_the_inputs_dtype_lacks_are_refused(value):
    with running(Doubling(Tensor(shape=(), dtype="uint8"))) as client:
        answer = client.predict({"inputs": [value]})

    assert answer.status_code == 422
    assert "uint8" in answer.json()["error"]


def test_an_answer_that_json_cannot_hold_is_to_be_had_as_an_array(client):
    body = {"inputs": [[3e38, 1]]}

    refused, answer = client.predict(body), client.predict(body, JSON | AS_NPY)

    assert (refused.status_code, answer.status_code) == (422, 200)
    assert np.isinf(np.load(io.BytesIO(answer.content))[0, 0])


def test_a_body_above_the_limit_is_refused_whether_it_says_its_length_or_not(client):
    said = client.predict(b" " * 2001)
    not_said = client.post("/predict", content=iter([b" " * 1500] * 2), headers=JSON)

    assert (said.status_code, not_said.status_code) == (413, 413)
    assert "larger than 2,000 bytes" in not_said.json()["error"]


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


def test_requests_that_come_while_the_network_runs_share_its_next_call():
    engine = Doubling()
    with running(engine) as client:
        del engine.calls[:]  # those that warm up
        engine.gate.clear()
        with asking(client, {"inputs": [[0, 0]]}) as first:
            client.wait_for("dltlab_batch_examples_count", 1)
            with asking(client, *({"inputs": [[n, n]]} for n in range(1, 5))) as rest:
                client.wait_for("dltlab_queue_length", 4)
                engine.gate.set()

    assert engine.calls == [1, 4]
    answers = sorted(each.json()["outputs"] for each in first + rest)
    assert answers == [[[2.0 * n, 2.0 * n]] for n in range(5)]


def test_one_bad_request_spoils_no_other_of_its_batch_which_is_logged(caplog):
    engine = Doubling()
    with running(engine) as client:
        engine.gate.clear()
        with asking(client, {"inputs": [[0, 0]]}):
            client.wait_for("dltlab_batch_examples_count", 1)
            with asking(client, *({"inputs": [[n, n]]} for n in (1, -1, 2))) as found:
                client.wait_for("dltlab_queue_length", 3)
                engine.gate.set()

    assert sorted(each.status_code for each in found) == [200, 200, 500]
    assert "A batch of 3 requests failed; each is run alone." in caplog.text


def test_a_failure_of_the_engine_is_no_fault_of_the_input_and_is_logged(caplog):
    logger = logging.getLogger("uvicorn.error")
    with running(Doubling()) as client:
        logger.addHandler(caplog.handler)
        answer = client.predict({"inputs": [[-1, 2]]})
    logger.removeHandler(caplog.handler)  # only now all is logged

    assert answer.status_code == 500
    assert "its log says why" in answer.json()["error"]
    assert "ValueError: negative" in caplog.text


def test_more_requests_than_allowed_are_told_to_try_again():
    engine = Doubling()
    with running(engine, max_requests=2) as client:
        engine.gate.clear()
        with asking(client, {"inputs": [[1, 1]]}, {"inputs": [[1, 1]]}) as found:
            client.wait_for("dltlab_requests_in_progress", 2)
            refused = client.predict({"inputs": [[1, 1]]})
            engine.gate.set()
        after = client.predict({"inputs": [[1, 1]]})

    assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
    assert [each.status_code for each in [*found, after]] == [200, 200, 200]


def test_metrics_count_requests_by_status_and_each_service_has_its_own():
    with running(Doubling()) as one, running(Doubling()) as other:
        one.predict({"inputs": [[1, 2]] * 3})
        one.predict(b"")
        one.get("/nothing")

        assert one.metric('dltlab_requests_total{path="/predict",status="200"}') == 1
        assert one.metric('dltlab_requests_total{path="/predict",status="422"}') == 1
        assert one.metric('dltlab_requests_total{path="other",status="404"}') == 1
        assert one.metric("dltlab_batch_examples_sum") == 3
        assert one.metric("dltlab_predict_seconds_count") == 2
        assert other.metric("dltlab_batch_examples_sum") == 0


def answers_of(batcher: Batcher, *requests: np.ndarray, cancel: int | None = None) -> list:
    """Give a batcher several requests at once, and take one back."""

    async def main() -> list:
        asked = [asyncio.create_task(batcher.run([each])) for each in requests]
        await asyncio.sleep(0)  # all of them wait now
        if cancel is not None:
            asked[cancel].cancel()
        serving = asyncio.create_task(batcher.serve())
        found = await asyncio.gather(*asked, return_exceptions=True)
        serving.cancel()
        await asyncio.wait([serving])
        return found

    return asyncio.run(main())


def ones(count: int, length: int = 2) -> np.ndarray:
    return np.ones((count, length), np.float32)


def test_a_large_request_runs_in_batches():
    engine = Doubling()
    batcher = Batcher(engine, 0)
    del engine.calls[:]

    ((found,),) = answers_of(batcher, np.arange(20, dtype=np.float32).reshape(10, 2))

    assert engine.calls == [4, 4, 2]
    np.testing.assert_array_equal(found, 2 * np.arange(20).reshape(10, 2))


def test_when_a_part_of_a_request_fails_the_others_do_not_run():
    engine = Doubling()
    batcher = Batcher(engine, 0)
    del engine.calls[:]

    (found, *_) = answers_of(batcher, -ones(40), ones(1))

    assert isinstance(found, ValueError)
    assert engine.calls == [4, 4, 1]  # the second was under way


def test_a_request_of_too_many_examples_is_refused():
    with running(Doubling(Tensor(shape=(), dtype="uint8"))) as client:
        answer = client.predict(npy(np.zeros(4097, np.uint8)), NPY)

    assert (answer.status_code, answer.json()["error"]) == (
        413, "There are 4,097 examples: send at most 4,096.",
    )  # fmt: skip


def test_the_smallest_compiled_batch_runs_that_holds_the_examples():
    assert sizes(1) == [1]
    assert sizes(8) == [1, 2, 4, 8]
    assert sizes(12) == [1, 2, 4, 8, 12]


def test_a_cancelled_request_leaves_its_batch_alone():
    engine, batches = Doubling(), []
    batcher = Batcher(engine, 0, batches.append)

    found = answers_of(batcher, ones(1), ones(1), ones(2), cancel=1)

    assert isinstance(found[1], asyncio.CancelledError)
    assert [len(each[0]) for each in (found[0], found[2])] == [1, 2]
    assert batches == [3]


def test_only_examples_of_one_shape_share_a_batch():
    batches = []
    batcher = Batcher(Doubling(Tensor(shape=(None,), dtype="float32")), 0, batches.append)

    found = answers_of(batcher, ones(1), ones(1), ones(1, length=3), ones(1))

    assert [each.shape for (each,) in found] == [(1, 2), (1, 2), (1, 3), (1, 2)]
    assert batches == [2, 1, 1]


def batches_of_two_and_then(wait: float, *later: np.ndarray) -> list[int]:
    """What share calls when two requests come at once, and others one by one."""
    batches: list[int] = []
    batcher = Batcher(Doubling(), wait, batches.append)

    async def main() -> None:
        serving = asyncio.create_task(batcher.serve())
        await asyncio.gather(batcher.run([ones(1)]), batcher.run([ones(1)]))
        asked = []
        for each in later:
            asked.append(asyncio.create_task(batcher.run([each])))
            for _ in range(9):  # whoever could go on has done so
                await asyncio.sleep(0)
        await asyncio.gather(*asked)
        serving.cancel()
        await asyncio.wait([serving])

    asyncio.run(main())
    return batches


def test_a_call_waits_for_as_many_examples_as_the_last_one_had():
    assert batches_of_two_and_then(3600, ones(1), ones(1)) == [2, 2]


def test_a_call_waits_no_longer_than_it_was_told():
    assert batches_of_two_and_then(0.01, ones(1)) == [2, 1]


def test_nobody_waits_for_more_examples_than_a_batch_holds():
    assert batches_of_two_and_then(3600, ones(4), ones(4)) == [2, 4, 4]


def test_a_load_test_counts_what_was_answered_and_what_was_not():
    with running(Doubling(), max_requests=1) as client:
        found = load_test(str(client.base_url), "secret", ones(1), concurrency=4, seconds=0.3)
        answered = client.metric('dltlab_requests_total{path="/predict",status="200"}')
        refused = client.metric('dltlab_requests_total{path="/predict",status="429"}')

    assert len(found.latencies) + 1 == answered > 1  # one to see whether anybody answers
    assert found.errors.get("429", 0) == refused
    assert 0 < found.percentile(50) <= found.percentile(99)


def test_one_question_gets_its_answer_or_the_sentence_of_the_service(client):
    assert np.array_equal(predict(str(client.base_url), "secret", ones(2)), 2 * ones(2))
    with pytest.raises(LabError, match=r"answers with 422: The input has the shape"):
        predict(str(client.base_url), "secret", np.ones((1, 3), "float32"))


@pytest.mark.parametrize(
    "address", ["https://127.0.0.1:8000", "127.0.0.1:8000", "http://127.0.0.1:8000/predict", ""]
)
def test_a_token_is_sent_to_no_other_than_a_plain_address(address):
    with pytest.raises(LabError, match="give http://HOST:PORT"):
        predict(address, "secret", ones(1))


def test_a_load_test_says_why_it_cannot_begin(client):
    with pytest.raises(LabError, match=r"401.*token"):
        load_test(str(client.base_url), "wrong", ones(1))
    with pytest.raises(LabError, match="concurrency is 0"):
        load_test(str(client.base_url), "secret", ones(1), concurrency=0)
    with listener("127.0.0.1", 0, "") as closed:
        address = address_of(closed)
    with pytest.raises(LabError, match="does not answer"):
        load_test(address, "", ones(1))


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_an_open_host_needs_a_token(host):
    with pytest.raises(LabError, match="give a token"):
        listener(host, 0, "")


def test_a_taken_port_is_named():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(LabError, match=f"127.0.0.1:{port} cannot be used .Address already"):
            listener("127.0.0.1", port, "")
