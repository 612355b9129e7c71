"""The makers' figures: complete, sourced, and in line with the slides of 2017."""

import pytest

from dltlab import devices
from dltlab.devices import datasheets, processor
from dltlab.devices.processor import Cpu
from dltlab.errors import LabError


def test_every_device_has_a_source_and_what_a_roofline_needs():
    table = devices.specs()

    assert list(table.index) == [
        "K80", "P100", "V100", "T4", "A100", "L4", "H100", "H200", "B200", "this CPU",
    ]  # fmt: skip
    assert table["source"].str.len().min() > 20
    gpus = table.drop("this CPU")
    needed = ["float32", "memory_gb", "memory_gbps", "link_gbps", "l2_mib", "l1_mib", "watts"]
    assert gpus[needed].notna().all(axis=None)


def test_tensor_cores_are_dense_figures():
    """Structured sparsity doubles a figure, and 16 bits are never more than twice TF32's."""
    for spec in datasheets.all_specs().values():
        if spec.tensorfloat32 and spec.float16:
            assert spec.float16 / spec.tensorfloat32 == pytest.approx(2, rel=0.03)


def test_the_slides_comparison_comes_out_of_the_table():
    """The slide rounds down, and showed the V100 before it shipped: within a tenth."""
    table = devices.compare("P100", "V100").drop("power limit (W)")

    assert len(table) == 8
    for gpu in ("P100", "V100"):
        assert (table[gpu] / table[f"{gpu}, slide"]).between(0.99, 1.1).all()
    assert table["ratio, slide"].tolist() == [12, 5.7, 1.5, 1.5, 1.2, 1.9, 1.5, 7.7]
    assert table["ratio"].tolist() == pytest.approx(table["ratio, slide"].tolist(), rel=0.05)


def test_any_two_devices_can_be_compared():
    table = devices.compare("V100", "H100")

    assert list(table.columns) == ["V100", "H100", "ratio", "V100, slide"]
    assert table.loc["memory bandwidth (GB/s)", "ratio"] == 3.7


def test_a_device_that_is_not_in_the_table_is_one_sentence():
    with pytest.raises(LabError, match=r"^There is no device 'V1000'; choose from K80, P100"):
        devices.compare("P100", "V1000")


def test_the_green500s_systems_stay_below_the_peak_of_their_gpus():
    table = devices.green500()

    assert table["GFLOP/W"].is_monotonic_decreasing
    measured = table[table["what"] == "system, measured"]
    assert len(measured) == 10
    peak = table.set_index("name").loc["P100", "GFLOP/W"]
    assert peak == 17.7
    assert measured["GFLOP/W"].max() < peak


@pytest.mark.parametrize(
    ("name", "expected"),
    [("NVIDIA A100-SXM4-80GB", "A100"), ("Tesla V100-SXM2-16GB", "V100"), ("NVIDIA L40S", None)],
)
def test_a_gpu_is_found_by_its_drivers_name(name, expected):
    found = datasheets.spec_of(name)

    assert (found.name if found else None) == expected


@pytest.mark.parametrize(
    ("extensions", "family", "float32", "bfloat16"),
    [
        (("AVX2", "FMA"), 6, 0.128, None),
        (("AVX2", "FMA", "AVX-512", "AVX-512 BF16"), 25, 0.128, 0.256),
        (("AVX2", "FMA", "AVX-512", "AMX-BF16"), 6, 0.256, 4.096),
        (("NEON", "BF16"), None, 0.064, 0.128),
        ((), None, None, None),
    ],
    ids=["AVX2", "Zen 4", "Intel with AMX", "Arm", "unknown"],
)
def test_a_cpus_peak_is_cores_times_clock_times_operations(extensions, family, float32, bfloat16):
    cpu = Cpu("a CPU", 2, 4, 2, extensions, 2.0, 32 << 20, family)

    spec = datasheets.of_cpu(cpu)

    assert spec.float32 == pytest.approx(float32)
    assert spec.bfloat16 == pytest.approx(bfloat16)
    assert spec.l2_mib == 32


def test_without_a_clock_a_cpu_has_no_peak():
    assert datasheets.of_cpu(Cpu("a CPU", 2, 2, 2, ("NEON",), None, None)).float32 is None
    assert processor.cpu_info().model
