"""Which processes hold GPU memory, and how to free it: `gpu_processes`."""

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.error import URLError
from urllib.parse import urljoin
from urllib.request import Request, urlopen

from dltlab.devices import nvml
from dltlab.display import Result

if TYPE_CHECKING:
    import pandas as pd

_MIB = 1 << 20
_SERVER_SECONDS = 2  # for a Jupyter server to answer


@dataclass(frozen=True)
class GpuProcess:
    """A process that holds memory of a GPU.

    Attributes:
        gpu: Index of the GPU, as NVML counts.
        pid: Its process ID.
        memory_bytes: What it holds; None where the driver does not report it (as in some
            containers).
        user: Its owner; None where the process cannot be seen from here.
        command: The beginning of its command line.
        notebook: The notebook whose kernel it is, or belongs to.
        how_to_free: What to do to free the memory.
    """

    gpu: int
    pid: int
    memory_bytes: int | None
    user: str | None
    command: str
    notebook: str | None
    how_to_free: str


@dataclass(frozen=True, repr=False)
class GpuProcesses(Result):
    """The processes that hold GPU memory.

    Attributes:
        processes: By GPU.
        no_gpu: Why there is no GPU; None where there is one.
    """

    processes: tuple[GpuProcess, ...]
    no_gpu: str | None = None

    @property
    def summary(self) -> str:
        """How many processes hold memory of how many GPUs."""
        if self.no_gpu:
            return f"No process holds GPU memory: {self.no_gpu}."
        if not self.processes:
            return "No process holds GPU memory."
        num_processes = len({process.pid for process in self.processes})
        num_gpus = len({process.gpu for process in self.processes})
        verb = "process holds" if num_processes == 1 else "processes hold"
        return f"{num_processes} {verb} memory of {num_gpus} GPU{'' if num_gpus == 1 else 's'}."

    @property
    def table(self) -> "pd.DataFrame":
        """A row for each process on each GPU."""
        import pandas as pd

        rows = [
            (
                str(process.gpu),
                str(process.pid),
                _memory_text(process.memory_bytes),
                process.notebook or process.command,
                process.how_to_free,
            )
            for process in self.processes
        ]
        columns = ["GPU", "process", "memory", "notebook or command", "how to free it"]
        return pd.DataFrame(rows, columns=columns)


def gpu_processes() -> GpuProcesses:
    """Return the processes and notebooks that hold GPU memory, and how to free the memory of each.

    The names of notebooks come from the Jupyter servers that run on this machine, or else from the
    environment that a server gives to its kernels.
    """
    import pynvml

    try:
        with nvml.session() as library:
            usage = list(_memory_usage(library))
    except pynvml.NVMLError:
        return GpuProcesses((), no_gpu=nvml.nvidia_info().problem)
    notebooks = _notebooks_by_kernel() if usage else {}
    return GpuProcesses(
        tuple(_gpu_process(gpu, pid, memory, notebooks) for gpu, pid, memory in usage)
    )


def _memory_text(memory_bytes: int | None) -> str:
    return "unknown" if memory_bytes is None else f"{memory_bytes // _MIB:,} MiB"


def _memory_usage(library: Any) -> Iterator[tuple[int, int, int | None]]:
    """Yield the index of the GPU, the process ID and the bytes, for each process on each GPU."""
    for index in range(library.nvmlDeviceGetCount()):
        handle = library.nvmlDeviceGetHandleByIndex(index)
        list_processes = library.nvmlDeviceGetComputeRunningProcesses
        try:
            processes = nvml.call_if_supported(list_processes, handle) or ()
        except library.NVMLError_GpuIsLost:
            continue
        for process in processes:
            yield index, process.pid, process.usedGpuMemory


def _gpu_process(gpu: int, pid: int, memory: int | None, notebooks: dict[str, str]) -> GpuProcess:
    import psutil

    try:
        process = psutil.Process(pid)
        command = " ".join(process.cmdline())[:80] or process.name()
        user = process.username()
        family = [process, *process.parents()]
    except psutil.Error:
        advice = "It runs in another container or for another user: ask the administrator"
        return GpuProcess(gpu, pid, memory, None, "not visible from here", None, advice)
    notebook = next(filter(None, (_notebook_of(member, notebooks) for member in family)), None)
    is_own_kernel = os.getpid() in (member.pid for member in family)
    advice = _how_to_free(pid, is_own_kernel, notebook, user)
    return GpuProcess(gpu, pid, memory, user, command, notebook, advice)


def _how_to_free(pid: int, is_own_kernel: bool, notebook: str | None, user: str) -> str:
    import psutil

    if is_own_kernel:
        return "It is this notebook's kernel: Kernel → Restart Kernel"
    if user != psutil.Process().username():
        return f"It belongs to {user}: ask them"
    if notebook:
        return f"Shut down the kernel of {notebook} (JupyterLab: Running Terminals and Kernels)"
    return f"End it: kill {pid}"


def _notebook_of(process: Any, notebooks: dict[str, str]) -> str | None:
    """Return the notebook whose kernel this process is; None for any other process."""
    import psutil

    try:
        command = " ".join(process.cmdline())
        session = process.environ().get("JPY_SESSION_NAME")
    except psutil.Error:
        return None
    kernel = re.search(r"kernel-([\w-]+)\.json", command)
    if kernel and kernel[1] in notebooks:
        return notebooks[kernel[1]]
    return os.path.basename(session) if kernel and session else None


def _notebooks_by_kernel() -> dict[str, str]:
    """Return the paths of notebooks by kernel ID, from all Jupyter servers of this user."""
    from jupyter_server.serverapp import list_running_servers

    return {
        session["kernel"]["id"]: session["path"]
        for server in list_running_servers()
        for session in _sessions(server)
    }


def _sessions(server: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the server's open sessions; none where it does not answer."""
    request = Request(  # noqa: S310 (the address comes from the server's own file)
        urljoin(server["url"], "api/sessions"),
        headers={"Authorization": f"token {server['token']}"},
    )
    try:
        with urlopen(request, timeout=_SERVER_SECONDS) as response:  # noqa: S310
            sessions: list[dict[str, Any]] = json.load(response)
            return sessions
    except (URLError, TimeoutError, ValueError):
        return []
