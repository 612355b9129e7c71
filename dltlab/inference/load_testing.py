"""Query a service (`predict`), and measure its throughput and latency (`load_test`)."""

import asyncio
import contextlib
import io
import json
import socket
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, ClassVar, cast
from urllib.parse import urlsplit

import numpy as np

from dltlab.display import Result
from dltlab.errors import Invalid, LabError, Unavailable
from dltlab.inference.event_loop import run_in_thread

try:
    import httptools
except ModuleNotFoundError as error:
    raise Unavailable("httptools is not installed. Run: pip install 'dltlab[inference]'") from error

if TYPE_CHECKING:
    import pandas as pd

_NPY, _JSON = "application/x-npy", "application/json"
_FAILURES = (OSError, httptools.HttpParserError)  # of a connection, and of an answer
_HTTP_PORT = 80
_CHUNK = 2**16  # bytes to receive at a time
_TIMEOUT = 30  # seconds for an answer
_MAX_CONCURRENCY = 256
_MAX_SECONDS = 600
_CLOSED = "it closed the connection before it answered"
_MAX_QUOTED = 200  # bytes of an answer that is not JSON


@dataclass(frozen=True, repr=False)
class LoadTest(Result):
    """The result of `load_test`.

    Attributes:
        concurrency: Requests in progress at any time.
        requests_per_second: Requests answered with status 200, divided by the elapsed time.
        latencies: The time of each of them in seconds, in no order.
        errors: The number of answers with each other status, and of failed connections by the name
            of the exception.
    """

    concurrency: int
    requests_per_second: float
    latencies: np.ndarray
    errors: dict[str, int]

    _formats: ClassVar[Mapping[str, Callable[[Any], str]]] = {
        "requests/s": "{:,.0f}".format,
        "p50 (ms)": "{:,.3g}".format,
        "p99 (ms)": "{:,.3g}".format,
    }

    def percentile(self, percent: float) -> float:
        """Return a percentile of the latencies in seconds; NaN where no request was answered."""
        if not len(self.latencies):
            return float("nan")
        return float(np.percentile(self.latencies, percent))

    @property
    def summary(self) -> str:
        """Throughput, latency and errors."""
        return (
            f"{self.concurrency} at a time: {self.requests_per_second:,.0f} requests/s, "
            f"p50 {1e3 * self.percentile(50):.3g} ms, p99 {1e3 * self.percentile(99):.3g} ms, "
            f"{sum(self.errors.values())} errors" + (f" {self.errors}" if self.errors else "")
        )

    @property
    def table(self) -> "pd.DataFrame":
        """One row."""
        import pandas as pd

        return pd.DataFrame(
            {
                "concurrency": [self.concurrency],
                "requests/s": [self.requests_per_second],
                "p50 (ms)": [1e3 * self.percentile(50)],
                "p99 (ms)": [1e3 * self.percentile(99)],
                "errors": [sum(self.errors.values())],
            }
        )


def predict(address: str, token: str, inputs: Any) -> np.ndarray:
    """Send one request to a service.

    Args:
        address: As `dltlab serve` prints it, such as `http://127.0.0.1:8000`.
        token: Empty for none.
        inputs: One or more examples, `(n, …)`.

    Returns:
        The network's output, `(n, …)`.

    Raises:
        Invalid: The address is not of that form, or the service refuses the request; its message is
            quoted.
        Unavailable: The service does not answer, or fails.
    """
    output: np.ndarray = np.load(io.BytesIO(_Client(address, token, inputs).answer()))
    return output


def load_test(
    address: str,
    token: str,
    inputs: Any,
    *,
    concurrency: int = 8,
    seconds: float = 5.0,
    media_type: str = _NPY,
) -> LoadTest:
    """Send requests over `concurrency` connections, on each one after another.

    Such a closed loop never has more requests in progress than connections. It measures the largest
    throughput of a service, and not how it behaves when clients do not wait for each other.

    Args:
        address: As `dltlab serve` prints it, such as `http://127.0.0.1:8000`.
        token: Empty for none.
        inputs: The examples of each request, `(n, …)`.
        concurrency: From 1 to 256.
        seconds: At most 600; requests in progress at the end are waited for.
        media_type: Of the requests and the answers: "application/x-npy" or "application/json".

    Raises:
        Invalid: A number or the address is not valid, or the service refuses the first request.
        Unavailable: The service does not answer the first request.
    """
    if not 1 <= concurrency <= _MAX_CONCURRENCY or not 0 < seconds <= _MAX_SECONDS:
        raise Invalid(
            f"concurrency is {concurrency} and seconds {seconds}; they must be in "
            f"[1, {_MAX_CONCURRENCY}] and (0, {_MAX_SECONDS}]."
        )
    if media_type not in (_NPY, _JSON):
        raise Invalid(f"media_type is '{media_type}'; it must be {_NPY} or {_JSON}.")
    client = _Client(address, token, inputs, media_type)
    client.answer()
    return run_in_thread(_send(client, concurrency, seconds))


async def _send(client: "_Client", concurrency: int, seconds: float) -> LoadTest:
    latencies: list[float] = []
    errors: Counter[str] = Counter()
    start = time.perf_counter()
    users = (client.send_until(start + seconds, latencies, errors) for _ in range(concurrency))
    await asyncio.gather(*users)
    elapsed = time.perf_counter() - start
    return LoadTest(concurrency, len(latencies) / elapsed, np.array(latencies), dict(errors))


class _Client:
    """One request, to be sent over any number of connections.

    It uses sockets and httptools' parser: `http.client` and httpx need more processor time for a
    request, and so do threads, which the service on the same machine would lack.
    """

    def __init__(self, address: str, token: str, inputs: Any, media_type: str = _NPY) -> None:
        url = urlsplit(address)
        try:
            port = url.port or _HTTP_PORT
        except ValueError:  # not a number from 0 to 65535
            port = None
        if not port or url.scheme != "http" or address.rstrip("/") != f"http://{url.netloc}":
            raise Invalid(
                f"The address is '{address}': pass http://HOST:PORT, as dltlab serve prints it."
            )
        if not (token.isascii() and token.isprintable()):
            raise Invalid("The token has characters that an HTTP header cannot hold: use ASCII.")
        self._host, self._address = url.netloc, (url.hostname or "", port)
        body = _body(np.asarray(inputs), media_type)
        lines = [
            "POST /predict HTTP/1.1",
            f"Host: {url.netloc}",
            f"Content-Type: {media_type}",
            f"Accept: {media_type}",
            f"Authorization: Bearer {token}",
            f"Content-Length: {len(body)}",
        ]
        self._request = "\r\n".join([*lines, "", ""]).encode() + body

    def answer(self) -> bytes:
        """Send the request once and return the body of the answer."""
        try:
            with self._connection() as connection:
                answer = self._send(connection)
        except _FAILURES as error:
            raise Unavailable(
                f"{self._host} does not answer ({error}): start it with dltlab serve ENGINE."
            ) from error
        if answer.status != HTTPStatus.OK:
            error_class: type[LabError] = Invalid if answer.status < 500 else Unavailable
            raise error_class(
                f"{self._host} answers with status {answer.status}: {_message(answer.body)}"
            )
        return answer.body

    async def send_until(self, end: float, latencies: list[float], errors: "Counter[str]") -> None:
        """Send requests and record the results until `end`, over one connection if it holds."""

        def record(answer: _Answer, seconds: float) -> None:
            if answer.status == HTTPStatus.OK:
                latencies.append(seconds)
            else:
                errors[str(answer.status)] += 1

        loop = asyncio.get_running_loop()
        while (now := time.perf_counter()) < end:
            try:
                async with asyncio.timeout(end - now + _TIMEOUT):
                    transport, requests = await loop.create_connection(
                        lambda: _Requests(self._request, end, record), *self._address
                    )
                    with contextlib.closing(transport):
                        await requests.ended
            except _FAILURES as error:
                errors[type(error).__name__] += 1

    def _connection(self) -> socket.socket:
        connection = socket.create_connection(self._address, _TIMEOUT)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def _send(self, connection: socket.socket) -> "_Answer":
        connection.sendall(self._request)
        answer = _Answer()
        while not answer.is_complete:
            data = connection.recv(_CHUNK)
            if not data:
                raise ConnectionResetError(_CLOSED)
            answer.parser.feed_data(data)
        return answer


class _Requests(asyncio.Protocol):
    """Sends a request again and again over one connection, until `end`.

    Args:
        request: What to send.
        end: By `time.perf_counter`.
        record: Called with each answer and the seconds that it took.

    Attributes:
        ended: Done when the connection is closed; has an exception where that was in the middle of
            an answer.
    """

    _transport: asyncio.WriteTransport
    _answer: "_Answer"
    _start: float

    def __init__(
        self, request: bytes, end: float, record: "Callable[[_Answer, float], None]"
    ) -> None:
        self._request, self._end, self._record = request, end, record
        self.ended = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)
        self._send()

    def _send(self) -> None:
        self._answer, self._start = _Answer(), time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        try:
            self._answer.parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._end_with(error)
        if self._answer.is_complete:
            now = time.perf_counter()
            self._record(self._answer, now - self._start)
            if self._answer.leaves_open and now < self._end:
                self._send()
            else:
                self._end_with(None)

    def connection_lost(self, error: Exception | None) -> None:
        self._end_with(error or ConnectionResetError(_CLOSED))

    def _end_with(self, error: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(None) if error is None else self.ended.set_exception(error)


class _Answer:
    """An HTTP answer, which httptools' parser fills."""

    def __init__(self) -> None:
        self.parser = httptools.HttpResponseParser(self)
        self.body = b""
        self.is_complete = False

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.is_complete = True

    @property
    def status(self) -> int:
        return int(self.parser.get_status_code())

    @property
    def leaves_open(self) -> bool:
        """Whether another request may follow on the connection."""
        return bool(self.parser.should_keep_alive())


def _body(inputs: np.ndarray, media_type: str) -> bytes:
    """Return the body of a request."""
    if media_type == _JSON:
        return json.dumps({"inputs": inputs.tolist()}).encode()
    stream = io.BytesIO()
    np.save(stream, inputs, allow_pickle=False)
    return stream.getvalue()


def _message(body: bytes) -> str:
    """Return the error message of a service, or the beginning of an answer in another format."""
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return body[:_MAX_QUOTED].decode(errors="replace")
