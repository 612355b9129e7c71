"""Query a service (`predict`), and measure its throughput and latency (`load_test`)."""

import io
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit

import numpy as np

from dltlab.display import Result
from dltlab.errors import Invalid, LabError, Unavailable

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
    """Send requests from `concurrency` threads, each thread one after another.

    Such a closed loop never has more requests in progress than threads. It measures the largest
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
    latencies: list[list[float]] = [[] for _ in range(concurrency)]
    errors = [Counter[str]() for _ in range(concurrency)]
    start = time.perf_counter()
    threads = [
        threading.Thread(target=client.send_until, args=(start + seconds, *lists))
        for lists in zip(latencies, errors, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    elapsed = time.perf_counter() - start
    answered = np.concatenate(latencies)
    total_errors = dict(sum(errors, Counter[str]()))
    return LoadTest(concurrency, len(answered) / elapsed, answered, total_errors)


class _Client:
    """One request, to be sent over any number of connections.

    It is a socket and httptools' parser: `http.client` and httpx need more processor time for a
    request, which the service on the same machine would lack.
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

    def send_until(self, end: float, latencies: list[float], errors: "Counter[str]") -> None:
        """Send requests and record the results until `end`, over one connection if it holds."""
        while time.perf_counter() < end:
            try:
                with self._connection() as connection:
                    is_open = True
                    while is_open and (start := time.perf_counter()) < end:
                        answer = self._send(connection)
                        if answer.status == HTTPStatus.OK:
                            latencies.append(time.perf_counter() - start)
                        else:
                            errors[str(answer.status)] += 1
                        is_open = answer.leaves_open
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
                raise ConnectionResetError("it closed the connection before it answered")
            answer.parser.feed_data(data)
        return answer


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
