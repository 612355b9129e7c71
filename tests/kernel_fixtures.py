"""Cold and warm kernels, and zygotes of a test's own."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from jupyter_client.blocking import BlockingKernelClient
from jupyter_client.manager import KernelManager
from jupyter_client.provisioning import KernelProvisionerFactory

from dltlab.errors import Unavailable
from dltlab.kernels import PROVISIONER, list_zygotes, pool, prestart, provisioner, stop_zygotes
from dltlab.kernels import warm_kernel as warm_kernel_module
from dltlab.kernels.warm_kernel import WarmKernel
from tests.deadlines import HANG_SECONDS, wait_until


@dataclass
class CellResult:
    """The output of a cell and the kernel's reply."""

    stdout: str = ""
    stderr: str = ""
    data: list[dict[str, Any]] = field(default_factory=list)
    message_types: list[str] = field(default_factory=list)
    reply: dict[str, Any] = field(default_factory=dict)

    def add(self, message: dict[str, Any]) -> None:
        content = message["content"]
        self.message_types.append(message["msg_type"])
        if message["msg_type"] == "stream":
            setattr(self, content["name"], getattr(self, content["name"]) + content["text"])
        elif message["msg_type"] in ("display_data", "execute_result"):
            self.data.append(content["data"])


class Kernel:
    """A kernel and a client that is connected to it."""

    def __init__(self, **options: Any) -> None:
        # Over TCP, another process may take one of the ports before the kernel binds it.
        transport = options.pop("transport", "ipc")
        environment = {**os.environ, **options.pop("variables", {})}
        del environment["PYTEST_CURRENT_TEST"]  # with it, ipykernel captures less
        self.manager = KernelManager(transport=transport, transport_encryption="auto")
        if transport == "ipc":
            self.manager.ip = f"{tempfile.gettempdir()}/{uuid4().hex}"
        self.manager.start_kernel(env=environment, **options)
        self.process = self.manager.provisioner.process
        self.client: BlockingKernelClient = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=HANG_SECONDS)

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def is_warm(self) -> bool:
        return isinstance(self.process, WarmKernel)

    def run(
        self, code: str, on_message: Callable[[dict], None] | None = None, **options: Any
    ) -> CellResult:
        """Run a cell that must not raise."""
        result = self.try_to_run(code, on_message, **options)
        assert result.reply["status"] == "ok", result
        return result

    def try_to_run(
        self, code: str, on_message: Callable[[dict], None] | None = None, **options: Any
    ) -> CellResult:
        """Run a cell that may raise."""
        result = CellResult()

        def output(message: dict[str, Any]) -> None:
            result.add(message)
            if on_message:
                on_message(message)

        reply = self.client.execute_interactive(
            code, timeout=HANG_SECONDS, output_hook=output, **options
        )
        result.reply = reply["content"]
        return result

    def evaluate(self, expression: str) -> Any:
        """Return the value of an expression of plain types."""
        result = self.run(f"print(repr({expression}))")
        return eval(result.stdout)

    def shut_down(self) -> None:
        """Shut it down; a second call does nothing."""
        self.client.stop_channels()
        if self.manager.has_kernel:
            self.manager.shutdown_kernel()
        self.manager.cleanup_ipc_files()


def a_zygote_is_ready() -> bool:
    return any(zygote.ready for zygote in list_zygotes())


@pytest.fixture(scope="session")
def shared_runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A runtime folder for all tests with warm kernels, so that they share a zygote."""
    folder = tmp_path_factory.mktemp("runtime")
    yield folder
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(folder))
        stop_zygotes()


@pytest.fixture
def cold_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make kernels of this process, and of those it starts, cold."""
    _set_provisioner(monkeypatch, "local-provisioner")


@pytest.fixture
def warm_kernels(shared_runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make kernels of this process, and of those it starts, warm once a zygote is ready."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(shared_runtime))
    _set_provisioner(monkeypatch, PROVISIONER)


@pytest.fixture
def cold_kernels_of_this_process(warm_kernels: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make kernels of this process cold, and those of the processes that it starts warm."""
    factory = KernelProvisionerFactory.instance()
    monkeypatch.setattr(factory, "default_provisioner_name", "local-provisioner")


def _set_provisioner(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    factory = KernelProvisionerFactory.instance()
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    monkeypatch.setenv(factory.default_provisioner_name_env, name)
    monkeypatch.setattr(factory, "default_provisioner_name", name)


@pytest.fixture
def ready_zygote(warm_kernels: None) -> None:
    """A zygote with TensorFlow loaded, which tests share."""
    prestart(os.environ)
    wait_until(a_zygote_is_ready)


def write_empty_libraries(folder: Path) -> None:
    """Write empty modules with the names of the large libraries that a zygote imports."""
    for name in ("tensorflow", "keras", "matplotlib", "pandas", "sklearn", "ipywidgets"):
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / "__init__.py").touch()


@contextmanager
def light_runtime(folder: Path) -> Iterator[Path]:
    """Use zygotes with their files in `folder`, and end them with the block.

    They are ready at once: the large libraries are empty modules, in `folder / "libraries"`.
    """
    libraries = folder / "libraries"
    write_empty_libraries(libraries)
    path = [str(libraries), *filter(None, [os.environ.get("PYTHONPATH")])]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(path))
        patch.setenv("XDG_RUNTIME_DIR", str(folder))
        patch.setattr(provisioner, "reported_reasons", set())
        patch.setattr(warm_kernel_module, "silent_sockets", set())
        patch.setattr(warm_kernel_module, "slow_zygotes", set())
        _set_provisioner(patch, PROVISIONER)
        yield folder / "dltlab-kernels"
        patch.setenv("XDG_RUNTIME_DIR", str(folder))
        with suppress(OSError, Unavailable):
            stop_zygotes()


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Path]:
    """The folder of this test's own zygotes, which are ready at once: see `light_runtime`."""
    with light_runtime(tmp_path) as folder:
        yield folder


@pytest.fixture
def zygote(runtime: Path) -> Callable[[], pool.ZygoteState]:
    """This test's own zygote, ready: a function that returns its present state."""
    prestart(os.environ)
    wait_until(a_zygote_is_ready)
    (first,) = list_zygotes()
    return lambda: next(state for state in list_zygotes() if state.pid == first.pid)


@pytest.fixture
def launch() -> Iterator[Callable[..., Kernel]]:
    """Start kernels, and shut them down after the test."""
    kernels: list[Kernel] = []

    def start(**options: Any) -> Kernel:
        kernels.append(Kernel(**options))
        return kernels[-1]

    yield start
    for kernel in kernels:
        kernel.shut_down()


@pytest.fixture(params=["cold", "warm"])
def start(
    request: pytest.FixtureRequest, launch: Callable[..., Kernel], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Kernel]:
    """Start kernels: cold ones in one run of the test, warm ones in another."""
    # On a busy machine a zygote may take longer to fork than a user would wait for it.
    monkeypatch.setattr(warm_kernel_module, "ANSWER_SECONDS", HANG_SECONDS)
    request.getfixturevalue("cold_kernels" if request.param == "cold" else "ready_zygote")

    def start(**options: Any) -> Kernel:
        kernel = launch(**options)
        assert kernel.is_warm == (request.param == "warm")
        return kernel

    return start


@pytest.fixture(scope="session")
def _shared_kernels() -> Iterator[dict[str, Kernel]]:
    kernels: dict[str, Kernel] = {}
    yield kernels
    for kernel in kernels.values():
        kernel.shut_down()


@pytest.fixture
def kernel(
    request: pytest.FixtureRequest, _shared_kernels: dict[str, Kernel], start: Any
) -> Kernel:
    """A cold or a warm kernel that tests share: none depends on what ran in it before."""
    kind = request.node.callspec.params["start"]
    if kind not in _shared_kernels:
        _shared_kernels[kind] = Kernel()
    return _shared_kernels[kind]
