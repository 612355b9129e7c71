"""What is in this machine: `inventory`."""

from dataclasses import asdict, dataclass
from html import escape
from typing import Any

from dltlab.devices import libraries, nvml, processor
from dltlab.devices.libraries import Reason
from dltlab.devices.nvml import Driver, Gpu, Link
from dltlab.devices.processor import Cpu, Memory

GIB = 1 << 30


@dataclass(frozen=True)
class TensorFlowView:
    """What TensorFlow sees.

    Attributes:
        gpus: The names of the GPUs it sees; None if it was not asked.
    """

    version: str
    cuda: str | None
    gpus: tuple[str, ...] | None


@dataclass(frozen=True)
class Inventory:
    """This machine.

    Attributes:
        driver: NVIDIA's; None without one.
        links: How each pair of GPUs is linked.
        tensorflow: None where it is not installed.
        no_gpu: Why NVML sees no GPU; None where it sees one.
        reasons: Why TensorFlow does not use every GPU there is, each with what mends it.
    """

    cpu: Cpu
    memory: Memory
    driver: Driver | None
    gpus: tuple[Gpu, ...]
    links: tuple[Link, ...]
    tensorflow: TensorFlowView | None
    no_gpu: str | None
    reasons: tuple[Reason, ...]

    def as_dict(self) -> dict[str, Any]:
        """Everything, for programs."""
        return asdict(self)

    def rows(self) -> list[tuple[str, str]]:
        """Everything, for people: a name and a sentence each."""
        return [
            ("CPU", _cpu_words(self.cpu)),
            ("memory", _memory_words(self.memory)),
            *((f"GPU {gpu.index}", _gpu_words(gpu)) for gpu in self.gpus),
            *((f"GPU {a.first}–{a.second}", f"{a.kind}, {a.path}") for a in self.links),
            *([("driver", _driver_words(self.driver))] if self.driver else []),
            *([("GPU", self.no_gpu)] if self.no_gpu else []),
            ("TensorFlow", _tensorflow_words(self.tensorflow)),
            *(("why", f"{each.says}. {each.mend}.") for each in self.reasons),
        ]

    def __str__(self) -> str:
        return "\n".join(f"{name:<11} {words}" for name, words in self.rows())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th style='text-align:left'>{escape(name)}</th>"
            f"<td style='text-align:left'>{escape(words)}</td></tr>"
            for name, words in self.rows()
        )
        return f"<table>{rows}</table>"


def inventory(ask_tensorflow: bool = True) -> Inventory:
    """This machine: processor, memory, GPUs and their links, and what TensorFlow makes of them.

    Args:
        ask_tensorflow: Import TensorFlow, which takes seconds, and ask it which GPUs it sees.
            Otherwise `tensorflow.gpus` is None, and the reasons are those that can be told from
            its files.
    """
    nvidia = nvml.query()
    seen = _tensorflow_gpus() if ask_tensorflow else None
    build = libraries.tensorflow_build()
    found = libraries.reasons(nvidia)
    if seen is not None and len(seen) >= len(nvidia.gpus):
        found = []
    elif seen is not None and not found:
        found = [_unexplained(len(seen), len(nvidia.gpus))]
    return Inventory(
        cpu=processor.cpu_info(),
        memory=processor.memory_info(),
        driver=nvidia.driver,
        gpus=nvidia.gpus,
        links=nvidia.links,
        tensorflow=TensorFlowView(build.version, build.cuda, seen) if build else None,
        no_gpu=nvidia.problem or (None if nvidia.gpus else "The driver sees no GPU"),
        reasons=tuple(found),
    )


def _tensorflow_gpus() -> tuple[str, ...] | None:
    try:
        import tensorflow as tf
    except ImportError:
        return None
    gpus = tf.config.list_physical_devices("GPU")
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    return tuple(each.get("device_name", gpu.name) for each, gpu in zip(details, gpus, strict=True))


def _unexplained(seen: int, there: int) -> Reason:
    return Reason(
        f"TensorFlow sees {seen} of {there} GPUs, and none of the usual reasons holds",
        "Start Python with TF_CPP_MAX_VLOG_LEVEL=1, call tf.config.list_physical_devices('GPU'), "
        "and read what it says",
    )


def _cpu_words(cpu: Cpu) -> str:
    quota = f" of {cpu.threads}, by the container's quota" if cpu.has_quota else ""
    cores = f"{cpu.cores:g} core{'' if cpu.cores == 1 else 's'}{quota}"
    return ", ".join([cpu.model, cores, *cpu.extensions])


def _memory_words(memory: Memory) -> str:
    limited = " (the container's limit)" if memory.limited else ""
    return f"{memory.total / GIB:.1f} GiB{limited}, {memory.available / GIB:.1f} GiB available"


def _gpu_words(gpu: Gpu) -> str:
    words = [gpu.name, f"{gpu.memory_bytes / GIB:.1f} GiB, {gpu.free_bytes / GIB:.1f} GiB free"]
    if gpu.compute_capability:
        words.append(f"compute capability {'.'.join(map(str, gpu.compute_capability))}")
    if gpu.mig:
        slices = ", ".join(each.name for each in gpu.mig_devices) or "no slice yet"
        words.append(f"MIG: {slices}")
    return ", ".join(words)


def _driver_words(driver: Driver) -> str:
    cuda = f", runs CUDA up to {'.'.join(map(str, driver.cuda))}" if driver.cuda else ""
    return driver.version + cuda


def _tensorflow_words(view: TensorFlowView | None) -> str:
    if view is None:
        return "not installed"
    built = f"built for CUDA {view.cuda}" if view.cuda else "built for the CPU only"
    if view.gpus is None:
        return f"{view.version}, {built}"
    seen = ", ".join(view.gpus) or "no GPU"
    return f"{view.version}, {built}, sees {seen}"
