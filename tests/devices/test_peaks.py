"""Measured peaks: the arithmetic with a fake of time, and one real measurement on the CPU."""

import json
import math
import os
import subprocess
import sys

import pytest

from dltlab.devices import Point, peaks
from dltlab.devices.peaks import Peaks

FOUND = Peaks("a CPU (2 cores)", {"float32": 100e9, "bfloat16": 1.5e12}, 20e9, {"float32": 1024})
POINTS = [
    Point("embedding", flops=1e9, bytes=1e9, seconds=0.1),
    Point("convolution", flops=1e12, bytes=1e9, seconds=1.0),
]
REAL = """
import json
from dltlab.devices import measure_peaks
from dltlab.errors import LabError

found = measure_peaks(["float32"], seconds=0)
for bad in ({"dtypes": ["int4"]}, {"dtypes": ["tensorfloat32"]}, {"device": "GPU:9"}):
    try:
        measure_peaks(**bad)
    except LabError as error:
        print(error)
print(found)
print(json.dumps([found.flops["float32"], found.size["float32"], found.bytes_per_second]))
"""


def test_a_cpu_is_measured_and_nonsense_refused():
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}

    done = subprocess.run(
        [sys.executable, "-c", REAL], env=environment, capture_output=True, text=True
    )

    assert done.returncode == 0, done.stderr
    *said, numbers = done.stdout.splitlines()
    assert said[:3] == [
        "CPU:0 has no dtype 'int4' to measure; choose from float64, float32, bfloat16.",
        "CPU:0 has no dtype 'tensorfloat32' to measure; choose from float64, float32, bfloat16.",
        "There is no device 'GPU:9'; choose from CPU:0.",
    ]
    assert said[3].startswith("Measured on ")
    flops, size, bandwidth = json.loads(numbers)
    assert flops > 1e8
    assert size >= 512
    assert bandwidth > 1e7


def test_the_fastest_of_the_calls_that_fit_counts_and_the_first_does_not(monkeypatch):
    took = iter([0.1, 0.5, 0.2, 0.4, 0.1])
    now = 0.0

    def call() -> None:
        nonlocal now
        now += next(took)

    monkeypatch.setattr(peaks, "perf_counter", lambda: now)

    assert peaks._best(call, 1.0) == pytest.approx(0.2)


def test_the_figure_has_a_roof_for_each_dtype_and_a_point_for_each_program():
    (axes,) = peaks.draw_roofline(POINTS, FOUND).axes

    roofs, dots = axes.lines[:2], axes.lines[2:]
    assert [max(roof.get_ydata()) for roof in roofs] == [100e9, 1.5e12]
    assert [roof.get_label() for roof in roofs] == [
        "float32: 100 GFLOP/s",
        "bfloat16: 1.5 TFLOP/s",
    ]
    assert [(*dot.get_xdata(), *dot.get_ydata()) for dot in dots] == [(1, 1e10), (1000, 1e12)]
    assert "FLOP/s" in axes.get_ylabel()
    assert "byte" in axes.get_xlabel()
    assert "20 GB/s" in axes.get_title()


def test_the_figure_is_told_in_words():
    words = peaks.describe_roofline(POINTS, FOUND)

    assert "embedding runs at 10 GFLOP/s, 50% of what it could" in words
    assert "convolution runs at 1.0 TFLOP/s, 67% of what it could." in words
    assert "100 GFLOP/s in float32, 1.5 TFLOP/s in bfloat16" in words


def test_a_roofline_needs_no_points(capsys):
    peaks.roofline(peaks=FOUND)

    assert capsys.readouterr().out == (
        "Roofline of a CPU (2 cores): a slope of 20 GB/s, then levels of 100 GFLOP/s in float32, "
        "1.5 TFLOP/s in bfloat16.\n"
    )
    assert math.isfinite(peaks.draw_roofline([], FOUND).axes[0].get_xlim()[0])
