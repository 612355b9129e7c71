"""What devices can do according to their data sheets: `specs`, `compare`, `green500`.

The table itself is data, with a source for each row: `datasheets.toml`.
"""

import tomllib
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dltlab.devices import processor
from dltlab.devices.processor import Cpu
from dltlab.errors import NotFound

if TYPE_CHECKING:
    import pandas as pd

_TABLE = Path(__file__).with_name("datasheets.toml")

# Floating-point operations of a core in one cycle, with multiply-adds in float32. Sources: Intel,
# "64 and IA-32 Architectures Optimization Reference Manual" (two 512-bit units on servers; AMX:
# 512 bfloat16 multiply-adds); AMD, "Software Optimization Guide for the Zen4 Microarchitecture"
# (a 512-bit operation takes two cycles) and "... Zen5 ..." (one cycle); Arm, "Neoverse V1 Software
# Optimization Guide" (four 128-bit units; smaller cores have two).
_AVX512, _AVX512_ZEN_4, _AVX2, _NEON, _AMX_BFLOAT16 = 64, 32, 32, 16, 1024
_ZEN_4_FAMILY = 25


@dataclass(frozen=True)
class Spec:
    """The peaks of a device; None where the maker gives none. Units: see `datasheets.toml`."""

    name: str
    full_name: str
    source: str
    year: int | None = None
    tensor_cores: bool = False
    float64: float | None = None
    float64_tensor: float | None = None
    float32: float | None = None
    tensorfloat32: float | None = None
    bfloat16: float | None = None
    float16: float | None = None
    float8: float | None = None
    int8: float | None = None
    memory_gb: float | None = None
    memory_gbps: float | None = None
    link: str | None = None
    link_gbps: float | None = None
    l2_mib: float | None = None
    l1_mib: float | None = None
    watts: float | None = None

    @property
    def training(self) -> float | None:
        """Peak TFLOP/s in training: float16 on tensor cores where there are any, else float32."""
        return self.float16 if self.tensor_cores else self.float32

    @property
    def inference(self) -> float | None:
        """Peak TFLOP/s in inference: the best 16-bit rate, else float32."""
        return self.float16 or self.bfloat16 or self.float32

    @property
    def gflops_per_watt(self) -> float | None:
        """Peak GFLOP/s in float64, the dtype of Linpack, per watt of the power limit."""
        best = max(self.float64 or 0, self.float64_tensor or 0)
        return 1000 * best / self.watts if best and self.watts else None


@cache
def _table() -> dict[str, Any]:
    return tomllib.loads(_TABLE.read_text(encoding="utf-8"))


def all_specs() -> dict[str, Spec]:
    """Return every device of the table by its short name, and this machine's as "this CPU"."""
    specs = {row["name"]: Spec(**row) for row in _table()["gpu"]}
    return specs | {"this CPU": cpu_spec(processor.cpu_info())}


def gpu_spec(device_name: str) -> Spec | None:
    """Return the data sheet of a GPU by the name its driver reports; None if there is none."""
    words = device_name.replace("-", " ").split()
    return next((spec for name, spec in all_specs().items() if name in words), None)


def cpu_spec(cpu: Cpu) -> Spec:
    """Return the peaks of a CPU: cores × clock × operations per cycle.

    The clock is the one that the system reports, so a CPU that runs faster exceeds this peak. Cores
    are the physical ones behind the threads that this process may use: two threads of one core
    share its units.
    """
    float32 = _float32_flops_per_cycle(cpu)
    bfloat16 = _bfloat16_flops_per_cycle(cpu, float32)
    teracycles = min(cpu.cores, cpu.physical_cores) * cpu.ghz / 1000 if cpu.ghz else None
    return Spec(
        name="this CPU",
        full_name=cpu.model,
        source="cores × clock × operations per cycle, from /proc/cpuinfo and the makers' manuals",
        float64=teracycles * float32 / 2 if teracycles and float32 else None,
        float32=teracycles * float32 if teracycles and float32 else None,
        bfloat16=teracycles * bfloat16 if teracycles and bfloat16 else None,
        l2_mib=cpu.cache_bytes / 2**20 if cpu.cache_bytes else None,
    )


def specs() -> "pd.DataFrame":
    """Return all devices as a table with a row for each; columns and units: `datasheets.toml`."""
    import pandas as pd

    names = [field.name for field in fields(Spec)]
    rows = [[getattr(spec, name) for name in names] for spec in all_specs().values()]
    frame = pd.DataFrame(rows, columns=names).set_index("name").dropna(axis="columns", how="all")
    return frame.astype({"year": "Int64"})


def compare(first: str = "P100", second: str = "V100") -> "pd.DataFrame":
    """Compare two devices, as on the slide "GPU performance comparison".

    Returns:
        A row for each quantity, with both devices and the ratio; for devices that are on the slide,
        also the slide's figures, rounded as there.

    Raises:
        NotFound: The table has no such device.
    """
    import pandas as pd

    devices = {name: find_spec(name) for name in (first, second)}
    slide = {name: _table()["slide"].get(name, {}) for name in devices}
    rows = {}
    for key, label in _COMPARED.items():
        table_values = [getattr(spec, key) for spec in devices.values()]
        slide_values = [slide[name].get(key) for name in devices]
        rows[label] = [*table_values, _ratio(*table_values), *slide_values, _ratio(*slide_values)]
    columns = [first, second, "ratio", f"{first}, slide", f"{second}, slide", "ratio, slide"]
    frame = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
    return frame.astype(float).round(2).dropna(axis="columns", how="all").dropna(how="all")


def green500() -> "pd.DataFrame":
    """Return GFLOP/s per watt of systems on the slides' Green500 list and of the table's devices.

    The figures of systems are measured with Linpack and include all parts of a system; those of
    devices are peaks in float64 over the power limit, which no program reaches. Best first.
    """
    import pandas as pd

    rows = [(name, value, "system, measured") for name, value in _table()["green500"].items()]
    for spec in all_specs().values():
        if spec.gflops_per_watt is not None:
            rows.append((spec.name, round(spec.gflops_per_watt, 1), "device, peak"))
    frame = pd.DataFrame(rows, columns=["name", "GFLOP/W", "what"])
    return frame.sort_values("GFLOP/W", ascending=False, ignore_index=True)


_COMPARED = {
    "training": "training (TFLOP/s)",
    "inference": "inference (TFLOP/s)",
    "float64": "float64 (TFLOP/s)",
    "float32": "float32 (TFLOP/s)",
    "memory_gbps": "memory bandwidth (GB/s)",
    "link_gbps": "link bandwidth (GB/s)",
    "l2_mib": "L2 cache (MiB)",
    "l1_mib": "L1 caches (MiB)",
    "watts": "power limit (W)",
}


def find_spec(name: str) -> Spec:
    """Return a device of the table.

    Raises:
        NotFound: The table has no such device.
    """
    specs = all_specs()
    if name not in specs:
        raise NotFound(f"There is no device {name!r}; choose from {', '.join(specs)}.")
    return specs[name]


def _ratio(first: float | None, second: float | None) -> float | None:
    return round(second / first, 1) if first and second else None


def _float32_flops_per_cycle(cpu: Cpu) -> int | None:
    if "AVX-512" in cpu.extensions:
        return _AVX512_ZEN_4 if cpu.family == _ZEN_4_FAMILY else _AVX512
    if {"AVX2", "FMA"} <= set(cpu.extensions):
        return _AVX2
    return _NEON if "NEON" in cpu.extensions else None


def _bfloat16_flops_per_cycle(cpu: Cpu, float32: int | None) -> int | None:
    """Return the rate of AMX, or of dot products of pairs: twice that of multiply-adds."""
    if "AMX-BF16" in cpu.extensions:
        return _AMX_BFLOAT16
    has_dot_products = {"AVX-512 BF16", "BF16"} & set(cpu.extensions)
    return 2 * float32 if has_dot_products and float32 else None
