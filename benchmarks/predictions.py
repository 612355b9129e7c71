"""Predicted against measured time and memory of a training step.

Each network runs in a process of its own, which first measures what the machine reaches
(`devices.measure_peaks(layers=True)`, which knows nothing of the networks), then predicts a step
(`devices.predict_step_time`), then measures steps of `train_on_batch` with SGD and momentum in
float32, without XLA. The median of the steps counts. Beside it is the bound by the roofline, from
the peaks alone. Memory is what a step allocates (`devices.peak_memory`), against the gradients and
activations that `Cost.training` counts.

With `--cputime 1`, all of it runs on one core in a single thread, and the clock is the time that
the processor spends on the process: so other programs matter less.

The last table compares the bound of a P100 by its data sheet with rates that TensorFlow's team
published in May 2017, and Dell's (GoogLeNet).

    python benchmarks/predictions.py [NETWORK …] [--json] [--steps 5] [--cputime 0]
"""

import json
import os
import statistics
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from turns import Worker, parse_arguments, serve_results

BATCHES = {
    "small_resnet": 64,
    "small_vgg": 64,
    "small_inception": 64,
    "alexnet": 8,
    "googlenet": 8,
    "resnet50": 8,
    "vgg16": 4,
}
TARGET = 0.25  # of the median error
P100_RATES = {"googlenet": (128, 468), "resnet50": (64, 219), "vgg16": (64, 154)}  # batch, images/s


def measure(name: str, steps: int, clock: Any) -> dict[str, Any]:
    """Return predicted and measured seconds and bytes of a step."""
    import keras
    import tensorflow as tf

    from dltlab import devices, models

    devices.setup(precision="float32", seed=1)
    peaks = devices.measure_peaks(["float32"], layers=True, clock=clock)
    batch_size = BATCHES[name]
    model = getattr(models, name)()
    step = models.cost(model).training(batch_size, slots=1)
    predicted = devices.predict_step_time(step, peaks)
    bound = devices.predict_step_time(step, replace(peaks, layers={}))
    images = tf.random.uniform((batch_size, *model.input_shape[1:]))
    labels = tf.zeros(batch_size, tf.int64)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.001, momentum=0.9), loss, jit_compile=False)
    times = []
    for _ in range(steps + 1):
        start = clock()
        model.train_on_batch(images, labels)
        times.append(clock() - start)
    return {
        "batch": batch_size,
        "peak_gflops": peaks.flops["float32"] / 1e9,
        "memory_gbps": peaks.bytes_per_second / 1e9,
        "predicted": predicted.seconds,
        "bound": bound.seconds,
        "measured": statistics.median(times[1:]),
        "fastest": min(times[1:]),
        "predicted_bytes": step.memory_bytes - step.weight_bytes - step.optimizer_bytes,
        "measured_bytes": devices.peak_memory(lambda: model.train_on_batch(images, labels)),
    }


def work(name: str, steps: int, with_cpu_time: bool) -> Iterator[dict[str, Any]]:
    """Yield the result of a network."""
    if with_cpu_time:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    yield measure(name, steps, time.process_time if with_cpu_time else time.perf_counter)


def published() -> dict[str, dict[str, float]]:
    """Return the bound of a P100's rate and the published rate, in images/s."""
    from dltlab import devices, models

    peaks = devices.specified_peaks("P100")
    rows = {}
    for name, (batch_size, rate) in P100_RATES.items():
        step = models.cost(getattr(models, name)()).training(batch_size, slots=1)
        bound = devices.predict_step_time(step, peaks).examples_per_second
        rows[name] = {"batch": batch_size, "bound": bound, "published": rate}
    return rows


def report(results: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of a report in Markdown."""
    yield (
        "| network | batch | predicted | measured | error | roofline alone "
        "| memory, predicted | memory, measured |"
    )
    yield "|---" * 8 + "|"
    errors, bounds = [], []
    for name, row in results["networks"].items():
        error, bound = (row[key] / row["measured"] - 1 for key in ("predicted", "bound"))
        errors.append(abs(error))
        bounds.append(abs(bound))
        yield (
            f"| {name} | {row['batch']} | {1e3 * row['predicted']:,.0f} ms | "
            f"{1e3 * row['measured']:,.0f} ms | {error:+.0%} | {bound:+.0%} | "
            f"{row['predicted_bytes'] / 1e6:,.0f} MB | {row['measured_bytes'] / 1e6:,.0f} MB |"
        )
    yield (
        f"\nMedian error: {statistics.median(errors):.0%} (target {TARGET:.0%}); of the roofline "
        f"alone {statistics.median(bounds):.0%}."
    )
    yield "\n| P100, float32 | batch | at most | published | share |\n|---|---|---|---|---|"
    for name, row in results["published"].items():
        yield (
            f"| {name} | {row['batch']} | {row['bound']:,.0f} images/s | {row['published']} | "
            f"{row['published'] / row['bound']:.0%} |"
        )


def main() -> None:
    """Measure, and print a report or JSON."""
    arguments = parse_arguments(__doc__, list(BATCHES), steps=5, cputime=0)
    if arguments.worker:
        name, with_cpu_time = arguments.parts
        serve_results(work(name, arguments.steps, with_cpu_time == "1"))
        return
    from dltlab.devices import inventory

    machine = inventory(ask_tensorflow=False).cpu
    results: dict[str, Any] = {"hardware": machine.name, "load": os.getloadavg()[0]}
    options = (arguments.cputime, f"--steps={arguments.steps}")
    results["networks"] = {name: next(Worker(__file__, name, *options)) for name in arguments.parts}
    results["published"] = published()
    if arguments.json:
        print(json.dumps(results, indent=1))
        return
    clock = "CPU time of one core" if arguments.cputime else "wall-clock time"
    print(f"{results['hardware']}, {clock}; load before: {results['load']:.1f}\n")
    for line in report(results):
        print(line)


if __name__ == "__main__":
    main()
