"""Measure how far a good NumPy convolution is from TensorFlow's: im2col and Winograd, by shape.

    python benchmarks/primitives.py [--json] [--rounds 15] [--shape N,SIZE,IN,OUT,KERNEL ...]

The NumPy functions are those of lab 06's solution. All sides take NumPy arrays in float32, return
NumPy arrays, and compute on one core; they take turns in every round, and times are medians.
TensorFlow runs in the calling thread (eager), which is its fastest way for a single operation. A
shape is: images, rows and columns of each image, channels in, channels out, rows and columns of the
kernel.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

SHAPES = (
    (8, 34, 3, 32, 3),
    (8, 34, 32, 32, 3),
    (8, 18, 64, 64, 3),
    (8, 10, 128, 128, 3),
    (1, 58, 64, 64, 3),
    (1, 16, 256, 256, 3),
    (8, 32, 64, 64, 1),
    (2, 38, 16, 32, 7),
)
TOLERANCE = 1e-5  # of the largest result, against float64

Shape = tuple[int, ...]


def parse_shape(text: str) -> Shape:
    """Read a shape of the command line."""
    try:
        shape = tuple(int(part) for part in text.split(","))
    except ValueError:
        shape = ()
    if len(shape) != 5 or min(shape) < 1:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a shape: give images, rows and columns of each, channels in, "
            "channels out and rows and columns of the kernel, such as 8,34,32,32,3"
        )
    if shape[4] > shape[1]:
        raise argparse.ArgumentTypeError(
            f"a kernel of {shape[4]} × {shape[4]} pixels does not fit into images of {shape[1]} × "
            f"{shape[1]}"
        )
    return shape


def algorithms() -> dict[str, Callable[..., Any]]:
    """Return the ways to convolve: TensorFlow's, and those of lab 06."""
    import tensorflow as tf

    from dltlab.exercises import lab_of, reference

    lab = lab_of("dltlab.checks.layer_primitives")
    ours = {
        name: reference(lab, name)
        for name in ("output_shape", "im2col", "transforms", "by_matrix", "by_winograd")
    }
    for function in (ours["by_matrix"], ours["by_winograd"]):
        function.__globals__["output_shape"] = ours["output_shape"]

    def tensorflow(images: np.ndarray, kernel: np.ndarray) -> Any:
        with tf.device("CPU"):
            return tf.nn.conv2d(tf.constant(images), tf.constant(kernel), 1, "VALID").numpy()

    return {
        "TensorFlow": tensorflow,
        "im2col": partial(ours["by_matrix"], im2col=ours["im2col"]),
        "Winograd": partial(ours["by_winograd"], transforms=ours["transforms"]),
    }


def measure(shape: Shape, rounds: int, ways: dict[str, Callable[..., Any]]) -> dict[str, Any]:
    """Time every way in turns, and compute its largest error relative to the largest result."""
    images_count, size, inputs, outputs, width = shape
    rng = np.random.default_rng(1)
    images = rng.standard_normal((images_count, size, size, inputs), "float32")
    kernel = rng.standard_normal((width, width, inputs, outputs), "float32")
    exact = ways["im2col"](images.astype("float64"), kernel.astype("float64"))
    usable = {name: way for name, way in ways.items() if name != "Winograd" or width == 3}
    errors = {
        name: float(np.abs(way(images, kernel) - exact).max() / np.abs(exact).max())
        for name, way in usable.items()
    }
    times: dict[str, list[float]] = {name: [] for name in usable}
    for _ in range(rounds):
        for name, way in usable.items():
            start = time.perf_counter()
            way(images, kernel)
            times[name].append(time.perf_counter() - start)
    return {
        "shape": list(shape),
        "multiply-adds": int(exact.size * width * width * inputs),
        "seconds": {name: statistics.median(values) for name, values in times.items()},
        "errors": errors,
    }


def report(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the lines of a table in Markdown."""
    names = ("TensorFlow", "im2col", "Winograd")
    yield (
        "| images | rows, columns | channels | kernel | TensorFlow (ms) | im2col (ms) | "
        "Winograd (ms) | im2col ÷ TensorFlow | Winograd ÷ TensorFlow | largest error |"
    )
    yield "|---" * 10 + "|"
    for row in rows:
        images, size, inputs, outputs, width = row["shape"]
        seconds = row["seconds"]
        times = [f"{1e3 * seconds[name]:.2f}" if name in seconds else "–" for name in names]
        ratios = [
            f"{seconds[name] / seconds['TensorFlow']:.2f}" if name in seconds else "–"
            for name in names[1:]
        ]
        cells = [images, size, f"{inputs} → {outputs}", f"{width} × {width}", *times, *ratios]
        yield f"| {' | '.join(map(str, cells))} | {max(row['errors'].values()):.0e} |"


def main() -> None:
    """Measure, and print a table in Markdown or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--shape", type=parse_shape, action="append", help="may be repeated")
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from threadpoolctl import threadpool_limits

    from dltlab import devices

    devices.setup(precision="float32", threads=1)
    machine = devices.inventory(ask_tensorflow=False).cpu
    hardware = f"{machine.model}, one of {machine.cores:g} cores"
    ways = algorithms()
    with threadpool_limits(1, user_api="blas"):
        rows = [measure(shape, options.rounds, ways) for shape in options.shape or SHAPES]
    if options.json:
        print(json.dumps({"hardware": hardware, "rows": rows}, indent=1))
    else:
        print(f"{hardware}\n")
        for line in report(rows):
            print(line)
    worst = max(error for row in rows for error in row["errors"].values())
    if worst > TOLERANCE:
        sys.exit(f"An error of {worst:.0e} exceeds the tolerance of {TOLERANCE:.0e}.")


if __name__ == "__main__":
    main()
