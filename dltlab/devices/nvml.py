"""NVIDIA's GPUs as their driver tells it, through the management library (NVML).

Source of every call: NVIDIA's "NVML API Reference Guide".
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import combinations
from typing import Any


@dataclass(frozen=True)
class MigDevice:
    """A slice of a GPU in MIG mode."""

    name: str
    uuid: str
    memory_bytes: int


@dataclass(frozen=True)
class Gpu:
    """A GPU as NVML tells it; None stands for what this GPU or its driver does not tell.

    Attributes:
        index: NVML's number, in the order of the PCI bus.
        memory_bytes: All of its memory.
        free_bytes: What nobody holds of it.
        compute_capability: Major and minor version, (8, 0) for an A100.
        mig: Whether MIG mode is on.
        mig_devices: The slices, in MIG mode.
    """

    index: int
    name: str
    uuid: str
    memory_bytes: int
    free_bytes: int
    compute_capability: tuple[int, int] | None
    mig: bool | None
    mig_devices: tuple[MigDevice, ...]

    @property
    def usable_bytes(self) -> int:
        """What one program can have: the free memory, in MIG mode no more than a slice's."""
        return min([self.free_bytes, *(each.memory_bytes for each in self.mig_devices)])


@dataclass(frozen=True)
class Link:
    """How two GPUs, by their indices, reach each other.

    `kind` is "NVLink" or "PCIe"; `path` says what lies between them on PCIe.
    """

    first: int
    second: int
    kind: str
    path: str


@dataclass(frozen=True)
class Driver:
    """NVIDIA's driver.

    Attributes:
        version: Such as "550.54.15".
        cuda: The newest CUDA it runs, (12, 4).
    """

    version: str
    cuda: tuple[int, int] | None


@dataclass(frozen=True)
class Nvidia:
    """All that NVML tells; `problem` and `mend` say why that is nothing, or not everything."""

    driver: Driver | None = None
    gpus: tuple[Gpu, ...] = ()
    links: tuple[Link, ...] = ()
    problem: str | None = None
    mend: str | None = None


_NO_LIBRARY = "There is no NVIDIA driver"
_LOST_MEND = "Restart the machine; if it happens again, check power and cooling"
_PROBLEMS = {
    "NVMLError_LibraryNotFound": (
        _NO_LIBRARY,
        "Without an NVIDIA GPU nothing is wrong; with one, install its driver (in a container, "
        "start it with --gpus all)",
    ),
    "NVMLError_DriverNotLoaded": (
        "NVIDIA's driver is installed but not loaded",
        "Restart the machine, or load it: sudo modprobe nvidia",
    ),
    "NVMLError_LibRmVersionMismatch": (
        "NVIDIA's driver was updated while the old one still runs",
        "Restart the machine",
    ),
    "NVMLError_NoPermission": (
        "This user may not talk to NVIDIA's driver",
        "Ask the administrator for access to /dev/nvidia*",
    ),
}


@contextmanager
def opened() -> Iterator[Any]:
    """The module `pynvml`, initialized.

    Raises:
        pynvml.NVMLError: There is no driver, or it does not answer.
    """
    import pynvml

    pynvml.nvmlInit()
    try:
        yield pynvml
    finally:
        with suppress(pynvml.NVMLError):  # a lost GPU has nothing to give back
            pynvml.nvmlShutdown()


def query() -> Nvidia:
    """Ask NVML for everything; what is wrong is told in the answer, nothing is raised."""
    import pynvml

    try:
        with opened() as nvml:
            found = {index: _gpu(nvml, index) for index in range(nvml.nvmlDeviceGetCount())}
            gpus = tuple(gpu for gpu in found.values() if gpu)
            lost = ", ".join(f"GPU {index}" for index, gpu in found.items() if not gpu)
            return Nvidia(
                _driver(nvml),
                gpus,
                tuple(_links(nvml, [gpu.index for gpu in gpus])),
                problem=f"{lost} has fallen off the bus" if lost else None,
                mend=_LOST_MEND if lost else None,
            )
    except pynvml.NVMLError as error:
        problem, mend = _PROBLEMS.get(
            type(error).__name__,
            (f"NVIDIA's driver does not answer ({error})", "Run nvidia-smi and see what it says"),
        )
        return Nvidia(problem=problem, mend=mend)


def list_gpus() -> tuple[Gpu, ...]:
    """Return NVIDIA's GPUs in this machine, in NVML's order; empty where there is no driver."""
    return query().gpus


def has_no_driver(nvidia: Nvidia) -> bool:
    """Whether nothing of NVIDIA's is installed, as on a machine without a GPU."""
    return nvidia.problem == _NO_LIBRARY


def told(function: Callable[..., Any], *arguments: Any) -> Any:
    """What `function` returns, or None where the GPU or an old driver does not tell it.

    Raises:
        pynvml.NVMLError: The GPU is lost, or another error than an untold value.
    """
    import pynvml

    try:
        return function(*arguments)
    except (
        pynvml.NVMLError_NotSupported,
        pynvml.NVMLError_FunctionNotFound,
        pynvml.NVMLError_NoPermission,
    ):
        return None


def _driver(nvml: Any) -> Driver:
    number = told(nvml.nvmlSystemGetCudaDriverVersion_v2)
    cuda = (number // 1000, number % 1000 // 10) if number else None
    return Driver(nvml.nvmlSystemGetDriverVersion(), cuda)


def _gpu(nvml: Any, index: int) -> Gpu | None:
    """The GPU of this number; None if it has fallen off the bus."""
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    except nvml.NVMLError_GpuIsLost:
        return None
    capability = told(nvml.nvmlDeviceGetCudaComputeCapability, handle)
    mode = told(nvml.nvmlDeviceGetMigMode, handle)
    mig = None if mode is None else mode[0] == nvml.NVML_DEVICE_MIG_ENABLE
    return Gpu(
        index=index,
        name=nvml.nvmlDeviceGetName(handle),
        uuid=nvml.nvmlDeviceGetUUID(handle),
        memory_bytes=memory.total,
        free_bytes=memory.free,
        compute_capability=tuple(capability) if capability else None,
        mig=mig,
        mig_devices=tuple(_mig_devices(nvml, handle)) if mig else (),
    )


def _mig_devices(nvml: Any, handle: Any) -> Iterator[MigDevice]:
    for place in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        try:
            slice_ = nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, place)
        except nvml.NVMLError_NotFound:
            continue  # an empty place
        yield MigDevice(
            nvml.nvmlDeviceGetName(slice_),
            nvml.nvmlDeviceGetUUID(slice_),
            nvml.nvmlDeviceGetMemoryInfo(slice_).total,
        )


def _links(nvml: Any, indices: list[int]) -> Iterator[Link]:
    paths = {
        nvml.NVML_TOPOLOGY_INTERNAL: "on one board",
        nvml.NVML_TOPOLOGY_SINGLE: "through one PCIe switch",
        nvml.NVML_TOPOLOGY_MULTIPLE: "through several PCIe switches",
        nvml.NVML_TOPOLOGY_HOSTBRIDGE: "through the CPU's PCIe bridge",
        nvml.NVML_TOPOLOGY_NODE: "through one CPU",
        nvml.NVML_TOPOLOGY_SYSTEM: "from one CPU to another",
    }
    handles = {index: nvml.nvmlDeviceGetHandleByIndex(index) for index in indices}
    for first, second in combinations(indices, 2):
        pair = handles[first], handles[second]
        peer = told(nvml.nvmlDeviceGetP2PStatus, *pair, nvml.NVML_P2P_CAPS_INDEX_NVLINK)
        if peer == nvml.NVML_P2P_STATUS_OK:
            yield Link(first, second, "NVLink", "directly")
        else:
            level = told(nvml.nvmlDeviceGetTopologyCommonAncestor, *pair)
            yield Link(first, second, "PCIe", paths.get(level, "by an unknown path"))
