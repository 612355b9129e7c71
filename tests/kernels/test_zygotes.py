"""Zygotes: whom they serve, what they hold, when they end, and what a learner sees of them."""

import os
import shutil
import subprocess
import sys

import pytest

from dltlab.kernels import pool
from dltlab.kernels.key import key_of
from dltlab.kernels.provisioner import Wanted
from dltlab.paths import COLD_KERNELS

PYTHON = [sys.executable]
HOME = {"HOME": "/home/ada", "PATH": "/usr/bin"}
COMMAND = [sys.executable, "-m", "ipykernel_launcher", "-f", "connection.json"]
STUB = """
#include <fcntl.h>
int cuInit(unsigned flags) {{
    open("{touched}", O_CREAT | O_WRONLY, 0600);
    return 100;
}}
"""


@pytest.mark.parametrize(
    "name",
    ["KERAS_BACKEND", "TF_CPP_MIN_LOG_LEVEL", "XLA_FLAGS", "CUDA_VISIBLE_DEVICES", "PYTHONPATH",
     "LD_LIBRARY_PATH", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "KERAS_HOME", "MPLCONFIGDIR",
     "MPLBACKEND", "XDG_CACHE_HOME", "LC_ALL"],
)  # fmt: skip
def test_a_variable_that_is_read_on_import_is_in_the_key(name):
    assert key_of(PYTHON, HOME | {name: "1"}).identity != key_of(PYTHON, HOME).identity


@pytest.mark.parametrize("name", ["JPY_SESSION_NAME", "XDG_RUNTIME_DIR", "TOKEN", "DLTLAB_COURSE"])
def test_another_variable_is_not(name):
    key = key_of(PYTHON, HOME | {name: "1"})

    assert key == key_of(PYTHON, HOME)
    assert name not in key.variables


def test_the_interpreter_and_its_options_are_in_the_key():
    keys = {
        key_of(each, HOME).name for each in (PYTHON, ["/usr/bin/python3"], [*PYTHON, "-X", "dev"])
    }

    assert len(keys) == 3


def test_a_package_that_comes_changes_the_stamp_alone(tmp_path, monkeypatch):
    packages = tmp_path / "site-packages"
    packages.mkdir()
    monkeypatch.syspath_prepend(packages)
    before = key_of(PYTHON, HOME)

    os.utime(packages, (1, 1))

    after = key_of(PYTHON, HOME)
    assert (after.identity, after.stamp != before.stamp) == (before.identity, True)


def test_a_setting_of_keras_changes_the_stamp(tmp_path):
    home = HOME | {"HOME": str(tmp_path)}
    before = key_of(PYTHON, home)

    (tmp_path / ".keras").mkdir()
    (tmp_path / ".keras" / "keras.json").write_text("{}")

    assert key_of(PYTHON, home).stamp != before.stamp


@pytest.mark.parametrize(
    ("command", "options"),
    [
        (["/usr/bin/python3", *COMMAND[1:]], {}),
        ([sys.executable, "-O", *COMMAND[1:]], {}),
        ([sys.executable, "-m", "xeus", "-f", "connection.json"], {}),
        (["R", "--slave", "-e", "IRkernel::main()"], {}),
        (COMMAND, {"stdin": 0}),
        (COMMAND, {"stdout": subprocess.PIPE}),
        (COMMAND, {"independent": True}),
    ],
)
def test_what_a_zygote_cannot_make_starts_cold(command, options):
    assert Wanted.read(command, {"env": HOME, **options}) is None


@pytest.mark.parametrize("name", ["keras.py", "matplotlibrc"])
def test_a_folder_with_its_own_libraries_starts_cold(tmp_path, name):
    (tmp_path / name).touch()

    assert Wanted.read(COMMAND, {"env": HOME, "cwd": str(tmp_path)}) is None
    assert Wanted.read(COMMAND, {"env": HOME, "cwd": str(tmp_path.parent)}) is not None


@pytest.mark.parametrize("name", [COLD_KERNELS, "BINDER_SERVICE_HOST"])
def test_a_variable_turns_warm_kernels_off(zygote, launch, monkeypatch, name):
    assert launch().is_warm

    monkeypatch.setenv(name, "1")

    assert not launch().is_warm


def test_other_systems_start_cold(zygote, launch, monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")

    assert not launch().is_warm


def test_nothing_of_dltlab_is_loaded_in_a_kernel(ready, launch):
    kernel = launch()
    kernel.run("import sys")

    loaded = kernel.tell("sorted(sys.modules)")
    assert "tensorflow" in loaded
    assert "matplotlib_inline.backend_inline" not in loaded
    assert [name for name in loaded if name.partition(".")[0] == "dltlab"] == []


def test_a_kernel_takes_the_variables_of_its_own_start(zygote, launch):
    kernel = launch(variables={"COURSE": "mine", "TZ": "Asia/Kathmandu"})

    kernel.run("import os, time")

    assert kernel.tell("(os.environ['COURSE'], time.tzname[0])") == ("mine", "+0545")


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
def test_no_device_is_touched_before_the_fork(warm_kernels, launch, until, tmp_path):
    touched = tmp_path / "touched"
    (tmp_path / "cuda.c").write_text(STUB.format(touched=touched))
    library = tmp_path / "libcuda.so.1"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, tmp_path / "cuda.c"], check=True)
    cuda = {"LD_LIBRARY_PATH": str(tmp_path)}
    launch(variables=cuda).end()
    until(lambda: (kernel := launch(variables=cuda)).is_warm or kernel.end())
    kernel = launch(variables=cuda)
    assert kernel.is_warm
    assert not touched.exists()

    kernel.run("import tensorflow; tensorflow.config.list_physical_devices()")

    assert touched.exists()


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("", None),
        (
            "import threading as t; t.Thread(target=t.Event().wait, daemon=True).start()",
            "more than one thread",
        ),
        ("import asyncio; loop = asyncio.new_event_loop()", "EventLoop"),
        ("import zmq; context = zmq.Context()", "Context"),
        (
            "import sys, types; sys.modules['tensorflow.python.eager.context'] = "
            "types.SimpleNamespace(context_safe=object)",
            "TensorFlow's context",
        ),
        ("preload._DEVICES = ('/dev/zero',); file = open('/dev/zero')", "/dev/zero"),
    ],
)
def test_a_zygote_knows_when_a_fork_is_not_safe(code, reason):
    program = f"from dltlab.kernels import preload\n{code}\nprint(preload.unfit(), flush=True)"

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    assert (reason or "None") in done.stdout, done.stderr


def test_a_changed_key_retires_the_old_zygote_with_its_last_kernel(
    zygote, launch, until, monkeypatch, tmp_path
):
    kernel = launch()
    assert kernel.is_warm
    old = zygote().pid
    packages = tmp_path / "site-packages"
    packages.mkdir()
    monkeypatch.syspath_prepend(packages)

    assert not launch().is_warm
    until(lambda: [each for each in pool.zygotes() if each.ready and each.pid != old])

    assert zygote().retired
    assert kernel.tell("1 + 1") == 2
    assert launch().is_warm
    kernel.end()
    until(lambda: old not in [each.pid for each in pool.zygotes()])


def test_there_are_never_more_zygotes_than_the_cap(zygote, launch, until, monkeypatch, caplog):
    monkeypatch.setattr(pool, "MOST", 1)
    first = zygote().pid

    launch(variables={"KERAS_BACKEND": "jax"})
    until(lambda: first not in [each.pid for each in pool.zygotes()])
    until(lambda: [each for each in pool.zygotes() if each.ready])
    kernel = launch(variables={"KERAS_BACKEND": "jax"})
    assert kernel.is_warm
    for _ in range(2):
        assert not launch(variables={"KERAS_BACKEND": "torch"}).is_warm

    until(lambda: "zygotes with kernels" in caplog.text)
    assert caplog.text.count("A kernel starts cold") == 1
    assert len(pool.zygotes()) == 1


def test_a_zygote_without_kernels_ends_after_a_while(runtime, launch, until, monkeypatch):
    monkeypatch.setattr(pool, "IDLE", 1)
    launch()
    until(lambda: pool.zygotes())

    until(lambda: not pool.zygotes())

    assert list(runtime.iterdir()) == []


def test_status_and_stop(runtime, zygote, launch, until, dltlab):
    kernel = launch()

    head, row = dltlab("kernels", "status").out.splitlines()
    assert head.split() == ["process", "state", "since", "kernels", "memory"]
    pid, state, _, kernels, memory, unit = row.split()
    assert (pid, state, kernels, unit) == (str(zygote().pid), "ready", "1", "MB")
    assert int(memory) > 0

    assert dltlab("kernels", "stop").out == "Stopped: 0. With their last kernel: 1.\n"
    assert "retired" in dltlab("kernels", "status").out
    assert kernel.tell("1 + 1") == 2

    kernel.end()
    until(lambda: not pool.zygotes())
    assert list(runtime.iterdir()) == []
    assert dltlab("kernels", "stop").out == "Stopped: 0.\n"
