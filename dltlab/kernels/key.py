"""The key of a zygote: which kernels it can serve.

A zygote serves the kernels that would import the same libraries in the same way.
"""

import hashlib
import json
import os
import re
import resource
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

# Variables that the preloaded libraries, or the loader of shared libraries, read on import.
_READ_ON_IMPORT = re.compile(
    r"(PYTHON|LD_|LC_|MALLOC_|GLIBC_|GOMP_|OMP_|KMP_|MKL_|OPENBLAS_|BLIS_|NUMEXPR_|NPY_|NUMBA_"
    r"|KERAS_|TF_|TF2_|TPU_|XLA_|CUDA_|CUDNN_|NCCL_|NVIDIA_|ROCR_|HIP_|HSA_|ONEDNN_|DNNL_"
    r"|JAX_|TORCH_|GRPC_|ABSL_|PROTOCOL_BUFFERS_|HDF5_|MPL|MATPLOTLIB|PYDEVD_|DEBUGPY_"
    r"|SKLEARN_|SCIPY_|PANDAS_).*|HOME|XDG_.*_HOME|LANG|LANGUAGE|PATH"
)
# Those that a notebook can set in time: they are read when a device is first used, or a program or
# file is looked up.
_READ_LATER = re.compile(
    r"CUDA_(VISIBLE_DEVICES|DEVICE_ORDER|LAUNCH_BLOCKING|CACHE_.*)|TF_FORCE_GPU_ALLOW_GROWTH"
    r"|TF_GPU_.*|NCCL_.*|HOME|XDG_.*_HOME|LANG|LANGUAGE|LC_.*|PATH|PYTHONPATH"
)
_SETTINGS_FILES = (".keras/keras.json", ".config/matplotlib/matplotlibrc")
_NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")


@dataclass(frozen=True)
class Key:
    """What a zygote and the kernels that it forks have in common.

    Attributes:
        identity: Hash of the user, the interpreter, the variables and the resource limits.
        stamp: Hash of the time when the installed packages and the user's settings last changed.
        variables: The environment of the zygote: the variables that libraries read on import.
    """

    identity: str
    stamp: str
    variables: Mapping[str, str]

    @property
    def name(self) -> str:
        """The name that the zygote's files begin with."""
        return f"{self.identity}-{self.stamp}"


def make_key(interpreter: Sequence[str], environment: Mapping[str, str]) -> Key:
    """Return the key of a kernel that this process would start.

    Args:
        interpreter: Python and its own options, as in `["/usr/bin/python3", "-X", "dev"]`.
        environment: The kernel's environment variables.
    """
    variables = variables_read_on_import(environment)
    home = Path(environment.get("HOME", "/"))
    settings = [home / name for name in _SETTINGS_FILES]
    identity = {"interpreter": list(interpreter), "variables": variables, **_process_attributes()}
    stamp = [[str(path), _modified(path)] for path in [*_package_folders(), *settings]]
    return Key(_digest(identity), _digest(stamp), variables)


def variables_read_on_import(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that libraries, or the loader of shared libraries, read on import."""
    return {
        name: environment[name] for name in sorted(environment) if _READ_ON_IMPORT.fullmatch(name)
    }


def is_read_on_import(variable: str) -> bool:
    """Return whether libraries read a variable on import, so that a cell sets it too late."""
    return bool(_READ_ON_IMPORT.fullmatch(variable) and not _READ_LATER.fullmatch(variable))


def _process_attributes() -> dict[str, object]:
    """Return what a process inherits and cannot change later."""
    limits = [name for name in dir(resource) if name.startswith("RLIMIT_")]
    return {
        "user": [os.getuid(), os.geteuid(), os.getgid(), os.getegid(), sorted(os.getgroups())],
        "nice": os.getpriority(os.PRIO_PROCESS, 0),
        "cores": sorted(os.sched_getaffinity(0)),
        "limits": {name: resource.getrlimit(getattr(resource, name))[1] for name in limits},
        "group": Path("/proc/self/cgroup").read_text(),
        "namespaces": [os.readlink(f"/proc/self/ns/{name}") for name in _NAMESPACES],
    }


def _package_folders() -> list[Path]:
    """Return the folders of installed packages; installing or removing one changes the folder."""
    folders = (Path(entry) for entry in sys.path)
    return [folder for folder in folders if folder.name in ("site-packages", "dist-packages")]


def _modified(path: Path) -> int | None:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
