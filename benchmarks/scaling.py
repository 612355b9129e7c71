"""How training scales to two workers on this machine, and what the prepared `fit` costs.

Two workers with a core each train small_resnet on 64 random images each. In the first job, Keras'
own `fit` on one of them alone, the same on both at once, which train a model each and share only
the memory and the caches, the prepared `fit` on both, and a loop written by hand, which sums the
gradients over the same transport, take turns. In the second one, the prepared `fit` and a loop
with MultiWorkerMirroredStrategy do. Times are medians over the turns.

    python benchmarks/scaling.py [--json] [--turns 9]
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
from turns import parse_arguments

from dltlab.devices import inventory
from dltlab.distribute import join, prepare

BATCH_SIZE = 64  # of each worker
STEPS = 10  # of a turn, after
WARM_UP = 2
JOBS = {
    "efficiency": ("alone", "at once", "prepared", "by hand"),
    "strategy": ("prepared", "strategy"),
}
CLAIMS = (  # in which job, of what, against what, at least
    ("efficiency", "prepared", "alone", 0.90),
    ("efficiency", "at once", "alone", None),
    ("efficiency", "prepared", "at once", None),
    ("efficiency", "prepared", "by hand", 0.97),
    ("strategy", "prepared", "strategy", 1.00),
)


def main() -> None:
    """Measure, and print a table or JSON."""
    arguments = parse_arguments(__doc__, list(JOBS), turns=9)
    if arguments.worker:
        job, result = arguments.parts
        work(job, Path(result), arguments.turns)
        return
    load, cpu = os.getloadavg()[0], inventory(ask_tensorflow=False).cpu
    seconds = {job: run(job, arguments.turns) for job in arguments.parts}
    rows = [
        {
            "job": job,
            "side": side,
            "images/s of a worker": BATCH_SIZE / median(seconds[job][side]),
            "against": other,
            "its images/s": BATCH_SIZE / median(seconds[job][other]),
            "ratio": median(seconds[job][other]) / median(seconds[job][side]),
            "bar": bar,
        }
        for job, side, other, bar in CLAIMS
        if job in seconds
    ]
    hardware = [cpu.model, f"{cpu.cores:g} cores"]
    if arguments.json:
        result = {"hardware": hardware, "load": load, "claims": rows, "seconds": seconds}
        print(json.dumps(result, indent=1))
        return
    print(f"{', '.join(hardware)}; load before: {load:.1f}")
    print(pd.DataFrame(rows).to_string(index=False, float_format="{:.2f}".format))


def run(job: str, turns: int) -> dict[str, list[float]]:
    """Start two workers; return the seconds of a step in each turn of each side."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder, "seconds.json")
        launch = [str(Path(sys.executable).with_name("dltlab")), "launch", "-n", "2"]
        worker = [__file__, "--worker", job, str(result), f"--turns={turns}"]
        command = [*launch, "--log-dir", folder, "--", *worker]
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if done.returncode:
            sys.exit(done.stderr)
        seconds: dict[str, list[float]] = json.loads(result.read_text())
        return seconds


def work(job: str, result: Path, turns: int) -> None:
    """Take turns; worker 0 writes the times, without those of the first turn."""
    import tensorflow as tf

    strategy = tf.distribute.MultiWorkerMirroredStrategy() if job == "strategy" else None
    group = join()
    make = {
        "alone": lambda: fit(compiled(), BATCH_SIZE),
        "at once": lambda: fit(compiled(), BATCH_SIZE),
        "prepared": lambda: fit(prepare(compiled(), group), BATCH_SIZE * group.size),
        "by hand": lambda: by_hand(group),
        "strategy": lambda: with_strategy(strategy),
    }
    sides = {side: make[side]() for side in JOBS[job]}
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    for turn in range(turns + 1):
        for side, take_turn in sides.items():
            group.exchange(None)  # wait for each other, without using the core
            if side != "alone" or group.rank == 0:
                time = take_turn()
                if turn:
                    seconds[side].append(time)
    group.exchange(None)
    if group.rank == 0:
        result.write_text(json.dumps(seconds))


def batch(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return random images and labels."""
    rng = np.random.default_rng(0)
    return rng.random((size, 32, 32, 3), "float32"), rng.integers(10, size=size)


def compiled() -> Any:
    """Return a compiled network."""
    import keras

    from dltlab.models import small_resnet

    model = small_resnet()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), loss)
    model.optimizer.build(model.trainable_variables)
    return model


def fit(model: Any, size: int) -> Callable[[], float]:
    """Return a turn of `fit` with batches of that size."""
    import keras
    import tensorflow as tf

    batches = tf.data.Dataset.from_tensors(batch(size)).repeat(WARM_UP + STEPS)
    ends: list[float] = []
    clock = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: ends.append(perf_counter())
    )

    def take_turn() -> float:
        ends.clear()
        model.fit(batches, shuffle=False, verbose=0, callbacks=[clock])
        return (ends[-1] - ends[WARM_UP - 1]) / STEPS

    return take_turn


def loop(step: Callable[[], Any]) -> Callable[[], float]:
    """Return a turn of a loop of steps."""

    def take_turn() -> float:
        for _ in range(WARM_UP):
            step()
        start = perf_counter()
        for _ in range(STEPS):
            loss = step()
        float(loss)
        return (perf_counter() - start) / STEPS

    return take_turn


def by_hand(group: Any) -> Callable[[], float]:
    """Return a turn of a loop that sums the gradients over the group."""
    import tensorflow as tf

    model = compiled()
    weights, optimizer = model.trainable_variables, model.optimizer
    batches = iter(tf.data.Dataset.from_tensors(batch(BATCH_SIZE)).repeat())

    @tf.function
    def step() -> Any:
        images, labels = next(batches)
        with tf.GradientTape() as tape:
            loss = model.loss(labels, model(images, training=True))
        sums = group.sum(tape.gradient(loss, weights))
        optimizer.apply([gradient / group.size for gradient in sums], weights)
        return loss

    return loop(step)


def with_strategy(strategy: Any) -> Callable[[], float]:
    """Return a turn of a loop as TensorFlow's guide to distributed training writes it."""
    import tensorflow as tf

    with strategy.scope():
        model = compiled()
    weights, optimizer = model.trainable_variables, model.optimizer
    batches = iter(
        strategy.distribute_datasets_from_function(
            lambda context: tf.data.Dataset.from_tensors(batch(BATCH_SIZE)).repeat()
        )
    )

    def replica_step(images: Any, labels: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = model.loss(labels, model(images, training=True))
            share = loss / strategy.num_replicas_in_sync
        optimizer.apply(tape.gradient(share, weights), weights)  # which sums the gradients
        return share

    @tf.function
    def step() -> Any:
        shares = strategy.run(replica_step, args=next(batches))
        return strategy.reduce("SUM", shares, axis=None)

    return loop(step)


if __name__ == "__main__":
    main()
