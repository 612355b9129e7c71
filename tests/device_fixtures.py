"""Fakes of NVIDIA's management library, of the Linux kernel's files, and of TensorFlow."""

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import pynvml
import pytest

from dltlab.devices import cgroups, gpu_support

GIB = 1 << 30


@dataclass
class FakeGpu:
    """A GPU of the fake library; it does not support a value that is None."""

    name: str = "NVIDIA A100-SXM4-80GB"
    uuid: str = "GPU-1a"
    total: int = 80 * GIB
    used: int = 0
    capability: tuple[int, int] | None = (8, 0)
    mig: bool | None = False
    slices: list["FakeGpu | None"] = field(default_factory=list)
    processes: list[Any] = field(default_factory=list)
    watts: float | None = 250.0
    percent: int | None = 90
    celsius: int | None = 60
    answers_left: int | None = None  # power readings until it falls off the bus


class FakeNvml:
    """NVIDIA's management library; a function without a fake is missing, as in an old driver."""

    def __init__(
        self,
        gpus: list[FakeGpu],
        driver: str = "550.54.15",
        cuda: int | None = 12040,
        nvlink: bool = True,
        init_error: type[Exception] | None = None,
    ) -> None:
        self.gpus, self.driver, self.cuda, self.nvlink = gpus, driver, cuda, nvlink
        self.init_error = init_error
        self.num_sessions = 0

    def __getattr__(self, name: str) -> Any:
        if name.startswith("nvml") and name != "nvmlExceptionClass":

            def missing(*arguments: Any) -> Any:
                raise pynvml.NVMLError_FunctionNotFound

            return missing
        return getattr(pynvml, name)

    def nvmlInit(self) -> None:  # noqa: N802
        if self.init_error:
            raise self.init_error
        self.num_sessions += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.num_sessions -= 1

    def nvmlSystemGetDriverVersion(self) -> str:  # noqa: N802
        return self.driver

    def nvmlSystemGetCudaDriverVersion_v2(self) -> int:  # noqa: N802
        return _supported(self.cuda)

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> FakeGpu:  # noqa: N802
        return self.gpus[index]

    def nvmlDeviceGetName(self, gpu: FakeGpu) -> str:  # noqa: N802
        return gpu.name

    def nvmlDeviceGetUUID(self, gpu: FakeGpu) -> str:  # noqa: N802
        return gpu.uuid

    def nvmlDeviceGetMemoryInfo(self, gpu: FakeGpu) -> Any:  # noqa: N802
        _require_on_bus(gpu)
        return SimpleNamespace(total=gpu.total, used=gpu.used, free=gpu.total - gpu.used)

    def nvmlDeviceGetCudaComputeCapability(self, gpu: FakeGpu) -> tuple[int, int]:  # noqa: N802
        return _supported(gpu.capability)

    def nvmlDeviceGetMigMode(self, gpu: FakeGpu) -> list[int]:  # noqa: N802
        mode = int(_supported(gpu.mig))
        return [mode, mode]

    def nvmlDeviceGetMaxMigDeviceCount(self, gpu: FakeGpu) -> int:  # noqa: N802
        return len(gpu.slices)

    def nvmlDeviceGetMigDeviceHandleByIndex(self, gpu: FakeGpu, slot: int) -> FakeGpu:  # noqa: N802
        part = gpu.slices[slot]
        if part is None:
            raise pynvml.NVMLError_NotFound
        return part

    def nvmlDeviceGetP2PStatus(self, first: FakeGpu, second: FakeGpu, kind: int) -> int:  # noqa: N802
        assert kind == pynvml.NVML_P2P_CAPS_INDEX_NVLINK
        return pynvml.NVML_P2P_STATUS_OK if self.nvlink else pynvml.NVML_P2P_STATUS_NOT_SUPPORTED

    def nvmlDeviceGetTopologyCommonAncestor(self, first: FakeGpu, second: FakeGpu) -> int:  # noqa: N802
        return pynvml.NVML_TOPOLOGY_SYSTEM

    def nvmlDeviceGetComputeRunningProcesses(self, gpu: FakeGpu) -> list[Any]:  # noqa: N802
        return gpu.processes

    def nvmlDeviceGetUtilizationRates(self, gpu: FakeGpu) -> Any:  # noqa: N802
        _require_on_bus(gpu)
        return SimpleNamespace(gpu=_supported(gpu.percent), memory=50)

    def nvmlDeviceGetPowerUsage(self, gpu: FakeGpu) -> int:  # noqa: N802
        if gpu.answers_left is not None:
            gpu.answers_left -= 1
        _require_on_bus(gpu)
        return int(1000 * _supported(gpu.watts))

    def nvmlDeviceGetTemperature(self, gpu: FakeGpu, sensor: int) -> int:  # noqa: N802
        assert sensor == pynvml.NVML_TEMPERATURE_GPU
        return _supported(gpu.celsius)


def _supported(value: Any) -> Any:
    if value is None:
        raise pynvml.NVMLError_NotSupported
    return value


def _require_on_bus(gpu: FakeGpu) -> None:
    if gpu.answers_left is not None and gpu.answers_left <= 0:
        raise pynvml.NVMLError_GpuIsLost


CUDA_BUILD = gpu_support.TensorFlowBuild(
    "tensorflow", "2.21.0", "12.5.1", ("sm_60", "sm_70", "sm_80", "sm_89", "compute_90")
)


@pytest.fixture
def gpu() -> type[FakeGpu]:
    return FakeGpu


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> Callable[..., FakeNvml]:
    """Replace the library by a fake: `nvml(gpus, driver=…)`, and TensorFlow by a build for GPUs.

    Where there is no GPU, the build for the CPU is installed.
    """
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(gpu_support, "tensorflow_build", lambda: CUDA_BUILD)

    def replace(gpus: list[FakeGpu] | None = None, **options: Any) -> FakeNvml:
        library = FakeNvml(gpus or [], **options)
        monkeypatch.setitem(sys.modules, "pynvml", library)
        return library

    return replace


@pytest.fixture
def no_nvml(nvml: Callable[..., FakeNvml]) -> FakeNvml:
    """A machine without NVIDIA's driver."""
    return nvml(init_error=pynvml.NVMLError_LibraryNotFound)


@pytest.fixture
def two_gpus(nvml: Callable[..., FakeNvml]) -> FakeNvml:
    """Two GPUs with NVLink between them."""
    return nvml([FakeGpu(), FakeGpu(uuid="GPU-2b")])


@pytest.fixture
def mig_gpu(nvml: Callable[..., FakeNvml]) -> FakeNvml:
    """A GPU in MIG mode with one slice, and an empty slot for another."""
    part = FakeGpu("NVIDIA A100-SXM4-80GB MIG 3g.40gb", "MIG-3c", 40 * GIB)
    return nvml([FakeGpu(mig=True, slices=[None, part])])


@pytest.fixture
def old_driver(nvml: Callable[..., FakeNvml]) -> FakeNvml:
    """A driver from before CUDA 12, which does not support every function."""
    return nvml([FakeGpu("Tesla K80", "GPU-4d", 12 * GIB, capability=None, mig=None)],
                driver="470.82.01", cuda=11040)  # fmt: skip


@pytest.fixture
def kernel_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[dict[str, str]], None]:
    """Replace the files of /proc and /sys: `kernel_files({path: text})`."""
    root = tmp_path / "root"
    monkeypatch.setattr(cgroups, "ROOT", root)

    def write(files: dict[str, str]) -> None:
        for name, text in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    return write


@pytest.fixture
def cuda_libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Set which CUDA libraries the loader finds: `cuda_libraries("libcudnn.so.9", …)`."""
    folder = tmp_path / "cuda"
    folder.mkdir()
    monkeypatch.setenv("LD_LIBRARY_PATH", str(folder))
    monkeypatch.setattr(gpu_support, "linker_cache", lambda: "")
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if "nvidia" not in entry])

    def create(*names: str) -> None:
        for name in names:
            (folder / name).touch()

    return create


@pytest.fixture
def every_cuda_library(cuda_libraries: Callable[..., None]) -> None:
    cuda_libraries(*gpu_support.CUDA_LIBRARIES)


class Device(NamedTuple):
    name: str


class Part(NamedTuple):
    memory_limit: int | None = None


class FakeTensorFlow(ModuleType):
    """The part of tf.config that setup uses, for GPUs of a given compute capability."""

    def __init__(self, num_gpus: int, capability: tuple[int, int]) -> None:
        spec = importlib.util.find_spec("tensorflow")
        super().__init__("tensorflow")
        self.__spec__ = spec
        self.gpus = [Device(f"/physical_device:GPU:{index}") for index in range(num_gpus)]
        self.cpu = Device("/physical_device:CPU:0")
        self.parts: dict[Device, list[Part]] = {}
        self.growth: dict[Device, bool] = {}
        self.visible = self.gpus
        self.threads: int | None = None
        self.config = SimpleNamespace(
            list_physical_devices=lambda kind: self.gpus if kind == "GPU" else [self.cpu],
            set_visible_devices=lambda gpus, kind: setattr(self, "visible", gpus),
            LogicalDeviceConfiguration=Part,
            get_logical_device_configuration=self.parts.get,
            set_logical_device_configuration=self.parts.__setitem__,
            threading=SimpleNamespace(
                set_intra_op_parallelism_threads=lambda n: setattr(self, "threads", n),
                set_inter_op_parallelism_threads=lambda n: None,
            ),
            experimental=SimpleNamespace(
                get_device_details=lambda gpu: {
                    "compute_capability": capability,
                    "device_name": "NVIDIA A100-SXM4-80GB",
                },
                get_memory_growth=lambda gpu: self.growth.get(gpu, False),
                set_memory_growth=self.growth.__setitem__,
            ),
        )


@pytest.fixture
def tensorflow(monkeypatch: pytest.MonkeyPatch) -> Callable[..., FakeTensorFlow]:
    """Replace TensorFlow by a fake: `tensorflow(num_gpus, capability)`."""

    def replace(num_gpus: int = 0, capability: tuple[int, int] = (8, 0)) -> FakeTensorFlow:
        fake = FakeTensorFlow(num_gpus, capability)
        keras: Any = ModuleType("keras")
        keras.config = SimpleNamespace(set_dtype_policy=lambda name: None)
        monkeypatch.setitem(sys.modules, "tensorflow", fake)
        monkeypatch.setitem(sys.modules, "keras", keras)
        return fake

    return replace
