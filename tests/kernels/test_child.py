"""A warm kernel behaves like a cold one: every test runs on both."""

import asyncio
import os
import signal
import socket
from pathlib import Path

import pytest
from jupyter_client.ioloop import AsyncIOLoopKernelManager
from jupyter_client.manager import KernelManager
from traitlets.config import Config

from dltlab.kernels import warm_kernel
from dltlab.paths import COLD_KERNELS, RUN_MARK
from tests.deadlines import HANG_SECONDS
from tests.kernel_fixtures import CellResult

PNG = "image/png"
VIEW = "application/vnd.jupyter.widget-view+json"
FIT = """
import keras, numpy as np

class Report(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        print("running", flush=True)

model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(1)])
model.compile("sgd", "mse")
model.fit(np.zeros((64, 8)), np.zeros((64, 1)), epochs=10**6, verbose=0, callbacks=[Report()])
"""
VARIABLES = {"TZ": "Asia/Kathmandu", "COURSE": "the learner's"}
# TensorFlow and others set these when they are imported, so that a warm kernel begins with them.
SET_BY_IMPORTS = {
    "ENABLE_RUNTIME_UPTIME_TELEMETRY",
    "HDF5_PLUGIN_PATH",
    "KMP_DUPLICATE_LIB_OK",
    "KMP_INIT_AT_FORK",
    "TF2_BEHAVIOR",
    "TPU_ML_PLATFORM",
    "TPU_ML_PLATFORM_VERSION",
}
EXIT_WORK = """
import atexit, pathlib, threading, weakref
folder = pathlib.Path({folder!r})
_ = atexit.register(lambda: (folder / "atexit").touch())
end = threading.Event()
_ = atexit.register(end.set)
thread = threading.Thread(target=lambda: end.wait(0.5) or (folder / "thread").touch())
thread.start()

class Deleted:
    def __del__(self, path=folder / "deleted"):
        path.touch()

deleted = Deleted()
_ = weakref.finalize(deleted, (folder / "weak").touch)
"""
# The properties of a process that a learner's code can see.
SNAPSHOT = """
import builtins, gc, locale, os, resource, signal, sys, threading, time
status = dict(line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines())
limits = sorted(name for name in dir(resource) if name.startswith("RLIMIT_"))
files = {int(name) for name in os.listdir("/proc/self/fd")}
snapshot = {
    "argv": sys.argv[:-1],
    "affinity": os.sched_getaffinity(0),
    "builtins": [name for name in dir(builtins) if not name.startswith("__pybind11")],
    "cwd": os.getcwd(),
    "encoding": (locale.getencoding(), sys.getfilesystemencoding(), sys.stdout.encoding),
    "environment": dict(os.environ),
    "executable": sys.executable,
    "file": "__file__" in globals(),
    "flags": (str(sys.flags), sys._xoptions, sys.warnoptions),
    "gc": (gc.isenabled(), gc.get_threshold()),
    "group": os.getpgid(0) == os.getsid(0) == os.getpid(),
    "handlers": {n: str(signal.getsignal(n)) for n in (1, 2, 10, 13, 14, 15, 17, 25)},
    "hooks": [type(hook).__name__ for hook in (sys.displayhook, sys.excepthook)],
    "ignored": status["SigIgn"], "blocked": status["SigBlk"], "umask": status["Umask"],
    "kernel modules": [name for name in get_ipython().kernel._kernel_modules if "keras" in name],
    "limits": [(name, resource.getrlimit(getattr(resource, name))) for name in limits],
    "main": sorted(name for name in dir() if name.startswith("__")),
    "main module": sys.modules["__main__"].__dict__ is globals(),
    "nice": os.nice(0),
    "orig_argv": sys.orig_argv[:-1],
    "path": sys.path,
    "prompts": (sys.ps1, sys.ps2),
    "recursion": sys.getrecursionlimit(),
    "stdin": os.read(0, 1),
    "switch": sys.getswitchinterval(),
    "threads": sorted(type(thread).__name__ for thread in threading.enumerate()),
    "time zone": time.tzname,
}
"""


def test_streams(kernel, tmp_path):
    os.mkfifo(tmp_path / "all_received")
    stdout, stderr = ("printed\n", "shell\n", "bang", "raw"), ("warned\n", "trouble\n")
    received = CellResult()

    def end_cell(message):  # what is written past Python arrives late, so the cell waits for it
        already_complete = is_complete()
        received.add(message)
        if is_complete() and not already_complete:
            (tmp_path / "all_received").open("w").close()

    def is_complete():
        return all(text in received.stdout for text in stdout) and all(
            text in received.stderr for text in stderr
        )

    kernel.run(
        "import os, sys\n"
        "print('printed')\n"
        "print('warned', file=sys.stderr)\n"
        "_ = os.system('echo shell; echo trouble >&2')\n"
        "!echo bang\n"
        "_ = os.write(1, b'raw')\n"
        f"_ = open({str(tmp_path / 'all_received')!r}).read()",
        end_cell,
    )

    assert is_complete()


def test_tensorflow_chooses_the_same_streams(kernel):
    result = kernel.run(
        "import sys, tensorflow as tf\n"
        "tf.print('default')\n"
        "tf.print('out', output_stream=sys.stdout)\n"
        "tf.get_logger().warning('logged')\n"
        "@tf.function\n"
        "def traced():\n"
        "    tf.print('traced')\n"
        "traced()\n"
    )

    assert result.stdout == "default\nout\nWARNING:tensorflow:logged\ntraced\n"


def test_figures_are_shown_inline(kernel):
    shown = kernel.run("import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()")
    left_open = kernel.run("figure, axes = plt.subplots()\n_ = axes.plot([1, 2])")

    assert [PNG in data for data in shown.data] == [True]
    assert [PNG in data for data in left_open.data] == [True]
    assert kernel.evaluate("plt.get_backend()") in (
        "inline",
        "module://matplotlib_inline.backend_inline",
    )


def test_widgets_are_shown_and_updated(kernel):
    result = kernel.run(
        "import ipywidgets\nslider = ipywidgets.IntSlider()\ndisplay(slider)\nslider.comm.comm_id"
    )
    comm = eval(result.data[-1]["text/plain"])
    data = {"method": "update", "state": {"value": 7}, "buffer_paths": []}
    kernel.client.shell_channel.send(
        kernel.client.session.msg("comm_msg", {"comm_id": comm, "data": data})
    )

    assert "comm_open" in result.message_types
    assert any(VIEW in data for data in result.data)
    assert kernel.evaluate("slider.value") == 7


def test_input_asks_the_client(kernel):
    prompts = []

    def answer(message):
        prompts.append(message["content"]["prompt"])
        kernel.client.input("Ada")

    result = kernel.run("print(input('Who? '))", allow_stdin=True, stdin_hook=answer)

    assert (prompts, result.stdout) == (["Who? "], "Ada\n")


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        ("import time; print('running', flush=True); time.sleep(1000)", "KeyboardInterrupt"),
        (FIT, "KeyboardInterrupt"),
        ("!echo running; exec sleep 1000", None),
    ],
    ids=["sleep", "fit", "command"],
)
def test_an_interrupt_stops_the_cell_and_not_the_kernel(kernel, code, outcome):
    interrupted: list[bool] = []

    def interrupt(message):
        if message["msg_type"] == "stream" and not interrupted:
            interrupted.append(kernel.manager.interrupt_kernel())

    result = kernel.try_to_run(code, interrupt)

    assert result.reply.get("ename") == outcome
    assert kernel.evaluate("1 + 1") == 2


def test_a_restart_starts_with_an_empty_namespace(start):
    kernel = start()
    first = kernel.evaluate("os.getpid()") if kernel.run("import os; x = 1") else None

    kernel.manager.restart_kernel()
    kernel.client.wait_for_ready(timeout=HANG_SECONDS)

    assert kernel.try_to_run("x").reply["ename"] == "NameError"
    kernel.run("import os")
    assert kernel.evaluate("os.getpid()") not in (None, first)


def test_a_crash_is_followed_by_a_restart(start):
    async def crash():
        config = Config({"KernelRestarter": {"time_to_dead": 0.1}})
        manager = AsyncIOLoopKernelManager(config=config)
        await manager.start_kernel()
        manager.start_restarter()
        first = manager.provisioner.process
        os.kill(first.pid, signal.SIGKILL)
        async with asyncio.timeout(HANG_SECONDS):
            while manager.provisioner.process in (None, first):
                await asyncio.sleep(0.02)
        await manager.ready
        second = manager.provisioner.process
        await manager.shutdown_kernel()
        return first, second

    first, second = asyncio.run(crash())

    assert type(second) is type(first)
    assert second.pid != first.pid


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [
        ("import os; os._exit(3)", 3),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM),
        ("import os; os.abort()", -signal.SIGABRT),
        ("exit()", 0),
    ],
)
def test_exit_codes(start, code, exit_code):
    kernel = start()

    kernel.client.execute(code)
    assert kernel.process.wait(timeout=HANG_SECONDS) == exit_code
    assert kernel.process.poll() == exit_code


def test_a_shutdown_runs_exit_functions_and_threads_and_exits_with_0(start, tmp_path):
    kernel = start()
    kernel.run(EXIT_WORK.format(folder=str(tmp_path)))

    kernel.client.shutdown()

    assert kernel.process.wait(timeout=HANG_SECONDS) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"atexit", "deleted", "thread", "weak"}


def test_the_debugger_attaches_and_sets_a_breakpoint(start):
    kernel = start()
    number = 0

    def request(command, **arguments):
        nonlocal number
        number += 1
        content = {"type": "request", "seq": number, "command": command, "arguments": arguments}
        kernel.client.control_channel.send(kernel.client.session.msg("debug_request", content))
        return kernel.client.get_control_msg(timeout=HANG_SECONDS)["content"]

    assert request("initialize", clientID="test", adapterID="python")["success"]
    assert request("attach")["success"]
    source = {"path": request("dumpCell", code="x = 1\ny = x + 1\n")["body"]["sourcePath"]}
    answer = request("setBreakpoints", source=source, breakpoints=[{"line": 2}])
    assert [point["verified"] for point in answer["body"]["breakpoints"]] == [True]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_multiprocessing(kernel, method):
    kernel.run(
        "import math, multiprocessing\n"
        f"with multiprocessing.get_context({method!r}).Pool(2) as pool:\n"
        "    results = pool.map(math.factorial, [3, 4])\n"
    )

    assert kernel.evaluate("results") == [6, 24]


def test_a_cell_can_await(kernel):
    kernel.run("import asyncio\nresult = await asyncio.sleep(0, 'slept')")

    assert kernel.evaluate("result") == "slept"


@pytest.mark.parametrize("transport", ["tcp", "ipc"])
def test_transport(start, transport):
    assert start(transport=transport).evaluate("1 + 1") == 2


def test_proc_shows_the_mark_of_a_run_in_the_kernel_and_in_its_forks(start):
    kernel = start(variables={RUN_MARK: "0123456789abcdef"})
    kernel.run("import multiprocessing as mp, time")
    kernel.run(
        "child = mp.get_context('fork').Process(target=time.sleep, args=[1000], daemon=True)"
    )
    kernel.run("child.start()")

    for pid in (kernel.pid, kernel.evaluate("child.pid")):
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        assert f"{RUN_MARK}=0123456789abcdef".encode() in variables
    assert kernel.evaluate(f"__import__('os').environ[{RUN_MARK!r}]") == "0123456789abcdef"


def test_completion(kernel):
    kernel.run("import math")

    reply = kernel.client.complete("math.factor", reply=True, timeout=HANG_SECONDS)

    assert [name.rpartition(".")[2] for name in reply["content"]["matches"]] == ["factorial"]


def test_kernels_draw_different_random_numbers(ready_zygote, launch):
    draw = (
        "import random, numpy as np, tensorflow as tf, keras\n"
        "drawn = [random.random(), np.random.rand(), np.random.default_rng().random(),\n"
        "         float(tf.random.uniform([])), float(keras.random.uniform([1])[0])]"
    )
    drawn = []
    for _ in range(2):
        kernel = launch()
        kernel.run(draw)
        drawn.append(kernel.evaluate("drawn"))

    assert all(one != other for one, other in zip(*drawn, strict=True))


def test_a_missing_folder_raises_the_same_error(start, tmp_path):
    with pytest.raises(FileNotFoundError):
        start(cwd=str(tmp_path / "missing"))


@pytest.mark.parametrize("port", ["shell_port", "iopub_port", "control_port", "hb_port"])
@pytest.mark.parametrize("kind", ["cold", "warm"])
def test_a_kernel_whose_port_is_taken_ends_with_the_reason(
    ready_zygote, monkeypatch, tmp_path, kind, port
):
    monkeypatch.setattr(warm_kernel, "ANSWER_SECONDS", HANG_SECONDS)
    if kind == "cold":
        monkeypatch.setenv(COLD_KERNELS, "1")
    stderr = tmp_path / "stderr"
    with socket.create_server(("127.0.0.1", 0)) as server, stderr.open("w") as file:
        taken = server.getsockname()[1]
        manager = KernelManager(cache_ports=False, **{port: taken})
        manager.start_kernel(stderr=file)
        process = manager.provisioner.process

        assert isinstance(process, warm_kernel.WarmKernel) == (kind == "warm")
        assert process.wait(timeout=HANG_SECONDS) == 1
        manager.shutdown_kernel(now=True)
    assert f"127.0.0.1:{taken}" in stderr.read_text()
    assert "Another process uses its port" in stderr.read_text()


def test_the_process_has_the_same_properties(request, launch, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    umask = os.umask(0o027)
    try:
        snapshots = []
        for fixture in ("cold_kernels", "ready_zygote"):
            request.getfixturevalue(fixture)
            kernel = launch(variables=VARIABLES)
            kernel.run(SNAPSHOT)
            snapshots.append(kernel.evaluate("snapshot"))
    finally:
        signal.signal(signal.SIGHUP, previous)
        os.umask(umask)

    cold, warm = snapshots
    assert kernel.is_warm
    for snapshot in snapshots:
        for name in (*SET_BY_IMPORTS, "JUPYTER_DEFAULT_PROVISIONER_NAME", "XDG_RUNTIME_DIR"):
            snapshot["environment"].pop(name, None)
        snapshot["threads"] = sorted(
            name.replace("ParentPollerUnix", "ServerWatch") for name in snapshot["threads"]
        )
    for name in cold:
        assert cold[name] == warm[name], name
