"""Who holds GPU memory, and how to make them let go: `gpu_processes`."""

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from typing import Any
from urllib.error import URLError
from urllib.parse import urljoin
from urllib.request import Request, urlopen

from dltlab.devices import nvml

_MIB = 1 << 20
_SERVER_SECONDS = 2
_HEADS = ("GPU", "process", "memory", "who", "how to let go")


@dataclass(frozen=True)
class Holder:
    """A process that holds memory of a GPU.

    Attributes:
        gpu: NVML's number of the GPU.
        memory_bytes: What it holds; None where the driver does not tell (as in some containers).
        user: Whose it is; None where the process cannot be seen from here.
        command: The beginning of its command line.
        notebook: The notebook whose kernel it is, or belongs to.
        let_go: What to do to free the memory.
    """

    gpu: int
    pid: int
    memory_bytes: int | None
    user: str | None
    command: str
    notebook: str | None
    let_go: str


@dataclass(frozen=True)
class Holders:
    """All processes that hold GPU memory; shown as a table."""

    found: tuple[Holder, ...]
    nothing: str

    def rows(self) -> list[tuple[str, ...]]:
        """A row for each process, under the heads GPU, process, memory, who, how to let go."""
        return [
            (
                str(each.gpu),
                str(each.pid),
                "unknown" if each.memory_bytes is None else f"{each.memory_bytes // _MIB:,} MiB",
                each.notebook or each.command,
                each.let_go,
            )
            for each in self.found
        ]

    def __str__(self) -> str:
        if not self.found:
            return self.nothing
        rows = [_HEADS, *self.rows()]
        widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADS))]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        )

    __repr__ = __str__

    def _repr_html_(self) -> str:
        if not self.found:
            return f"<p>{escape(self.nothing)}</p>"
        head = "".join(f"<th style='text-align:left'>{each}</th>" for each in _HEADS)
        body = "".join(
            "<tr>"
            + "".join(f"<td style='text-align:left'>{escape(cell)}</td>" for cell in row)
            + "</tr>"
            for row in self.rows()
        )
        return f"<table><tr>{head}</tr>{body}</table>"


def gpu_processes() -> Holders:
    """The processes and notebooks that hold GPU memory, and how to make each let go of it.

    The names of notebooks come from the Jupyter servers that run here, or else from the
    environment that a server gives to its kernels.
    """
    import pynvml

    try:
        with nvml.opened() as library:
            held = list(_held(library))
    except pynvml.NVMLError:
        return Holders((), f"No GPU, so nobody holds one: {nvml.query().problem}.")
    notebooks = _notebooks() if held else {}
    return Holders(
        tuple(_holder(gpu, pid, memory, notebooks) for gpu, pid, memory in held),
        "Nobody holds GPU memory.",
    )


def _held(library: Any) -> Iterator[tuple[int, int, int | None]]:
    """The number of the GPU, the process and the bytes, of each process on each GPU."""
    for index in range(library.nvmlDeviceGetCount()):
        handle = library.nvmlDeviceGetHandleByIndex(index)
        try:
            found = nvml.told(library.nvmlDeviceGetComputeRunningProcesses, handle) or ()
        except library.NVMLError_GpuIsLost:
            continue
        for each in found:
            yield index, each.pid, each.usedGpuMemory


def _holder(gpu: int, pid: int, memory: int | None, notebooks: dict[str, str]) -> Holder:
    import psutil

    try:
        process = psutil.Process(pid)
        command = " ".join(process.cmdline())[:80] or process.name()
        user = process.username()
        family = [process, *process.parents()]
    except psutil.Error:
        let_go = "It runs in another container or for another user: ask the administrator"
        return Holder(gpu, pid, memory, None, "not visible from here", None, let_go)
    notebook = next(filter(None, (_notebook(each, notebooks) for each in family)), None)
    let_go = _how(pid, os.getpid() in (each.pid for each in family), notebook, user)
    return Holder(gpu, pid, memory, user, command, notebook, let_go)


def _how(pid: int, is_ours: bool, notebook: str | None, user: str) -> str:
    import psutil

    if is_ours:
        return "This is your own kernel: Kernel → Restart Kernel"
    if user != psutil.Process().username():
        return f"It is {user}'s: ask them"
    if notebook:
        return f"Shut down the kernel of {notebook} (JupyterLab: Running Terminals and Kernels)"
    return f"End it: kill {pid}"


def _notebook(process: Any, notebooks: dict[str, str]) -> str | None:
    """The notebook whose kernel this process is; None for any other process."""
    import psutil

    try:
        words = " ".join(process.cmdline())
        session = process.environ().get("JPY_SESSION_NAME")
    except psutil.Error:
        return None
    kernel = re.search(r"kernel-([\w-]+)\.json", words)
    if kernel and kernel[1] in notebooks:
        return notebooks[kernel[1]]
    return os.path.basename(session) if kernel and session else None


def _notebooks() -> dict[str, str]:
    """Paths of notebooks by their kernels' ids, from every Jupyter server of this user's."""
    from jupyter_server.serverapp import list_running_servers

    return {
        session["kernel"]["id"]: session["path"]
        for server in list_running_servers()
        for session in _sessions(server)
    }


def _sessions(server: dict[str, Any]) -> list[dict[str, Any]]:
    """The server's open sessions; none where it does not answer."""
    request = Request(  # noqa: S310 (the address is from the server's own file)
        urljoin(server["url"], "api/sessions"),
        headers={"Authorization": f"token {server['token']}"},
    )
    try:
        with urlopen(request, timeout=_SERVER_SECONDS) as answer:  # noqa: S310
            found: list[dict[str, Any]] = json.load(answer)
            return found
    except (URLError, TimeoutError, ValueError):
        return []
