"""What a zygote imports before the first fork, and the proof that a fork is safe then."""

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

_INLINE = "module://matplotlib_inline.backend_inline"  # named, and never imported, see `preload`

# What a kernel imports on its way up, and what labs import.
_OF_KERNELS = """
    ipykernel.kernelapp ipykernel.ipkernel ipykernel.debugger comm psutil sqlite3
    IPython.core.completerlib IPython.core.oinspect IPython.extensions.storemagic
    tornado.platform.asyncio
"""
_OF_LABS = """
    IPython.core.pylabtools jedi pygments.lexers.python pygments.formatters.terminal256
    tensorflow tensorflow.python.eager.context keras numpy pandas ipywidgets
    tensorflow.python.data.ops.flat_map_op tensorflow.python.data.ops.from_tensors_op
    tensorflow.python.data.ops.range_op tensorflow.python.data.ops.zip_op
    matplotlib.pyplot matplotlib.backends.backend_agg
    sklearn.datasets sklearn.metrics sklearn.model_selection sklearn.svm
    nbformat pydantic pooch yaml
"""

_DEVICES = ("/dev/nvidia", "/dev/kfd", "/dev/dri/")


@dataclass(frozen=True)
class Preloaded:
    """What the imports have left behind.

    Attributes:
        variables: The environment variables that they have set.
        modules: The names of those modules that every kernel has from its start.
    """

    variables: Mapping[str, str]
    modules: Collection[str]


def preload() -> Preloaded:
    """Import what kernels need, in the state that they would import it in."""
    # TensorFlow looks at both to choose between stdout and stderr. Matplotlib makes its first
    # figure for the backend named here; one that is imported now would never be told of IPython.
    builtins.get_ipython = lambda: None  # type: ignore[attr-defined]
    sys.ps1 = "In : "
    backend = os.environ.setdefault("MPLBACKEND", _INLINE)
    before = dict(os.environ)
    for name in _OF_KERNELS.split():
        importlib.import_module(name)
    modules = [name for name in sys.modules if not name.startswith("dltlab")]
    for name in _OF_LABS.split():
        with suppress(ModuleNotFoundError):
            importlib.import_module(name)
    del builtins.get_ipython, sys.ps1  # type: ignore[attr-defined]
    if backend == _INLINE:
        del os.environ["MPLBACKEND"]
    variables = {name: value for name, value in os.environ.items() if before.get(name) != value}
    return Preloaded(variables, modules)


def settle() -> None:
    """Bring the process into the state that is forked.

    BLAS ends its threads at a fork and starts them when they are needed again: here never.
    """
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    gc.collect()


def unfit() -> str | None:
    """Why a fork would not be safe now; None if it is."""
    if len(os.listdir("/proc/self/task")) != 1:
        return "it runs more than one thread"
    zmq, tensorflow = sys.modules.get("zmq"), sys.modules.get("tensorflow.python.eager.context")
    unsafe = (asyncio.AbstractEventLoop, *([zmq.Context] if zmq else []))
    for each in gc.get_objects():
        if isinstance(each, unsafe):
            return f"it holds a {type(each).__name__}"
    if tensorflow and tensorflow.context_safe() is not None:
        return "TensorFlow's context is initialized"
    devices = [target for target in _open_files() if target.startswith(_DEVICES)]
    return f"it has opened {devices[0]}" if devices else None


def stream_handlers() -> list["logging.StreamHandler[Any]"]:
    """The handlers of the preloaded libraries that write to this process's stdout or stderr."""
    loggers = [logging.root, *map(logging.getLogger, list(logging.root.manager.loggerDict))]
    handlers = {id(each): each for logger in loggers for each in logger.handlers}
    return [
        each
        for each in handlers.values()
        if isinstance(each, logging.StreamHandler) and each.stream in (sys.stdout, sys.stderr)
    ]


def _open_files() -> list[str]:
    found = []
    for number in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{number}"))
        except OSError:
            continue  # the descriptor that listed the folder
    return found
