"""Why TensorFlow does not use a GPU that NVML sees; found out without importing TensorFlow."""

import importlib.metadata
import importlib.util
import os
import re
import runpy
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from dltlab.devices.nvml import Gpu, Nvidia
from dltlab.errors import LabError

# What TensorFlow opens at its first use of a GPU, for CUDA 12, and the package that brings it.
# Source: tensorflow/third_party/xla/xla/tsl/platform/default/dso_loader.cc, and the extra
# `and-cuda` in TensorFlow's metadata.
_LIBRARIES = {
    "libcudart.so.12": "cuda_runtime",
    "libcublas.so.12": "cublas",
    "libcublasLt.so.12": "cublas",
    "libcufft.so.11": "cufft",
    "libcusolver.so.11": "cusolver",
    "libcusparse.so.12": "cusparse",
    "libcudnn.so.9": "cudnn",
}
# The oldest driver for any CUDA 12. Source: NVIDIA, "CUDA Compatibility", minor version
# compatibility.
_OLDEST_DRIVER = (525, 60)
_INSTALL = "pip install 'tensorflow[and-cuda]'"


@dataclass(frozen=True)
class Reason:
    """Why TensorFlow leaves a GPU alone, and the command or step that mends it.

    `chosen` where somebody hides the GPU, which may well be meant.
    """

    says: str
    mend: str
    chosen: bool = False


@dataclass(frozen=True)
class Build:
    """What the installed TensorFlow was built for.

    Attributes:
        package: "tensorflow", or "tensorflow-cpu".
        cuda: Version such as "12.5.1"; None for a build without CUDA.
        capabilities: The compute capabilities it brings code for, such as "sm_80"; "compute_90"
            serves that one and every later one.
    """

    package: str
    version: str
    cuda: str | None
    capabilities: tuple[str, ...]

    @property
    def oldest_capability(self) -> tuple[int, int]:
        """The least compute capability it runs on."""
        numbers = [int(re.sub(r"\D", "", each)) for each in self.capabilities]
        return divmod(min(numbers, default=0), 10)


def tensorflow_build() -> Build | None:
    """What is installed, read from its files; None without TensorFlow."""
    spec = importlib.util.find_spec("tensorflow")
    if spec is None or spec.origin is None:
        return None
    package, version = _installed()
    file = Path(spec.origin).parent / "python/platform/build_info.py"
    facts: dict[str, Any] = runpy.run_path(str(file))["build_info"] if file.is_file() else {}
    return Build(
        package,
        version,
        facts.get("cuda_version") if facts.get("is_cuda_build") else None,
        tuple(facts.get("cuda_compute_capabilities", ())),
    )


def visible(nvidia: Nvidia) -> tuple[Gpu, ...]:
    """The GPUs that `CUDA_VISIBLE_DEVICES` lets a program see.

    Raises:
        LabError: The variable holds nonsense, or names a GPU that does not exist.
    """
    value = os.environ.get("CUDA_VISIBLE_DEVICES")
    if value is None:
        return nvidia.gpus
    if value.strip() in ("", "-1", "NoDevFiles"):  # the last is Slurm's word for none
        return ()
    parts = [part.strip() for part in value.split(",")]
    for part in parts:
        if not re.fullmatch(r"\d+|(GPU|MIG)-[\w/-]+", part):
            raise LabError(
                f"CUDA_VISIBLE_DEVICES={value!r} is not understood: it takes the numbers of GPUs, "
                "as in 0,1, or their UUIDs. Mend it or unset it, then restart the kernel."
            )
    return tuple(_named(part, value, nvidia) for part in parts) if nvidia.gpus else ()


def reasons(nvidia: Nvidia) -> list[Reason]:
    """Why TensorFlow does not see every GPU that NVML sees, most basic first; none if it should.

    Without a GPU there is nothing to explain.
    """
    if not nvidia.gpus:
        return []
    build = tensorflow_build()
    if build is None:
        return [Reason("TensorFlow is not installed", _INSTALL)]
    if sys.platform != "linux":
        return [Reason("TensorFlow uses NVIDIA GPUs on Linux only", "Use Linux, or WSL on Windows")]
    if build.cuda is None:
        remove = f"pip uninstall {build.package} && " if build.package != "tensorflow" else ""
        says = f"{build.package} {build.version} is a build without CUDA"
        return [Reason(says, remove + _INSTALL)]
    return [
        *_hidden(nvidia),
        *_driver_too_old(nvidia, build),
        *_library_reasons(),
        *_gpus_too_old(nvidia, build),
        *_no_slices(nvidia),
    ]


def _hidden(nvidia: Nvidia) -> list[Reason]:
    value = os.environ.get("CUDA_VISIBLE_DEVICES")
    mend = "unset CUDA_VISIBLE_DEVICES, then restart the kernel"
    try:
        seen = visible(nvidia)
    except LabError as error:
        return [Reason(str(error).rstrip("."), mend)]
    if len(seen) == len(nvidia.gpus):
        return []
    return [
        Reason(
            f"CUDA_VISIBLE_DEVICES={value!r} hides {len(nvidia.gpus) - len(seen)} of "
            f"{len(nvidia.gpus)} GPUs",
            mend,
            chosen=True,
        )
    ]


def _driver_too_old(nvidia: Nvidia, build: Build) -> list[Reason]:
    assert nvidia.driver is not None
    numbers = tuple(int(each) for each in re.findall(r"\d+", nvidia.driver.version)[:2])
    if numbers >= _OLDEST_DRIVER:
        return []
    least = ".".join(map(str, _OLDEST_DRIVER))
    return [
        Reason(
            f"NVIDIA's driver {nvidia.driver.version} is too old: TensorFlow {build.version} is "
            f"built for CUDA {build.cuda}, which needs {least} or newer",
            "Update the driver (Ubuntu: sudo ubuntu-drivers install) and restart the machine",
        )
    ]


def _library_reasons() -> list[Reason]:
    missing = [name for name in _LIBRARIES if not _library(name)]
    old = [
        (name, other.name) for name in missing for other in _other_versions(name.split(".so")[0])
    ]
    says = []
    if old:
        says.append(", ".join(f"{name} is needed but only {other} found" for name, other in old))
    absent = [name for name in missing if name not in dict(old)]
    if absent:
        says.append(f"{', '.join(absent)} {'is' if len(absent) == 1 else 'are'} missing")
    return [Reason(f"CUDA library: {'; '.join(says)}", _INSTALL)] if says else []


def _gpus_too_old(nvidia: Nvidia, build: Build) -> list[Reason]:
    least = build.oldest_capability
    return [
        Reason(
            f"{gpu.name} (GPU {gpu.index}) has compute capability "
            f"{'.'.join(map(str, gpu.compute_capability))}, and TensorFlow {build.version} needs "
            f"{'.'.join(map(str, least))} or newer",
            "Use another GPU; the labs run on the CPU meanwhile",
        )
        for gpu in nvidia.gpus
        if gpu.compute_capability is not None and gpu.compute_capability < least
    ]


def _no_slices(nvidia: Nvidia) -> list[Reason]:
    return [
        Reason(
            f"{gpu.name} (GPU {gpu.index}) is in MIG mode and has no slice",
            f"Make one: sudo nvidia-smi mig -i {gpu.index} -cgi 0 -C, or leave MIG mode: "
            f"sudo nvidia-smi -i {gpu.index} -mig 0",
        )
        for gpu in nvidia.gpus
        if gpu.mig and not gpu.mig_devices
    ]


def _named(part: str, value: str, nvidia: Nvidia) -> Gpu:
    """The GPU that one part of `CUDA_VISIBLE_DEVICES` names: its index, or (MIG's) UUID."""
    for gpu in nvidia.gpus:
        uuids = [gpu.uuid, *(each.uuid for each in gpu.mig_devices)]
        if part == str(gpu.index) or any(uuid.startswith(part) for uuid in uuids):
            return gpu
    have = ", ".join(f"{gpu.index} ({gpu.name})" for gpu in nvidia.gpus)
    raise LabError(
        f"CUDA_VISIBLE_DEVICES={value!r} names the GPU {part}, which does not exist; there is "
        f"{have}. Mend it or unset it, then restart the kernel."
    )


def _installed() -> tuple[str, str]:
    for name in ("tensorflow", "tensorflow-cpu", "tf-nightly"):
        try:
            return name, importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return "tensorflow", "of unknown version"


def _library(name: str) -> bool:
    """Whether the loader, or TensorFlow in NVIDIA's packages beside it, finds this very version."""
    return any(path.name == name for path in _other_versions(name.split(".so")[0]))


def _other_versions(stem: str) -> list[Path]:
    """The libraries of this name with one number of version, wherever the loader looks."""
    return [path for path in _known_libraries() if re.fullmatch(rf"{stem}\.so\.\d+", path.name)]


@cache
def _known_libraries() -> tuple[Path, ...]:
    folders = [Path(each) for each in os.environ.get("LD_LIBRARY_PATH", "").split(":") if each]
    folders += [path for each in sys.path for path in Path(each or ".").glob("nvidia/*/lib")]
    listed = re.findall(r"=> (\S+)$", _loader_cache(), re.MULTILINE)
    return (
        *(path for folder in folders for path in folder.glob("lib*.so.*")),
        *map(Path, listed),
    )


def _loader_cache() -> str:
    for command in ("ldconfig", "/sbin/ldconfig"):
        try:
            return subprocess.run([command, "-p"], capture_output=True, text=True).stdout
        except OSError:
            continue
    return ""
