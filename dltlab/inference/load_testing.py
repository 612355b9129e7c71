"""Query a service (`predict`), and measure its throughput and latency (`load_test`)."""

import http.client
import io
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit

import numpy as np

from dltlab.display import Result
from dltlab.errors import Invalid, LabError, Unavailable

if TYPE_CHECKING:
    import pandas as pd

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
    address: str, token: str, inputs: Any, *, concurrency: int = 8, seconds: float = 5.0
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

    Raises:
        Invalid: A number or the address is not valid, or the service refuses the first request.
        Unavailable: The service does not answer the first request.
    """
    if not 1 <= concurrency <= _MAX_CONCURRENCY or not 0 < seconds <= _MAX_SECONDS:
        raise Invalid(
            f"concurrency is {concurrency} and seconds {seconds}; they must be in "
            f"[1, {_MAX_CONCURRENCY}] and (0, {_MAX_SECONDS}]."
        )
    client = _Client(address, token, inputs)
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

    It uses `http.client`: httpx needs five times as much processor time for a request, which the
    service on the same machine would lack.
    """

    def __init__(self, address: str, token: str, inputs: Any) -> None:
        url = urlsplit(address)
        if url.scheme != "http" or address.rstrip("/") != f"http://{url.netloc}":
            raise Invalid(
                f"The address is '{address}': pass http://HOST:PORT, as dltlab serve prints it."
            )
        self._host = url.netloc
        body = io.BytesIO()
        np.save(body, np.asarray(inputs), allow_pickle=False)
        self._body = body.getvalue()
        self._headers = {
            "Content-Type": "application/x-npy",
            "Accept": "application/x-npy",
            "Authorization": f"Bearer {token}",
        }

    def answer(self) -> bytes:
        """Send the request once and return the body of the answer."""
        try:
            with closing(self._connection()) as connection:
                status, body = self._send(connection)
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable(
                f"{self._host} does not answer ({error}): start it with dltlab serve ENGINE."
            ) from error
        if status != http.client.OK:
            error_class: type[LabError] = Invalid if status < 500 else Unavailable
            raise error_class(f"{self._host} answers with status {status}: {_message(body)}")
        return body

    def send_until(self, end: float, latencies: list[float], errors: "Counter[str]") -> None:
        """Send requests and record the results until `end`, over one connection if it holds."""
        with closing(self._connection()) as connection:
            while (start := time.perf_counter()) < end:
                try:
                    status, _ = self._send(connection)
                except (OSError, http.client.HTTPException) as error:
                    errors[type(error).__name__] += 1
                    connection.close()  # the next request opens it again
                    continue
                if status == http.client.OK:
                    latencies.append(time.perf_counter() - start)
                else:
                    errors[str(status)] += 1

    def _connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self._host, timeout=_TIMEOUT)

    def _send(self, connection: http.client.HTTPConnection) -> tuple[int, bytes]:
        connection.request("POST", "/predict", self._body, self._headers)
        response = connection.getresponse()
        return response.status, response.read()


def _message(body: bytes) -> str:
    """Return the error message of a service, or the beginning of an answer in another format."""
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return body[:_MAX_QUOTED].decode(errors="replace")
