"""What a zygote imports, and when a fork is safe."""

import shutil
import subprocess
import sys

import pytest

from dltlab.devices import tensorflow_build
from tests.deadlines import HANG_SECONDS, wait_until

BUILD = tensorflow_build()

# A CUDA driver that reports when it is initialized.
CUDA_DRIVER = """
#include <fcntl.h>
int cuInit(unsigned flags) {{
    open("{initialized}", O_CREAT | O_WRONLY, 0600);
    return 100;
}}
"""


def run_python(code: str) -> str:
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=HANG_SECONDS
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("", "None"),
        (
            "import threading as t; t.Thread(target=t.Event().wait, daemon=True).start()",
            "it runs more than one thread",
        ),
        ("import asyncio; loop = asyncio.new_event_loop()", "it holds a _UnixSelectorEventLoop"),
        ("import zmq; context = zmq.Context()", "it holds a Context"),
        (
            "import sys, types; sys.modules['tensorflow.python.eager.context'] = "
            "types.SimpleNamespace(context_safe=object)",
            "TensorFlow's context is initialized",
        ),
        (
            "preload.DEVICE_FILES = ('/dev/zero',); file = open('/dev/zero')",
            "it has opened /dev/zero",
        ),
    ],
)
def test_a_fork_is_refused_where_it_is_not_safe(code, reason):
    program = (
        f"from dltlab.kernels import preload\n{code}\nprint(preload.fork_hazard(), flush=True)"
    )

    assert run_python(program) == f"{reason}\n"


def test_a_process_with_preloaded_libraries_can_fork(runtime):
    program = (
        "import os, sys\n"
        "from dltlab.kernels.preload import fork_hazard, preload, prepare_to_fork\n"
        "preloaded = preload()\n"
        "prepare_to_fork()\n"
        "print(fork_hazard(), 'ipykernel.kernelapp' in preloaded.modules,\n"
        "      'tensorflow' in sys.modules, 'tensorflow' in preloaded.modules,\n"
        "      'matplotlib_inline.backend_inline' in sys.modules, 'MPLBACKEND' in os.environ)\n"
    )

    assert run_python(program) == "None True True False False False\n"


def test_log_handlers_on_stdout_and_stderr_are_listed():
    program = (
        "import logging, sys\n"
        "from dltlab.kernels.preload import stream_handlers\n"
        "logging.getLogger('a').addHandler(logging.StreamHandler(sys.stdout))\n"
        "logging.getLogger('b').addHandler(logging.StreamHandler())\n"
        "logging.getLogger('c').addHandler(logging.FileHandler('/dev/null'))\n"
        "print(sorted(handler.stream.name for handler in stream_handlers()))\n"
    )

    assert run_python(program) == "['<stderr>', '<stdout>']\n"


def test_a_kernel_has_tensorflow_loaded_and_nothing_of_dltlab(ready_zygote, launch):
    kernel = launch()
    kernel.run("import sys")

    loaded = kernel.evaluate("sorted(sys.modules)")
    assert "tensorflow" in loaded
    assert "matplotlib_inline.backend_inline" not in loaded
    assert [name for name in loaded if name.partition(".")[0] == "dltlab"] == []


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
@pytest.mark.skipif(BUILD is None or BUILD.cuda is None, reason="TensorFlow opens no CUDA driver")
def test_no_device_is_touched_before_the_fork(warm_kernels, launch, tmp_path):
    initialized = tmp_path / "initialized"
    (tmp_path / "cuda.c").write_text(CUDA_DRIVER.format(initialized=initialized))
    library = tmp_path / "libcuda.so.1"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, tmp_path / "cuda.c"], check=True)
    cuda = {"LD_LIBRARY_PATH": str(tmp_path)}
    launch(variables=cuda).shut_down()
    wait_until(lambda: (kernel := launch(variables=cuda)).is_warm or kernel.shut_down())
    kernel = launch(variables=cuda)
    assert kernel.is_warm
    assert not initialized.exists()

    kernel.run("import tensorflow; tensorflow.config.list_physical_devices()")

    assert initialized.exists()
