"""How fast networks answer: every backend and precision, beside Keras and OpenVINO's own tool.

    python benchmarks/inference.py [resnet50 googlenet … small char_rnn loading] [--json]

The classics at 224×224 have random weights: only their speed is asked for. `small` is
`models.small_inception`, trained on `shapes` for 314 steps; its engines must keep 99 % of the
accuracy, so that where int8 does not some of its layers are float32.
Each network has a process of its own. An engine is measured for batches of 1, 8 and 32, one call
after another, and as many calls at once as there are cores ("streams"); `keras` is the model called
eagerly and `tf.function` the model as a graph, measured by the same loop. OpenVINO's
`benchmark_app` runs the very file of the engine with the same batch, streams, threads and
precision, in turns with ours; medians count. Left out is what a processor only emulates: float16 in
TensorFlow, and in XLA all but float32. `char_rnn` is lab 04's network, one symbol at a time with
its state kept. `loading` is how long an engine takes to build, and to open once it is built.
"""

import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from turns import Worker, answer, arguments

CLASSICS = ("resnet50", "googlenet", "vgg16", "alexnet")
NETWORKS = (*CLASSICS, "small", "char_rnn")
LOADED = ("alexnet", "googlenet", "resnet50", "small_inception")
BATCHES = (1, 8, 32)
STEPS = 314  # of the small network's training
SECONDS = 1.0  # for each measurement
TURNS = 5  # with benchmark_app
TARGETS = (
    "Targets, with AMX: ResNet-50 ≥ 60 × eager at batch 1, ≥ 12 × tf.function at its best batch, "
    "≥ 0.95 of benchmark_app; anywhere: a step of char_rnn ≥ 5 × that of Keras, loading ≥ 10 × "
    "faster than building."
)
EMULATED = {
    "keras": {"float16"},
    "tf.function": {"float16"},
    "xla": {"float16", "bfloat16"},
}
HINTS = {"float32": "f32", "bfloat16": "bf16", "float16": "f16", "int8": "f32"}

Row = dict[str, Any]


def images(name: str) -> Iterator[Row]:
    """A row for each backend, precision, batch and number of streams."""
    import numpy as np

    from dltlab import devices, inference, models
    from dltlab.errors import LabError
    from dltlab.inference.backends import BACKENDS, backend
    from dltlab.inference.benchmarking import measure

    devices.setup(precision="float32", seed=1)
    tolerance = 1.0
    if name == "small":
        model, calibration, validation = trained()
        tolerance = 0.01
    else:
        model, validation = getattr(models, name)(), None
        random = np.random.default_rng(1)
        calibration = random.random((32, *model.input_shape[1:]), dtype="float32")
    for each in BACKENDS:
        try:
            precisions = backend(each).precisions()
        except LabError as error:
            print(f"{name}: {error}", file=sys.stderr)
            continue
        for precision in sorted(set(precisions) - EMULATED.get(each, set()), key=precisions.index):
            engine = inference.optimize(
                model, backend=each, precision=precision, validation=validation,
                calibration=calibration if precision == "int8" else None, tolerance=tolerance,
            )  # fmt: skip
            cores = engine.settings.threads
            for streams in (1,) if each in ("keras", "tf.function", "xla") else (1, cores):
                for batch in BATCHES:
                    chosen = engine.configured(batch=batch, streams=streams)
                    found = measure(chosen, SECONDS)
                    yield {
                        "backend": each,
                        "precision": precision_of(engine, precision),
                        "batch": batch,
                        "streams": streams,
                        "rate": found.images_per_second,
                        "p50": found.percentile(50),
                        "p99": found.percentile(99),
                        "kept": kept(engine) if validation else None,
                        "share": share_of_benchmark_app(chosen)
                        if each == "openvino" and (batch, streams) in ((1, 1), (8, cores))
                        else None,
                    }


def precision_of(engine: Any, asked: str) -> str:
    """What an engine computes in, where it was asked for `asked`."""
    if engine.manifest.precision != asked:
        return f"{asked}, now {engine.manifest.precision}"
    return asked if engine.manifest.max_drop is None else f"{asked} in part"


def kept(engine: Any) -> float:
    """The share of the accuracy that an engine keeps."""
    return float(engine.check.engine / engine.check.reference)


def trained() -> tuple[Any, Any, Any]:
    """The small network, images to calibrate, and held-out ones with labels."""
    import keras

    from dltlab import data, models, training

    model = models.small_inception()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    rate = training.one_cycle(0.01, STEPS)
    model.compile(keras.optimizers.AdamW(rate, weight_decay=0.02), loss)
    images = data.load("shapes", batch_size=64, seed=1).repeat()
    model.fit(images, steps_per_epoch=STEPS, shuffle=False, verbose=0)
    return model, data.arrays("shapes", "train")[0][:300], data.arrays("shapes", "test")


def share_of_benchmark_app(engine: Any) -> float:
    """What the engine does of what OpenVINO's own tool does, measured in turns."""
    from dltlab.inference.benchmarking import measure

    turns = [
        (measure(engine, SECONDS).images_per_second, benchmark_app(engine)) for _ in range(TURNS)
    ]
    ours, theirs = (statistics.median(side) for side in zip(*turns, strict=True))
    return ours / theirs


def benchmark_app(engine: Any) -> float:
    """Images a second of OpenVINO's own tool, with the engine's file and settings."""
    settings, (tensor,) = engine.settings, engine.manifest.inputs
    shape = ",".join(map(str, (settings.batch, *tensor.shape)))
    command = [
        *(str(Path(sys.executable).with_name("benchmark_app")), "-hint", "none", "-api", "async"),
        *("-m", str(engine.folder / "model.xml"), "-shape", f"[{shape}]"),
        *("-infer_precision", HINTS[engine.manifest.precision], "-t", str(round(2 * SECONDS))),
        *("-nstreams", str(settings.streams), "-nireq", str(settings.streams)),
        *("-nthreads", str(settings.threads)),
    ]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"Throughput:\s+([\d.]+) FPS", said)
    assert found, said
    return float(found[1])


def characters() -> Iterator[Row]:
    """A row for each way to run one step of the character network."""
    import numpy as np
    import tensorflow as tf

    from dltlab import devices, inference, models
    from dltlab.errors import LabError

    devices.setup(precision="float32", seed=1)
    model = models.char_rnn(65)
    step = models.step_model(model)
    inputs = [tf.zeros((1, *each.shape[1:]), each.dtype) for each in step.inputs]
    graph = tf.function(lambda given: step(given, training=False))

    def row(backend: str, precision: str, call: Callable[[], object]) -> Row:
        seconds = timed(call)
        return {
            "backend": backend,
            "precision": precision,
            "rate": 1 / statistics.mean(seconds),
            "p50": statistics.median(seconds),
            "p99": float(np.percentile(seconds, 99)),
        }

    yield row("keras", "float32", lambda: step(inputs, training=False)[0].numpy())
    yield row("tf.function", "float32", lambda: graph(inputs)[0].numpy())
    for backend in ("litert", "onnxruntime", "openvino"):
        for precision in ("float32", "bfloat16"):
            try:
                engine = inference.step_engine(
                    model, backend=backend, precision=precision, tolerance=1.0
                )
            except LabError as error:
                print(f"char_rnn: {error}", file=sys.stderr)
                continue
            yield row(backend, precision, partial(engine, 1))


def loading() -> Iterator[Row]:
    """A row for each engine: the seconds until it is built, found in the cache, and opened."""
    import numpy as np

    from dltlab import devices, inference, models

    devices.setup(precision="float32", seed=1)
    for name, precision in product(LOADED, ("float32", "int8")):
        model = getattr(models, name)()  # a new one, or its export would be known already
        calibration = np.random.default_rng(1).random((32, *model.input_shape[1:]), "float32")
        optimize = partial(
            inference.optimize, model, backend="openvino", precision=precision,
            calibration=calibration, tolerance=1.0,
        )  # fmt: skip
        with TemporaryDirectory() as folder:
            os.environ["DLTLAB_ENGINE_DIR"] = folder
            built, engine = clocked(optimize)
            opening = partial(inference.Engine.load, engine.folder)
            yield {
                "network": name,
                "precision": precision,
                "built": built,
                "again": statistics.median(clocked(optimize)[0] for _ in range(TURNS)),
                "opened": statistics.median(clocked(opening)[0] for _ in range(TURNS)),
            }


def clocked(call: Callable[[], Any]) -> tuple[float, Any]:
    """The seconds that a call takes, and what it returns."""
    start = time.perf_counter()
    found = call()
    return time.perf_counter() - start, found


def timed(call: Callable[[], object]) -> list[float]:
    """Seconds of each call, after some that warm up."""
    for _ in range(5):
        call()
    seconds: list[float] = []
    while sum(seconds) < SECONDS:
        seconds.append(clocked(call)[0])
    return seconds


def report(rows: list[Row]) -> Iterator[str]:
    """The lines of a page in Markdown."""
    for part in dict.fromkeys(row["part"] for row in rows):
        some = [row for row in rows if row["part"] == part]
        if part == "loading":
            yield from loading_table(some)
        else:
            yield from character_table(some) if part == "char_rnn" else image_table(part, some)
    yield f"\n{TARGETS}"


def image_table(name: str, rows: list[Row]) -> Iterator[str]:
    """One network: a line for each backend and precision."""

    def rate(backend: str, batch: int) -> float:
        return max(
            (r["rate"] for r in rows if (r["backend"], r["batch"]) == (backend, batch)),
            default=float("nan"),
        )

    most = max(rate("tf.function", batch) for batch in BATCHES)
    yield f"\n### {name}\n"
    yield (
        "| backend | precision | "
        + " | ".join(f"batch {batch}: images/s, p50 / p99 ms, × eager" for batch in BATCHES)
        + " | most images/s (batch, streams) | × tf.function at its best | accuracy kept "
        "| of benchmark_app: batch 1; batch 8, all streams |"
    )
    yield "|---" * (6 + len(BATCHES)) + "|"
    for key in dict.fromkeys((row["backend"], row["precision"]) for row in rows):
        mine = [row for row in rows if (row["backend"], row["precision"]) == key]
        best = max(mine, key=lambda row: row["rate"])
        cells = [
            f"{r['rate']:,.1f}, {1e3 * r['p50']:.3g} / {1e3 * r['p99']:.3g}, "
            f"{r['rate'] / rate('keras', r['batch']):.1f} ×"
            for r in mine
            if r["streams"] == 1
        ]
        shares = [r["share"] for r in mine if r["share"]]
        yield (
            f"| {key[0]} | {key[1]} | {' | '.join(cells)} | {best['rate']:,.0f} "
            f"({best['batch']}, {best['streams']}) | {best['rate'] / most:.1f} × | "
            + (f"{best['kept']:.2%}" if best["kept"] is not None else "–")
            + " | "
            + ("; ".join(f"{each:.2f}" for each in shares) if shares else "–")
            + " |"
        )


def character_table(rows: list[Row]) -> Iterator[str]:
    """A line for each way to run a step."""
    yield "\n### char_rnn, one symbol at a time\n"
    yield "| backend | precision | characters/s | p50 / p99 µs | × the Keras step | × tf.function |"
    yield "|---" * 6 + "|"
    eager, graph = (row["rate"] for row in rows[:2])
    for row in rows:
        yield (
            f"| {row['backend']} | {row['precision']} | {row['rate']:,.0f} | "
            f"{1e6 * row['p50']:.0f} / {1e6 * row['p99']:.0f} | {row['rate'] / eager:.1f} × | "
            f"{row['rate'] / graph:.1f} × |"
        )


def loading_table(rows: list[Row]) -> Iterator[str]:
    """A line for each engine."""
    yield "\n### Building and loading, OpenVINO\n"
    yield "| network | precision | built, s | found again, s | opened, s | built / opened |"
    yield "|---" * 6 + "|"
    for row in rows:
        yield (
            f"| {row['network']} | {row['precision']} | {row['built']:.2f} | {row['again']:.2f} | "
            f"{row['opened']:.3f} | {row['built'] / row['opened']:.0f} × |"
        )


def main() -> None:
    """Measure, and print a page or JSON."""
    chosen = arguments(__doc__, (*NETWORKS, "loading"))
    if chosen.one:
        (part,) = chosen.parts
        others = {"char_rnn": characters, "loading": loading}
        answer(others[part]() if part in others else images(part))
        return
    from dltlab.devices import inventory

    machine = inventory(ask_tensorflow=False).cpu
    rows = []
    for part in chosen.parts:
        for row in Worker(__file__, part):
            rows.append({"part": part, **row})
            print(part, *row.values(), file=sys.stderr)
    if chosen.json:
        print(json.dumps({"hardware": machine.model, "rows": rows}, indent=1))
        return
    print(f"{machine.model}, {machine.cores:g} cores")
    for line in report(rows):
        print(line)


if __name__ == "__main__":
    main()
