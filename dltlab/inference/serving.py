"""Serve an engine over HTTP: `service` is the application, `serve` runs it on a `listener`."""

import asyncio
import contextlib
import ipaddress
import json
import logging
import secrets
import shlex
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

import numpy as np

from dltlab.errors import Invalid, Unavailable
from dltlab.inference.backends.base import Arrays
from dltlab.inference.batching import BATCH_WAIT, Batcher, compiled_sizes
from dltlab.inference.engine import Engine
from dltlab.inference.payloads import read_image_file, read_json, read_npy, to_json, to_npy

try:
    import prometheus_client as prometheus
    import uvicorn
    from starlette.exceptions import HTTPException
    from starlette.requests import ClientDisconnect
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Router
    from starlette.types import ASGIApp, Receive, Scope, Send
except ModuleNotFoundError as error:
    raise Unavailable(
        f"{error.name} is not installed. Run: pip install 'dltlab[inference]'"
    ) from error

_JSON = "application/json"
_IMAGE = "image/"
_NPY = ("application/x-npy", "application/octet-stream")
_MAX_EXAMPLES = 4096  # in a request
_QUICKLY_READ = 2**20  # bytes of a .npy body that take less time to read than to hand to a thread
_BODY_TIMEOUT = 20  # seconds for a body to arrive
_BACKLOG = 2048  # connections that wait to be accepted; uvicorn's default
_SHUTDOWN_TIMEOUT = 60  # seconds to answer requests in progress after SIGTERM
_CLIENT_DISCONNECTED = 499  # nginx's code for it
_LOG = logging.getLogger(__name__)


def service(
    engine: Engine,
    *,
    token: str,
    max_body: int = 16 * 2**20,
    max_requests: int = 256,
) -> ASGIApp:
    """Return an ASGI application that answers requests with an engine.

    `POST /predict` takes JSON, `{"inputs": [...]}`, or an array in NumPy's `.npy` format
    (`Content-Type: application/x-npy`), with the model's input as `(n, …)`; in JSON a list of
    arrays, or an object with an array for each name, where the model has several inputs. A network
    for images takes an image file, too (`Content-Type: image/jpeg` or the like). The answer is
    `{"outputs": [...]}`, or `.npy` where `Accept` asks for it. Where the engine knows the names of
    its classes, `"predictions"` has the class of each example and the probabilities. The names
    "inputs" and "outputs" are those of TensorFlow Serving's REST API, columnar format
    (https://www.tensorflow.org/tfx/serving/api_rest). `GET /metrics` is for Prometheus. Both
    require `Authorization: Bearer TOKEN`; `GET /healthz` does not. Errors are
    `{"error": "one sentence"}` with status 401 without the token, 408 for a body that does not
    arrive, 413 for one that is too large, 415 for another format, 422 for inputs that do not fit
    the network, 429 (with `Retry-After`) while `max_requests` are in progress, and 500 where the
    engine fails.

    Args:
        engine: Its settings define the largest batch and the number of streams.
        token: Empty for none.
        max_body: The largest body in bytes.
        max_requests: Requests in progress at the same time: being read, waiting or running.
    """
    return _Service(engine, token, max_body, max_requests)


def listener(host: str, port: int, token: str) -> socket.socket:
    """Return a listening socket.

    Args:
        host: An address or a name; all but loopback addresses need a token.
        port: 0 for any free port.
        token: Empty for none.

    Raises:
        Invalid: The host can be reached from outside, and there is no token.
        Unavailable: The port is in use, or the host is not an address of this machine.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP
        )[0]
        if not token and not ipaddress.ip_address(address[0]).is_loopback:
            raise Invalid(f"{host} can be reached from outside: give a token, or use 127.0.0.1.")
        # asyncio sets TCP_NODELAY only on a socket that names its protocol; without it the body of
        # an answer waits 40 ms for the client to acknowledge the headers.
        listening = socket.socket(family, kind, protocol)
        with contextlib.ExitStack() as undo:
            undo.enter_context(listening)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen(_BACKLOG)
            undo.pop_all()
    except (OSError, OverflowError, UnicodeError) as error:
        raise Unavailable(
            f"{host}:{port} cannot be used ({getattr(error, 'strerror', None) or error}): choose "
            "another with --port or --host."
        ) from error
    return listening


def address_of(listening: socket.socket) -> str:
    """Return the address of a listening socket, such as `http://127.0.0.1:8000`."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def curl_command(engine: Engine, address: str, token: str) -> str:
    """Return a command line that sends one example to the service of an engine.

    A network for images gets the file `photo.jpg`, others get zeros.
    """
    manifest = engine.manifest
    command = ["curl", f"{address}/predict"]
    command += ["-H", f"Authorization: Bearer {token}"] if token else []
    if manifest.image_shape:
        command += ["-H", f"Content-Type: {_IMAGE}jpeg", "--data-binary", "@photo.jpg"]
    else:
        arrays = [
            np.zeros([1, *(length or 1 for length in spec.shape)], spec.dtype).tolist()
            for spec in manifest.inputs
        ]
        body = json.dumps({"inputs": arrays[0] if len(arrays) == 1 else arrays})
        command += ["-H", f"Content-Type: {_JSON}", "--data", body]
    return shlex.join(command)


def serve(engine: Engine, listening: socket.socket, token: str) -> None:
    """Answer requests until SIGTERM or Ctrl-C, then finish those in progress.

    Raises:
        SystemExit: With code 0, after SIGTERM.
        KeyboardInterrupt: After Ctrl-C.
    """
    # Uvicorn finishes its work, then passes the signal on to this handler.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    config = uvicorn.Config(
        service(engine, token=token),
        ws="none", log_level="error", access_log=False, server_header=False, proxy_headers=False,
        timeout_graceful_shutdown=_SHUTDOWN_TIMEOUT,
    )  # fmt: skip
    uvicorn.Server(config).run([listening])


class _Service:
    """The application.

    It calls its own three handlers: Starlette's routing, middleware and `Request` would add half to
    the time that all else here takes for a prediction.
    """

    def __init__(self, engine: Engine, token: str, max_body: int, max_requests: int) -> None:
        self._engine, self._authorization = engine, b"Bearer " + token.encode() if token else b""
        self._max_body, self._max_requests = max_body, max_requests
        self._requests = 0
        self._metrics = metrics = _Metrics(engine.settings.batch_size)
        self._batcher = Batcher(engine, BATCH_WAIT, metrics.batch.observe)
        metrics.in_progress.set_function(lambda: self._requests)
        metrics.queue.set_function(lambda: len(self._batcher))
        self._lifespan = Router(lifespan=self._running)
        self._handlers: dict[str, tuple[_Handler, tuple[str, ...]]] = {
            "/predict": (self._predict, ("POST",)),
            "/healthz": (self._healthz, ("GET", "HEAD")),
            "/metrics": (self._show_metrics, ("GET", "HEAD")),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._lifespan(scope, receive, send)
            return
        path = scope["path"]
        try:
            response = await self._handler(path, scope["method"])(dict(scope["headers"]), receive)
        except HTTPException as error:
            response = _error(error.status_code, error.detail, error.headers)
        except Invalid as error:
            response = _error(422, str(error))
        except ClientDisconnect:
            response = Response(status_code=_CLIENT_DISCONNECTED)
        except Exception:
            _LOG.exception("A request failed.")
            response = _error(500, "The service failed; its log says why.")
        known = path if path in self._handlers else "other"
        self._metrics.requests.labels(known, response.status_code).inc()
        await response(scope, receive, send)

    def _handler(self, path: str, method: str) -> "_Handler":
        if path not in self._handlers:
            raise HTTPException(404, "There is no such path: use /predict, /healthz or /metrics.")
        handler, methods = self._handlers[path]
        if method not in methods:
            raise HTTPException(
                405,
                "Use POST for /predict, and GET for /healthz and /metrics.",
                {"Allow": ", ".join(methods)},
            )
        return handler

    @contextlib.asynccontextmanager
    async def _running(self, application: ASGIApp) -> AsyncIterator[None]:
        batches = asyncio.create_task(self._batcher.serve())
        yield
        batches.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await batches

    async def _predict(self, headers: "_Headers", receive: Receive) -> Response:
        self._require_token(headers)
        content_type = headers.get(b"content-type", b"").decode("latin-1")
        media_type = content_type.partition(";")[0].strip().lower()
        if media_type not in (_JSON, *_NPY) and not media_type.startswith(_IMAGE):
            raise HTTPException(
                415, f"The body is '{media_type}': send {_JSON}, {_NPY[0]} or {_IMAGE}jpeg."
            )
        if self._requests >= self._max_requests:
            raise HTTPException(
                429, f"{self._requests} requests are in progress: try again.", {"Retry-After": "1"}
            )
        self._requests += 1
        try:
            with self._metrics.latency.time():
                length = int(headers.get(b"content-length", 0))
                inputs = await self._inputs(media_type, await self._body(length, receive))
                outputs = await self._batcher.run(inputs)
                return self._response(outputs, headers.get(b"accept", b"").decode("latin-1"))
        finally:
            self._requests -= 1

    async def _healthz(self, headers: "_Headers", receive: Receive) -> Response:
        return JSONResponse({"status": "ok"})

    async def _show_metrics(self, headers: "_Headers", receive: Receive) -> Response:
        self._require_token(headers)
        text = prometheus.generate_latest(self._metrics.registry)
        return Response(text, media_type=prometheus.CONTENT_TYPE_LATEST)

    def _require_token(self, headers: "_Headers") -> None:
        header = headers.get(b"authorization", b"")
        if self._authorization and not secrets.compare_digest(header, self._authorization):
            raise HTTPException(
                401,
                "The token is missing or wrong: send the header Authorization: Bearer TOKEN.",
                {"WWW-Authenticate": "Bearer"},
            )

    async def _body(self, length: int, receive: Receive) -> bytes:
        """Return the body, read no further than the limit; `length` is what its header says."""
        too_large = HTTPException(
            413, f"The body is larger than {self._max_body:,} bytes: send fewer examples at a time."
        )
        if length > self._max_body:
            raise too_large
        chunks, size, is_complete = [], 0, False
        try:
            async with asyncio.timeout(_BODY_TIMEOUT):
                while not is_complete:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ClientDisconnect
                    is_complete = not message.get("more_body", False)
                    chunks.append(message.get("body", b""))
                    size += len(chunks[-1])
                    if size > self._max_body:
                        raise too_large
        except TimeoutError:
            raise HTTPException(408, f"The body did not arrive within {_BODY_TIMEOUT} s.") from None
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    async def _inputs(self, media_type: str, body: bytes) -> Arrays:
        """Return the examples in a body; read it in a thread if that takes long.

        Raises:
            Invalid: They do not fit the model's inputs.
            HTTPException: There are too many.
        """
        if media_type in _NPY and len(body) <= _QUICKLY_READ:
            return self._read(media_type, body)
        return await asyncio.to_thread(self._read, media_type, body)

    def _read(self, media_type: str, body: bytes) -> Arrays:
        """Return the examples in a body as the engine takes them.

        Raises:
            Invalid: They do not fit the model's inputs.
            HTTPException: There are too many.
        """
        manifest = self._engine.manifest
        if media_type == _JSON:
            inputs = read_json(body, manifest.inputs)
        elif media_type in _NPY:
            inputs = [read_npy(body)]
        else:
            inputs = [read_image_file(body, manifest)]
        arrays = self._engine.check_inputs(inputs)
        if len(arrays[0]) > _MAX_EXAMPLES:
            raise HTTPException(
                413, f"There are {len(arrays[0]):,} examples: send at most {_MAX_EXAMPLES:,}."
            )
        if not all(np.isfinite(array).all() for array in arrays):
            raise Invalid("The input contains NaN or infinity: send finite numbers.")
        return arrays

    def _response(self, outputs: Arrays, accept: str) -> Response:
        if any(media_type in accept for media_type in _NPY):
            return Response(to_npy(outputs), media_type=_NPY[0])
        return JSONResponse(to_json(outputs, self._engine.manifest))


_Headers = dict[bytes, bytes]  # with names in lower case
_Handler = Callable[[_Headers, Receive], Awaitable[Response]]


def _error(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    return JSONResponse({"error": message}, status, headers)


class _Metrics:
    """Metrics for Prometheus, named as in https://prometheus.io/docs/practices/naming/."""

    def __init__(self, batch_size: int) -> None:
        self.registry = prometheus.CollectorRegistry()
        self.requests = prometheus.Counter(
            "dltlab_requests", "Requests answered.", ["path", "status"], registry=self.registry
        )
        self.latency = prometheus.Histogram(
            "dltlab_predict_seconds", "From the headers of a request to its answer.",
            buckets=[base * 10**power for power in range(-3, 2) for base in (1, 2, 5)],
            registry=self.registry,
        )  # fmt: skip
        self.batch = prometheus.Histogram(
            "dltlab_batch_examples", "Examples that shared a call of the network.",
            buckets=compiled_sizes(batch_size), registry=self.registry,
        )  # fmt: skip
        self.queue = prometheus.Gauge(
            "dltlab_queue_length", "Requests that wait for a batch.", registry=self.registry
        )
        self.in_progress = prometheus.Gauge(
            "dltlab_requests_in_progress", "Predictions that are being read, wait or run.",
            registry=self.registry,
        )  # fmt: skip
