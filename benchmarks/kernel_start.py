"""What warm kernels save: cold and warm in turns, in time and in memory.

    python benchmarks/kernel_start.py [--json] [--repeats 5]

Times are medians in seconds, from the call that starts a kernel to the reply of the cell. The
memory of kernels is the sum of their proportional set sizes, with the zygote's for warm ones; they
have TensorFlow, Keras and pyplot imported, first idle and then after a small fit. At a first start
there is no zygote: that kernel is cold, and one warms up beside it.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

import nbformat
from jupyter_client.client import KernelClient
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning import KernelProvisionerFactory

from dltlab.devices import inventory
from dltlab.kernels import PROVISIONER, pool

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
        """Start one, and wait for nothing."""
        manager = AsyncKernelManager(transport=transport, transport_encryption="auto")
        if transport == "ipc":
            manager.ip = f"{os.environ['XDG_RUNTIME_DIR']}/{uuid4().hex}"
        await manager.start_kernel()
        client = manager.client()
        client.start_channels()
        return cls(manager, client)

    async def run(self, code: str) -> None:
        """Run a cell and wait for its reply."""
        await self._reply(self.client.execute(code))

    async def ready(self) -> None:
        """Wait until it answers."""
        await self._reply(self.client.kernel_info())

    async def end(self) -> None:
        """Shut it down."""
        self.client.stop_channels()
        await self.manager.shutdown_kernel(now=True)

    async def _reply(self, message: str) -> None:
        while True:
            reply = await self.client.get_shell_msg(timeout=300)
            if reply["parent_header"].get("msg_id") == message:
                assert reply["content"]["status"] == "ok", reply["content"]
                return


async def start_to_ready() -> float:
    """One kernel, up to its first answer."""
    start = time.perf_counter()
    kernel = await Kernel.start()
    await kernel.ready()
    return await _since(start, kernel)


async def start_to_imported() -> float:
    """One kernel, up to the end of the imports."""
    start = time.perf_counter()
    kernel = await Kernel.start()
    await kernel.run(IMPORT)
    return await _since(start, kernel)


async def first_to_ready() -> float:
    """The same where there is no zygote yet: one starts beside the kernel."""
    return await _alone(start_to_ready)


async def first_to_imported() -> float:
    """The same, up to the end of the imports."""
    return await _alone(start_to_imported)


async def _alone(measure: Callable[[], Awaitable[float]]) -> float:
    """The measure between two moments at which there is no zygote."""
    _no_zygote()
    seconds = await measure()
    _no_zygote()
    return seconds


def _no_zygote() -> None:
    while pool.zygotes():
        pool.stop()
        time.sleep(0.1)


async def restart_to_imported() -> float:
    """A kernel with the imports done, restarted, up to the end of the same imports."""
    kernel = await Kernel.start()
    await kernel.run(IMPORT)
    start = time.perf_counter()
    await kernel.manager.restart_kernel()
    await kernel.run(IMPORT)
    return await _since(start, kernel)


async def ten_at_once() -> float:
    """Ten kernels, up to the end of the last one's imports."""

    async def one() -> Kernel:
        kernel = await Kernel.start()
        await kernel.run(IMPORT)
        return kernel

    start = time.perf_counter()
    kernels = await asyncio.gather(*(one() for _ in range(10)))
    return await _since(start, *kernels)


async def twelve_papermill_runs() -> float:
    """A notebook that computes with TensorFlow, for twelve values of its parameter, two by two."""
    return _papermill_twelve_times(COMPUTE)


async def twelve_papermill_runs_with_a_fit() -> float:
    """The same with a notebook that trains a small network."""
    return _papermill_twelve_times(FIT)


def _papermill_twelve_times(code: str) -> float:
    with tempfile.TemporaryDirectory() as folder:
        notebook = _notebook(Path(folder) / "notebook.ipynb", code)
        with ProcessPoolExecutor(2) as two:
            list(two.map(_papermill, [notebook] * 2, [100, 101]))  # papermill itself is imported
            start = time.perf_counter()
            list(two.map(_papermill, [notebook] * 12, range(12)))
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


async def memory(kernels: int) -> dict[str, float]:
    """Megabytes that `kernels` take, idle and after a fit."""
    # Not over TCP: of so many ports one may be taken by the time when a kernel binds it.
    started = [await Kernel.start("ipc") for _ in range(kernels)]
    await asyncio.gather(*(each.run(IMPORT) for each in started))
    found = {f"memory of {kernels}, idle": _megabytes(started)}
    await asyncio.gather(*(each.run(FIT) for each in started))
    found[f"memory of {kernels}, fitted"] = _megabytes(started)
    await asyncio.gather(*(each.end() for each in started))
    return found


def _megabytes(kernels: list[Kernel]) -> float:
    processes = [each.manager.provisioner.pid for each in kernels]
    if KernelProvisionerFactory.instance().default_provisioner_name == PROVISIONER:
        processes += [each.pid for each in pool.zygotes()]
    rollups = [Path(f"/proc/{each}/smaps_rollup").read_text() for each in processes]
    return sum(int(each.partition("Pss:")[2].split()[0]) for each in rollups) / 1e3


async def _since(start: float, *kernels: Kernel) -> float:
    seconds = time.perf_counter() - start
    await asyncio.gather(*(each.end() for each in kernels))
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


MEASURES: list[tuple[str, Callable[[], Awaitable[float]], bool]] = [
    ("first start to ready", first_to_ready, True),
    ("first start to imported", first_to_imported, True),
    ("start to ready", start_to_ready, True),
    ("start to imported", start_to_imported, True),
    ("restart to imported", restart_to_imported, True),
    ("ten at once", ten_at_once, True),
    ("twelve papermill runs", twelve_papermill_runs, False),
    ("twelve papermill runs, with a fit", twelve_papermill_runs_with_a_fit, False),
    ("nbval on four notebooks", nbval_on_four_notebooks, False),
]


def measure(repeats: int) -> Iterator[tuple[str, dict[str, float]]]:
    """Every measure, cold and warm: the median of times, the one sum of memory."""
    for name, function, is_short in MEASURES:
        if name == "start to ready":
            _warm_up()
        times: dict[str, list[float]] = {"cold": [], "warm": []}
        for _ in range(repeats if is_short else max(1, repeats // 2)):
            for kind in times:
                times[kind].append(_with(kind, function))
        yield name, {kind: statistics.median(each) for kind, each in times.items()}
    for kernels in (1, 2, 10, 30):
        sums = {kind: _with(kind, lambda: memory(kernels)) for kind in PROVISIONERS}  # noqa: B023
        for name in sums["cold"]:
            yield name, {kind: each[name] for kind, each in sums.items()}


def _with(kind: str, function: Callable[[], Awaitable[T]]) -> T:
    name = PROVISIONERS[kind]
    os.environ["JUPYTER_DEFAULT_PROVISIONER_NAME"] = name
    KernelProvisionerFactory.instance().default_provisioner_name = name
    return asyncio.run(function())


def _warm_up() -> None:
    """Wait until a zygote is ready."""
    while not any(each.ready for each in pool.zygotes()):
        _with("warm", start_to_imported)


def main() -> None:
    """Measure, and print a table or JSON."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--json", action="store_true")
    options.add_argument("--repeats", type=int, default=5)
    chosen = options.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    found = inventory(ask_tensorflow=False)
    gigabytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
    hardware = f"{found.cpu.model}, {found.cpu.cores:g} cores, {gigabytes:.0f} GB"
    if not chosen.json:
        print(f"{hardware}\n\n| | cold | warm | cold / warm | target |\n|---|---|---|---|---|")
    results = {}
    with tempfile.TemporaryDirectory() as runtime:
        os.environ["XDG_RUNTIME_DIR"] = runtime
        try:
            for name, each in measure(chosen.repeats):
                results[name] = each
                if not chosen.json:
                    print(_row(name, each), flush=True)
        finally:
            pool.stop()
    if chosen.json:
        print(json.dumps({"hardware": hardware, "results": results}, indent=1))


def _row(name: str, result: dict[str, float]) -> str:
    unit, digits = ("MB", 0) if name.startswith("memory") else ("s", 2)
    cold, warm = (f"{result[kind]:.{digits}f} {unit}" for kind in PROVISIONERS)
    target = f"≥ {TARGETS[name]:g}" if name in TARGETS else ""
    if name.startswith("first"):
        target = f"≤ {result['cold'] + SLOWER:.2f} s"
    return f"| {name} | {cold} | {warm} | {result['cold'] / result['warm']:.1f} | {target} |"


if __name__ == "__main__":
    main()
