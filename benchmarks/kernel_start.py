"""What warm kernels save in time and memory, compared with cold ones.

    python benchmarks/kernel_start.py [--json] [--repeats 5] [--only PREFIX …]

Times are medians in seconds, from the call that starts a kernel to the reply of the cell; cold and
warm kernels take turns. Memory is the sum of the kernels' proportional set sizes, plus the zygote's
for warm ones; the kernels have TensorFlow, Keras and pyplot imported, first idle and then after a
small fit. At a first start there is no zygote: that kernel is cold, and a zygote starts beside it.
The first kernel of a server is started through its REST API, with `dltlab lab --cold` and with
`dltlab lab`, which starts the zygote itself.
"""

import argparse
import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.error import URLError
from urllib.request import Request, urlopen
from uuid import uuid4

import nbformat
from jupyter_client.asynchronous import AsyncKernelClient
from jupyter_client.client import KernelClient
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning import KernelProvisionerFactory

from dltlab.devices import cpu_info
from dltlab.kernels import PROVISIONER, list_zygotes, stop_zygotes

T = TypeVar("T")
PROVISIONERS = {"cold": "local-provisioner", "warm": PROVISIONER}
IMPORT = "import tensorflow, keras, matplotlib.pyplot"
FIT = """
import numpy as np, keras
model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(16), keras.layers.Dense(1)])
model.compile("adam", "mse")
_ = model.fit(np.zeros((256, 8)), np.zeros((256, 1)), epochs=2, verbose=0)
"""
COMPUTE = """
import tensorflow as tf
numbers = tf.random.stateless_normal((500, 500), (seed, 0))
print(float(tf.reduce_mean(numbers @ numbers)))
"""
TARGETS = {"start to imported": 18, "ten at once": 40, "twelve papermill runs": 6,
           "memory of 10, idle": 2.5}  # fmt: skip
SLOWER = 0.5  # seconds that a first start may take longer than a cold one


@dataclass
class Kernel:
    """A kernel and its client."""

    manager: AsyncKernelManager
    client: KernelClient

    @classmethod
    async def start(cls, transport: str = "tcp") -> "Kernel":
        """Start a kernel and return without waiting for it."""
        manager = AsyncKernelManager(transport=transport, transport_encryption="auto")
        if transport == "ipc":
            manager.ip = f"{os.environ['XDG_RUNTIME_DIR']}/{uuid4().hex}"
        await manager.start_kernel()
        client = manager.client()
        client.start_channels()
        return cls(manager, client)

    async def run(self, code: str) -> None:
        """Run a cell and wait for its reply."""
        await reply_to(self.client, self.client.execute(code))

    async def ready(self) -> None:
        """Wait until the kernel answers."""
        await reply_to(self.client, self.client.kernel_info())

    async def shut_down(self) -> None:
        """Shut it down."""
        self.client.stop_channels()
        await self.manager.shutdown_kernel(now=True)


async def reply_to(client: KernelClient, message: str) -> None:
    """Wait for the reply to a message, which must be a success."""
    while True:
        reply = await client.get_shell_msg(timeout=300)
        if reply["parent_header"].get("msg_id") == message:
            assert reply["content"]["status"] == "ok", reply["content"]
            return


async def start_to_ready() -> float:
    """One kernel, up to its first answer."""
    start = time.perf_counter()
    kernel = await Kernel.start()
    await kernel.ready()
    return await _seconds_since(start, kernel)


async def start_to_imported() -> float:
    """One kernel, up to the end of the imports."""
    start = time.perf_counter()
    kernel = await Kernel.start()
    await kernel.run(IMPORT)
    return await _seconds_since(start, kernel)


async def first_to_ready() -> float:
    """The same without a zygote: one starts beside the kernel."""
    return await _without_zygote(start_to_ready)


async def first_to_imported() -> float:
    """The same without a zygote, up to the end of the imports."""
    return await _without_zygote(start_to_imported)


async def _without_zygote(measurement: Callable[[], Awaitable[float]]) -> float:
    """Measure where there is no zygote, and leave none behind."""
    _stop_all_zygotes()
    seconds = await measurement()
    _stop_all_zygotes()
    return seconds


def _stop_all_zygotes() -> None:
    while list_zygotes():
        stop_zygotes()
        time.sleep(0.1)


async def first_of_server_at_once() -> float:
    """The first kernel of a JupyterLab server, asked for as soon as the server answers."""
    return await _without_zygote(lambda: _first_of_server(0.0))


async def first_of_server_after_6_s() -> float:
    """The first kernel of a JupyterLab server, asked for 6 s after the command to start it."""
    return await _without_zygote(lambda: _first_of_server(6.0))


async def _first_of_server(delay: float) -> float:
    begin = time.perf_counter()
    with _server() as server:
        await asyncio.sleep(max(0.0, begin + delay - time.perf_counter()))
        start = time.perf_counter()
        with _request(server, "POST", "api/kernels") as answer:
            kernel = json.load(answer)["id"]
        client = AsyncKernelClient(
            connection_file=str(Path(os.environ["JUPYTER_RUNTIME_DIR"], f"kernel-{kernel}.json"))
        )
        client.load_connection_file()
        client.start_channels()
        await reply_to(client, client.execute(IMPORT))
        seconds = time.perf_counter() - start
        client.stop_channels()
        _request(server, "DELETE", f"api/kernels/{kernel}").close()
    return seconds


@contextmanager
def _server() -> Iterator[dict[str, Any]]:
    """Run `dltlab lab`; yield the server's address and token as soon as it answers."""
    folder = Path(os.environ["JUPYTER_RUNTIME_DIR"])
    command = [sys.executable, "-c", "from dltlab.cli import main; main()", "lab", "--no-browser"]
    command += ["--dir", str(folder / "workspace")]
    if os.environ["JUPYTER_DEFAULT_PROVISIONER_NAME"] != PROVISIONER:
        command += ["--cold"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        path = folder / f"jpserver-{process.pid}.json"
        while not path.exists():
            time.sleep(0.02)
        server = json.loads(path.read_text())
        while not _answers(server):
            time.sleep(0.02)
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def _answers(server: dict[str, Any]) -> bool:
    try:
        _request(server, "GET", "api/status").close()
    except URLError:
        return False
    return True


def _request(server: dict[str, Any], method: str, path: str) -> Any:
    body = b'{"name": "python3"}' if method == "POST" else None
    headers = {"Authorization": f"token {server['token']}"}
    request = Request(server["url"] + path, body, headers, method=method)  # noqa: S310
    return urlopen(request, timeout=300)  # noqa: S310


async def restart_to_imported() -> float:
    """A kernel with the imports done, restarted, up to the end of the same imports."""
    kernel = await Kernel.start()
    await kernel.run(IMPORT)
    start = time.perf_counter()
    await kernel.manager.restart_kernel()
    await kernel.run(IMPORT)
    return await _seconds_since(start, kernel)


async def ten_at_once() -> float:
    """Ten kernels, up to the end of the last one's imports."""

    async def one() -> Kernel:
        kernel = await Kernel.start()
        await kernel.run(IMPORT)
        return kernel

    start = time.perf_counter()
    kernels = await asyncio.gather(*(one() for _ in range(10)))
    return await _seconds_since(start, *kernels)


async def twelve_papermill_runs() -> float:
    """A notebook that computes with TensorFlow, for twelve values of its parameter, two by two."""
    return _papermill_twelve_times(COMPUTE)


async def twelve_papermill_runs_with_a_fit() -> float:
    """The same with a notebook that trains a small network."""
    return _papermill_twelve_times(FIT)


def _papermill_twelve_times(code: str) -> float:
    with tempfile.TemporaryDirectory() as folder:
        notebook = _notebook(Path(folder) / "notebook.ipynb", code)
        with ProcessPoolExecutor(2) as executor:
            list(executor.map(_papermill, [notebook] * 2, [100, 101]))  # imports papermill itself
            start = time.perf_counter()
            list(executor.map(_papermill, [notebook] * 12, range(12)))
            return time.perf_counter() - start


async def nbval_on_four_notebooks() -> float:
    """`pytest --nbval-lax` on four notebooks."""
    with tempfile.TemporaryDirectory() as folder:
        notebooks = [_notebook(Path(folder) / f"{number}.ipynb", COMPUTE) for number in range(4)]
        command = [sys.executable, "-m", "pytest", "-c", os.devnull, "-p", "no:cacheprovider"]
        start = time.perf_counter()
        subprocess.run(
            [*command, "--nbval-lax", "--nbval-cell-timeout=300", *notebooks],
            cwd=folder, check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        return time.perf_counter() - start


async def memory(num_kernels: int) -> dict[str, float]:
    """Megabytes of the kernels together, idle and after a fit."""
    # Over TCP, another process may take one of so many ports before a kernel binds it.
    kernels = [await Kernel.start("ipc") for _ in range(num_kernels)]
    await asyncio.gather(*(kernel.run(IMPORT) for kernel in kernels))
    megabytes = {f"memory of {num_kernels}, idle": _megabytes(kernels)}
    await asyncio.gather(*(kernel.run(FIT) for kernel in kernels))
    megabytes[f"memory of {num_kernels}, fitted"] = _megabytes(kernels)
    await asyncio.gather(*(kernel.shut_down() for kernel in kernels))
    return megabytes


def _megabytes(kernels: list[Kernel]) -> float:
    pids = [kernel.manager.provisioner.pid for kernel in kernels]
    if KernelProvisionerFactory.instance().default_provisioner_name == PROVISIONER:
        pids += [zygote.pid for zygote in list_zygotes()]
    rollups = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in pids]
    return sum(int(rollup.partition("Pss:")[2].split()[0]) for rollup in rollups) / 1e3


async def _seconds_since(start: float, *kernels: Kernel) -> float:
    seconds = time.perf_counter() - start
    await asyncio.gather(*(kernel.shut_down() for kernel in kernels))
    return seconds


def _notebook(path: Path, code: str) -> Path:
    parameters = nbformat.v4.new_code_cell("seed = 0", metadata={"tags": ["parameters"]})
    train = nbformat.v4.new_code_cell(f"{IMPORT}\nkeras.utils.set_random_seed(seed)\n{code}")
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = nbformat.v4.new_notebook(cells=[parameters, train], metadata={"kernelspec": kernel})
    nbformat.write(notebook, path)
    return path


def _papermill(notebook: Path, seed: int) -> None:
    import papermill

    out = notebook.with_name(f"out{seed}.ipynb")
    papermill.execute_notebook(notebook, out, {"seed": seed}, progress_bar=False)


# Name, measurement, whether it is short, whether it needs a zygote that is ready.
MEASUREMENTS: list[tuple[str, Callable[[], Awaitable[float]], bool, bool]] = [
    ("first start to ready", first_to_ready, True, False),
    ("first start to imported", first_to_imported, True, False),
    ("first kernel of a server, at once, to imported", first_of_server_at_once, True, False),
    ("first kernel of a server, after 6 s, to imported", first_of_server_after_6_s, True, False),
    ("start to ready", start_to_ready, True, True),
    ("start to imported", start_to_imported, True, True),
    ("restart to imported", restart_to_imported, True, True),
    ("ten at once", ten_at_once, True, True),
    ("twelve papermill runs", twelve_papermill_runs, False, True),
    ("twelve papermill runs, with a fit", twelve_papermill_runs_with_a_fit, False, True),
    ("nbval on four notebooks", nbval_on_four_notebooks, False, True),
]
NUM_KERNELS = (1, 2, 10, 30)  # whose memory is measured


def measure(repeats: int, prefixes: list[str]) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield a name with the result for cold and for warm kernels: times are medians."""

    def is_chosen(name: str) -> bool:
        return any(name.startswith(prefix) for prefix in prefixes)

    for name, function, is_short, needs_zygote in MEASUREMENTS:
        if not is_chosen(name):
            continue
        if needs_zygote:
            _warm_up()
        times: dict[str, list[float]] = {"cold": [], "warm": []}
        for _ in range(repeats if is_short else max(1, repeats // 2)):
            for kind in times:
                times[kind].append(_run(kind, function))
        yield name, {kind: statistics.median(values) for kind, values in times.items()}
    for number in NUM_KERNELS:
        if is_chosen(f"memory of {number}"):
            _warm_up()
            sums = {kind: _run(kind, lambda: memory(number)) for kind in PROVISIONERS}  # noqa: B023
            for name in sums["cold"]:
                yield name, {kind: megabytes[name] for kind, megabytes in sums.items()}


def _run(kind: str, function: Callable[[], Awaitable[T]]) -> T:
    name = PROVISIONERS[kind]
    os.environ["JUPYTER_DEFAULT_PROVISIONER_NAME"] = name
    KernelProvisionerFactory.instance().default_provisioner_name = name
    return asyncio.run(function())


def _warm_up() -> None:
    """Wait until a zygote is ready."""
    while not any(zygote.ready for zygote in list_zygotes()):
        _run("warm", start_to_imported)


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", nargs="+", default=[""], help="rows whose names begin with one")
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    cpu = cpu_info()
    gigabytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
    hardware = f"{cpu.model}, {cpu.cores:g} cores, {gigabytes:.0f} GB"
    if not options.json:
        print(f"{hardware}\n\n| | cold | warm | cold / warm | target |\n|---|---|---|---|---|")
    results = {}
    with tempfile.TemporaryDirectory() as runtime:
        os.environ["XDG_RUNTIME_DIR"] = os.environ["JUPYTER_RUNTIME_DIR"] = runtime
        try:
            for name, result in measure(options.repeats, options.only):
                results[name] = result
                if not options.json:
                    print(_row(name, result), flush=True)
        finally:
            stop_zygotes()
    if options.json:
        print(json.dumps({"hardware": hardware, "results": results}, indent=1))


def _row(name: str, result: dict[str, float]) -> str:
    unit, digits = ("MB", 0) if name.startswith("memory") else ("s", 2)
    cold, warm = (f"{result[kind]:.{digits}f} {unit}" for kind in PROVISIONERS)
    target = f"≥ {TARGETS[name]:g}" if name in TARGETS else ""
    if name.startswith("first start"):
        target = f"≤ {result['cold'] + SLOWER:.2f} s"
    return f"| {name} | {cold} | {warm} | {result['cold'] / result['warm']:.1f} | {target} |"


if __name__ == "__main__":
    main()
