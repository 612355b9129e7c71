"""Which kernels one zygote can serve: those that would import the same libraries the same way."""

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
_SETTINGS = (".keras/keras.json", ".config/matplotlib/matplotlibrc")
_NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")


@dataclass(frozen=True)
class Key:
    """What a zygote and the kernels that it forks have in common.

    Attributes:
        identity: Who runs which interpreter with which variables, and within which limits.
        stamp: When the installed packages and the user's settings were last changed.
        variables: The environment for the zygote itself: nothing that is a kernel's own.
    """

    identity: str
    stamp: str
    variables: Mapping[str, str]

    @property
    def name(self) -> str:
        """The name that a zygote's files begin with."""
        return f"{self.identity}-{self.stamp}"


def key_of(interpreter: Sequence[str], environment: Mapping[str, str]) -> Key:
    """The key of a kernel that this process would start.

    Args:
        interpreter: Python and its own options, as in `["/usr/bin/python3", "-X", "dev"]`.
        environment: The kernel's.
    """
    variables = {name: environment[name] for name in sorted(environment) if _matters(name)}
    home = Path(environment.get("HOME", "/"))
    settings = [home / name for name in _SETTINGS]
    identity = {"interpreter": list(interpreter), "variables": variables, **_surroundings()}
    stamp = [[str(path), _changed(path)] for path in [*_installed(), *settings]]
    return Key(_digest(identity), _digest(stamp), variables)


def _matters(name: str) -> bool:
    return _READ_ON_IMPORT.fullmatch(name) is not None


def _surroundings() -> dict[str, object]:
    """What a process inherits, and cannot change later in its life."""
    limits = [name for name in dir(resource) if name.startswith("RLIMIT_")]
    hard = {name: resource.getrlimit(getattr(resource, name))[1] for name in limits}
    return {
        "user": [os.getuid(), os.geteuid(), os.getgid(), os.getegid(), sorted(os.getgroups())],
        "nice": os.getpriority(os.PRIO_PROCESS, 0),
        "cores": sorted(os.sched_getaffinity(0)),
        "limits": hard,
        "group": Path("/proc/self/cgroup").read_text(),
        "namespaces": [os.readlink(f"/proc/self/ns/{each}") for each in _NAMESPACES],
    }


def _installed() -> list[Path]:
    """The folders that hold installed packages; each changes when a package comes or goes."""
    folders = (Path(entry) for entry in sys.path)
    return [each for each in folders if each.name in ("site-packages", "dist-packages")]


def _changed(path: Path) -> int | None:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
