"""Import TensorFlow without its log messages, and in less time.

Shared libraries of TensorFlow log lines such as "oneDNN custom operations are on" when they are
loaded, which is before they read TF_CPP_MIN_LOG_LEVEL. Python's garbage collector looks for cycles
again and again among the objects that the import creates, and a last time when the process ends:
together a quarter of the time of a process that only imports TensorFlow.
"""

import gc
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

_LEVEL = "TF_CPP_MIN_LOG_LEVEL"
_SEVERITIES = "IWE"  # what levels 1, 2 and 3 hide: information, warnings, errors
_FILTER_SECONDS = 2

# Runs in a process of its own, so that the last words of an import that crashes get through.
_FILTER = r"""
import re, sys
logged = f"[{sys.argv[1]}]\\d{{4}} [\\d:]+|WARNING: All log messages before absl".encode()
for line in sys.stdin.buffer:
    if not re.match(logged, line):
        sys.stderr.buffer.write(line)
        sys.stderr.buffer.flush()
"""


def prepare_import() -> None:
    """Hide TensorFlow's log messages, except fatal errors, unless the user has set a level.

    Without a GPU, TensorFlow reports its search for one as an error ("failed call to cuInit").
    It reads the level when it is imported: once it has been, this function does nothing.
    """
    if "tensorflow" not in sys.modules:
        os.environ.setdefault(_LEVEL, "3")
        sys.meta_path.insert(0, _TensorFlowFinder)


class _TensorFlowFinder:
    """Finds TensorFlow as Python does; its import writes less to stderr, and is faster."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path) if name == "tensorflow" else None
        if spec and spec.loader:
            execute = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                with _filtered_stderr(), _without_collections():
                    execute(module)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


@contextmanager
def _without_collections() -> Iterator[None]:
    """Leave garbage alone, and what is imported out of later collections."""
    is_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if is_enabled:
            gc.enable()


@contextmanager
def _filtered_stderr() -> Iterator[None]:
    import subprocess

    level = os.environ.get(_LEVEL, "")
    hidden = _SEVERITIES[: int(level)] if level.isdecimal() else ""
    if not hidden:
        yield
        return
    command = [sys.executable, "-I", "-S", "-c", _FILTER, hidden]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
    assert process.stdin
    stderr = os.dup(2)
    os.dup2(process.stdin.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        process.stdin.close()
        # It goes on if a program that was started meanwhile has the same stderr.
        with suppress(subprocess.TimeoutExpired):
            process.wait(_FILTER_SECONDS)
