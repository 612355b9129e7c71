"""The convolutions of lab 06, with shapes that are not in the lab."""

import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dltlab.errors import Invalid
from dltlab.exercises import lab_of, reference

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def lab_functions() -> dict[str, Callable[..., Any]]:
    """The functions as the solution defines them."""
    lab = lab_of("dltlab.checks.layer_primitives")
    names = ("output_shape", "direct", "im2col", "by_matrix", "by_fft", "transforms", "by_winograd")
    functions = {name: reference(lab, name) for name in names}
    for function in functions.values():
        function.__globals__["output_shape"] = functions["output_shape"]
    return functions


def convolutions(functions: dict[str, Callable[..., Any]]) -> dict[str, Callable[..., Any]]:
    return {
        "direct": functions["direct"],
        "matrix": partial(functions["by_matrix"], im2col=functions["im2col"]),
        "fft": functions["by_fft"],
        "winograd": partial(functions["by_winograd"], transforms=functions["transforms"]),
    }


@pytest.mark.parametrize("kernel_size", [(3, 3), (1, 1), (2, 5), (4, 1)])
@pytest.mark.parametrize("size", [(6, 5), (5, 8)])
def test_every_algorithm_agrees_with_tensorflow(lab_functions, kernel_size, size) -> None:
    import tensorflow as tf

    rng = np.random.default_rng(1)
    images = rng.standard_normal((2, *size, 3), "float32")
    kernel = rng.standard_normal((*kernel_size, 3, 4), "float32")
    expected = tf.nn.conv2d(images, kernel, 1, "VALID").numpy()

    for name, convolve in convolutions(lab_functions).items():
        if name != "winograd" or kernel_size == (3, 3):
            result = convolve(images, kernel)
            assert result.dtype == np.float32
            np.testing.assert_allclose(result, expected, atol=1e-5)


@pytest.mark.parametrize("algorithm", ["direct", "matrix", "fft", "winograd"])
@pytest.mark.parametrize(
    ("images", "kernel"),
    [((2, 8, 8, 3), (3, 3, 4, 5)), ((2, 2, 8, 3), (3, 3, 3, 5)), ((8, 8, 3), (3, 3, 3, 5))],
)
def test_shapes_that_do_not_fit_are_named_with_both(
    lab_functions, algorithm: str, images: tuple[int, ...], kernel: tuple[int, ...]
) -> None:
    convolve = convolutions(lab_functions)[algorithm]

    with pytest.raises(Invalid) as caught:
        convolve(np.zeros(images), np.zeros(kernel))

    assert str(images) in str(caught.value)
    assert str(kernel) in str(caught.value)


def test_winograd_refuses_another_kernel(lab_functions) -> None:
    convolve = convolutions(lab_functions)["winograd"]

    with pytest.raises(Invalid, match=r"not \(5, 5, 1, 1\)"):
        convolve(np.zeros((1, 8, 8, 1)), np.zeros((5, 5, 1, 1)))


def run_benchmark(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(REPOSITORY / "benchmarks" / "primitives.py"), *options]
    return subprocess.run(command, capture_output=True, text=True)


def test_the_benchmark_measures_the_labs_functions() -> None:
    done = run_benchmark("--json", "--rounds", "1", "--shape", "1,6,2,3,3", "--shape", "1,6,2,3,5")

    assert done.returncode == 0, done.stderr
    first, second = json.loads(done.stdout)["rows"]
    assert set(first["seconds"]) == {"TensorFlow", "im2col", "Winograd"}
    assert set(second["seconds"]) == {"TensorFlow", "im2col"}


@pytest.mark.parametrize(
    ("shape", "message"),
    [("1,4,2,2,9", "a kernel of 9 × 9 pixels does not fit into images of 4 × 4"), ("3", "images")],
)
def test_the_benchmark_names_a_wrong_shape(shape: str, message: str) -> None:
    done = run_benchmark("--shape", shape)

    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
