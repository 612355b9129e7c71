"""Readings of the CPU and of GPUs: with fakes of a clock, of GPUs and of energy counters."""

from types import SimpleNamespace

import psutil
import pytest

from dltlab.devices import PowerMeter, cgroups, cpu_info, list_gpus, sampler
from dltlab.devices.sampler import Sampler, no_power_reason

GIB = 1 << 30
ZONE = "sys/class/powercap/intel-rapl:0"


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """A clock that advances by 0.1 s at each reading; the process computes half of the time."""
    now = 0.0

    def perf_counter() -> float:
        nonlocal now
        now += 0.1
        return now

    monkeypatch.setattr(sampler, "perf_counter", perf_counter)
    monkeypatch.setattr(sampler, "process_time", lambda: now / 2)


@pytest.fixture
def energy_counter(kernel_files):
    """The energy counter of the CPU: a function that sets its microjoules."""
    kernel_files(
        {
            f"{ZONE}/max_energy_range_uj": "999999\n",
            "sys/class/powercap/intel-rapl:0:0/energy_uj": "1\n",  # part of the first
        }
    )

    def set_energy(microjoules: int | str) -> None:
        kernel_files({f"{ZONE}/energy_uj": f"{microjoules}\n"})

    set_energy(900_000)
    return set_energy


def test_the_utilization_is_that_of_the_cores_the_process_may_use(no_nvml):
    with Sampler(()) as readings:
        samples = [readings.sample() for _ in range(3)]

    assert [sample["seconds"] for sample in samples] == pytest.approx([0.1, 0.2, 0.3])
    expected = [50 / cpu_info().cores] * 3
    assert [sample["cpu_percent"] for sample in samples] == pytest.approx(expected)
    assert all(sample["memory_gib"] > 0 for sample in samples)


def test_a_gpu_reports_utilization_memory_power_and_temperature(nvml, gpu):
    library = nvml([gpu(), gpu(used=2 * GIB)])

    with Sampler(list_gpus()[1:]) as readings:
        sample = readings.sample()

    assert not [name for name in sample if name.startswith("gpu0")]
    assert sample["gpu1_percent"] == 90
    assert sample["gpu1_memory_gib"] == 2
    assert sample["gpu1_watts"] == 250
    assert sample["gpu1_celsius"] == 60
    assert library.num_sessions == 0


def test_what_a_gpu_does_not_report_is_left_out(nvml, gpu):
    nvml([gpu(mig=True, percent=None, watts=None)])

    with Sampler(list_gpus()) as readings:
        sample = readings.sample()

    assert {"gpu0_memory_gib", "gpu0_celsius"} <= set(sample)
    assert not {"gpu0_percent", "gpu0_watts"} & set(sample)


def test_a_lost_gpu_is_left_out_from_then_on(nvml, gpu):
    nvml([gpu(answers_left=2)])

    with Sampler(list_gpus()) as readings:
        samples = [readings.sample() for _ in range(4)]

    assert ["gpu0_watts" in sample for sample in samples] == [True, False, False, False]
    assert readings.lost == {0: pytest.approx(0.2)}


def test_the_power_of_a_cpu_is_computed_from_its_energy_counter(no_nvml, energy_counter):
    with Sampler(()) as readings:
        energy_counter(400_000)  # it has started again at 0 after 999,999

        assert readings.sample()["cpu_watts"] == pytest.approx(0.5 / 0.1)


def test_an_energy_counter_that_cannot_be_read_is_left_out(no_nvml, energy_counter, kernel_files):
    with Sampler(()) as readings:
        (cgroups.ROOT / ZONE / "energy_uj").unlink()

        assert "cpu_watts" not in readings.sample()

    with Sampler(()) as readings:
        assert "cpu_watts" not in readings.sample()


def test_why_the_power_of_the_cpu_is_not_known(energy_counter, kernel_files):
    assert no_power_reason() is None
    (cgroups.ROOT / ZONE / "energy_uj").unlink()  # root may read any file
    (cgroups.ROOT / "sys/class/powercap/intel-rapl:0:0/energy_uj").unlink()
    assert "may not read the processor's energy counters; as root, chmod o+r" in str(
        no_power_reason()
    )
    (cgroups.ROOT / ZONE / "max_energy_range_uj").unlink()
    (cgroups.ROOT / ZONE).rmdir()
    (cgroups.ROOT / f"{ZONE}:0").rmdir()
    assert "has no energy counters" in str(no_power_reason())


def test_the_temperature_of_the_cpu_is_that_of_its_hottest_sensor(no_nvml, monkeypatch):
    sensors = {
        "coretemp": [SimpleNamespace(current=50.0), SimpleNamespace(current=70.0)],
        "nvme": [SimpleNamespace(current=90.0)],
    }
    monkeypatch.setattr(psutil, "sensors_temperatures", lambda: sensors, raising=False)
    with Sampler(()) as readings:
        assert readings.sample()["cpu_celsius"] == 70

    monkeypatch.delattr(psutil, "sensors_temperatures")
    with Sampler(()) as readings:
        assert "cpu_celsius" not in readings.sample()


def test_a_power_meter_adds_up_all_devices(two_gpus, energy_counter):
    with PowerMeter() as power:
        energy_counter(950_000)

        assert power.watts() == pytest.approx(0.05 / 0.1 + 2 * 250)


def test_a_power_meter_without_a_device_that_reports_its_power(no_nvml, kernel_files):
    kernel_files({})

    with PowerMeter() as power:
        assert power.watts() is None
