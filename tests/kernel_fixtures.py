"""Kernels, cold and warm, and what one says."""

import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from jupyter_client.blocking import BlockingKernelClient
from jupyter_client.manager import KernelManager
from jupyter_client.provisioning import KernelProvisionerFactory

from dltlab.kernels import pool, protocol, provisioner
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
        # Over TCP one of the ports may be taken by the time when the kernel binds it.
        transport = options.pop("transport", "ipc")
        environment = {**os.environ, **options.pop("variables", {})}
        del environment["PYTEST_CURRENT_TEST"]  # or ipykernel captures less
        self.manager = KernelManager(transport=transport, transport_encryption="auto")
        if transport == "ipc":
            self.manager.ip = f"{tempfile.gettempdir()}/{uuid4().hex}"
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
        """Shut it down; once is enough."""
        self.client.stop_channels()
        if self.manager.has_kernel:
            self.manager.shutdown_kernel()
        self.manager.cleanup_ipc_files()


@pytest.fixture
def until() -> Callable[..., None]:
    """Wait for what another process does, and fail if it does not."""

    def wait(happened: Callable[[], object], seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not happened():
            assert time.monotonic() < deadline, "it did not happen in time"
            threading.Event().wait(0.02)

    return wait


@pytest.fixture(scope="session")
def _zygotes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A runtime folder for all tests with warm kernels, so that they share a zygote."""
    folder = tmp_path_factory.mktemp("runtime")
    yield folder
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(folder))
        pool.stop()


@pytest.fixture
def cold_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels of this process, and of those it starts, are cold."""
    _provision(monkeypatch, "local-provisioner")


@pytest.fixture
def warm_kernels(_zygotes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels of this process, and of those it starts, are warm as soon as a zygote is ready."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(_zygotes))
    _provision(monkeypatch, "dltlab-warm")


def _provision(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    factory = KernelProvisionerFactory.instance()
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    monkeypatch.setenv(factory.default_provisioner_name_env, name)
    monkeypatch.setattr(factory, "default_provisioner_name", name)


@pytest.fixture
def ready(warm_kernels: None, until: Callable[..., None]) -> None:
    """A zygote is ready."""
    if not any(each.ready for each in pool.zygotes()):
        kernel = Kernel()
        kernel.run("")
        kernel.end()
        until(lambda: any(each.ready for each in pool.zygotes()))


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of this test's own zygotes, which are ready at once: libraries are empty there."""
    libraries = tmp_path / "libraries"
    for name in ("tensorflow", "keras", "matplotlib", "pandas", "sklearn", "ipywidgets"):
        (libraries / name).mkdir(parents=True)
        (libraries / name / "__init__.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(libraries))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    for name in ("_said", "_silent"):
        monkeypatch.setattr(provisioner, name, type(getattr(provisioner, name))())
    _provision(monkeypatch, "dltlab-warm")
    yield tmp_path / "dltlab-kernels"
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with suppress(OSError, protocol.Refused):
        pool.stop()


@pytest.fixture
def zygote(
    runtime: Path, launch: Callable[..., Kernel], until: Callable[..., None]
) -> Callable[[], pool.State]:
    """This test's own zygote, ready, and how it is now."""
    launch().end()
    until(lambda: [each for each in pool.zygotes() if each.ready])
    (state,) = pool.zygotes()
    return lambda: next(each for each in pool.zygotes() if each.pid == state.pid)


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
def start(
    request: pytest.FixtureRequest, launch: Callable[..., Kernel], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Kernel]:
    """Start kernels, in one run of the test cold ones and in another warm ones."""
    # On a busy machine a zygote may take longer to fork than a user would wait for it.
    monkeypatch.setattr(provisioner, "_PATIENCE", 60.0)
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
