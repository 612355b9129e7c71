"""Readings of the CPU and of GPUs: utilization, memory, power and temperature."""

from contextlib import ExitStack
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

from dltlab.devices import cgroups, nvml, processor
from dltlab.devices.nvml import Gpu

_GIB = 1 << 30
_TEMPERATURE_INTERVAL = 10  # samples; temperatures change slowly, and the CPU's takes long to read
_CPU_SENSORS = ("coretemp", "k10temp", "zenpower", "cpu_thermal")

Row = dict[str, float]


class Sampler:
    """Reads the CPU, as far as this process uses it, and GPUs; a context manager.

    A quantity that a device does not report is missing from the row. A GPU that is lost is missing
    from then on; nothing is raised.

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

        self._stack = ExitStack()
        self._nvml = self._stack.enter_context(nvml.session()) if self._gpus else None
        self._process = psutil.Process()
        self._cores = processor.cpu_info().cores
        self._energy = _CpuEnergy()
        self._start = self._last_sample = perf_counter()
        self._last_cpu_time = process_time()
        self._num_samples = 0
        self._celsius: float | None = None
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def sample(self) -> Row:
        """Return the present values; rates are means since the last call.

        `seconds` since the sampler was entered; `cpu_percent`, the utilization of the cores that
        this process may use; `memory_gib` of this process; `cpu_watts` of the whole processor;
        `gpu0_percent`, `gpu0_memory_gib` and `gpu0_watts` of the whole GPU 0; and `cpu_celsius` and
        `gpu0_celsius`.
        """
        now, cpu_time = perf_counter(), process_time()
        seconds = now - self._last_sample
        row = {
            "seconds": now - self._start,
            "cpu_percent": 100 * (cpu_time - self._last_cpu_time) / seconds / self._cores,
            "memory_gib": self._process.memory_info().rss / _GIB,
        }
        self._last_sample, self._last_cpu_time = now, cpu_time
        joules = self._energy.joules()
        if joules is not None:
            row["cpu_watts"] = joules / seconds
        if self._num_samples % _TEMPERATURE_INTERVAL == 0:
            self._celsius = _cpu_celsius()
        self._num_samples += 1
        if self._celsius is not None:
            row["cpu_celsius"] = self._celsius
        for gpu in self._gpus:
            if gpu.index not in self.lost:
                row |= self._sample_gpu(gpu, row["seconds"])
        return row

    def _sample_gpu(self, gpu: Gpu, seconds: float) -> Row:
        library: Any = self._nvml
        name = f"gpu{gpu.index}"
        try:
            handle = library.nvmlDeviceGetHandleByIndex(gpu.index)
            rates = nvml.call_if_supported(library.nvmlDeviceGetUtilizationRates, handle)
            memory = library.nvmlDeviceGetMemoryInfo(handle)
            milliwatts = nvml.call_if_supported(library.nvmlDeviceGetPowerUsage, handle)
            sensor = library.NVML_TEMPERATURE_GPU
            celsius = nvml.call_if_supported(library.nvmlDeviceGetTemperature, handle, sensor)
        except library.NVMLError:
            self.lost[gpu.index] = seconds
            return {}
        values = {
            f"{name}_percent": None if rates is None else rates.gpu,
            f"{name}_memory_gib": memory.used / _GIB,
            f"{name}_watts": None if milliwatts is None else milliwatts / 1000,
            f"{name}_celsius": celsius,
        }
        return {key: float(value) for key, value in values.items() if value is not None}


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
        row = self._sampler.sample()
        watts = [value for name, value in row.items() if name.endswith("_watts")]
        return sum(watts) if watts else None


def no_power_reason() -> str | None:
    """Return why the CPU's power is not known here, and the fix; None where it is known."""
    zones = list((cgroups.ROOT / "sys/class/powercap").glob("intel-rapl:*"))
    if not zones:
        return "the system has no energy counters of the processor; virtual machines have none"
    if any(map(_is_readable, zones)):
        return None
    return (
        "this user may not read the processor's energy counters; as root, "
        "chmod o+r /sys/class/powercap/intel-rapl:*/energy_uj allows it"
    )


class _CpuEnergy:
    """The energy counters (RAPL) of the processor's packages, where this user may read them.

    Source: the kernel's Documentation/power/powercap/powercap.rst. Since CVE-2020-8694 many systems
    let only root read them.
    """

    def __init__(self) -> None:
        zones = (cgroups.ROOT / "sys/class/powercap").glob("intel-rapl:*")
        self._zones = [zone for zone in zones if zone.name.count(":") == 1 and _is_readable(zone)]
        self._last = [_microjoules(zone) for zone in self._zones]

    def joules(self) -> float | None:
        """Return the joules since the last call; None without a counter."""
        if not self._zones:
            return None
        try:
            now = [_microjoules(zone) for zone in self._zones]
            ranges = [_microjoules(zone, "max_energy_range_uj") for zone in self._zones]
        except OSError:
            return None
        used = [
            (after - before) % (largest + 1)  # a counter starts again at 0 after its largest value
            for after, before, largest in zip(now, self._last, ranges, strict=True)
        ]
        self._last = now
        return sum(used) / 1e6


def _microjoules(zone: Path, name: str = "energy_uj") -> int:
    return int((zone / name).read_text())


def _is_readable(zone: Path) -> bool:
    try:
        return _microjoules(zone) >= 0
    except OSError:
        return False


def _cpu_celsius() -> float | None:
    import psutil

    if not hasattr(psutil, "sensors_temperatures"):
        return None
    sensors = psutil.sensors_temperatures()
    readings = [reading.current for name in _CPU_SENSORS for reading in sensors.get(name, ())]
    return max(readings, default=None)
