"""How soon a network learns: dltlab's small one beside Keras' simple CNN, and what networks reach.

    python benchmarks/image_training.py [race] [precision] [networks] [--json] [--seeds 3]

race: CIFAR-10's JPEG files in the mirror folder (DLTLAB_DATA_MIRROR), 18,000 to learn from and
2,000 held out, 200 a class, as `import_images` divides them. Keras' example is `cifar10_cnn.py` of
its repository: its layers, RMSprop at 1e-4, batches of 32, 25 epochs, shifts of up to a tenth and
mirroring, float32; its images come from our pipeline, which is faster than its own. Ours is
`models.small_resnet` with the recipe of lab 02, in mixed bfloat16: once on a cycle of 5 epochs, to
be soon where the example comes in 25, and once on a cycle of 20, to be better in the same time.
Each is a process of its own with all cores. They take turns epoch by epoch, so that whatever else
slows the machine slows all alike; a clock runs from the first step, with what is compiled in it,
and stands still while the held-out images are classified.

precision: the 5 epochs once more in float32 and in mixed bfloat16, in turns too.

networks: AlexNet, GoogLeNet, VGG-16 and ResNet-50 at their published size, random images,
float32: images a second forward and in training, and the share of the machine's measured peak that
they reach. A multiply-add counts as two operations, the backward pass as two forward passes.
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

from turns import Worker, answer, arguments

ARCHIVE, NAME = "cifar10-jpg.tar", "cifar-jpg"
KERAS_EPOCHS, SHORT, LONG = 25, 5, 20  # epochs
SOONER, BETTER = 4, 0.12  # targets
PARTS = ("race", "precision", "networks")
BATCH = 16  # images of 224×224

Point = tuple[float, float]  # seconds of training, and the accuracy then


def keras_example() -> Any:
    """The model of Keras' `cifar10_cnn.py`, compiled."""
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


def our_model(num_steps: int) -> Any:
    """Lab 02's network and recipe, compiled."""
    import keras

    from dltlab import models, training

    model = models.small_resnet()
    rate = training.one_cycle(0.01, num_steps)
    optimizer = keras.optimizers.AdamW(rate, weight_decay=0.02)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss)
    return model


def train(side: str, epochs: int, seed: int, precision: str) -> Iterator[Point]:
    """Train one side; a point after each epoch."""
    import keras
    import numpy as np

    from dltlab import data, devices

    devices.setup(precision=precision, seed=seed)
    is_ours = side == "dltlab"
    train_set = data.load(
        NAME,
        "train",
        batch_size=64 if is_ours else 32,
        augment=data.augmentation(crop=4 if is_ours else 3, flip=True),
        seed=seed,
    )
    images, labels = data.arrays(NAME, "test")
    model = our_model(epochs * len(train_set)) if is_ours else keras_example()
    seconds = 0.0
    for _ in range(epochs):
        start = time.perf_counter()
        model.fit(train_set, verbose=0, shuffle=False)
        seconds += time.perf_counter() - start
        scores = model.predict(images, batch_size=500, verbose=0)
        yield seconds, float(np.mean(scores.argmax(axis=1) == labels))
    keras.backend.clear_session()


def speed_of_network(name: str) -> dict[str, float]:
    """Images a second of a classic network, and the share of the peak."""
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
    found = {"peak": peak, "params": float(cost.params), "macs": float(cost.macs)}
    for part, passes, call in (
        ("forward", 1, lambda: forward(images).numpy()),
        ("training", 3, lambda: model.train_on_batch(images, labels)),
    ):
        rate = BATCH / median_seconds(call)
        found[part] = rate
        found[f"{part}_share"] = rate * 2 * passes * cost.macs / peak
    return found


def median_seconds(call: Any, repeats: int = 5) -> float:
    """Of several calls after a first one, which compiles."""
    call()
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def in_turns(sides: dict[str, tuple[str, int, int, str]]) -> dict[str, list[Point]]:
    """The points of each side; those with many epochs come the more often, and all end together."""
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
    """All sides for each seed, with what the claims are made of."""
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
        passed = next(
            (seconds for seconds, accuracy in points["short"] if accuracy >= best), math.nan
        )
        seconds, accuracy = [point for point in points["long"] if point[0] <= total][-1]
        rows.append(
            {
                "seed": seed,
                "keras_accuracy": best,
                "keras_seconds": total,
                "seconds_to_pass": passed,
                "sooner": total / passed,
                "accuracy": accuracy,
                "seconds": seconds,
                "better": accuracy - best,
                "points": points,
            }
        )
    return rows


def precisions(seed: int) -> dict[str, dict[str, float]]:
    """Ours in both precisions."""
    names = ("float32", "mixed_bfloat16")
    found = {}
    for name, points in in_turns({name: ("dltlab", SHORT, seed, name) for name in names}).items():
        seconds = points[-1][0] - points[0][0]  # the first epoch compiles
        found[name] = {
            "images_per_second": 18_000 * (SHORT - 1) / seconds,
            "accuracy": points[-1][1],
        }
    return found


def report(found: dict[str, Any]) -> Iterator[str]:
    """The lines of a page in Markdown."""
    if rows := found.get("race"):
        yield (
            f"| seed | Keras, {KERAS_EPOCHS} epochs | its time | ours passes that after | sooner "
            f"(target {SOONER}) | ours, no later | better (target {BETTER * 100:.0f} points) |"
        )
        yield "|---" * 7 + "|"
        for row in rows:
            yield (
                f"| {row['seed']} | {row['keras_accuracy']:.4f} | {row['keras_seconds']:.0f} s | "
                f"{row['seconds_to_pass']:.0f} s | {row['sooner']:.1f} × | {row['accuracy']:.4f} "
                f"(after {row['seconds']:.0f} s) | {row['better'] * 100:+.1f} points |"
            )
        medians = (statistics.median(row[each] for row in rows) for each in ("sooner", "better"))
        sooner, better = medians
        yield f"\nMedian: {sooner:.1f} × sooner, {better * 100:+.1f} points at equal time."
    if sides := found.get("precision"):
        yield "\n| precision | images/s | accuracy |\n|---|---|---|"
        for name, side in sides.items():
            yield f"| {name} | {side['images_per_second']:,.0f} | {side['accuracy']:.4f} |"
    if networks := found.get("networks"):
        yield (
            "\n| network | parameters | multiply-adds | forward, images/s | of the peak "
            "| training, images/s | of the peak |"
        )
        yield "|---" * 7 + "|"
        for name, each in networks.items():
            yield (
                f"| {name} | {each['params']:,.0f} | {each['macs'] / 1e9:.2f} G | "
                f"{each['forward']:.1f} | {each['forward_share']:.0%} | {each['training']:.1f} | "
                f"{each['training_share']:.0%} |"
            )
        peak = statistics.median(each["peak"] for each in networks.values())
        yield f"\nMeasured peak in float32: {peak / 1e9:,.0f} GFLOP/s; batches of {BATCH}."


def prepared(folder: str) -> None:
    """Import the images of the mirror folder into a store in `folder`."""
    from dltlab import data

    archive = Path(os.environ.get("DLTLAB_DATA_MIRROR", ""), ARCHIVE)
    if not archive.is_file():
        sys.exit(f"{ARCHIVE} is missing: name the folder that holds it in DLTLAB_DATA_MIRROR.")
    os.environ["DLTLAB_DATA_DIR"] = f"{folder}/store"
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    data.import_images(Path(folder, "cifar10"), NAME, size=32, validation=0, test=0.1)


def main() -> None:
    """Measure, and print a page or JSON."""
    chosen = arguments(__doc__, PARTS, seeds=3)
    if chosen.one:
        name, *rest = chosen.parts
        whole = [speed_of_network(name)] if not rest else train(name, *map(int, rest[:2]), rest[2])
        answer(whole)
        return
    from dltlab.devices import inventory

    machine = inventory(ask_tensorflow=False).cpu
    found = {"hardware": f"{machine.model}, {machine.cores:g} cores"}
    with tempfile.TemporaryDirectory() as folder:
        if {"race", "precision"} & set(chosen.parts):
            prepared(folder)
        if "race" in chosen.parts:
            found["race"] = race(chosen.seeds)
        if "precision" in chosen.parts:
            found["precision"] = precisions(seed=1)
    if "networks" in chosen.parts:
        names = ("alexnet", "googlenet", "vgg16", "resnet50")
        found["networks"] = {name: next(Worker(__file__, name)) for name in names}
    if chosen.json:
        print(json.dumps(found, indent=1))
        return
    print(f"{found['hardware']}\n")
    for line in report(found):
        print(line)


if __name__ == "__main__":
    main()
