"""Kernels, cold and warm, and what one says."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from jupyter_client.blocking import BlockingKernelClient
from jupyter_client.manager import KernelManager

from dltlab.kernels import pool
from dltlab.kernels.provisioner import WarmKernel

SECONDS = 60


@dataclass
class Said:
    """What a cell put out and how it ended."""

    stdout: str = ""
    stderr: str = ""
    data: list[dict[str, Any]] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    reply: dict[str, Any] = field(default_factory=dict)

    def hear(self, message: dict[str, Any]) -> None:
        content = message["content"]
        self.messages.append(message["msg_type"])
        if message["msg_type"] == "stream":
            setattr(self, content["name"], getattr(self, content["name"]) + content["text"])
        elif message["msg_type"] in ("display_data", "execute_result"):
            self.data.append(content["data"])


class Kernel:
    """A kernel and a client that talks to it."""

    def __init__(self, **options: Any) -> None:
        transport = options.pop("transport", "tcp")
        environment = {**os.environ, **options.pop("variables", {})}
        del environment["PYTEST_CURRENT_TEST"]  # or ipykernel captures less
        self.manager = KernelManager(transport=transport, transport_encryption="auto")
        self.manager.start_kernel(env=environment, **options)
        self.process = self.manager.provisioner.process
        self.client: BlockingKernelClient = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=SECONDS)

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def is_warm(self) -> bool:
        return isinstance(self.process, WarmKernel)

    def run(self, code: str, hear: Callable[[dict], None] | None = None, **options: Any) -> Said:
        """Run a cell; it must not raise."""
        said = self.try_to_run(code, hear, **options)
        assert said.reply["status"] == "ok", said
        return said

    def try_to_run(
        self, code: str, hear: Callable[[dict], None] | None = None, **options: Any
    ) -> Said:
        said = Said()

        def output(message: dict[str, Any]) -> None:
            said.hear(message)
            if hear:
                hear(message)

        reply = self.client.execute_interactive(
            code, timeout=SECONDS, output_hook=output, **options
        )
        said.reply = reply["content"]
        return said

    def tell(self, expression: str) -> Any:
        """The value of an expression of plain types."""
        said = self.run(f"print(repr({expression}))")
        return eval(said.stdout)

    def end(self) -> None:
        self.client.stop_channels()
        if self.manager.has_kernel:
            self.manager.shutdown_kernel()


@pytest.fixture
def ready(warm_kernels: None, until: Callable[..., None]) -> None:
    """A zygote is ready."""
    if not any(each.ready for each in pool.zygotes()):
        kernel = Kernel()
        kernel.run("")
        kernel.end()
        until(lambda: any(each.ready for each in pool.zygotes()))


@pytest.fixture
def launch() -> Iterator[Callable[..., Kernel]]:
    """Start kernels, and end them with the test."""
    started: list[Kernel] = []

    def kernel(**options: Any) -> Kernel:
        started.append(Kernel(**options))
        return started[-1]

    yield kernel
    for each in started:
        each.end()


@pytest.fixture(params=["cold", "warm"])
def start(request: pytest.FixtureRequest, launch: Callable[..., Kernel]) -> Callable[..., Kernel]:
    """Start kernels, in one run of the test cold ones and in another warm ones."""
    request.getfixturevalue("cold_kernels" if request.param == "cold" else "ready")

    def kernel(**options: Any) -> Kernel:
        started = launch(**options)
        assert started.is_warm == (request.param == "warm")
        return started

    return kernel


@pytest.fixture(scope="session")
def _shared_kernels() -> Iterator[dict[str, Kernel]]:
    kernels: dict[str, Kernel] = {}
    yield kernels
    for each in kernels.values():
        each.end()


@pytest.fixture
def kernel(
    request: pytest.FixtureRequest, _shared_kernels: dict[str, Kernel], start: Any
) -> Kernel:
    """A cold or a warm kernel that tests share: none depends on what it has done before."""
    temperature = request.node.callspec.params["start"]
    if temperature not in _shared_kernels:
        _shared_kernels[temperature] = Kernel()
    return _shared_kernels[temperature]
