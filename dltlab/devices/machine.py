"""What is in this machine: `inventory`."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dltlab.devices import gpu_support, nvml, processor
from dltlab.devices.gpu_support import Reason
from dltlab.devices.nvml import Driver, Gpu, Link
from dltlab.devices.processor import Cpu, Memory
from dltlab.display import Result

if TYPE_CHECKING:
    import pandas as pd

GIB = 1 << 30


@dataclass(frozen=True)
class TensorFlowInfo:
    """The installed TensorFlow.

    Attributes:
        version: Such as "2.21.0".
        cuda: The version of CUDA that it is built for; None for a build without CUDA.
        gpus: The names of the GPUs that it sees; None if it was not asked.
    """

    version: str
    cuda: str | None
    gpus: tuple[str, ...] | None


@dataclass(frozen=True, repr=False)
class Inventory(Result):
    """The devices in this machine.

    Attributes:
        cpu: The processor, as far as this process may use it.
        memory: Main memory.
        driver: NVIDIA's driver; None without one.
        gpus: The GPUs that NVML reports.
        links: The connection of each pair of GPUs.
        tensorflow: None where it is not installed.
        no_gpu: Why NVML reports no GPU; None where it reports one.
        reasons: Why TensorFlow does not use every GPU, each with its fix.
    """

    cpu: Cpu
    memory: Memory
    driver: Driver | None
    gpus: tuple[Gpu, ...]
    links: tuple[Link, ...]
    tensorflow: TensorFlowInfo | None
    no_gpu: str | None
    reasons: tuple[Reason, ...]

    @property
    def summary(self) -> str:
        """The processor, the memory and the GPUs in one sentence."""
        names = [gpu.name for gpu in self.gpus]
        gpus = ", ".join(f"{names.count(name)} × {name}" for name in dict.fromkeys(names))
        memory = f"{self.memory.total / GIB:.1f} GiB of memory"
        return f"{self.cpu.name}, {memory}, {gpus or 'no GPU'}."

    @property
    def table(self) -> "pd.DataFrame":
        """A row for each device: columns `device` and `description`."""
        import pandas as pd

        rows = [
            ("CPU", _describe_cpu(self.cpu)),
            ("memory", _describe_memory(self.memory)),
            *((f"GPU {gpu.index}", _describe_gpu(gpu)) for gpu in self.gpus),
            *((f"GPU {a.first}–{a.second}", f"{a.kind}, {a.path}") for a in self.links),
            *([("driver", _describe_driver(self.driver))] if self.driver else []),
            *([("GPU", self.no_gpu)] if self.no_gpu else []),
            ("TensorFlow", _describe_tensorflow(self.tensorflow)),
            *(("unused GPU", f"{reason.message}. {reason.fix}.") for reason in self.reasons),
        ]
        return pd.DataFrame(rows, columns=["device", "description"])


def inventory(ask_tensorflow: bool = True) -> Inventory:
    """Return the processor, the memory, the GPUs and their links, and what TensorFlow sees of them.

    Args:
        ask_tensorflow: Import TensorFlow, which takes seconds, and ask which GPUs it sees.
            Otherwise `tensorflow.gpus` is None, and `reasons` holds what can be found out from
            TensorFlow's files.
    """
    nvidia = nvml.nvidia_info()
    visible = _tensorflow_gpus() if ask_tensorflow else None
    build = gpu_support.tensorflow_build()
    reasons = gpu_support.unused_gpu_reasons(nvidia)
    if visible is not None and len(visible) >= len(nvidia.gpus):
        reasons = []
    elif visible is not None and not reasons:
        reasons = [_unknown_reason(len(visible), len(nvidia.gpus))]
    return Inventory(
        cpu=processor.cpu_info(),
        memory=processor.memory_info(),
        driver=nvidia.driver,
        gpus=nvidia.gpus,
        links=nvidia.links,
        tensorflow=TensorFlowInfo(build.version, build.cuda, visible) if build else None,
        no_gpu=nvidia.problem or (None if nvidia.gpus else "The driver reports no GPU"),
        reasons=tuple(reasons),
    )


def _tensorflow_gpus() -> tuple[str, ...] | None:
    try:
        import tensorflow as tf
    except ImportError:
        return None
    gpus = tf.config.list_physical_devices("GPU")
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    return tuple(
        detail.get("device_name", gpu.name) for detail, gpu in zip(details, gpus, strict=True)
    )


def _unknown_reason(num_visible: int, num_gpus: int) -> Reason:
    return Reason(
        f"TensorFlow sees {num_visible} of {num_gpus} GPUs for a reason that dltlab does not know",
        "Start Python with TF_CPP_MIN_LOG_LEVEL=0 and TF_CPP_MAX_VLOG_LEVEL=1, call "
        "tf.config.list_physical_devices('GPU'), and read its messages",
    )


def _describe_cpu(cpu: Cpu) -> str:
    quota = f" of {cpu.threads}, by the container's quota" if cpu.has_quota else ""
    return ", ".join([cpu.model, cpu.cores_text + quota, *cpu.extensions])


def _describe_memory(memory: Memory) -> str:
    limited = " (the container's limit)" if memory.limited else ""
    return f"{memory.total / GIB:.1f} GiB{limited}, {memory.available / GIB:.1f} GiB available"


def _describe_gpu(gpu: Gpu) -> str:
    parts = [gpu.name, f"{gpu.memory_bytes / GIB:.1f} GiB, {gpu.free_bytes / GIB:.1f} GiB free"]
    if gpu.compute_capability:
        parts.append(f"compute capability {'.'.join(map(str, gpu.compute_capability))}")
    if gpu.mig:
        slices = ", ".join(part.name for part in gpu.mig_devices) or "no slice yet"
        parts.append(f"MIG: {slices}")
    return ", ".join(parts)


def _describe_driver(driver: Driver) -> str:
    cuda = f", runs CUDA up to {'.'.join(map(str, driver.cuda))}" if driver.cuda else ""
    return driver.version + cuda


def _describe_tensorflow(tensorflow: TensorFlowInfo | None) -> str:
    if tensorflow is None:
        return "not installed"
    build = f"built for CUDA {tensorflow.cuda}" if tensorflow.cuda else "built for the CPU only"
    if tensorflow.gpus is None:
        return f"{tensorflow.version}, {build}"
    return f"{tensorflow.version}, {build}, sees {', '.join(tensorflow.gpus) or 'no GPU'}"
