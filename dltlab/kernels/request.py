"""A server's request for a kernel: whether a zygote can serve it, and what the zygote must know."""

import os
import resource
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dltlab.kernels.key import Key, make_key
from dltlab.paths import COLD_KERNELS

# Files in a kernel's folder that a cold kernel would import instead of what a zygote has loaded.
_SHADOWING_FILES = ("matplotlibrc", "tensorflow.py", "keras.py", "numpy.py", "matplotlib.py")
_KNOWN_OPTIONS = {"env", "cwd", "stdout", "stderr", "kernel_id"}


def warm_kernels_enabled(environment: Mapping[str, str]) -> bool:
    """Return whether kernels of a server with `environment` may be warm on this system."""
    on_binder = any(name.startswith("BINDER_") for name in environment)
    is_supported = sys.platform == "linux" and hasattr(os, "pidfd_open")
    return is_supported and not on_binder and not environment.get(COLD_KERNELS)


@dataclass(frozen=True)
class KernelRequest:
    """A kernel that a zygote can fork.

    Attributes:
        key: Of the zygote.
        interpreter: Python and its options.
        message: For the zygote and the kernel.
        streams: The kernel's stdout and stderr, as `subprocess.Popen` takes them.
    """

    key: Key
    interpreter: Sequence[str]
    message: Mapping[str, Any]
    streams: tuple[Any, Any]

    @classmethod
    def from_command(
        cls, command: Sequence[str], options: Mapping[str, Any]
    ) -> "KernelRequest | None":
        """Return the request for the kernel that `command` would start.

        Args:
            command: Of the kernelspec, with all values filled in.
            options: For `subprocess.Popen`.

        Returns:
            None for a kernel that only a cold start can make.

        Raises:
            OSError: `/proc` is not that of Linux.
        """
        module = command.index("-m") if "-m" in command else 0
        interpreter, program = command[:module], command[module + 1 :]
        folder = os.path.abspath(options.get("cwd") or os.getcwd())
        streams = (options.get("stdout"), options.get("stderr"))
        if (
            not interpreter
            or interpreter[0] != sys.executable
            or not all(option.startswith("-X") for option in interpreter[1:])
            or program[:2] != ["ipykernel_launcher", "-f"]
            or not options.keys() <= _KNOWN_OPTIONS
            or any(stream in (subprocess.PIPE, subprocess.STDOUT) for stream in streams)
            or any(os.path.exists(os.path.join(folder, name)) for name in _SHADOWING_FILES)
        ):
            return None
        environment = {**options["env"], "JPY_PARENT_PID": str(os.getpid())}
        status = dict(
            line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines()
        )
        limits = {getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")}
        message = {
            "ask": "kernel",
            "argv": [os.path.expanduser(argument) for argument in program[1:]],
            "command": list(command),
            "env": environment,
            "cwd": folder,
            "umask": int(status["Umask"], 8),
            "limits": [[number, resource.getrlimit(number)[0]] for number in limits],
            "ignored": _signals(status["SigIgn"]),
            "blocked": _signals(status["SigBlk"]),
        }
        return cls(make_key(interpreter, environment), interpreter, message, streams)


def _signals(mask: str) -> list[int]:
    """Return the signals in a mask of `/proc/self/status`."""
    bits = int(mask, 16)
    return [number for number in range(1, 65) if bits >> (number - 1) & 1]
