"""Ask a service (`predict`), and how much it answers, and how soon (`load_test`)."""

import http.client
import io
import json
import threading
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from dltlab.errors import LabError

_PATIENCE = 30  # seconds for an answer
_MOST_AT_ONCE = 256
_LONGEST = 600  # seconds
_QUOTED = 200  # bytes of a refusal


@dataclass(frozen=True)
class LoadTest:
    """What `load_test` measured.

    Attributes:
        concurrency: Requests under way at any time.
        requests_per_second: That were answered with 200.
        latencies: Seconds of each of them, in no order.
        errors: How often each other status came, or the connection failed, by name.
    """

    concurrency: int
    requests_per_second: float
    latencies: np.ndarray
    errors: dict[str, int]

    def percentile(self, share: float) -> float:
        """Seconds within which `share` percent were answered; NaN where none was."""
        return float(np.percentile(self.latencies, share)) if len(self.latencies) else float("nan")

    def __repr__(self) -> str:
        return (
            f"{self.concurrency} at a time: {self.requests_per_second:,.0f} requests/s, "
            f"p50 {1e3 * self.percentile(50):.3g} ms, p99 {1e3 * self.percentile(99):.3g} ms, "
            f"{sum(self.errors.values())} errors" + (f" {self.errors}" if self.errors else "")
        )


def predict(address: str, token: str, inputs: Any) -> np.ndarray:
    """Ask a service once.

    Args:
        address: As `dltlab serve` prints it, `http://127.0.0.1:8000`.
        token: Empty for none.
        inputs: One example or several, `(n, …)`.

    Returns:
        What the network gives, `(n, …)`.

    Raises:
        LabError: The address is another, or the service does not answer, or refuses; its sentence
            is quoted.
    """
    answer: np.ndarray = np.load(io.BytesIO(_Client(address, token, inputs).answer()))
    return answer


def load_test(
    address: str, token: str, inputs: Any, *, concurrency: int = 8, seconds: float = 5.0
) -> LoadTest:
    """Ask a service again and again: each of `concurrency` threads for itself, one after another.

    Such a closed loop never has more requests under way than threads; it tells how much a service
    does at most, and not how it stands a crowd that does not wait.

    Args:
        address: As `dltlab serve` prints it, `http://127.0.0.1:8000`.
        token: Empty for none.
        inputs: The examples of each request, `(n, …)`.
        concurrency: From 1 to 256.
        seconds: At most 600; what is under way then is waited for.

    Raises:
        LabError: A number or the address makes no sense, or the service does not answer the first
            request.
    """
    if not 1 <= concurrency <= _MOST_AT_ONCE or not 0 < seconds <= _LONGEST:
        raise LabError(
            f"concurrency is {concurrency} and seconds {seconds}; they must be in "
            f"[1, {_MOST_AT_ONCE}] and (0, {_LONGEST}]."
        )
    client = _Client(address, token, inputs)
    client.answer()
    found: list[tuple[list[float], Counter[str]]] = [([], Counter()) for _ in range(concurrency)]
    begin = time.perf_counter()
    threads = [
        threading.Thread(target=client.ask_until, args=(begin + seconds, *each)) for each in found
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    passed = time.perf_counter() - begin
    latencies = np.concatenate([each for each, _ in found])
    errors = sum((each for _, each in found), Counter[str]())
    return LoadTest(concurrency, len(latencies) / passed, latencies, dict(errors))


class _Client:
    """One request, to be sent over any number of connections."""

    def __init__(self, address: str, token: str, inputs: Any) -> None:
        about = urlsplit(address)
        if about.scheme != "http" or address.rstrip("/") != f"http://{about.netloc}":
            raise LabError(
                f"The address is '{address}': give http://HOST:PORT, as dltlab serve prints it."
            )
        self._host = about.netloc
        body = io.BytesIO()
        np.save(body, np.asarray(inputs), allow_pickle=False)
        self._body = body.getvalue()
        self._headers = {
            "Content-Type": "application/x-npy",
            "Accept": "application/x-npy",
            "Authorization": f"Bearer {token}",
        }

    def answer(self) -> bytes:
        """What the service answers; a LabError unless it does."""
        try:
            with closing(self._connection()) as connection:
                status, body = self._ask(connection)
        except (OSError, http.client.HTTPException) as error:
            raise LabError(
                f"{self._host} does not answer ({error}): start it with dltlab serve ENGINE."
            ) from error
        if status != http.client.OK:
            raise LabError(f"{self._host} answers with {status}: {_sentence(body)}")
        return body

    def ask_until(self, end: float, latencies: list[float], errors: "Counter[str]") -> None:
        """Ask and note down, until it is `end`, over one connection as long as it holds."""
        with closing(self._connection()) as connection:
            while (start := time.perf_counter()) < end:
                try:
                    status, _ = self._ask(connection)
                except (OSError, http.client.HTTPException) as error:
                    errors[type(error).__name__] += 1
                    connection.close()  # the next request opens it again
                    continue
                if status == http.client.OK:
                    latencies.append(time.perf_counter() - start)
                else:
                    errors[str(status)] += 1

    def _connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self._host, timeout=_PATIENCE)

    def _ask(self, connection: http.client.HTTPConnection) -> tuple[int, bytes]:
        connection.request("POST", "/predict", self._body, self._headers)
        answer = connection.getresponse()
        return answer.status, answer.read()


def _sentence(body: bytes) -> str:
    """Why a service refuses: what it says, or the beginning of what is no service's answer."""
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return body[:_QUOTED].decode(errors="replace")
