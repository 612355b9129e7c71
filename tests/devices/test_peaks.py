"""Measured peaks and rooflines: with a fake clock, and one real measurement on the CPU."""

import itertools
import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest

from dltlab.devices import Point, peaks, roofline, specified_peaks
from dltlab.devices.peaks import Peaks
from dltlab.errors import NotFound, Unavailable
from tests.deadlines import HANG_SECONDS

PEAKS = Peaks("a CPU (2 cores)", {"float32": 100e9, "bfloat16": 1.5e12}, 20e9, {"float32": 1024,
              "bfloat16": 2048})  # fmt: skip
POINTS = [
    Point("embedding", flops=1e9, bytes=1e9, seconds=0.1),
    Point("convolution", flops=1e12, bytes=1e9, seconds=1.0),
]
PROGRAM = """
import json
from dltlab.devices import measure_peaks
from dltlab.errors import Invalid, NotFound

peaks = measure_peaks(["float32"], seconds=0)
for arguments in ({"dtypes": ["int4"]}, {"dtypes": ["tensorfloat32"]}, {"device": "GPU:9"},
                  {"dtypes": ["float64"], "layers": True}):
    try:
        measure_peaks(**arguments)
    except (Invalid, NotFound) as error:
        print(error)
print(json.dumps(peaks.as_dict()))
"""


def test_a_cpu_is_measured_and_invalid_arguments_are_refused():
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}

    process = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=environment,
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
    )

    assert process.returncode == 0, process.stderr
    *messages, result = process.stdout.splitlines()
    assert messages == [
        "CPU:0 cannot measure dtype 'int4'; choose from float64, float32, bfloat16.",
        "CPU:0 cannot measure dtype 'tensorfloat32'; choose from float64, float32, bfloat16.",
        "There is no device 'GPU:9'; choose from CPU:0.",
        "Layers are measured in float32, which is not among float64.",
    ]
    measured = json.loads(result)
    assert measured["device"]
    assert measured["flops"]["float32"] > 1e8
    assert measured["size"]["float32"] >= 512
    assert measured["bytes_per_second"] > 1e7


def test_peaks_are_listed_by_dtype():
    assert PEAKS.summary == (
        "a CPU (2 cores): 100 GFLOP/s in float32, 1.5 TFLOP/s in bfloat16; memory at 20.0 GB/s."
    )
    assert list(PEAKS.table.itertuples(index=False, name=None)) == [
        ("float32", 100.0, 1024),
        ("bfloat16", 1500.0, 2048),
    ]
    assert repr(PEAKS).splitlines()[-1].split() == ["bfloat16", "1,500", "2048"]


def test_a_roofline_has_a_roof_for_each_dtype_and_a_point_for_each_program():
    (axes,) = roofline(POINTS, PEAKS).figure().axes

    roofs, points = axes.lines[:2], axes.lines[2:]
    assert [np.max(roof.get_ydata()) for roof in roofs] == [100e9, 1.5e12]
    assert [roof.get_label() for roof in roofs] == [
        "float32: 100 GFLOP/s",
        "bfloat16: 1.5 TFLOP/s",
    ]
    coordinates = [tuple(np.concatenate(point.get_data())) for point in points]
    assert coordinates == [(1, 1e10), (1000, 1e12)]
    assert "FLOP/s" in axes.get_ylabel()
    assert "byte" in axes.get_xlabel()
    assert "20 GB/s" in axes.get_title()


def test_a_roofline_compares_each_point_with_the_roof_above_it():
    result = roofline(POINTS, PEAKS)

    assert "embedding runs at 10 GFLOP/s, 50% of what it could reach" in result.summary
    assert "convolution runs at 1.0 TFLOP/s, 67% of what it could reach." in result.summary
    assert result.table["share"].tolist() == pytest.approx([0.5, 2 / 3])
    assert result.table["roof (GFLOP/s)"].tolist() == [20.0, 1500.0]
    assert result.as_dict()["points"][0]["name"] == "embedding"


def test_a_roofline_needs_no_points(capsys):
    result = roofline(peaks=PEAKS)

    result.show()

    assert capsys.readouterr().out == f"Roofline of {PEAKS.summary}\n"
    assert math.isfinite(result.figure().axes[0].get_xlim()[0])


def test_labels_of_points_close_to_each_other_are_at_different_sides():
    points = [
        Point("1×1", flops=29.6, bytes=1, seconds=29.6 / 48.4e9),
        Point("dense, 64 images", flops=30.1, bytes=1, seconds=30.1 / 51.1e9),
        Point("3×3", flops=166, bytes=1, seconds=166 / 66.6e9),
    ]
    figure = roofline(points, PEAKS).figure()
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]

    assert len(boxes) == 3
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))


def test_a_roofline_measures_this_machine_by_default(monkeypatch):
    monkeypatch.setattr(peaks, "measure_peaks", lambda: PEAKS)

    assert roofline().peaks is PEAKS


def test_peaks_of_a_data_sheet():
    peaks = specified_peaks("V100")
    assert peaks.flops == {"float64": 7.8e12, "float32": 15.7e12, "float16": 125e12}
    assert peaks.bytes_per_second == 900e9
    assert "125.0 TFLOP/s in float16" in repr(peaks)
    with pytest.raises(NotFound, match="no device 'V101'"):
        specified_peaks("V101")
    with pytest.raises(Unavailable, match=r"the memory of this CPU is: measure_peaks\(\)"):
        specified_peaks("this CPU")
