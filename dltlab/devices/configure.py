"""Set this machine up for TensorFlow in one line: `setup`."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from dltlab.devices import libraries, nvml, processor
from dltlab.devices.processor import Cpu
from dltlab.errors import LabError

_PRECISIONS = ("auto", "float32", "mixed_bfloat16", "mixed_float16")
_MIB = 1 << 20
# What a logical device needs at the least: a GPU's holds cuDNN's and cuBLAS's workspaces.
_LEAST_GPU_BYTES, _LEAST_CPU_BYTES = 1024 * _MIB, 256 * _MIB
_USABLE = 0.9  # of a GPU's memory; the rest is CUDA's own
_MATRIX_CAPABILITY = (8, 0)  # Ampere's tensor cores are the first for bfloat16
_NUM_SEEDS = 1 << 32


@dataclass(frozen=True)
class Setup:
    """What `setup` made of this machine; shown as one sentence, or two where a GPU lies idle."""

    devices: str
    precision: str
    num_logical_devices: int
    threads: int | None
    seed: int | None
    idle_gpu: str | None

    def __str__(self) -> str:
        parts = [f"TensorFlow computes on {self.devices} in {self.precision}"]
        if self.threads is not None:
            parts.append(f"with {self.threads} thread{'' if self.threads == 1 else 's'}")
        if self.seed is not None:
            parts.append(f"from seed {self.seed}")
        return " ".join(filter(None, [f"{', '.join(parts)}.", self.idle_gpu]))

    __repr__ = __str__

    def _repr_html_(self) -> str:
        first, _, rest = str(self).partition(". ")
        idle = f"<br><b>{escape(rest)}</b>" if rest else ""
        return f"<div class='dltlab-setup'>{escape(first)}{'.' if rest else ''}{idle}</div>"


def setup(
    memory_growth: bool = True,
    precision: str = "auto",
    logical_devices: int | None = None,
    threads: int | None = None,
    seed: int | None = None,
) -> Setup:
    """Set TensorFlow and Keras up; to be called before anything is computed.

    Calling it again with the same arguments changes nothing but the random generators, which start
    anew from the seed.

    Args:
        memory_growth: Let a GPU's memory be taken as needed, not all at once, so that several
            notebooks can share it.
        precision: A Keras policy for layers made from now on: "float32", "mixed_bfloat16" or
            "mixed_float16". "auto" is "mixed_bfloat16" where the hardware has matrix units for it
            (AMX-BF16 on a CPU, compute capability 8.0 or more on every GPU), else "float32".
        logical_devices: Offer exactly so many devices, that labs for several devices run anywhere:
            the GPUs, or else the CPU, are split. Several GPUs share the number evenly.
        threads: Threads within and between operations. Left alone, TensorFlow takes one for each
            hardware thread, and here no more than a container's quota feeds.
        seed: For Python's, NumPy's and TensorFlow's random generators.

    Raises:
        LabError: An argument or `CUDA_VISIBLE_DEVICES` makes no sense here, there is not enough
            memory for so many devices, or TensorFlow has already begun to compute.
    """
    _refuse_nonsense(precision, logical_devices, threads, seed)
    nvidia = nvml.query()
    visible = libraries.visible(nvidia)
    cpu = processor.cpu_info()
    if threads is None and cpu.has_quota:
        threads = max(1, int(cpu.cores))
    import keras
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    try:
        if threads is not None:
            tf.config.threading.set_intra_op_parallelism_threads(threads)
            tf.config.threading.set_inter_op_parallelism_threads(threads)
        if logical_devices is not None:
            gpus = _split(tf, gpus, logical_devices, [gpu.usable_bytes for gpu in visible])
        _set_memory_growth(tf, gpus, memory_growth)
    except RuntimeError as error:
        raise LabError(
            "TensorFlow has already begun to compute, so its devices can no longer be set up; "
            "restart the kernel and call setup first."
        ) from error
    policy = _automatic(tf, gpus, cpu) if precision == "auto" else precision
    keras.config.set_dtype_policy(policy)
    if seed is not None:
        keras.utils.set_random_seed(seed)
    physical = gpus or tf.config.list_physical_devices("CPU")
    parts = [tf.config.get_logical_device_configuration(each) or [None] for each in physical]
    num_logical_devices = sum(map(len, parts))
    split = f" as {num_logical_devices} logical devices" if max(map(len, parts)) > 1 else ""
    return Setup(
        devices=_words(tf, gpus, cpu) + split,
        precision=policy,
        num_logical_devices=num_logical_devices,
        threads=threads,
        seed=seed,
        idle_gpu=None if tf.config.list_physical_devices("GPU") else _idle(nvidia),
    )


def _refuse_nonsense(
    precision: str, logical_devices: int | None, threads: int | None, seed: int | None
) -> None:
    if precision not in _PRECISIONS:
        raise LabError(
            f"There is no precision {precision!r}; choose from {', '.join(_PRECISIONS)}."
        )
    for name, value in (("logical_devices", logical_devices), ("threads", threads)):
        if value is not None and (not isinstance(value, int) or value < 1):
            raise LabError(f"{name} is {value!r}; it must be a whole number from 1 on, or None.")
    if seed is not None and (not isinstance(seed, int) or not 0 <= seed < _NUM_SEEDS):
        raise LabError(f"seed is {seed!r}; it must be a whole number from 0 to 2³² − 1, or None.")


def _split(tf: Any, gpus: list[Any], wanted: int, free: Sequence[int]) -> list[Any]:
    """Make `wanted` logical devices of the GPUs, else of the CPU; the GPUs that are then used."""
    if not gpus:
        available = processor.memory_info().available
        _require_memory(wanted, available, _LEAST_CPU_BYTES, "the CPU's memory")
        (cpu,) = tf.config.list_physical_devices("CPU")
        _set_logical(tf, cpu, [tf.config.LogicalDeviceConfiguration()] * wanted)
        return []
    used = gpus[:wanted]
    tf.config.set_visible_devices(used, "GPU")
    for place, gpu in enumerate(used):
        share = wanted // len(used) + (place < wanted % len(used))
        if share > 1:
            usable = int(min(free, default=0) * _USABLE)
            _require_memory(share, usable, _LEAST_GPU_BYTES, f"the free memory of GPU {place}")
            limit = tf.config.LogicalDeviceConfiguration(memory_limit=usable // share // _MIB)
            _set_logical(tf, gpu, [limit] * share)
    return list(used)


def _set_logical(tf: Any, device: Any, parts: list[Any]) -> None:
    # Free memory changes from call to call; a device that is split as wished stays as it is.
    now = tf.config.get_logical_device_configuration(device) or [None]
    if len(now) != len(parts):
        tf.config.set_logical_device_configuration(device, parts)


def _require_memory(wanted: int, usable: int, least: int, whose: str) -> None:
    if wanted * least > usable:
        raise LabError(
            f"{wanted} logical devices need {wanted * least // _MIB:,} MiB, and {whose} has "
            f"{usable // _MIB:,} MiB left; ask for {max(1, usable // least)} or fewer."
        )


def _set_memory_growth(tf: Any, gpus: list[Any], wanted: bool) -> None:
    for gpu in gpus:
        is_split = tf.config.get_logical_device_configuration(gpu)
        if not is_split and tf.config.experimental.get_memory_growth(gpu) != wanted:
            tf.config.experimental.set_memory_growth(gpu, wanted)


def _automatic(tf: Any, gpus: list[Any], cpu: Cpu) -> str:
    has_units = "AMX-BF16" in cpu.extensions
    if gpus:
        details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
        has_units = all(
            each.get("compute_capability", (0, 0)) >= _MATRIX_CAPABILITY for each in details
        )
    return "mixed_bfloat16" if has_units else "float32"


def _words(tf: Any, gpus: list[Any], cpu: Cpu) -> str:
    if not gpus:
        return f"the CPU ({cpu.model}, {cpu.cores:g} core{'' if cpu.cores == 1 else 's'})"
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    names = [each.get("device_name", "GPU") for each in details]
    return ", ".join(f"{names.count(name)} × {name}" for name in dict.fromkeys(names))


def _idle(nvidia: nvml.Nvidia) -> str | None:
    """Why TensorFlow sees no GPU where NVML does, and the mend."""
    found = libraries.reasons(nvidia)
    return f"A GPU lies idle: {found[0].says}. {found[0].mend}." if found else None
