"""Configure TensorFlow for this machine in one line: `setup`."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from dltlab.devices import gpu_support, nvml, processor
from dltlab.devices.nvml import NvidiaInfo
from dltlab.devices.processor import Cpu
from dltlab.errors import Invalid, Unavailable

_PRECISIONS = ("auto", "float32", "mixed_bfloat16", "mixed_float16")
_MIB = 1 << 20
# The least memory of a logical device; on a GPU it holds the workspaces of cuDNN and cuBLAS.
_MIN_GPU_BYTES, _MIN_CPU_BYTES = 1024 * _MIB, 256 * _MIB
_USABLE_SHARE = 0.9  # of a GPU's memory; CUDA needs the rest
_BFLOAT16_CAPABILITY = (8, 0)  # Ampere's tensor cores are the first that compute in bfloat16
_NUM_SEEDS = 1 << 32


@dataclass(frozen=True, repr=False)
class Setup:
    """What `setup` has configured; shown as one sentence, or two where a GPU is not used.

    Attributes:
        devices: The devices in words.
        precision: The Keras dtype policy.
        num_logical_devices: The devices that TensorFlow offers.
        threads: Within and between operations; None where TensorFlow decides.
        seed: Of the random generators; None where none was set.
        unused_gpu: Why a GPU is not used, with the fix; None where there is none.
    """

    devices: str
    precision: str
    num_logical_devices: int
    threads: int | None
    seed: int | None
    unused_gpu: str | None

    def __repr__(self) -> str:
        return " ".join(filter(None, [self._sentence(), self.unused_gpu]))

    def _repr_html_(self) -> str:
        unused = f"<br><b>{escape(self.unused_gpu)}</b>" if self.unused_gpu else ""
        return f"<div class='dltlab-setup'>{escape(self._sentence())}{unused}</div>"

    def _sentence(self) -> str:
        parts = [f"TensorFlow computes on {self.devices} in {self.precision}"]
        if self.threads is not None:
            parts.append(f"with {self.threads} thread{'' if self.threads == 1 else 's'}")
        if self.seed is not None:
            parts.append(f"from seed {self.seed}")
        return f"{', '.join(parts)}."


def setup(
    memory_growth: bool = True,
    precision: str = "auto",
    logical_devices: int | None = None,
    threads: int | None = None,
    seed: int | None = None,
) -> Setup:
    """Configure TensorFlow and Keras; call it before anything is computed.

    A second call with the same arguments changes only the random generators, which start again from
    the seed.

    Args:
        memory_growth: Allocate a GPU's memory as it is needed instead of all at once, so that
            several notebooks can share the GPU.
        precision: A Keras dtype policy for layers that are created from now on: "float32",
            "mixed_bfloat16" or "mixed_float16". "auto" is "mixed_bfloat16" where the hardware has
            matrix units for it (AMX-BF16 on a CPU, compute capability 8.0 or higher on every GPU),
            else "float32".
        logical_devices: The number of devices to offer, so that labs for several devices run on
            any machine: the GPUs, or the CPU where there is none, are split evenly.
        threads: Threads within and between operations. By default TensorFlow takes one for each
            hardware thread, and in a container with a quota one for each core of the quota.
        seed: For the random generators of Python, NumPy and TensorFlow.

    Returns:
        What was configured.

    Raises:
        Invalid: The value of an argument or of `CUDA_VISIBLE_DEVICES` is not allowed.
        Unavailable: There is not enough memory for so many devices, or TensorFlow has already begun
            to compute.
    """
    _check_arguments(precision, logical_devices, threads, seed)
    nvidia = nvml.nvidia_info()
    visible = gpu_support.visible_gpus(nvidia)
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
        raise Unavailable(
            "TensorFlow has already begun to compute, so its devices can no longer be configured; "
            "restart the kernel and call setup first."
        ) from error
    policy = _best_policy(tf, gpus, cpu) if precision == "auto" else precision
    keras.config.set_dtype_policy(policy)
    if seed is not None:
        keras.utils.set_random_seed(seed)
    physical = gpus or tf.config.list_physical_devices("CPU")
    parts = [tf.config.get_logical_device_configuration(device) or [None] for device in physical]
    num_logical_devices = sum(map(len, parts))
    split = f" as {num_logical_devices} logical devices" if max(map(len, parts)) > 1 else ""
    return Setup(
        devices=_describe(tf, gpus, cpu) + split,
        precision=policy,
        num_logical_devices=num_logical_devices,
        threads=threads,
        seed=seed,
        unused_gpu=None if tf.config.list_physical_devices("GPU") else _unused_gpu(nvidia),
    )


def _check_arguments(
    precision: str, logical_devices: int | None, threads: int | None, seed: int | None
) -> None:
    if precision not in _PRECISIONS:
        raise Invalid(f"precision is {precision!r}; it must be one of {', '.join(_PRECISIONS)}.")
    for name, value in (("logical_devices", logical_devices), ("threads", threads)):
        if value is not None and (not isinstance(value, int) or value < 1):
            raise Invalid(f"{name} is {value!r}; it must be a positive integer, or None.")
    if seed is not None and (not isinstance(seed, int) or not 0 <= seed < _NUM_SEEDS):
        raise Invalid(f"seed is {seed!r}; it must be an integer from 0 to 2³² − 1, or None.")


def _split(tf: Any, gpus: list[Any], num_devices: int, free_bytes: Sequence[int]) -> list[Any]:
    """Split the GPUs, or else the CPU, into logical devices; return the GPUs that are used."""
    if not gpus:
        available = processor.memory_info().available
        _require_memory(num_devices, available, _MIN_CPU_BYTES, "the CPU's memory")
        (cpu,) = tf.config.list_physical_devices("CPU")
        _set_logical(tf, cpu, [tf.config.LogicalDeviceConfiguration()] * num_devices)
        return []
    used = gpus[:num_devices]
    tf.config.set_visible_devices(used, "GPU")
    for index, gpu in enumerate(used):
        num_parts = num_devices // len(used) + (index < num_devices % len(used))
        if num_parts > 1:
            usable = int(min(free_bytes, default=0) * _USABLE_SHARE)
            _require_memory(num_parts, usable, _MIN_GPU_BYTES, f"the free memory of GPU {index}")
            limit = usable // num_parts // _MIB
            part = tf.config.LogicalDeviceConfiguration(memory_limit=limit)
            _set_logical(tf, gpu, [part] * num_parts)
    return list(used)


def _set_logical(tf: Any, device: Any, parts: list[Any]) -> None:
    # Free memory changes from call to call; a device that has as many parts already is left alone.
    present = tf.config.get_logical_device_configuration(device) or [None]
    if len(present) != len(parts):
        tf.config.set_logical_device_configuration(device, parts)


def _require_memory(num_devices: int, usable: int, minimum: int, name: str) -> None:
    if num_devices * minimum > usable:
        raise Unavailable(
            f"{num_devices} logical devices need {num_devices * minimum // _MIB:,} MiB, and {name} "
            f"has {usable // _MIB:,} MiB left; ask for {max(1, usable // minimum)} or fewer."
        )


def _set_memory_growth(tf: Any, gpus: list[Any], enabled: bool) -> None:
    for gpu in gpus:
        is_split = tf.config.get_logical_device_configuration(gpu)
        if not is_split and tf.config.experimental.get_memory_growth(gpu) != enabled:
            tf.config.experimental.set_memory_growth(gpu, enabled)


def _best_policy(tf: Any, gpus: list[Any], cpu: Cpu) -> str:
    has_matrix_units = "AMX-BF16" in cpu.extensions
    if gpus:
        details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
        has_matrix_units = all(
            detail.get("compute_capability", (0, 0)) >= _BFLOAT16_CAPABILITY for detail in details
        )
    return "mixed_bfloat16" if has_matrix_units else "float32"


def _describe(tf: Any, gpus: list[Any], cpu: Cpu) -> str:
    if not gpus:
        return f"the CPU ({cpu.model}, {cpu.cores_text})"
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    names = [detail.get("device_name", "GPU") for detail in details]
    return ", ".join(f"{names.count(name)} × {name}" for name in dict.fromkeys(names))


def _unused_gpu(nvidia: NvidiaInfo) -> str | None:
    """Return why TensorFlow sees no GPU where NVML reports one, with the fix."""
    reasons = gpu_support.unused_gpu_reasons(nvidia)
    return f"A GPU is not used: {reasons[0].message}. {reasons[0].fix}." if reasons else None
