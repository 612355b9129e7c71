"""A fake engine and a running service, for the tests of serving."""

import copy
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import httpx
import numpy as np
import uvicorn

from dltlab.inference.backends.base import Settings
from dltlab.inference.engine import Engine
from dltlab.inference.manifest import EngineManifest, TensorSpec
from dltlab.inference.serving import address_of, listener, service
from tests.deadlines import HANG_SECONDS, wait_until

JSON = {"Content-Type": "application/json"}
NPY = {"Content-Type": "application/x-npy"}
ACCEPT_NPY = {"Accept": "application/x-npy"}
TOKEN = "secret"


class DoublingEngine(Engine):
    """Doubles its first input; a negative number makes it fail, and `gate` can hold it up.

    Args:
        inputs: The inputs of its manifest.
        batch_size: The largest batch.
        outputs: The number of outputs.
        fields: Other fields of its manifest.

    Attributes:
        calls: The number of examples of each call.
    """

    def __init__(
        self, *inputs: TensorSpec, batch_size: int = 4, outputs: int = 1, **fields: Any
    ) -> None:
        self.settings = Settings(batch_size, 1, 1)
        self.manifest = EngineManifest(
            model="doubling", model_hash="", backend="", versions={}, precision="float32",
            machine="", inputs=inputs or (TensorSpec(shape=(2,), dtype="float32"),), layers=(),
            **fields,
        )  # fmt: skip
        self.outputs = outputs
        self.calls: list[int] = []
        self.gate = threading.Event()
        self.gate.set()

    def configured(self, **options: Any) -> "DoublingEngine":
        other = copy.copy(self)
        other.settings = replace(self.settings, **options)
        return other

    def runner(self):
        def run(inputs):
            assert self.gate.wait(HANG_SECONDS)
            self.calls.append(len(inputs[0]))
            if (inputs[0] < 0).any():
                raise ValueError("negative")
            with np.errstate(over="ignore"):
                return [2 * inputs[0]] * self.outputs

        return run


class Client(httpx.Client):
    """An HTTP client with shortcuts for a service."""

    def predict(self, body: object, headers: dict[str, str] = JSON) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body)
        return self.post("/predict", content=content, headers=headers)

    def metric(self, name: str) -> float:
        lines = [line.split() for line in self.get("/metrics").text.splitlines()]
        return sum(float(line[-1]) for line in lines if line[0] == name)

    def wait_for(self, name: str, value: float) -> None:
        wait_until(lambda: self.metric(name) == value)


@contextmanager
def running_service(engine: Engine, **options: Any) -> Iterator[Client]:
    """Run a service in a thread, with a client of it."""
    listening = listener("127.0.0.1", 0, TOKEN)
    application = service(engine, token=TOKEN, **options)
    server = uvicorn.Server(uvicorn.Config(application, ws="none", log_level="error"))
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    headers = {"Authorization": f"Bearer {TOKEN}"}
    try:
        with Client(
            base_url=address_of(listening), headers=headers, timeout=HANG_SECONDS
        ) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join()


def ones(count: int, length: int = 2) -> np.ndarray:
    return np.ones((count, length), np.float32)
