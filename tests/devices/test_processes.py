"""Processes that hold GPU memory: with fakes of the driver, the processes and a Jupyter server."""

import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace
from typing import Any

import psutil
import pynvml
import pytest
from IPython.core.formatters import DisplayFormatter

from dltlab.devices import gpu_processes

MIB = 1 << 20
KERNEL = "python -m ipykernel_launcher -f /run/kernel-1a-2b.json"


class FakeProcess:
    """A process by its ID: command, user, environment and ancestors."""

    table: dict[int, tuple[str, str, dict[str, str], tuple[int, ...]]] = {}  # noqa: RUF012

    def __init__(self, pid: int | None = None) -> None:
        self.pid = os.getpid() if pid is None else pid
        if self.pid not in self.table:
            raise psutil.NoSuchProcess(self.pid)
        self.command, self.user, self.variables, self.ancestors = self.table[self.pid]

    def cmdline(self) -> list[str]:
        return self.command.split()

    def username(self) -> str:
        return self.user

    def environ(self) -> dict[str, str]:
        if self.user != "me":
            raise psutil.AccessDenied(self.pid)
        return self.variables

    def parents(self) -> list["FakeProcess"]:
        return [FakeProcess(pid) for pid in self.ancestors]


@pytest.fixture
def processes(monkeypatch):
    """Replace this machine's processes: `processes({pid: (command, user, environment, …)})`."""

    def replace(table: dict[int, Any]) -> None:
        own: dict[int, Any] = {os.getpid(): ("pytest", "me", {}, ())}
        monkeypatch.setattr(FakeProcess, "table", own | table)
        monkeypatch.setattr(psutil, "Process", FakeProcess)

    return replace


@pytest.fixture
def memory_held_by(nvml, gpu):
    """A GPU on which processes hold memory: `memory_held_by(pid, …)`."""

    def replace(*pids: int, used: int | None = 300 * MIB) -> None:
        running = [SimpleNamespace(pid=pid, usedGpuMemory=used) for pid in pids]
        nvml([gpu(), gpu(processes=running)])

    return replace


@pytest.fixture
def servers(monkeypatch):
    """The running Jupyter servers; none at first."""
    running: list[dict[str, str]] = []
    monkeypatch.setattr("jupyter_server.serverapp.list_running_servers", lambda: running)
    return running


@pytest.fixture
def server(servers) -> Iterator[list[str]]:
    """A Jupyter server with one session: the list of the tokens that it has received."""
    tokens = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            tokens.append(self.headers["Authorization"])
            assert self.path == "/base/api/sessions"
            self.send_response(200)
            self.end_headers()
            session = {"path": "labs/03_text.ipynb", "kernel": {"id": "1a-2b"}}
            self.wfile.write(json.dumps([session]).encode())

        def log_message(self, *arguments: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        servers.append({"url": f"http://127.0.0.1:{http.server_port}/base/", "token": "secret"})
        yield tokens
        http.shutdown()
        thread.join()


def test_a_notebook_is_named_by_its_server(memory_held_by, processes, server):
    memory_held_by(7)
    processes({7: (KERNEL, "me", {}, ())})

    (process,) = gpu_processes().processes

    assert (process.gpu, process.pid, process.memory_bytes) == (1, 7, 300 * MIB)
    assert process.notebook == "labs/03_text.ipynb"
    assert "Shut down the kernel of labs/03_text.ipynb" in process.how_to_free
    assert server == ["token secret"]


def test_a_worker_belongs_to_the_notebook_that_started_it(memory_held_by, processes, server):
    memory_held_by(8)
    processes({7: (KERNEL, "me", {}, ()), 8: ("python worker.py", "me", {}, (7,))})

    assert gpu_processes().processes[0].notebook == "labs/03_text.ipynb"


def test_without_an_answer_the_kernels_environment_names_the_notebook(
    memory_held_by, processes, servers
):
    servers.append({"url": "http://127.0.0.1:9/", "token": ""})  # no server listens there
    memory_held_by(7)
    processes({7: (KERNEL, "me", {"JPY_SESSION_NAME": "/home/me/04_more.ipynb"}, ())})

    assert gpu_processes().processes[0].notebook == "04_more.ipynb"


def test_other_processes_are_named_by_their_command(memory_held_by, processes, servers):
    memory_held_by(os.getpid(), 9, 10, 11)
    processes({9: ("python train.py", "me", {}, ()), 10: ("python theirs.py", "ada", {}, ())})

    own_kernel, own, other, invisible = gpu_processes().processes

    assert own_kernel.how_to_free == "It is this notebook's kernel: Kernel → Restart Kernel"
    assert (own.command, own.how_to_free) == ("python train.py", "End it: kill 9")
    assert (other.user, other.how_to_free) == ("ada", "It belongs to ada: ask them")
    assert (invisible.user, invisible.command) == (None, "not visible from here")


def test_the_result_is_shown_as_text_and_html(memory_held_by, processes, servers):
    memory_held_by(9, used=None)
    processes({9: ("python <train>.py", "me", {}, ())})

    result = gpu_processes()

    assert repr(result).splitlines() == [
        "1 process holds memory of 1 GPU.",
        "GPU process memory  notebook or command how to free it",
        "1   9       unknown python <train>.py   End it: kill 9",
    ]
    html = DisplayFormatter().format(result)[0]["text/html"]
    assert '<td style="text-align: left">python &lt;train&gt;.py</td>' in html
    assert result.as_dict()["processes"][0]["memory_bytes"] is None


def test_without_a_process_the_result_is_one_sentence(two_gpus):
    assert repr(gpu_processes()) == "No process holds GPU memory."


def test_without_a_gpu_the_result_says_why(no_nvml):
    result = gpu_processes()

    assert repr(result) == "No process holds GPU memory: There is no NVIDIA driver."
    assert result.table.empty


def test_a_lost_gpu_is_left_out(nvml, gpu, monkeypatch):
    library = nvml([gpu()])

    def lost(handle: object) -> None:
        raise pynvml.NVMLError_GpuIsLost

    monkeypatch.setattr(library, "nvmlDeviceGetComputeRunningProcesses", lost)

    assert gpu_processes().processes == ()
