"""The figures of data sheets: complete, with sources, and consistent with the slides of 2017."""

import pytest

from dltlab import devices
from dltlab.devices import datasheets
from dltlab.devices.processor import Cpu
from dltlab.errors import NotFound


def test_every_device_has_a_source_and_the_values_of_a_roofline():
    table = devices.specs()

    assert list(table.index) == [
        "K80", "P100", "V100", "T4", "A100", "L4", "H100", "H200", "B200", "this CPU",
    ]  # fmt: skip
    assert table["source"].str.len().min() > 20
    gpus = table.drop("this CPU")
    required = ["float32", "memory_gb", "memory_gbps", "link_gbps", "l2_mib", "l1_mib", "watts"]
    assert gpus[required].notna().all(axis=None)


def test_figures_of_tensor_cores_are_without_sparsity():
    """Structured sparsity would double a figure; float16 is twice as fast as TensorFloat-32."""
    for spec in datasheets.all_specs().values():
        if spec.tensorfloat32 and spec.float16:
            assert spec.float16 / spec.tensorfloat32 == pytest.approx(2, rel=0.03)


def test_the_comparison_on_the_slide_agrees_with_the_table():
    """Within 10%: the slide rounds down, and showed the V100 before its release."""
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


def test_an_unknown_device_is_reported_with_the_known_ones():
    with pytest.raises(NotFound, match=r"^There is no device 'V1000'; choose from K80, P100"):
        devices.compare("P100", "V1000")


def test_systems_of_the_green500_are_below_the_peak_of_their_gpus():
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
def test_a_gpu_is_found_by_the_name_its_driver_reports(name, expected):
    spec = devices.gpu_spec(name)

    assert (spec.name if spec else None) == expected


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
def test_the_peak_of_a_cpu_is_computed_from_its_clock(extensions, family, float32, bfloat16):
    cpu = Cpu("a CPU", 2, 4, 2, extensions, 2.0, 32 << 20, family)

    spec = devices.cpu_spec(cpu)

    assert spec.float32 == pytest.approx(float32)
    assert spec.bfloat16 == pytest.approx(bfloat16)
    assert spec.l2_mib == 32


def test_a_cpu_without_a_known_clock_has_no_peak():
    assert devices.cpu_spec(Cpu("a CPU", 2, 2, 2, ("NEON",), None, None)).float32 is None
