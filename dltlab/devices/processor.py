"""The processor and the memory that this process may use."""

import os
import platform
from dataclasses import dataclass
from pathlib import Path

from dltlab.devices import cgroups

# The kernel's names for what deep learning makes use of, and everybody's. Source: the kernel's
# arch/x86/include/asm/cpufeatures.h and Documentation/arch/arm64/elf_hwcaps.rst.
_EXTENSIONS = {
    "avx2": "AVX2",
    "fma": "FMA",
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
        model: As the maker writes it.
        cores: Processor time in cores: what the affinity allows, or less where a container's quota
            says so; half a core is 0.5.
        threads: Hardware threads in the affinity.
        physical_cores: Cores behind those threads; two threads may share one.
        extensions: Vector and matrix extensions, such as "AVX-512" and "AMX-BF16".
        ghz: Clock in GHz, where the system tells it.
        cache_bytes: Size of the largest cache, where the system tells it.
        family: The maker's number for the design (x86).
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
    def has_quota(self) -> bool:
        """Whether a container gets less processor time than its threads could take."""
        return self.cores < self.threads


@dataclass(frozen=True)
class Memory:
    """Main memory in bytes; `limited` where a container's limit is what counts."""

    total: int
    available: int
    limited: bool


def cpu_info() -> Cpu:
    """The processor of this machine."""
    import psutil

    allowed = _allowed()
    fields = _cpuinfo(allowed)
    first = fields[0] if fields else {}
    places = {(each.get("physical id"), each["core id"]) for each in fields if "core id" in each}
    quota = cgroups.cpu_quota()
    flags = set((first.get("flags") or first.get("Features") or "").split())
    frequency = psutil.cpu_freq()
    megahertz = float(first.get("cpu MHz", 0)) or (frequency.current if frequency else 0)
    return Cpu(
        model=first.get("model name") or platform.processor() or platform.machine(),
        cores=min(len(allowed), quota or len(allowed)),
        threads=len(allowed),
        physical_cores=len(places) or len(allowed),
        extensions=tuple(name for flag, name in _EXTENSIONS.items() if flag in flags),
        ghz=megahertz / 1000 or None,
        cache_bytes=_largest_cache(),
        family=int(first["cpu family"]) if "cpu family" in first else None,
    )


def memory_info() -> Memory:
    """The memory of this machine, or of this container where that is less."""
    import psutil

    machine = psutil.virtual_memory()
    limit = cgroups.memory_limit()
    if limit is None or limit >= machine.total:
        return Memory(machine.total, machine.available, limited=False)
    left = limit - (cgroups.memory_used() or 0)
    return Memory(limit, max(0, min(left, machine.available)), limited=True)


def _allowed() -> list[int]:
    """The numbers of the hardware threads this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _cpuinfo(allowed: list[int]) -> list[dict[str, str]]:
    """The fields of each allowed thread in /proc/cpuinfo; none where there is no such file."""
    try:
        text = (cgroups.ROOT / "proc/cpuinfo").read_text()
    except OSError:
        return []
    blocks = [
        {key.strip(): value.strip() for key, _, value in map(_halves, block.splitlines())}
        for block in text.strip().split("\n\n")
    ]
    return [each for each in blocks if int(each.get("processor", -1)) in allowed]


def _halves(line: str) -> tuple[str, str, str]:
    return line.partition(":")


def _largest_cache() -> int | None:
    units = {"K": 1 << 10, "M": 1 << 20}
    folder: Path = cgroups.ROOT / "sys/devices/system/cpu/cpu0/cache"
    sizes = [path.read_text().strip() for path in folder.glob("index*/size")]
    return max(
        (int(each[:-1]) * units[each[-1]] for each in sizes if each[-1] in units), default=None
    )
