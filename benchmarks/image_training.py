"""Measure how fast a small network learns compared with Keras' example, and classic networks.

    python benchmarks/image_training.py [race] [precision] [networks] [--json] [--seeds 3]

race: CIFAR-10's JPEG files in the mirror folder (DLTLAB_DATA_MIRROR), 18,000 for training and 2,000
held out, 200 per class, as `import_images` splits them. Keras' example is `cifar10_cnn.py` of its
repository: its layers, RMSprop at 1e-4, batches of 32, 25 epochs, shifts of up to a tenth and
mirroring, float32; its images come from dltlab's pipeline, which is faster than its own. dltlab is
`models.small_resnet` with the recipe of lab 02, in mixed bfloat16: once with a cycle of 5 epochs,
for the time in which it reaches the accuracy of the example, and once with a cycle of 20, for the
accuracy that it reaches in the time of the example. Each side is a process of its own with all
cores. They take turns epoch by epoch, so that other load affects all sides equally. The measured
time includes compilation, and excludes the classification of the held-out images.

precision: the 5 epochs again in float32 and in mixed bfloat16, also in turns.

networks: AlexNet, GoogLeNet, VGG-16 and ResNet-50 at their published size, random images,
float32: images per second in inference and training, and the fraction of the machine's measured
peak. A multiply-add counts as two operations, the backward pass as two forward passes.
"""

import json
import math
import os
import statistics
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from turns import Worker, parse_arguments, serve_results

ARCHIVE, NAME = "cifar10-jpg.tar", "cifar-jpg"
KERAS_EPOCHS, SHORT, LONG = 25, 5, 20  # epochs
MIN_SPEEDUP, MIN_GAIN = 4, 0.12  # targets
PARTS = ("race", "precision", "networks")
BATCH = 16  # images of 224×224

Point = tuple[float, float]  # seconds of training, accuracy at that time


def keras_example() -> Any:
    """Return the compiled model of Keras' `cifar10_cnn.py`."""
    import keras
    from keras import layers

    stack = [keras.Input((32, 32, 3))]
    for channels in (32, 64):
        stack += [
            layers.Conv2D(channels, 3, padding="same", activation="relu"),
            layers.Conv2D(channels, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Dropout(0.25),
        ]
    stack += [layers.Flatten(), layers.Dense(512, activation="relu"), layers.Dropout(0.5)]
    model = keras.Sequential([*stack, layers.Dense(10)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.RMSprop(1e-4), loss)
    return model


def dltlab_model(num_steps: int) -> Any:
    """Return the compiled network of lab 02 with its recipe."""
    import keras

    from dltlab import models, training

    model = models.small_resnet()
    rate = training.one_cycle(0.01, num_steps)
    optimizer = keras.optimizers.AdamW(rate, weight_decay=0.02)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss)
    return model


def train(side: str, epochs: int, seed: int, precision: str) -> Iterator[Point]:
    """Train one side; yield a point after each epoch."""
    import keras
    import numpy as np

    from dltlab import data, devices

    devices.setup(precision=precision, seed=seed)
    is_dltlab = side == "dltlab"
    train_set = data.load(
        NAME,
        "train",
        batch_size=64 if is_dltlab else 32,
        augment=data.augmentation(crop=4 if is_dltlab else 3, flip=True),
        seed=seed,
    )
    images, labels = data.arrays(NAME, "test")
    model = dltlab_model(epochs * len(train_set)) if is_dltlab else keras_example()
    seconds = 0.0
    for _ in range(epochs):
        start = time.perf_counter()
        model.fit(train_set, verbose=0, shuffle=False)
        seconds += time.perf_counter() - start
        scores = model.predict(images, batch_size=500, verbose=0)
        yield seconds, float(np.mean(scores.argmax(axis=1) == labels))
    keras.backend.clear_session()


def measure_network(name: str) -> dict[str, float]:
    """Return images per second of a classic network, and the fraction of the peak."""
    import keras
    import numpy as np
    import tensorflow as tf

    from dltlab import devices, models

    devices.setup(precision="float32", seed=1)
    model = getattr(models, name)()
    cost = models.cost(model)
    images = np.random.default_rng(1).uniform(size=(BATCH, *model.input_shape[1:]))
    images, labels = tf.constant(images, tf.float32), tf.zeros(BATCH, tf.int64)
    forward = tf.function(lambda batch: model(batch, training=False))
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    peak = devices.measure_peaks(["float32"]).flops["float32"]
    result = {"peak": peak, "params": float(cost.params), "macs": float(cost.macs)}
    for part, passes, call in (
        ("forward", 1, lambda: forward(images).numpy()),
        ("training", 3, lambda: model.train_on_batch(images, labels)),
    ):
        rate = BATCH / median_seconds(call)
        result[part] = rate
        result[f"{part}_fraction"] = rate * 2 * passes * cost.macs / peak
    return result


def median_seconds(call: Any, repeats: int = 5) -> float:
    """Return the median time of several calls after a first one, which compiles."""
    call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def in_turns(sides: dict[str, tuple[str, int, int, str]]) -> dict[str, list[Point]]:
    """Return the points of each side; a side with more epochs runs more often."""
    workers = {name: Worker(__file__, *side) for name, side in sides.items()}
    points: dict[str, list[Point]] = {name: [] for name in sides}
    turns = sorted(
        ((epoch + 0.5) / epochs, name)
        for name, (_, epochs, _, _) in sides.items()
        for epoch in range(epochs)
    )
    for _, name in turns:
        points[name].append(next(workers[name]))
    return points


def race(seeds: int) -> list[dict[str, Any]]:
    """Return a row for each seed, with the points of all sides and the numbers of the claims."""
    rows = []
    for seed in range(1, seeds + 1):
        points = in_turns(
            {
                "keras": ("keras", KERAS_EPOCHS, seed, "float32"),
                "short": ("dltlab", SHORT, seed, "mixed_bfloat16"),
                "long": ("dltlab", LONG, seed, "mixed_bfloat16"),
            }
        )
        best = max(accuracy for _, accuracy in points["keras"])
        total = points["keras"][-1][0]
        seconds_to_pass = next(
            (seconds for seconds, accuracy in points["short"] if accuracy >= best), math.nan
        )
        seconds, accuracy = [point for point in points["long"] if point[0] <= total][-1]
        rows.append(
            {
                "seed": seed,
                "keras_accuracy": best,
                "keras_seconds": total,
                "seconds_to_pass": seconds_to_pass,
                "speedup": total / seconds_to_pass,
                "accuracy": accuracy,
                "seconds": seconds,
                "gain": accuracy - best,
                "points": points,
            }
        )
    return rows


def precisions(seed: int) -> dict[str, dict[str, float]]:
    """Return the rate and accuracy of dltlab's side in both precisions."""
    names = ("float32", "mixed_bfloat16")
    results = {}
    for name, points in in_turns({name: ("dltlab", SHORT, seed, name) for name in names}).items():
        seconds = points[-1][0] - points[0][0]  # the first epoch compiles
        results[name] = {
            "images_per_second": 18_000 * (SHORT - 1) / seconds,
            "accuracy": points[-1][1],
        }
    return results


def report(results: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of a report in Markdown."""
    if rows := results.get("race"):
        yield (
            f"| seed | Keras, {KERAS_EPOCHS} epochs | its time | dltlab exceeds that after "
            f"| faster (target {MIN_SPEEDUP}) | dltlab in the same time "
            f"| better (target {MIN_GAIN * 100:.0f} points) |"
        )
        yield "|---" * 7 + "|"
        for row in rows:
            yield (
                f"| {row['seed']} | {row['keras_accuracy']:.4f} | {row['keras_seconds']:.0f} s | "
                f"{row['seconds_to_pass']:.0f} s | {row['speedup']:.1f} × | {row['accuracy']:.4f} "
                f"(after {row['seconds']:.0f} s) | {row['gain'] * 100:+.1f} points |"
            )
        speedup = statistics.median(row["speedup"] for row in rows)
        gain = statistics.median(row["gain"] for row in rows)
        yield f"\nMedian: {speedup:.1f} × faster, {gain * 100:+.1f} points in the same time."
    if sides := results.get("precision"):
        yield "\n| precision | images/s | accuracy |\n|---|---|---|"
        for name, side in sides.items():
            yield f"| {name} | {side['images_per_second']:,.0f} | {side['accuracy']:.4f} |"
    if networks := results.get("networks"):
        yield (
            "\n| network | parameters | multiply-adds | forward, images/s | of the peak "
            "| training, images/s | of the peak |"
        )
        yield "|---" * 7 + "|"
        for name, row in networks.items():
            yield (
                f"| {name} | {row['params']:,.0f} | {row['macs'] / 1e9:.2f} G | "
                f"{row['forward']:.1f} | {row['forward_fraction']:.0%} | {row['training']:.1f} | "
                f"{row['training_fraction']:.0%} |"
            )
        peak = statistics.median(row["peak"] for row in networks.values())
        yield f"\nMeasured peak in float32: {peak / 1e9:,.0f} GFLOP/s; batches of {BATCH}."


def import_dataset(folder: str) -> None:
    """Import the images of the mirror folder into a store in `folder`."""
    from dltlab import data

    archive = Path(os.environ.get("DLTLAB_DATA_MIRROR", ""), ARCHIVE)
    if not archive.is_file():
        sys.exit(f"{ARCHIVE} is missing: set DLTLAB_DATA_MIRROR to the folder that contains it.")
    os.environ["DLTLAB_DATA_DIR"] = f"{folder}/store"
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    data.import_images(Path(folder, "cifar10"), NAME, size=32, validation=0, test=0.1)


def main() -> None:
    """Run the chosen parts, and print a report or JSON."""
    arguments = parse_arguments(__doc__, PARTS, seeds=3)
    if arguments.worker:
        name, *options = arguments.parts
        if options:
            epochs, seed, precision = options
            serve_results(train(name, int(epochs), int(seed), precision))
        else:
            serve_results([measure_network(name)])
        return
    from dltlab.devices import inventory

    machine = inventory(ask_tensorflow=False).cpu
    results: dict[str, Any] = {"hardware": f"{machine.model}, {machine.cores:g} cores"}
    with tempfile.TemporaryDirectory() as folder:
        if {"race", "precision"} & set(arguments.parts):
            import_dataset(folder)
        if "race" in arguments.parts:
            results["race"] = race(arguments.seeds)
        if "precision" in arguments.parts:
            results["precision"] = precisions(seed=1)
    if "networks" in arguments.parts:
        names = ("alexnet", "googlenet", "vgg16", "resnet50")
        results["networks"] = {name: next(Worker(__file__, name)) for name in names}
    if arguments.json:
        print(json.dumps(results, indent=1))
        return
    print(f"{results['hardware']}\n")
    for line in report(results):
        print(line)


if __name__ == "__main__":
    main()
