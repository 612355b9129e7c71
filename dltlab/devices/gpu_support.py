"""Why TensorFlow does not use a GPU that NVML reports, without importing TensorFlow."""

import importlib.metadata
import importlib.util
import os
import re
import runpy
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dltlab.devices.nvml import Gpu, NvidiaInfo
from dltlab.errors import Invalid

# What TensorFlow opens at its first use of a GPU, for CUDA 12, and the package that contains it.
# Source: tensorflow/third_party/xla/xla/tsl/platform/default/dso_loader.cc, and the extra
# `and-cuda` in TensorFlow's metadata.
CUDA_LIBRARIES = {
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
    """Why TensorFlow does not use a GPU.

    Attributes:
        message: The reason.
        fix: The command or step that fixes it.
        intended: Whether somebody has hidden the GPU, perhaps on purpose.
    """

    message: str
    fix: str
    intended: bool = False


@dataclass(frozen=True)
class TensorFlowBuild:
    """What the installed TensorFlow was built for.

    Attributes:
        package: "tensorflow" or "tensorflow-cpu".
        version: Such as "2.21.0".
        cuda: Version such as "12.5.1"; None for a build without CUDA.
        capabilities: The compute capabilities that it has code for, such as "sm_80"; "compute_90"
            serves that one and every later one.
    """

    package: str
    version: str
    cuda: str | None
    capabilities: tuple[str, ...]

    @property
    def cudnn(self) -> str | None:
        """The major version of cuDNN that it needs; None for a build without CUDA."""
        (library,) = (name for name in CUDA_LIBRARIES if name.startswith("libcudnn"))
        return library.rpartition(".")[2] if self.cuda else None

    @property
    def oldest_capability(self) -> tuple[int, int]:
        """The lowest compute capability that it runs on."""
        numbers = [int(re.sub(r"\D", "", name)) for name in self.capabilities]
        return divmod(min(numbers, default=0), 10)


def tensorflow_build() -> TensorFlowBuild | None:
    """Return what is installed, read from its files; None without TensorFlow."""
    spec = importlib.util.find_spec("tensorflow")
    if spec is None or spec.origin is None:
        return None
    package, version = _installed_package()
    file = Path(spec.origin).parent / "python/platform/build_info.py"
    info: dict[str, Any] = runpy.run_path(str(file))["build_info"] if file.is_file() else {}
    return TensorFlowBuild(
        package,
        version,
        info.get("cuda_version") if info.get("is_cuda_build") else None,
        tuple(info.get("cuda_compute_capabilities", ())),
    )


def visible_gpus(nvidia: NvidiaInfo) -> tuple[Gpu, ...]:
    """Return the GPUs that `CUDA_VISIBLE_DEVICES` lets a program see.

    Raises:
        Invalid: The value of the variable is not understood, or names a GPU that does not exist.
    """
    value = os.environ.get("CUDA_VISIBLE_DEVICES")
    if value is None:
        return nvidia.gpus
    if value.strip() in ("", "-1", "NoDevFiles"):  # the last is Slurm's word for none
        return ()
    names = [name.strip() for name in value.split(",")]
    for name in names:
        if not re.fullmatch(r"\d+|(GPU|MIG)-[\w/-]+", name):
            raise Invalid(
                f"CUDA_VISIBLE_DEVICES={value!r} is not understood: it takes the numbers of GPUs, "
                "as in 0,1, or their UUIDs. Correct or unset it, then restart the kernel."
            )
    return tuple(_find_gpu(name, value, nvidia) for name in names) if nvidia.gpus else ()


def unused_gpu_reasons(nvidia: NvidiaInfo) -> list[Reason]:
    """Return why TensorFlow does not use every GPU that NVML reports, most basic reason first.

    Returns:
        An empty list where TensorFlow should use them all, or there is no GPU.
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
        message = f"{build.package} {build.version} is a build without CUDA"
        return [Reason(message, remove + _INSTALL)]
    return [
        *_hidden(nvidia),
        *_old_driver(nvidia, build),
        *_missing_libraries(),
        *_old_gpus(nvidia, build),
        *_missing_slices(nvidia),
    ]


def linker_cache() -> str:
    """Return the shared libraries that the system's loader knows, as `ldconfig -p` prints them."""
    for command in ("ldconfig", "/sbin/ldconfig"):
        try:
            return subprocess.run([command, "-p"], capture_output=True, text=True).stdout
        except OSError:
            continue
    return ""


def _hidden(nvidia: NvidiaInfo) -> list[Reason]:
    value = os.environ.get("CUDA_VISIBLE_DEVICES")
    fix = "unset CUDA_VISIBLE_DEVICES, then restart the kernel"
    try:
        num_hidden = len(nvidia.gpus) - len(visible_gpus(nvidia))
    except Invalid as error:
        return [Reason(str(error).rstrip("."), fix)]
    if not num_hidden:
        return []
    message = f"CUDA_VISIBLE_DEVICES={value!r} hides {num_hidden} of {len(nvidia.gpus)} GPUs"
    return [Reason(message, fix, intended=True)]


def _old_driver(nvidia: NvidiaInfo, build: TensorFlowBuild) -> list[Reason]:
    assert nvidia.driver is not None
    version = tuple(int(number) for number in re.findall(r"\d+", nvidia.driver.version)[:2])
    if version >= _OLDEST_DRIVER:
        return []
    oldest = ".".join(map(str, _OLDEST_DRIVER))
    return [
        Reason(
            f"NVIDIA's driver {nvidia.driver.version} is too old: TensorFlow {build.version} is "
            f"built for CUDA {build.cuda}, which needs {oldest} or newer",
            "Update the driver (Ubuntu: sudo ubuntu-drivers install) and restart the machine",
        )
    ]


def _missing_libraries() -> list[Reason]:
    names = {path.name for path in _shared_libraries()}
    missing = [name for name in CUDA_LIBRARIES if name not in names]
    other_versions = [
        (name, other)
        for name in missing
        for other in sorted(names)
        if re.fullmatch(rf"{name.partition('.so')[0]}\.so\.\d+", other)
    ]
    parts = []
    if other_versions:
        parts.append(
            ", ".join(f"{name} is needed but only {other} found" for name, other in other_versions)
        )
    absent = [name for name in missing if name not in dict(other_versions)]
    if absent:
        parts.append(f"{', '.join(absent)} {'is' if len(absent) == 1 else 'are'} missing")
    return [Reason(f"CUDA library: {'; '.join(parts)}", _INSTALL)] if parts else []


def _shared_libraries() -> list[Path]:
    """Return the libraries in all folders in which the loader, or TensorFlow, looks for CUDA."""
    variable = os.environ.get("LD_LIBRARY_PATH", "")
    folders = [Path(entry) for entry in variable.split(":") if entry]
    folders += [path for entry in sys.path for path in Path(entry or ".").glob("nvidia/*/lib")]
    cached = re.findall(r"=> (\S+)$", linker_cache(), re.MULTILINE)
    return [
        *(path for folder in folders for path in folder.glob("lib*.so.*")),
        *map(Path, cached),
    ]


def _old_gpus(nvidia: NvidiaInfo, build: TensorFlowBuild) -> list[Reason]:
    oldest = build.oldest_capability
    return [
        Reason(
            f"{gpu.name} (GPU {gpu.index}) has compute capability "
            f"{'.'.join(map(str, gpu.compute_capability))}, and TensorFlow {build.version} needs "
            f"{'.'.join(map(str, oldest))} or newer",
            "Use another GPU; the labs run on the CPU meanwhile",
        )
        for gpu in nvidia.gpus
        if gpu.compute_capability is not None and gpu.compute_capability < oldest
    ]


def _missing_slices(nvidia: NvidiaInfo) -> list[Reason]:
    return [
        Reason(
            f"{gpu.name} (GPU {gpu.index}) is in MIG mode and has no slice",
            f"Create one: sudo nvidia-smi mig -i {gpu.index} -cgi 0 -C, or leave MIG mode: "
            f"sudo nvidia-smi -i {gpu.index} -mig 0",
        )
        for gpu in nvidia.gpus
        if gpu.mig and not gpu.mig_devices
    ]


def _find_gpu(name: str, value: str, nvidia: NvidiaInfo) -> Gpu:
    """Return the GPU that an entry of `CUDA_VISIBLE_DEVICES` names: by index, or (MIG) UUID."""
    for gpu in nvidia.gpus:
        uuids = [gpu.uuid, *(part.uuid for part in gpu.mig_devices)]
        if name == str(gpu.index) or any(uuid.startswith(name) for uuid in uuids):
            return gpu
    existing = ", ".join(f"{gpu.index} ({gpu.name})" for gpu in nvidia.gpus)
    raise Invalid(
        f"CUDA_VISIBLE_DEVICES={value!r} names the GPU {name}, which does not exist; there is "
        f"{existing}. Correct or unset it, then restart the kernel."
    )


def _installed_package() -> tuple[str, str]:
    for name in ("tensorflow", "tensorflow-cpu", "tf-nightly"):
        try:
            return name, importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return "tensorflow", "of unknown version"
