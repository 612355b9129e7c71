"""The processor and the memory of machines of several kinds."""

import os
import platform
from types import SimpleNamespace

import psutil
import pytest

from dltlab.devices import cpu_info, memory_info
from dltlab.devices.processor import Cpu

GIB = 1 << 30
INTEL = """processor\t: 0
model name\t: Intel(R) Xeon(R) Platinum 8481C
cpu family\t: 6
cpu MHz\t\t: 2700.000
physical id\t: 0
core id\t\t: 0
flags\t\t: fpu avx2 fma avx512f avx512_bf16 amx_bf16 amx_tile amx_int8

processor\t: 1
model name\t: Intel(R) Xeon(R) Platinum 8481C
cpu family\t: 6
cpu MHz\t\t: 2700.000
physical id\t: 0
core id\t\t: 0
flags\t\t: fpu avx2 fma avx512f avx512_bf16 amx_bf16 amx_tile amx_int8
"""
ARM = """processor\t: 0
BogoMIPS\t: 2100.00
Features\t: fp asimd sve bf16 i8mm
"""


@pytest.fixture
def two_threads(monkeypatch):
    """This process may run on the hardware threads 0 and 1."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})


def test_an_intel_processor_in_a_container_with_half_a_core(kernel_files, two_threads):
    kernel_files(
        {
            "proc/cpuinfo": INTEL,
            "proc/self/cgroup": "0::/\n",
            "sys/fs/cgroup/cpu.max": "50000 100000\n",
            "sys/devices/system/cpu/cpu0/cache/index2/size": "2048K\n",
            "sys/devices/system/cpu/cpu0/cache/index3/size": "105M\n",
        }
    )

    cpu = cpu_info()

    assert (cpu.cores, cpu.threads, cpu.physical_cores, cpu.has_quota) == (0.5, 2, 1, True)
    assert (cpu.ghz, cpu.cache_bytes, cpu.family) == (2.7, 105 << 20, 6)
    assert {"AVX-512", "AMX-BF16"} <= set(cpu.extensions)
    assert cpu.name == "Intel(R) Xeon(R) Platinum 8481C (0.5 cores)"


def test_an_arm_processor(kernel_files, two_threads, monkeypatch):
    kernel_files({"proc/cpuinfo": ARM})
    monkeypatch.setattr(platform, "processor", lambda: "")
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    monkeypatch.setattr(psutil, "cpu_freq", lambda: SimpleNamespace(current=2600.0))

    cpu = cpu_info()

    assert (cpu.model, cpu.cores, cpu.physical_cores, cpu.ghz) == ("aarch64", 2, 2, 2.6)
    assert cpu.extensions == ("NEON", "SVE", "BF16", "I8MM")
    assert (cpu.cache_bytes, cpu.family, cpu.has_quota) == (None, None, False)


def test_a_system_that_reports_neither_processor_nor_affinity(kernel_files, monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    monkeypatch.setattr(psutil, "cpu_freq", lambda: None)

    cpu = cpu_info()

    assert (cpu.cores, cpu.extensions, cpu.ghz) == (3, (), None)
    assert cpu.model


@pytest.mark.parametrize(
    ("extensions", "is_exact"),
    [
        (("AVX2", "FMA"), False),
        (("AVX2", "AVX-512"), False),
        (("AVX2", "AVX-VNNI"), True),
        (("AVX2", "AVX-512", "AVX-512 VNNI"), True),
        (("NEON",), True),
    ],
)
def test_sums_of_8_bit_products_saturate_on_older_x86_processors(extensions, is_exact):
    assert Cpu("a CPU", 2, 2, 2, extensions, None, None).sums_int8_exactly == is_exact


@pytest.mark.parametrize(("cores", "text"), [(1, "1 core"), (0.5, "0.5 cores"), (8, "8 cores")])
def test_the_number_of_cores_in_words(cores, text):
    assert Cpu("a CPU", cores, 8, 8, (), None, None).cores_text == text


def test_memory_without_a_limit_is_that_of_the_machine(kernel_files, monkeypatch):
    memory = SimpleNamespace(total=8 * GIB, available=3 * GIB)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)

    assert memory_info().total == 8 * GIB
    assert memory_info().available == 3 * GIB
    assert not memory_info().limited


@pytest.mark.parametrize(
    ("used", "machine_available", "available"),
    [("1073741824", 8 * GIB, GIB), ("1073741824", GIB // 2, GIB // 2), ("3221225472", GIB, 0)],
)
def test_memory_is_limited_by_the_container(
    kernel_files, monkeypatch, used, machine_available, available
):
    kernel_files(
        {
            "proc/self/cgroup": "0::/\n",
            "sys/fs/cgroup/memory.max": "2147483648\n",
            "sys/fs/cgroup/memory.current": used,
        }
    )
    memory = SimpleNamespace(total=16 * GIB, available=machine_available)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)

    limited = memory_info()

    assert (limited.total, limited.available, limited.limited) == (2 * GIB, available, True)
