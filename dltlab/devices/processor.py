"""The processor and the memory that this process may use."""

import os
import platform
from dataclasses import dataclass
from pathlib import Path

from dltlab.devices import cgroups

# Vector and matrix extensions by the Linux kernel's names. Source: the kernel's
# arch/x86/include/asm/cpufeatures.h and Documentation/arch/arm64/elf_hwcaps.rst.
_EXTENSIONS = {
    "avx2": "AVX2",
    "fma": "FMA",
    "avx_vnni": "AVX-VNNI",
    "avx512f": "AVX-512",
    "avx512_vnni": "AVX-512 VNNI",
    "avx512_bf16": "AVX-512 BF16",
    "avx512_fp16": "AVX-512 FP16",
    "amx_tile": "AMX",
    "amx_bf16": "AMX-BF16",
    "amx_int8": "AMX-INT8",
    "amx_fp16": "AMX-FP16",
    "asimd": "NEON",
    "sve": "SVE",
    "bf16": "BF16",
    "i8mm": "I8MM",
    "sme": "SME",
}


@dataclass(frozen=True)
class Cpu:
    """The processor, as far as this process may use it.

    Attributes:
        model: The maker's name for it.
        cores: Processor time in cores: the number of threads in the affinity, or less where a
            container has a quota; half a core is 0.5.
        threads: Hardware threads in the affinity.
        physical_cores: Cores behind those threads; two threads may share one.
        extensions: Vector and matrix extensions, such as "AVX-512" and "AMX-BF16".
        ghz: Clock frequency in GHz; None where the system does not report it.
        cache_bytes: Size of the largest cache; None where the system does not report it.
        family: The maker's number of the design (x86 only).
    """

    model: str
    cores: float
    threads: int
    physical_cores: int
    extensions: tuple[str, ...]
    ghz: float | None
    cache_bytes: int | None
    family: int | None = None

    @property
    def sums_int8_exactly(self) -> bool:
        """Whether products of 8-bit numbers are summed in 32 bits, and not first in 16 bits.

        x86 processors without VNNI or AMX sum two products in 16 bits, with saturation
        (VPMADDUBSW, Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2).
        """
        exact = {"AVX-VNNI", "AVX-512 VNNI", "AMX-INT8"}
        return "AVX2" not in self.extensions or bool(exact & {*self.extensions})

    @property
    def has_quota(self) -> bool:
        """Whether a container limits the processor time below what the threads could use."""
        return self.cores < self.threads

    @property
    def name(self) -> str:
        """The model and the number of cores, such as "Intel(R) Xeon(R) Processor (2 cores)"."""
        return f"{self.model} ({self.cores_text})"

    @property
    def cores_text(self) -> str:
        """The number of cores with its unit, such as "2 cores"."""
        return f"{self.cores:g} core{'' if self.cores == 1 else 's'}"


@dataclass(frozen=True)
class Memory:
    """Main memory.

    Attributes:
        total: Bytes that this process and others may use together.
        available: Bytes that are free, or can be freed at once.
        limited: Whether `total` is the limit of a container.
    """

    total: int
    available: int
    limited: bool


def cpu_info() -> Cpu:
    """Return what is known of this machine's processor."""
    import psutil

    threads = _allowed_threads()
    blocks = _read_cpuinfo(threads)
    first = blocks[0] if blocks else {}
    cores = {(block.get("physical id"), block["core id"]) for block in blocks if "core id" in block}
    quota = cgroups.cpu_quota()
    flags = set((first.get("flags") or first.get("Features") or "").split())
    frequency = psutil.cpu_freq()
    megahertz = float(first.get("cpu MHz", 0)) or (frequency.current if frequency else 0)
    return Cpu(
        model=first.get("model name") or platform.processor() or platform.machine(),
        cores=min(len(threads), quota or len(threads)),
        threads=len(threads),
        physical_cores=len(cores) or len(threads),
        extensions=tuple(name for flag, name in _EXTENSIONS.items() if flag in flags),
        ghz=megahertz / 1000 or None,
        cache_bytes=_largest_cache(),
        family=int(first["cpu family"]) if "cpu family" in first else None,
    )


def memory_info() -> Memory:
    """Return the memory of this machine, or of this container where its limit is lower."""
    import psutil

    machine = psutil.virtual_memory()
    limit = cgroups.memory_limit()
    if limit is None or limit >= machine.total:
        return Memory(machine.total, machine.available, limited=False)
    free = limit - (cgroups.memory_used() or 0)
    return Memory(limit, max(0, min(free, machine.available)), limited=True)


def _allowed_threads() -> list[int]:
    """Return the numbers of the hardware threads that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _read_cpuinfo(threads: list[int]) -> list[dict[str, str]]:
    """Return the fields of each thread in `/proc/cpuinfo`; nothing where there is no such file."""
    try:
        text = (cgroups.ROOT / "proc/cpuinfo").read_text()
    except OSError:
        return []
    blocks = [
        {name.strip(): value.strip() for name, _, value in map(_split_field, block.splitlines())}
        for block in text.strip().split("\n\n")
    ]
    return [block for block in blocks if int(block.get("processor", -1)) in threads]


def _split_field(line: str) -> tuple[str, str, str]:
    return line.partition(":")


def _largest_cache() -> int | None:
    units = {"K": 1 << 10, "M": 1 << 20}
    folder: Path = cgroups.ROOT / "sys/devices/system/cpu/cpu0/cache"
    sizes = [path.read_text().strip() for path in folder.glob("index*/size")]
    return max(
        (int(size[:-1]) * units[size[-1]] for size in sizes if size[-1] in units), default=None
    )
