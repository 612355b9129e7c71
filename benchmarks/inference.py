"""Speed of inference: every backend and precision, beside Keras and OpenVINO's own tool.

    python benchmarks/inference.py [resnet50 googlenet … small char_rnn loading serving] [--json]

The classic networks at 224×224 have random weights, because only their speed is measured. `small`
is `models.small_inception`, trained on `shapes` for 314 steps; its engines must keep 0.99 of the
accuracy, so some layers are float32 where int8 alone does not.
Each network has a process of its own. An engine is measured for batch sizes 1, 8 and 32, one call
after another, and as many calls at the same time as there are cores ("streams"); `keras` is the
model called eagerly and `tf.function` the model as a graph, measured by the same loop. OpenVINO's
`benchmark_app` runs the file of the engine with the same batch size, streams, threads and
precision, in turns with ours; the medians count. Precisions that a processor only emulates are left
out: float16 in TensorFlow, and in XLA all but float32. `char_rnn` is `models.char_rnn`, one symbol
at a time with its state. `loading` is the time to build an engine, and to open it once it is built.
`serving` sends images to `dltlab serve` with the small network in int8, as lab 08 does: with one
stream on all cores, and with the settings that `inference.tune` chooses. The queue that forms the
batches and the engine alone, with full batches, are measured in the same turns; the medians count.
"""

import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from turns import Worker, parse_arguments, serve_results

CLASSICS = ("resnet50", "googlenet", "vgg16", "alexnet", "efficientnet_lite0")
NETWORKS = (*CLASSICS, "small", "char_rnn")
LOADED = ("alexnet", "googlenet", "resnet50", "small_inception")
BATCH_SIZES = (1, 8, 32)
STEPS = 314  # of the small network's training
SECONDS = 1.0  # for each measurement
TURNS = 5  # with benchmark_app, and of a service
LOADS = ((1, 1), (32, 1), (32, 8))  # users of a service, and images in each request
LATENCY_MS = 15  # the bound that a service is tuned for
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


def measure_images(name: str) -> Iterator[Row]:
    """Yield a row for each backend, precision, batch size and number of streams."""
    from dltlab import devices, inference, models
    from dltlab.errors import Unavailable

    devices.setup(precision="float32", seed=1)
    max_accuracy_drop = 1.0
    if name == "small":
        model, calibration, validation = trained_network()
        max_accuracy_drop = 0.01
    else:
        model, validation = getattr(models, name)(), None
        random = np.random.default_rng(1)
        calibration = random.random((32, *model.input_shape[1:]), dtype="float32")
    for backend, precision in product(inference.BACKENDS, HINTS):
        if precision in EMULATED.get(backend, ()):
            continue
        try:
            engine = inference.optimize(
                model,
                backend=backend,
                precision=precision,
                validation=validation,
                calibration=calibration if precision == "int8" else None,
                max_accuracy_drop=max_accuracy_drop,
            )
        except Unavailable as error:
            print(f"{name}: {error}", file=sys.stderr)
            continue
        cores = engine.settings.threads
        streams = (1,) if backend in ("keras", "tf.function", "xla") else (1, cores)
        result = inference.benchmark(
            engine, batch_sizes=BATCH_SIZES, streams=streams, seconds=SECONDS
        )
        for row in result.rows:
            is_compared = (row.batch_size, row.streams) in ((1, 1), (8, cores))
            yield {
                "backend": backend,
                "precision": precision_label(engine, precision),
                "batch_size": row.batch_size,
                "streams": row.streams,
                "rate": row.images_per_second,
                "p50": row.percentile(50),
                "p99": row.percentile(99),
                "accuracy_kept": accuracy_kept(engine) if validation else None,
                "share": share_of_benchmark_app(engine, row.batch_size, row.streams)
                if backend == "openvino" and is_compared
                else None,
            }


def precision_label(engine: Any, requested: str) -> str:
    """Return what an engine computes in, where it was requested in `requested`."""
    if engine.manifest.precision != requested:
        return f"{requested}, now {engine.manifest.precision}"
    is_mixed = engine.manifest.max_accuracy_drop is not None
    return f"{requested} in part" if is_mixed else requested


def accuracy_kept(engine: Any) -> float:
    """Return the fraction of the accuracy that an engine keeps."""
    return float(engine.accuracy.engine / engine.accuracy.reference)


def trained_network() -> tuple[Any, Any, Any]:
    """Return the small network, images for calibration, and held-out ones with labels."""
    import keras

    from dltlab import data, models, training

    model = models.small_inception()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    rate = training.one_cycle(0.01, STEPS)
    model.compile(keras.optimizers.AdamW(rate, weight_decay=0.02), loss)
    images = data.load("shapes", batch_size=64, seed=1).repeat()
    model.fit(images, steps_per_epoch=STEPS, shuffle=False, verbose=0)
    return model, data.arrays("shapes", "train")[0][:300], data.arrays("shapes", "validation")


def share_of_benchmark_app(engine: Any, batch_size: int, streams: int) -> float:
    """Return our images/s divided by those of OpenVINO's own tool, measured in turns."""
    from dltlab import inference

    configured = engine.configured(batch_size=batch_size, streams=streams)
    settings = {"batch_sizes": [batch_size], "streams": [streams], "seconds": SECONDS}
    turns = [
        (
            inference.benchmark(configured, **settings).offline.images_per_second,
            benchmark_app(configured),
        )
        for _ in range(TURNS)
    ]
    ours, theirs = (statistics.median(side) for side in zip(*turns, strict=True))
    return ours / theirs


def benchmark_app(engine: Any) -> float:
    """Return images/s of OpenVINO's own tool, with the engine's file and settings."""
    settings, (tensor,) = engine.settings, engine.manifest.inputs
    shape = ",".join(map(str, (settings.batch_size, *tensor.shape)))
    command = [
        *(str(Path(sys.executable).with_name("benchmark_app")), "-hint", "none", "-api", "async"),
        *("-m", str(engine.folder / "model.xml"), "-shape", f"[{shape}]"),
        *("-infer_precision", HINTS[engine.manifest.precision], "-t", str(round(2 * SECONDS))),
        *("-nstreams", str(settings.streams), "-nireq", str(settings.streams)),
        *("-nthreads", str(settings.threads)),
    ]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    throughput = re.search(r"Throughput:\s+([\d.]+) FPS", output)
    assert throughput, output
    return float(throughput[1])


def measure_steps() -> Iterator[Row]:
    """Yield a row for each way to run one step of the character network."""
    import tensorflow as tf

    from dltlab import devices, inference, models
    from dltlab.errors import Unavailable

    devices.setup(precision="float32", seed=1)
    model = models.char_rnn(65)
    step = models.step_model(model)
    inputs = [tf.zeros((1, *tensor.shape[1:]), tensor.dtype) for tensor in step.inputs]
    graph = tf.function(lambda tensors: step(tensors, training=False))

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
                    model, backend=backend, precision=precision, max_accuracy_drop=1.0
                )
            except Unavailable as error:
                print(f"char_rnn: {error}", file=sys.stderr)
                continue
            yield row(backend, precision, partial(engine, 1))


def measure_loading() -> Iterator[Row]:
    """Yield a row for each engine: seconds to build it, to find it in the cache, to open it."""
    from dltlab import devices, inference, models

    devices.setup(precision="float32", seed=1)
    for name, precision in product(LOADED, ("float32", "int8")):
        model = getattr(models, name)()  # a new one: exports are cached
        calibration = np.random.default_rng(1).random((32, *model.input_shape[1:]), "float32")
        optimize = partial(
            inference.optimize,
            model,
            backend="openvino",
            precision=precision,
            calibration=calibration,
            max_accuracy_drop=1.0,
        )
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


def measure_serving() -> Iterator[Row]:
    """Yield a row for each turn, way to set the engine, number of users and size of requests."""
    from dltlab import devices, inference

    devices.setup(precision="float32", seed=1)
    model, calibration, validation = trained_network()
    engine = inference.optimize(
        model,
        backend="openvino",
        precision="int8",
        calibration=calibration,
        validation=validation,
        max_accuracy_drop=0.01,
        batch_size=8,
    )
    tuned = inference.tune(engine, latency_ms=LATENCY_MS, seconds=SECONDS).engine
    image = validation[0][:1]
    with TemporaryDirectory() as folder, ExitStack() as running:
        engine.save(Path(folder, "engine"))
        sides = []
        for name, served in {"one stream, all cores": engine, "tuned": tuned}.items():
            service = running.enter_context(serving(Path(folder, "engine"), served.settings))
            sides.append((f"{name}: {settings_of(served)}", served, *service))
        for _, (name, served, process, address) in product(range(TURNS), sides):
            settings = served.settings
            alone = inference.benchmark(
                served,
                batch_sizes=[settings.batch_size],
                streams=[settings.streams],
                seconds=SECONDS,
            ).offline.images_per_second
            for users, count in LOADS:
                images = np.repeat(image, count, axis=0)
                before = cpu_seconds(process)
                load = inference.load_test(address, "", images, concurrency=users, seconds=SECONDS)
                used = cpu_seconds(process) - before
                queue = inference.queue_test(served, images, concurrency=users, seconds=SECONDS)
                yield {
                    "settings": name,
                    "users": users,
                    "images": count,
                    "rate": count * load.requests_per_second,
                    "queue": count * queue.requests_per_second,
                    "engine": alone,
                    "p50": load.percentile(50),
                    "p99": load.percentile(99),
                    "cpu": used / len(load.latencies),
                    "load": os.getloadavg()[0],
                }


def settings_of(engine: Any) -> str:
    """Return the settings of an engine in words."""
    settings = engine.settings
    return f"batch {settings.batch_size}, streams {settings.streams}, threads {settings.threads}"


@contextmanager
def serving(folder: Path, settings: Any) -> Iterator[tuple[Any, str]]:
    """Run `dltlab serve` and yield its process and its address, after a warm-up."""
    import psutil

    from dltlab import inference

    command = [
        *(str(Path(sys.executable).with_name("dltlab")), "serve", str(folder)),
        *("--port", "0", "--token", "", "--batch-size", str(settings.batch_size)),
        *("--streams", str(settings.streams), "--threads", str(settings.threads)),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            address = process.stdout.readline().partition("/predict")[0]
            shape = inference.Engine.load(folder).manifest.inputs[0].shape
            example = np.zeros((1, *shape), "float32")
            inference.load_test(address, "", example, concurrency=8, seconds=SECONDS)
            yield psutil.Process(process.pid), address
        finally:
            process.terminate()


def cpu_seconds(process: Any) -> float:
    """Return what a process has used of the processor so far."""
    times = process.cpu_times()
    return float(times.user + times.system)


def clocked(call: Callable[[], Any]) -> tuple[float, Any]:
    """Return the seconds that a call takes, and its result."""
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def timed(call: Callable[[], object]) -> list[float]:
    """Return the seconds of each call, after some calls to warm up."""
    for _ in range(5):
        call()
    seconds: list[float] = []
    while sum(seconds) < SECONDS:
        seconds.append(clocked(call)[0])
    return seconds


def report(rows: list[Row]) -> Iterator[str]:
    """Yield the lines of a page in Markdown."""
    for part in dict.fromkeys(row["part"] for row in rows):
        part_rows = [row for row in rows if row["part"] == part]
        if part == "loading":
            yield from loading_table(part_rows)
        elif part == "serving":
            yield from serving_table(part_rows)
        elif part == "char_rnn":
            yield from step_table(part_rows)
        else:
            yield from image_table(part, part_rows)
    yield f"\n{TARGETS}"


def image_table(name: str, rows: list[Row]) -> Iterator[str]:
    """Yield the table of one network: a line for each backend and precision."""

    def rate(backend: str, batch_size: int) -> float:
        return max(
            (r["rate"] for r in rows if (r["backend"], r["batch_size"]) == (backend, batch_size)),
            default=float("nan"),
        )

    graph_rate = max(rate("tf.function", batch_size) for batch_size in BATCH_SIZES)
    yield f"\n### {name}\n"
    yield (
        "| backend | precision | "
        + " | ".join(f"batch {batch}: images/s, p50 / p99 ms, × eager" for batch in BATCH_SIZES)
        + " | most images/s (batch, streams) | × tf.function at its best | accuracy kept "
        "| of benchmark_app: batch 1; batch 8, all streams |"
    )
    yield "|---" * (6 + len(BATCH_SIZES)) + "|"
    for key in dict.fromkeys((row["backend"], row["precision"]) for row in rows):
        engine_rows = [row for row in rows if (row["backend"], row["precision"]) == key]
        best = max(engine_rows, key=lambda row: row["rate"])
        cells = [
            f"{r['rate']:,.1f}, {1e3 * r['p50']:.3g} / {1e3 * r['p99']:.3g}, "
            f"{r['rate'] / rate('keras', r['batch_size']):.1f} ×"
            for r in engine_rows
            if r["streams"] == 1
        ]
        shares = [r["share"] for r in engine_rows if r["share"]]
        yield (
            f"| {key[0]} | {key[1]} | {' | '.join(cells)} | {best['rate']:,.0f} "
            f"({best['batch_size']}, {best['streams']}) | {best['rate'] / graph_rate:.1f} × | "
            + (f"{best['accuracy_kept']:.4f}" if best["accuracy_kept"] is not None else "–")
            + " | "
            + ("; ".join(f"{share:.2f}" for share in shares) if shares else "–")
            + " |"
        )


def step_table(rows: list[Row]) -> Iterator[str]:
    """Yield the table of the character network: a line for each way to run a step."""
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
    """Yield the table of loading: a line for each engine."""
    yield "\n### Building and loading, OpenVINO\n"
    yield "| network | precision | built, s | found again, s | opened, s | built / opened |"
    yield "|---" * 6 + "|"
    for row in rows:
        yield (
            f"| {row['network']} | {row['precision']} | {row['built']:.2f} | {row['again']:.2f} | "
            f"{row['opened']:.3f} | {row['built'] / row['opened']:.0f} × |"
        )


def serving_table(rows: list[Row]) -> Iterator[str]:
    """Yield the table of a service: a line for each way to set the engine, and each load."""

    def cell(number: float) -> str:
        return f"{number:,.0f}"

    yield "\n### Serving, the small network on OpenVINO in int8\n"
    yield (
        "| settings | users | images in a request | HTTP, images/s | queue alone, images/s "
        "| engine alone, images/s | engine / HTTP, from lowest to highest | p50 / p99 ms "
        "| processor time of the service for a request, ms |"
    )
    yield "|---" * 9 + "|"
    for key in dict.fromkeys((row["settings"], row["users"], row["images"]) for row in rows):
        turns = [row for row in rows if (row["settings"], row["users"], row["images"]) == key]
        median = {
            name: statistics.median(row[name] for row in turns)
            for name in ("rate", "queue", "engine", "p50", "p99", "cpu")
        }
        ratios = sorted(row["engine"] / row["rate"] for row in turns)
        cells = [*key, *(cell(median[name]) for name in ("rate", "queue", "engine"))]
        cells.append(f"{statistics.median(ratios):.1f}, {ratios[0]:.1f} to {ratios[-1]:.1f}")
        cells.append(f"{1e3 * median['p50']:.3g} / {1e3 * median['p99']:.3g}")
        cells.append(f"{1e3 * median['cpu']:.2f}")
        yield f"| {' | '.join(map(str, cells))} |"
    loads = [row["load"] for row in rows]
    yield f"\nLoad average of the machine: {min(loads):.1f} to {max(loads):.1f}."


def main() -> None:
    """Measure, and print a page or JSON."""
    arguments = parse_arguments(__doc__, (*NETWORKS, "loading", "serving"))
    if arguments.worker:
        (part,) = arguments.parts
        others = {
            "char_rnn": measure_steps,
            "loading": measure_loading,
            "serving": measure_serving,
        }
        serve_results(others[part]() if part in others else measure_images(part))
        return
    from dltlab.devices import inventory

    machine = inventory(ask_tensorflow=False).cpu
    rows = []
    for part in arguments.parts:
        for row in Worker(__file__, part):
            rows.append({"part": part, **row})
            print(part, *row.values(), file=sys.stderr)
    if arguments.json:
        print(json.dumps({"hardware": machine.model, "rows": rows}, indent=1))
        return
    print(f"{machine.model}, {machine.cores:g} cores")
    for line in report(rows):
        print(line)


if __name__ == "__main__":
    main()
