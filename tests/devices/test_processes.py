"""Who holds GPU memory, told by fakes of the driver, the processes and a Jupyter server."""

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

from dltlab.devices import gpu_processes

MIB = 1 << 20
KERNEL = "python -m ipykernel_launcher -f /run/kernel-1a-2b.json"


class FakeProcess:
    """A process by its number: command, user, environment and parents."""

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
        return [FakeProcess(each) for each in self.ancestors]


@pytest.fixture
def processes(monkeypatch):
    """Put processes in the place of this machine's."""

    def put(table: dict[int, Any]) -> None:
        mine = {os.getpid(): ("pytest", "me", {}, ())}
        monkeypatch.setattr(FakeProcess, "table", mine | table)
        monkeypatch.setattr(psutil, "Process", FakeProcess)

    return put


@pytest.fixture
def held(nvml, gpu):
    """A GPU on which these processes hold memory: `held(pid, …)`."""

    def put(*pids: int, used: int | None = 300 * MIB) -> None:
        found = [SimpleNamespace(pid=pid, usedGpuMemory=used) for pid in pids]
        nvml([gpu(), gpu(processes=found)])

    return put


@pytest.fixture
def servers(monkeypatch):
    """What Jupyter tells of running servers."""
    found: list[dict[str, str]] = []
    monkeypatch.setattr("jupyter_server.serverapp.list_running_servers", lambda: found)
    return found


@pytest.fixture
def server(servers) -> Iterator[list[str]]:
    """A Jupyter server on loopback with one session; the tokens that it was shown."""
    tokens = []

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            tokens.append(self.headers["Authorization"])
            assert self.path == "/base/api/sessions"
            self.send_response(200)
            self.end_headers()
            session = {"path": "labs/03_text.ipynb", "kernel": {"id": "1a-2b"}}
            self.wfile.write(json.dumps([session]).encode())

        def log_message(self, *arguments: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        servers.append({"url": f"http://127.0.0.1:{http.server_port}/base/", "token": "secret"})
        yield tokens
        http.shutdown()
        thread.join()


def test_a_notebook_is_named_by_its_server(held, processes, server):
    held(7)
    processes({7: (KERNEL, "me", {}, ())})

    (holder,) = gpu_processes().found

    assert (holder.gpu, holder.pid, holder.memory_bytes) == (1, 7, 300 * MIB)
    assert holder.notebook == "labs/03_text.ipynb"
    assert "Shut down the kernel of labs/03_text.ipynb" in holder.let_go
    assert server == ["token secret"]


def test_a_worker_belongs_to_the_notebook_that_started_it(held, processes, server):
    held(8)
    processes({7: (KERNEL, "me", {}, ()), 8: ("python worker.py", "me", {}, (7,))})

    assert gpu_processes().found[0].notebook == "labs/03_text.ipynb"


def test_without_an_answer_the_kernels_environment_names_the_notebook(held, processes, servers):
    servers.append({"url": "http://127.0.0.1:9/", "token": ""})  # nobody answers there
    held(7)
    processes({7: (KERNEL, "me", {"JPY_SESSION_NAME": "/home/me/04_more.ipynb"}, ())})

    assert gpu_processes().found[0].notebook == "04_more.ipynb"


def test_other_processes_are_named_by_their_command(held, processes, servers):
    held(os.getpid(), 9, 10, 11)
    processes({9: ("python train.py", "me", {}, ()), 10: ("python theirs.py", "ada", {}, ())})

    own, mine, theirs, unseen = gpu_processes().found

    assert own.let_go == "This is your own kernel: Kernel → Restart Kernel"
    assert (mine.command, mine.let_go) == ("python train.py", "End it: kill 9")
    assert (theirs.user, theirs.let_go) == ("ada", "It is ada's: ask them")
    assert (unseen.user, unseen.command) == (None, "not visible from here")


def test_the_table_is_readable_as_text_and_as_html(held, processes, servers):
    held(9, used=None)
    processes({9: ("python <train>.py", "me", {}, ())})

    found = gpu_processes()

    assert str(found).splitlines() == [
        "GPU  process  memory   who                how to let go",
        "1    9        unknown  python <train>.py  End it: kill 9",
    ]
    assert "<td style='text-align:left'>python &lt;train&gt;.py</td>" in found._repr_html_()


def test_where_nobody_holds_memory_that_is_said(two_gpus):
    assert str(gpu_processes()) == "Nobody holds GPU memory."


def test_where_there_is_no_gpu_that_is_said(no_nvml):
    found = gpu_processes()

    assert str(found) == "No GPU, so nobody holds one: There is no NVIDIA driver."
    assert str(found) in found._repr_html_()


def test_a_gpu_that_is_lost_holds_nothing(nvml, gpu, monkeypatch):
    library = nvml([gpu()])

    def lost(handle: object) -> None:
        raise pynvml.NVMLError_GpuIsLost

    monkeypatch.setattr(library, "nvmlDeviceGetComputeRunningProcesses", lost)

    assert str(gpu_processes()) == "Nobody holds GPU memory."
