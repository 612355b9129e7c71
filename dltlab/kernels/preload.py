"""What a zygote imports before its first fork, and the check that a fork is safe then."""

import asyncio
import builtins
import gc
import importlib
import logging
import os
import sys
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

# Matplotlib's backend in notebooks. The zygote names it and never imports it, see `preload`.
_INLINE_BACKEND = "module://matplotlib_inline.backend_inline"

_KERNEL_IMPORTS = """
    ipykernel.kernelapp ipykernel.ipkernel ipykernel.debugger comm psutil sqlite3
    IPython.core.completerlib IPython.core.oinspect IPython.extensions.storemagic
    tornado.platform.asyncio
"""
_LAB_IMPORTS = """
    IPython.core.pylabtools jedi pygments.lexers.python pygments.formatters.terminal256
    tensorflow tensorflow.python.eager.context keras numpy pandas ipywidgets
    tensorflow.python.data.ops.flat_map_op tensorflow.python.data.ops.from_tensors_op
    tensorflow.python.data.ops.range_op tensorflow.python.data.ops.zip_op
    matplotlib.pyplot matplotlib.backends.backend_agg
    sklearn.datasets sklearn.metrics sklearn.model_selection sklearn.svm
    nbformat pydantic pooch yaml
"""

DEVICE_FILES = ("/dev/nvidia", "/dev/kfd", "/dev/dri/")


@dataclass(frozen=True)
class Preloaded:
    """What the imports have changed in the process.

    Attributes:
        variables: The environment variables that libraries set on import.
        modules: The names of the modules that a cold kernel, too, has loaded when it starts.
    """

    variables: Mapping[str, str]
    modules: Collection[str]


def preload() -> Preloaded:
    """Import what kernels need, in the same state in which a kernel would import it."""
    # TensorFlow looks at both to choose between stdout and stderr. Matplotlib makes its first
    # figure with the backend named here; a backend that is imported now would not find IPython.
    builtins.get_ipython = lambda: None  # type: ignore[attr-defined]
    sys.ps1 = "In : "
    backend = os.environ.setdefault("MPLBACKEND", _INLINE_BACKEND)
    before = dict(os.environ)
    for name in _KERNEL_IMPORTS.split():
        importlib.import_module(name)
    modules = [name for name in sys.modules if not name.startswith("dltlab")]
    for name in _LAB_IMPORTS.split():
        with suppress(ModuleNotFoundError):
            importlib.import_module(name)
    del builtins.get_ipython, sys.ps1  # type: ignore[attr-defined]
    if backend == _INLINE_BACKEND:
        del os.environ["MPLBACKEND"]
    variables = {name: value for name, value in os.environ.items() if before.get(name) != value}
    return Preloaded(variables, modules)


def prepare_to_fork() -> None:
    """End the threads of BLAS, and free what can be freed.

    BLAS ends its threads when the process forks, and starts them again when it computes, which the
    zygote never does.
    """
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    gc.unfreeze()  # what was frozen when TensorFlow had been imported
    gc.collect()


def fork_hazard() -> str | None:
    """Return why a fork would not be safe now, or None if it is safe."""
    if len(os.listdir("/proc/self/task")) != 1:
        return "it runs more than one thread"
    zmq, tensorflow = sys.modules.get("zmq"), sys.modules.get("tensorflow.python.eager.context")
    unsafe = (asyncio.AbstractEventLoop, *([zmq.Context] if zmq else []))
    for held in gc.get_objects():
        if isinstance(held, unsafe):
            return f"it holds a {type(held).__name__}"
    if tensorflow and tensorflow.context_safe() is not None:
        return "TensorFlow's context is initialized"
    devices = [path for path in _open_files() if path.startswith(DEVICE_FILES)]
    return f"it has opened {devices[0]}" if devices else None


def stream_handlers() -> list["logging.StreamHandler[Any]"]:
    """Return the log handlers of the preloaded libraries that write to stdout or stderr."""
    loggers = [logging.root, *map(logging.getLogger, list(logging.root.manager.loggerDict))]
    handlers = {id(handler): handler for logger in loggers for handler in logger.handlers}
    return [
        handler
        for handler in handlers.values()
        if isinstance(handler, logging.StreamHandler) and handler.stream in (sys.stdout, sys.stderr)
    ]


def _open_files() -> list[str]:
    paths = []
    for number in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # the descriptor that listed the folder is closed
            paths.append(os.readlink(f"/proc/self/fd/{number}"))
    return paths
