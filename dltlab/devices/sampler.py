"""One look at this machine: how busy it is, what it holds, how much power it takes."""

from contextlib import ExitStack
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

from dltlab.devices import cgroups, nvml, processor
from dltlab.devices.nvml import Gpu

_GIB = 1 << 30
_CELSIUS_EVERY = 10  # samples; temperatures change slowly, and reading a CPU's is dear
_SENSORS = ("coretemp", "k10temp", "zenpower", "cpu_thermal")

Row = dict[str, float]


class Sampler:
    """Reads the meters of this process's CPU and of GPUs; a context manager.

    What a meter does not tell is left out of the row. A GPU that is lost is left out from then on;
    nothing is raised.

    Args:
        gpus: Those to read.

    Attributes:
        lost: Seconds after which each lost GPU stopped answering, by its index.
    """

    def __init__(self, gpus: tuple[Gpu, ...]) -> None:
        self._gpus = gpus
        self.lost: dict[int, float] = {}

    def __enter__(self) -> "Sampler":
        import psutil

        self._open = ExitStack()
        self._nvml = self._open.enter_context(nvml.opened()) if self._gpus else None
        self._process = psutil.Process()
        self._cores = processor.cpu_info().cores
        self._rapl = _Rapl()
        self._began = self._last = perf_counter()
        self._busy = process_time()
        self._num_rows = 0
        self._celsius: float | None = None
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    def row(self) -> Row:
        """The meters now; rates are over the time since the last call.

        `seconds` since the sampler was entered; `cpu_percent` of the cores this process may use,
        that it used; `memory_gib` that it holds; `cpu_watts` of the whole processor;
        `gpu0_percent`, `gpu0_memory_gib` and `gpu0_watts` of the whole GPU 0; and `celsius` of
        each.
        """
        now, busy = perf_counter(), process_time()
        seconds = now - self._last
        row = {
            "seconds": now - self._began,
            "cpu_percent": 100 * (busy - self._busy) / seconds / self._cores,
            "memory_gib": self._process.memory_info().rss / _GIB,
        }
        self._last, self._busy = now, busy
        joules = self._rapl.joules()
        if joules is not None:
            row["cpu_watts"] = joules / seconds
        if self._num_rows % _CELSIUS_EVERY == 0:
            self._celsius = _cpu_celsius()
        self._num_rows += 1
        if self._celsius is not None:
            row["cpu_celsius"] = self._celsius
        for gpu in self._gpus:
            if gpu.index not in self.lost:
                row |= self._gpu_row(gpu, row["seconds"])
        return row

    def _gpu_row(self, gpu: Gpu, seconds: float) -> Row:
        library: Any = self._nvml
        name = f"gpu{gpu.index}"
        try:
            handle = library.nvmlDeviceGetHandleByIndex(gpu.index)
            rates = nvml.told(library.nvmlDeviceGetUtilizationRates, handle)
            memory = library.nvmlDeviceGetMemoryInfo(handle)
            milliwatts = nvml.told(library.nvmlDeviceGetPowerUsage, handle)
            sensor = library.NVML_TEMPERATURE_GPU
            celsius = nvml.told(library.nvmlDeviceGetTemperature, handle, sensor)
        except library.NVMLError:
            self.lost[gpu.index] = seconds
            return {}
        told = {
            f"{name}_percent": None if rates is None else rates.gpu,
            f"{name}_memory_gib": memory.used / _GIB,
            f"{name}_watts": None if milliwatts is None else milliwatts / 1000,
            f"{name}_celsius": celsius,
        }
        return {key: float(value) for key, value in told.items() if value is not None}


class PowerMeter:
    """Measures the electric power of the CPU and the GPUs while a `with` block runs."""

    def __enter__(self) -> "PowerMeter":
        self._sampler = Sampler(nvml.list_gpus()).__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._sampler.__exit__(*error)

    def watts(self) -> float | None:
        """Return the power of all devices in watts; None where no device reports it.

        The CPU's is the mean since the last call, or since the block was entered; a GPU's is its
        own latest reading. Both include what other programs use.
        """
        row = self._sampler.row()
        watts = [value for name, value in row.items() if name.endswith("_watts")]
        return sum(watts) if watts else None


class _Rapl:
    """The energy counters of the processor's packages, where this user may read them.

    Source: the kernel's Documentation/power/powercap/powercap.rst. Many systems keep the counters
    to root, since CVE-2020-8694.
    """

    def __init__(self) -> None:
        zones = (cgroups.ROOT / "sys/class/powercap").glob("intel-rapl:*")
        self._zones = [zone for zone in zones if zone.name.count(":") == 1 and _counts(zone)]
        self._last = [_microjoules(zone) for zone in self._zones]

    def joules(self) -> float | None:
        """Joules since the last call; None without a counter."""
        if not self._zones:
            return None
        try:
            now = [_microjoules(zone) for zone in self._zones]
            ranges = [_microjoules(zone, "max_energy_range_uj") for zone in self._zones]
        except OSError:
            return None
        spent = [
            (after - before) % (wrap + 1)
            for after, before, wrap in zip(now, self._last, ranges, strict=True)
        ]
        self._last = now
        return sum(spent) / 1e6


def _microjoules(zone: Path, name: str = "energy_uj") -> int:
    return int((zone / name).read_text())


def _counts(zone: Path) -> bool:
    try:
        return _microjoules(zone) >= 0
    except OSError:
        return False


def _cpu_celsius() -> float | None:
    import psutil

    if not hasattr(psutil, "sensors_temperatures"):
        return None
    found = psutil.sensors_temperatures()
    readings = [each.current for name in _SENSORS for each in found.get(name, ())]
    return max(readings, default=None)
