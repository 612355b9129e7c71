"""An engine behind HTTP: `service` is the application, `serve` runs it on a `listener`."""

import asyncio
import contextlib
import io
import ipaddress
import json
import secrets
import signal
import socket
import sys
import tokenize
import warnings
from collections.abc import AsyncIterator
from typing import Any

import numpy as np

from dltlab.errors import LabError
from dltlab.inference.backends import Arrays
from dltlab.inference.batching import Batcher, sizes
from dltlab.inference.cache import Tensor
from dltlab.inference.engine import Engine

try:
    import prometheus_client as prometheus
    import uvicorn
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.middleware import Middleware
    from starlette.requests import ClientDisconnect, Request
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Route
    from starlette.types import ASGIApp, Message, Receive, Scope, Send
except ModuleNotFoundError as error:
    raise LabError(
        f"{error.name} is not installed. Run: pip install 'dltlab[inference]'"
    ) from error

_JSON = "application/json"
_NPY = ("application/x-npy", "application/octet-stream")
_WAIT = 0.002  # seconds for as many examples as the last call had; see `Batcher`
_MOST_EXAMPLES = 4096  # of a request
_PATIENCE = 20  # seconds for a body to arrive
_BACKLOG = 2048  # connections that wait to be accepted, as uvicorn has it
_GRACE = 60  # seconds for what is under way to be answered after SIGTERM
_CLIENT_GONE = 499  # what nginx writes down for it
_SAYS = {
    404: "There is nothing here: use /predict, /healthz or /metrics.",
    405: "Use POST for /predict, and GET for /healthz and /metrics.",
}


def service(
    engine: Engine,
    *,
    token: str,
    max_body: int = 16 * 2**20,
    max_requests: int = 256,
) -> Starlette:
    """An application that answers with an engine.

    `POST /predict` takes JSON, `{"inputs": [...]}`, or an array in NumPy's `.npy` format
    (`Content-Type: application/x-npy`), `(n, …)` of the model's input; JSON holds a list of arrays
    where the model has several. It answers `{"outputs": [...]}`, or `.npy` where `Accept` asks for
    it. These are the names of TensorFlow Serving's REST API, columnar format
    (https://www.tensorflow.org/tfx/serving/api_rest). `GET /metrics` is for Prometheus. Both want
    `Authorization: Bearer TOKEN`; `GET /healthz` does not. Every refusal is
    `{"error": "one sentence"}`: 401 without the token, 408 for a body that does not come, 413 for
    one that is too large, 415 for another format, 422 for what the network does not take, 429 (with
    `Retry-After`) while there are `max_requests`, 500 where the engine fails.

    Args:
        engine: Its settings say how many examples share a call, and how many calls run at once.
        token: Empty for none.
        max_body: Bytes of a request.
        max_requests: That are read, wait or run at a time.
    """
    return _Service(engine, token, max_body, max_requests).application()


def listener(host: str, port: int, token: str) -> socket.socket:
    """A socket that listens.

    Args:
        host: An address or name; any but loopback needs a token.
        port: 0 for any that is free.
        token: Empty for none.

    Raises:
        LabError: The port is taken, the host is none of this machine, or open to all.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP
        )[0]
        if not token and not ipaddress.ip_address(address[0]).is_loopback:
            raise LabError(f"{host} can be reached from outside: give a token, or use 127.0.0.1.")
        # Only a socket that names its protocol gets TCP_NODELAY from asyncio; without it the body
        # of an answer waits 40 ms for the client to acknowledge the headers.
        listening = socket.socket(family, kind, protocol)
        with contextlib.ExitStack() as undo:
            undo.enter_context(listening)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen(_BACKLOG)
            undo.pop_all()
    except (OSError, OverflowError, UnicodeError) as error:
        raise LabError(
            f"{host}:{port} cannot be used ({getattr(error, 'strerror', None) or error}): choose "
            "another with --port or --host."
        ) from error
    return listening


def address_of(listening: socket.socket) -> str:
    """Its address, as in `http://127.0.0.1:8000`."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serve(engine: Engine, listening: socket.socket, token: str) -> None:
    """Answer until SIGTERM or Ctrl-C; what is under way is finished then.

    After SIGTERM it leaves with `SystemExit(0)`, after Ctrl-C with `KeyboardInterrupt`.
    """
    # Uvicorn finishes its work, then hands the signal on to this.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    config = uvicorn.Config(
        service(engine, token=token),
        ws="none", log_level="error", access_log=False, server_header=False, proxy_headers=False,
        timeout_graceful_shutdown=_GRACE,
    )  # fmt: skip
    uvicorn.Server(config).run([listening])


class _Service:
    def __init__(self, engine: Engine, token: str, max_body: int, max_requests: int) -> None:
        self._engine, self._token = engine, token.encode()
        self._max_body, self._max_requests = max_body, max_requests
        self._requests = 0
        self._metrics = metrics = _Metrics(engine.settings.batch)
        self._batcher = Batcher(engine, _WAIT, metrics.batch.observe)
        metrics.in_progress.set_function(lambda: self._requests)
        metrics.queue.set_function(lambda: len(self._batcher))

    def application(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/predict", self._predict, methods=["POST"]),
                Route("/healthz", self._healthz),
                Route("/metrics", self._show_metrics),
            ],
            middleware=[Middleware(_Counted, self._metrics.requests)],
            exception_handlers={
                HTTPException: _refused,
                LabError: _unfit,
                ClientDisconnect: _gone,
                Exception: _failed,
            },
            lifespan=self._running,
        )

    @contextlib.asynccontextmanager
    async def _running(self, application: Starlette) -> AsyncIterator[None]:
        batches = asyncio.create_task(self._batcher.serve())
        yield
        batches.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await batches

    async def _predict(self, request: Request) -> Response:
        self._require_token(request)
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in (_JSON, *_NPY):
            raise HTTPException(415, f"The body is '{kind}': send {_JSON} or {_NPY[0]}.")
        if self._requests >= self._max_requests:
            raise HTTPException(
                429, f"{self._requests} requests are under way: try again.", {"Retry-After": "1"}
            )
        self._requests += 1
        try:
            with self._metrics.latency.time():
                inputs = self._inputs(kind, await self._body(request))
                return _answer(await self._batcher.run(inputs), request.headers.get("accept", ""))
        finally:
            self._requests -= 1

    async def _healthz(self, request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def _show_metrics(self, request: Request) -> Response:
        self._require_token(request)
        text = prometheus.generate_latest(self._metrics.registry)
        return Response(text, media_type=prometheus.CONTENT_TYPE_LATEST)

    def _require_token(self, request: Request) -> None:
        given = request.headers.get("authorization", "").encode("latin-1")
        if self._token and not secrets.compare_digest(given, b"Bearer " + self._token):
            raise HTTPException(
                401,
                "The token is missing or wrong: send the header Authorization: Bearer TOKEN.",
                {"WWW-Authenticate": "Bearer"},
            )

    async def _body(self, request: Request) -> bytes:
        """All of it, or no more than the limit."""
        too_large = HTTPException(
            413, f"The body is larger than {self._max_body:,} bytes: send fewer examples at a time."
        )
        if int(request.headers.get("content-length", 0)) > self._max_body:
            raise too_large
        body = bytearray()
        try:
            async with asyncio.timeout(_PATIENCE):
                async for piece in request.stream():
                    body += piece
                    if len(body) > self._max_body:
                        raise too_large
        except TimeoutError:
            raise HTTPException(408, f"The body did not come within {_PATIENCE} s.") from None
        return bytes(body)

    def _inputs(self, kind: str, body: bytes) -> Arrays:
        """The examples in a body, as the engine takes them.

        Raises:
            LabError: They are not as the model's inputs.
            HTTPException: They are too many.
        """
        tensors = self._engine.manifest.inputs
        given = _from_json(body, tensors) if kind == _JSON else [_from_npy(body)]
        arrays = self._engine.checked(given)
        if len(arrays[0]) > _MOST_EXAMPLES:
            raise HTTPException(
                413, f"There are {len(arrays[0]):,} examples: send at most {_MOST_EXAMPLES:,}."
            )
        if not all(np.isfinite(each).all() for each in arrays):
            raise LabError("The input holds NaN or infinity: give finite numbers.")
        return arrays


class _Metrics:
    """What Prometheus is told; names as in its guide, https://prometheus.io/docs/practices/naming/."""

    def __init__(self, batch: int) -> None:
        self.registry = prometheus.CollectorRegistry()
        self.requests = prometheus.Counter(
            "dltlab_requests", "Requests answered.", ["path", "status"], registry=self.registry
        )
        self.latency = prometheus.Histogram(
            "dltlab_predict_seconds", "From the headers of a prediction to its answer.",
            buckets=[base * 10**power for power in range(-3, 2) for base in (1, 2, 5)],
            registry=self.registry,
        )  # fmt: skip
        self.batch = prometheus.Histogram(
            "dltlab_batch_examples", "Examples that shared a call of the network.",
            buckets=sizes(batch), registry=self.registry,
        )  # fmt: skip
        self.queue = prometheus.Gauge(
            "dltlab_queue_length", "Requests that wait for a batch.", registry=self.registry
        )
        self.in_progress = prometheus.Gauge(
            "dltlab_requests_in_progress", "Predictions that are read, wait or run.",
            registry=self.registry,
        )  # fmt: skip


class _Counted:
    """Counts requests by path and status."""

    def __init__(self, application: ASGIApp, requests: prometheus.Counter) -> None:
        self._application, self._requests = application, requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        status = 500

        async def noting(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self._application(scope, receive, noting)
        finally:
            if scope["type"] == "http":
                known = scope["path"] in ("/predict", "/healthz", "/metrics")
                self._requests.labels(scope["path"] if known else "other", status).inc()


def _from_json(body: bytes, tensors: tuple[Tensor, ...]) -> list[Any]:
    try:
        given = json.loads(body)
        inputs = given["inputs"]
    except (ValueError, RecursionError):
        raise LabError("The body is no JSON that can be read.") from None
    except (KeyError, TypeError):
        raise LabError('The body has no "inputs": send {"inputs": [...]}, an array.') from None
    if len(tensors) == 1:
        return [_numbers(inputs, tensors[0])]
    if not isinstance(inputs, list) or len(inputs) != len(tensors):
        raise LabError(f'"inputs" must be a list of {len(tensors)} arrays, one for each input.')
    return [_numbers(*each) for each in zip(inputs, tensors, strict=True)]


def _numbers(given: Any, tensor: Tensor) -> np.ndarray:
    """What JSON holds, in the dtype of the model's input; only rounding may change it."""
    try:
        with np.errstate(all="ignore"):
            found = np.asarray(given)
            if found.dtype.kind not in "biuf":
                raise LabError('"inputs" is no array of numbers.')
            array = found.astype(tensor.dtype)
    except (ValueError, OverflowError):
        raise LabError('"inputs" is no array: its rows differ in length.') from None
    if array.dtype.kind in "biu" and not np.array_equal(array, found):
        raise LabError(f'"inputs" holds numbers that are no {tensor.dtype}.')
    return array


def _from_npy(body: bytes) -> np.ndarray:
    """An array, and nothing that could run code."""
    stream = io.BytesIO(body)
    try:
        with warnings.catch_warnings(action="ignore"):  # on files of Python 2
            array = np.lib.format.read_array(stream, allow_pickle=False)
    except (
        ValueError, TypeError, OverflowError, RecursionError, MemoryError,
        SyntaxError, tokenize.TokenError,
    ):  # fmt: skip
        raise LabError("The body is no .npy array such as numpy.save writes.") from None
    if stream.read(1):
        raise LabError("The body goes on after its array: send one array.")
    return array


def _answer(outputs: Arrays, accept: str) -> Response:
    if any(kind in accept for kind in _NPY):
        if len(outputs) > 1:
            raise LabError(f"There are {len(outputs)} outputs, and .npy holds one: ask for JSON.")
        stream = io.BytesIO()
        np.save(stream, outputs[0])
        return Response(stream.getvalue(), media_type=_NPY[0])
    if not all(np.isfinite(each).all() for each in outputs):
        raise LabError(f"The answer holds NaN or infinity, which JSON lacks: ask for {_NPY[0]}.")
    found = [each.tolist() for each in outputs]
    return JSONResponse({"outputs": found[0] if len(found) == 1 else found})


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    says = _SAYS.get(error.status_code, error.detail)
    return JSONResponse({"error": says}, error.status_code, error.headers)


async def _unfit(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, 422)


async def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=_CLIENT_GONE)


async def _failed(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": "The service failed; its log says why."}, 500)
