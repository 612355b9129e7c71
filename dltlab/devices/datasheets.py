"""What devices can do by their makers' papers: `specs`, `compare`, `green500`.

The table itself is data, with a source for each row: `datasheets.toml`.
"""

import tomllib
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dltlab.devices import processor
from dltlab.devices.processor import Cpu
from dltlab.errors import LabError

if TYPE_CHECKING:
    import pandas as pd

_TABLE = Path(__file__).with_name("datasheets.toml")

# Floating-point operations a core does in a cycle with a multiply-add in float32. Sources: Intel,
# "64 and IA-32 Architectures Optimization Reference Manual" (two 512-bit units on servers; AMX:
# 512 bfloat16 multiply-adds); AMD, "Software Optimization Guide for the Zen4 Microarchitecture"
# (512-bit operations in two halves) and "... Zen5 ..." (whole); Arm, "Neoverse V1 Software
# Optimization Guide" (four 128-bit units, two of them on smaller cores).
_AVX512, _AVX512_IN_HALVES, _AVX2, _NEON, _AMX_BFLOAT16 = 64, 32, 32, 16, 1024
_ZEN_4_FAMILY = 25


@dataclass(frozen=True)
class Spec:
    """One device's peaks; None where the maker gives none. `datasheets.toml` tells the units."""

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
        """TFLOP/s in training: 16-bit tensor cores where there are any, else float32."""
        return self.float16 if self.tensor_cores else self.float32

    @property
    def inference(self) -> float | None:
        """TFLOP/s in inference: the best 16-bit rate, else float32."""
        return self.float16 or self.bfloat16 or self.float32

    @property
    def gflops_per_watt(self) -> float | None:
        """Peak GFLOP/s in float64, which Linpack computes in, for each watt of the power limit."""
        best = max(self.float64 or 0, self.float64_tensor or 0)
        return 1000 * best / self.watts if best and self.watts else None


@cache
def _table() -> dict[str, Any]:
    return tomllib.loads(_TABLE.read_text(encoding="utf-8"))


def all_specs() -> dict[str, Spec]:
    """Every device of the table by its short name, and the CPU found as "this CPU"."""
    found = {row["name"]: Spec(**row) for row in _table()["gpu"]}
    return found | {"this CPU": of_cpu(processor.cpu_info())}


def spec_of(device_name: str) -> Spec | None:
    """The row for a GPU by the name its driver gives it; None if the table has none."""
    words = device_name.replace("-", " ").split()
    return next((spec for name, spec in all_specs().items() if name in words), None)


def of_cpu(cpu: Cpu) -> Spec:
    """The peaks of a CPU: cores × clock × operations in a cycle.

    The clock is what the system tells, so a CPU that boosts beyond it does more than this peak.
    Cores are the physical ones behind the threads this process may use: two threads of one core
    share its units.
    """
    flops = _float32_flops(cpu)
    tera = min(cpu.cores, cpu.physical_cores) * cpu.ghz / 1000 if cpu.ghz else None
    sixteen = _bfloat16_flops(cpu, flops)
    return Spec(
        name="this CPU",
        full_name=cpu.model,
        source="cores × clock × operations in a cycle, from /proc/cpuinfo and the makers' manuals",
        float64=tera * flops / 2 if tera and flops else None,
        float32=tera * flops if tera and flops else None,
        bfloat16=tera * sixteen if tera and sixteen else None,
        l2_mib=cpu.cache_bytes / 2**20 if cpu.cache_bytes else None,
    )


def specs() -> "pd.DataFrame":
    """All devices as a table, a row each; the columns and their units: `datasheets.toml`."""
    import pandas as pd

    names = [field.name for field in fields(Spec)]
    rows = [[getattr(spec, name) for name in names] for spec in all_specs().values()]
    frame = pd.DataFrame(rows, columns=names).set_index("name").dropna(axis="columns", how="all")
    return frame.astype({"year": "Int64"})


def compare(first: str = "P100", second: str = "V100") -> "pd.DataFrame":
    """Two devices side by side, as on the slide "GPU performance comparison".

    The table has a row for each quantity, both devices and the ratio; for devices that are on the
    slide, what it says stands beside, rounded as there.

    Raises:
        LabError: There is no such device in the table.
    """
    import pandas as pd

    chosen = {name: _required(name) for name in (first, second)}
    slide = {name: _table()["slide"].get(name, {}) for name in chosen}
    rows = {}
    for key, label in _COMPARED.items():
        here = [getattr(spec, key) for spec in chosen.values()]
        there = [slide[name].get(key) for name in chosen]
        rows[label] = [*here, _ratio(*here), *there, _ratio(*there)]
    columns = [first, second, "ratio", f"{first}, slide", f"{second}, slide", "ratio, slide"]
    frame = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
    return frame.astype(float).round(2).dropna(axis="columns", how="all").dropna(how="all")


def green500() -> "pd.DataFrame":
    """GFLOP/s a watt: systems of the slides' Green500 list, and devices of this table.

    The systems' are measured with Linpack, with all that a system has besides GPUs; the devices'
    are peaks in float64 over the power limit, which no program reaches. Best first.
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


def _required(name: str) -> Spec:
    found = all_specs()
    if name not in found:
        raise LabError(f"There is no device {name!r}; choose from {', '.join(found)}.")
    return found[name]


def _ratio(first: float | None, second: float | None) -> float | None:
    return round(second / first, 1) if first and second else None


def _float32_flops(cpu: Cpu) -> int | None:
    if "AVX-512" in cpu.extensions:
        return _AVX512_IN_HALVES if cpu.family == _ZEN_4_FAMILY else _AVX512
    if {"AVX2", "FMA"} <= set(cpu.extensions):
        return _AVX2
    return _NEON if "NEON" in cpu.extensions else None


def _bfloat16_flops(cpu: Cpu, float32: int | None) -> int | None:
    """AMX, or else a dot product of pairs, which does twice as much as a multiply-add."""
    if "AMX-BF16" in cpu.extensions:
        return _AMX_BFLOAT16
    paired = {"AVX-512 BF16", "BF16"} & set(cpu.extensions)
    return 2 * float32 if paired and float32 else None
