"""NVIDIA GPUs as their driver reports them, through NVIDIA's management library (NVML).

Source of every call: NVIDIA's "NVML API Reference Guide".
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from dltlab.devices import cgroups


@dataclass(frozen=True)
class MigDevice:
    """A slice of a GPU in MIG mode."""

    name: str
    uuid: str
    memory_bytes: int


@dataclass(frozen=True)
class Gpu:
    """A GPU; a value is None where the GPU or its driver does not report it.

    Attributes:
        index: NVML's number, in the order of the PCI bus.
        memory_bytes: Its whole memory.
        free_bytes: Its free memory.
        compute_capability: Major and minor version, (8, 0) for an A100.
        mig: Whether multi-instance (MIG) mode is on.
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
        """The memory that one program can get: what is free, in MIG mode at most one slice."""
        return min([self.free_bytes, *(part.memory_bytes for part in self.mig_devices)])


@dataclass(frozen=True)
class Link:
    """The connection of two GPUs.

    Attributes:
        first: Index of one GPU.
        second: Index of the other.
        kind: "NVLink" or "PCIe".
        path: What lies between them, such as "through one PCIe switch".
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
        cuda: The newest version of CUDA that it runs, such as (12, 4).
    """

    version: str
    cuda: tuple[int, int] | None


@dataclass(frozen=True)
class NvidiaInfo:
    """What NVML reports about this machine.

    Attributes:
        driver: None where there is none, or it does not answer.
        gpus: In NVML's order.
        links: One for each pair of GPUs.
        problem: Why there is no GPU here, or one is missing; None where nothing is wrong.
        fix: What to do about the problem.
        nothing_to_fix: Whether the machine simply has no NVIDIA GPU.
    """

    driver: Driver | None = None
    gpus: tuple[Gpu, ...] = ()
    links: tuple[Link, ...] = ()
    problem: str | None = None
    fix: str | None = None
    nothing_to_fix: bool = False


_PCI_VENDOR_NVIDIA, _PCI_CLASS_DISPLAY = "0x10de", "0x03"
_NO_GPU = NvidiaInfo(
    problem="There is no NVIDIA driver",
    fix="Without an NVIDIA GPU nothing is wrong; with one, install its driver (in a container, "
    "start it with --gpus all)",
    nothing_to_fix=True,
)
_NO_DRIVER = NvidiaInfo(
    problem="There is an NVIDIA GPU, but its driver is not installed",
    fix="Install the driver (Ubuntu: sudo ubuntu-drivers install) and restart the machine",
)
_LOST_FIX = "Restart the machine; if it happens again, check power and cooling"
_PROBLEMS = {
    "NVMLError_DriverNotLoaded": (
        "NVIDIA's driver is installed but not loaded",
        "Restart the machine, or load it: sudo modprobe nvidia",
    ),
    "NVMLError_LibRmVersionMismatch": (
        "NVIDIA's driver was updated while the old one is still loaded",
        "Restart the machine",
    ),
    "NVMLError_NoPermission": (
        "This user may not use NVIDIA's driver",
        "Ask the administrator for access to /dev/nvidia*",
    ),
}


@contextmanager
def session() -> Iterator[Any]:
    """Yield the module `pynvml`, initialized; shut it down afterwards.

    Raises:
        pynvml.NVMLError: There is no driver, or it does not answer.
    """
    import pynvml

    pynvml.nvmlInit()
    try:
        yield pynvml
    finally:
        with suppress(pynvml.NVMLError):  # the GPU was lost
            pynvml.nvmlShutdown()


def nvidia_info() -> NvidiaInfo:
    """Return the driver, the GPUs and their links; a problem is part of the result, not raised."""
    import pynvml

    try:
        with session() as nvml:
            answers = {index: _gpu(nvml, index) for index in range(nvml.nvmlDeviceGetCount())}
            gpus = tuple(gpu for gpu in answers.values() if gpu)
            lost = ", ".join(f"GPU {index}" for index, gpu in answers.items() if not gpu)
            return NvidiaInfo(
                _driver(nvml),
                gpus,
                tuple(_links(nvml, [gpu.index for gpu in gpus])),
                problem=f"{lost} has fallen off the bus" if lost else None,
                fix=_LOST_FIX if lost else None,
            )
    except pynvml.NVMLError_LibraryNotFound:
        return _NO_DRIVER if _nvidia_gpu_on_pci_bus() else _NO_GPU
    except pynvml.NVMLError as error:
        problem, fix = _PROBLEMS.get(
            type(error).__name__,
            (f"NVIDIA's driver does not answer ({error})", "Run nvidia-smi and read its message"),
        )
        return NvidiaInfo(problem=problem, fix=fix)


def list_gpus() -> tuple[Gpu, ...]:
    """Return NVIDIA's GPUs in this machine, in NVML's order; empty where there is no driver."""
    return nvidia_info().gpus


def call_if_supported(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return `function(*arguments)`, or None where the GPU or its driver does not support it.

    Raises:
        pynvml.NVMLError: Another error, such as a lost GPU.
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


def _nvidia_gpu_on_pci_bus() -> bool:
    """Return whether a display or 3D controller of NVIDIA is on the PCI bus (Linux)."""
    for folder in (cgroups.ROOT / "sys/bus/pci/devices").glob("*"):
        try:
            vendor = (folder / "vendor").read_text().strip()
            device_class = (folder / "class").read_text().strip()
        except OSError:
            continue
        if vendor == _PCI_VENDOR_NVIDIA and device_class.startswith(_PCI_CLASS_DISPLAY):
            return True
    return False


def _driver(nvml: Any) -> Driver:
    number = call_if_supported(nvml.nvmlSystemGetCudaDriverVersion_v2)
    cuda = (number // 1000, number % 1000 // 10) if number else None
    return Driver(nvml.nvmlSystemGetDriverVersion(), cuda)


def _gpu(nvml: Any, index: int) -> Gpu | None:
    """Return the GPU of this index; None if it has fallen off the bus."""
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    except nvml.NVMLError_GpuIsLost:
        return None
    capability = call_if_supported(nvml.nvmlDeviceGetCudaComputeCapability, handle)
    mode = call_if_supported(nvml.nvmlDeviceGetMigMode, handle)
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
    for slot in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        try:
            part = nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, slot)
        except nvml.NVMLError_NotFound:
            continue  # no slice in this slot
        yield MigDevice(
            nvml.nvmlDeviceGetName(part),
            nvml.nvmlDeviceGetUUID(part),
            nvml.nvmlDeviceGetMemoryInfo(part).total,
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
        peer = call_if_supported(
            nvml.nvmlDeviceGetP2PStatus, *pair, nvml.NVML_P2P_CAPS_INDEX_NVLINK
        )
        if peer == nvml.NVML_P2P_STATUS_OK:
            yield Link(first, second, "NVLink", "directly")
        else:
            level = call_if_supported(nvml.nvmlDeviceGetTopologyCommonAncestor, *pair)
            yield Link(first, second, "PCIe", paths.get(level, "by an unknown path"))
