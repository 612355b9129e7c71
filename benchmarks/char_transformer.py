"""Measure how fast a small Transformer learns text, beside nanoGPT's settings for a CPU.

    python benchmarks/char_transformer.py [race] [writing] [--seed 1] [--json]

race: tinyshakespeare, the first 90 % for training, the last 10 % held out, mean nats per character,
read in windows of 64, nanoGPT's context. One side is nanoGPT's recipe for a CPU, rebuilt in Keras
from its README and config/train_shakespeare_char.py: 4 layers, 4 heads, width 128, context 64,
batches of 12, 2,000 iterations, no dropout, learned positions, GELU, no biases, the embedding tied
to the output, AdamW with betas 0.9 and 0.99, weight decay 0.1 on matrices, gradients clipped to 1,
learning rate 1e-3 after 100 iterations, then a cosine to 1e-4, float32. The other is
`models.char_transformer` of the same width, depth, heads and context; the report says how many
parameters each side has (about 0.8 million). It has batches of 16 windows, a one-cycle schedule, a
step compiled by XLA, and mixed bfloat16 where the processor multiplies matrices in it.
Its schedule follows the clock and ends when nanoGPT's 2,000 iterations do, as estimated from
nanoGPT's first steps. Each side is a process of its own with all cores. The side that has trained
for the shorter time continues, so that other load affects both equally. The time includes
compilation, and excludes the evaluation on the held-out text.

writing: characters per second of the network with its cache: Keras' compiled step, called for each
character, `inference.step_engine`, `training.generate`, and reading the last 64 characters again.
"""

import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, NamedTuple

from turns import Worker, parse_arguments, serve_results

NAME = "tinyshakespeare"
PARTS = ("race", "writing")
LAYERS, HEADS, WIDTH, CONTEXT = 4, 4, 128, 64  # of nanoGPT's settings for a CPU
BATCH_SIZE, ITERATIONS = 12, 2000
PEAK, LAST, WARM_UP, DECAY = 1e-3, 1e-4, 100, 0.1
OUR_BATCH_SIZE, OUR_PEAK, OUR_DECAY, OUR_WARM_UP = 16, 4e-3, 0.05, 0.1
PIECES = 10  # of a training, each followed by an evaluation
TIMED_STEPS = 40  # after 10 others, to estimate how long nanoGPT's iterations take
PUBLISHED = 1.88  # nats after about 3 minutes on a laptop's processor (nanoGPT's README)
MIN_SPEEDUP = 3  # of the engine's step against Keras' step
PROMPT, REPEATS = 64, 3


class Point(NamedTuple):
    """The state of a training run at an evaluation."""

    seconds: float
    characters: int
    nats: float


def nanogpt(num_symbols: int) -> Any:
    """Build nanoGPT's network with Keras' layers, compiled with its optimizer."""
    import keras
    from keras import layers, ops

    class Positions(layers.Layer):  # type: ignore[misc]
        """Add a learned vector for each place of the window."""

        def build(self, shape: Any) -> None:
            self.table = self.add_weight(
                shape=(CONTEXT, shape[-1]), initializer=normal(), name="positions"
            )

        def call(self, x: Any) -> Any:
            return x + ops.cast(self.table[: ops.shape(x)[1]], x.dtype)

    def normal(deviation: float = 0.02) -> Any:
        return keras.initializers.RandomNormal(stddev=deviation)

    def dense(width: int, deviation: float = 0.02, **options: Any) -> Any:
        start = normal(deviation)
        return layers.Dense(width, use_bias=False, kernel_initializer=start, **options)

    def norm() -> Any:
        return layers.LayerNormalization(epsilon=1e-5, center=False)

    def heads(x: Any) -> Any:
        return layers.Reshape((-1, HEADS, WIDTH // HEADS))(x)

    inputs = keras.Input((None,), dtype="int32")
    embedding = layers.ReversibleEmbedding(num_symbols, WIDTH, embeddings_initializer=normal())
    x = Positions()(embedding(inputs))
    last = 0.02 / math.sqrt(2 * LAYERS)  # of the layers that add to the residual
    for _ in range(LAYERS):
        parts = ops.split(dense(3 * WIDTH)(norm()(x)), 3, axis=-1)
        mixed = ops.dot_product_attention(*map(heads, parts), is_causal=True)
        x = x + dense(WIDTH, last)(layers.Reshape((-1, WIDTH))(mixed))
        hidden = dense(4 * WIDTH, activation="gelu")(norm()(x))
        x = x + dense(WIDTH, last)(hidden)
    model = keras.Model(inputs, embedding(norm()(x), reverse=True), name="nanogpt")
    rate = keras.optimizers.schedules.CosineDecay(
        0.0, ITERATIONS - WARM_UP, alpha=LAST / PEAK, warmup_target=PEAK, warmup_steps=WARM_UP
    )
    optimizer = keras.optimizers.AdamW(
        rate, weight_decay=DECAY, beta_2=0.99, epsilon=1e-8, global_clipnorm=1.0
    )
    optimizer.exclude_from_weight_decay(var_names=["gamma"])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, jit_compile=False)
    return model


def dltlab_side(num_symbols: int) -> Any:
    """Build dltlab's network of the same size, compiled with its optimizer."""
    import keras

    from dltlab import models

    sizes = {"width": WIDTH, "num_blocks": LAYERS, "heads": HEADS, "context": CONTEXT}
    model = models.char_transformer(num_symbols, **sizes)
    optimizer = keras.optimizers.AdamW(
        OUR_PEAK, weight_decay=OUR_DECAY, beta_2=0.99, global_clipnorm=1.0
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, jit_compile=True)
    return model


def rate_after(progress: float) -> float:
    """Return the learning rate after a fraction of the time: a rise, then half a cosine."""
    if progress < OUR_WARM_UP:
        return OUR_PEAK * (0.04 + 0.96 * progress / OUR_WARM_UP)
    fallen = min(1.0, (progress - OUR_WARM_UP) / (1 - OUR_WARM_UP))
    return OUR_PEAK * (1 + math.cos(math.pi * fallen)) / 2


def prepare(side: str, seed: int) -> tuple[Any, Iterator[Any], Any]:
    """Return the model of a side, its endless batches, and the ids of the held-out text."""
    from dltlab import data, devices

    is_fast = bool({"AMX-BF16", "SME"} & set(devices.cpu_info().extensions))
    precision = "mixed_bfloat16" if side == "dltlab" and is_fast else "float32"
    devices.setup(precision=precision, seed=seed)
    corpus = data.corpus(NAME)
    ids, held_out = map(corpus.vocabulary.encode, (corpus.train, corpus.validation))
    num_symbols = len(corpus.vocabulary)
    model = nanogpt(num_symbols) if side == "nanogpt" else dltlab_side(num_symbols)
    batch_size = BATCH_SIZE if side == "nanogpt" else OUR_BATCH_SIZE
    batches = data.windows(ids, CONTEXT, batch_size, shuffle=True, seed=seed)
    return model, iter(batches.repeat()), held_out


def estimate(seed: int) -> dict[str, float]:
    """Return how many seconds nanoGPT's iterations take, and the parameters of both sides."""
    model, batches, _ = prepare("nanogpt", seed)
    num_symbols = model.output_shape[-1]
    start, times = time.perf_counter(), []
    for _ in range(10 + TIMED_STEPS):
        begin = time.perf_counter()
        model.train_on_batch(*next(batches))
        times.append(time.perf_counter() - begin)
    compilation = time.perf_counter() - start - sum(times[10:])
    return {
        "seconds": compilation + ITERATIONS * statistics.median(times[10:]),
        "nanogpt": model.count_params(),
        "dltlab": dltlab_side(num_symbols).count_params(),
    }


def train(side: str, seed: int, seconds_in_all: float) -> Iterator[Point]:
    """Train one side; yield a point after each piece."""
    from dltlab import training

    model, batches, held_out = prepare(side, seed)
    seconds, characters, steps = 0.0, 0, 0

    def is_complete() -> bool:
        return steps >= ITERATIONS if side == "nanogpt" else seconds >= seconds_in_all

    for piece in range(1, PIECES + 1):
        while not is_complete() and (
            steps < piece * ITERATIONS // PIECES
            if side == "nanogpt"
            else seconds < piece * seconds_in_all / PIECES
        ):
            start = time.perf_counter()
            inputs, targets = next(batches)
            if side == "dltlab":
                model.optimizer.learning_rate = rate_after(seconds / seconds_in_all)
            model.train_on_batch(inputs, targets)
            seconds += time.perf_counter() - start
            characters += int(inputs.shape[0]) * int(inputs.shape[1])
            steps += 1
        nats = training.bits_per_character(model, held_out, length=CONTEXT) * math.log(2)
        yield Point(seconds, characters, nats)


def race(seed: int, seconds: float) -> dict[str, list[Point]]:
    """Return the points of both sides; dltlab's schedule ends after `seconds`."""
    running = {name: Worker(__file__, name, seed, seconds) for name in ("nanogpt", "dltlab")}
    points: dict[str, list[Point]] = {name: [] for name in running}
    while running:
        name = min(running, key=lambda side: points[side][-1].seconds if points[side] else 0.0)
        result = next(running[name], None)
        if result is None:
            del running[name]
            continue
        points[name].append(point := Point(*result))
        print(f"{name}: {point.nats:.3f} nats after {point.seconds:.0f} s", file=sys.stderr)
    return points


def summarize(points: dict[str, list[Point]]) -> dict[str, float]:
    """Return the numbers of the claims."""
    last = points["nanogpt"][-1]
    in_time = [point for point in points["dltlab"] if point.seconds <= last.seconds]
    reached = next((p.seconds for p in points["dltlab"] if p.nats <= last.nats), math.nan)
    return {
        "nanogpt": last.nats,
        "seconds": last.seconds,
        "dltlab": in_time[-1].nats if in_time else math.nan,
        "seconds_to_reach": reached,
        "speedup": last.seconds / reached,
    }


def writing() -> dict[str, float]:
    """Return the characters per second of each way to write."""
    import numpy as np
    import tensorflow as tf

    from dltlab import data, devices, inference, models, training

    devices.setup(precision="float32", seed=1)
    corpus = data.corpus(NAME)
    vocabulary, prompt = corpus.vocabulary, corpus.validation[:PROMPT]
    model = dltlab_side(len(vocabulary))
    step, engine = models.step_model(model), inference.step_engine(model)
    run_step = tf.function(lambda symbol, *states: step([symbol, *states], training=False))
    text = training.generate(model, vocabulary, prompt, temperature=0)

    def step_by_step(number: int) -> None:
        states = [tf.zeros((1, *tensor.shape[1:]), tensor.dtype) for tensor in step.inputs[1:]]
        symbol = 0
        for _ in range(number):
            logits, *states = run_step(tf.constant([[symbol]]), *states)
            symbol = int(logits.numpy()[0].argmax())

    def compiled(number: int) -> None:
        engine.reset()
        symbol = 0
        for _ in range(number):
            symbol = int(engine(symbol).argmax())

    def again(number: int) -> None:
        ids = vocabulary.encode(prompt)
        for _ in range(number):
            logits = model.predict_on_batch(ids[np.newaxis, -CONTEXT:])[0, -1]
            ids = np.append(ids, logits.argmax().astype("int32"))

    methods: dict[str, tuple[Callable[[int], object], int]] = {
        "the engine's step": (compiled, 1000),
        "Keras' compiled step": (step_by_step, 500),
        "training.generate": (lambda number: "".join(islice(text, number)), 1000),
        "reading 64 characters again": (again, 100),
    }
    rates: dict[str, list[float]] = {name: [] for name in methods}
    for repeat in range(REPEATS + 1):
        for name, (write, number) in methods.items():
            start = time.perf_counter()
            write(number)
            if repeat:  # the first one compiles
                rates[name].append(number / (time.perf_counter() - start))
    return {name: statistics.median(samples) for name, samples in rates.items()}


def report(results: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of a report in Markdown."""
    if points := results.get("race"):
        yield "| part of the time | nanoGPT's recipe | after | dltlab | after |"
        yield "|---|---|---|---|---|"
        pairs = zip(points["nanogpt"], points["dltlab"], strict=False)
        for number, pair in enumerate(pairs, start=1):
            cells = " | ".join(f"{point.nats:.3f} | {point.seconds:.0f} s" for point in pair)
            yield f"| {number / PIECES:.0%} | {cells} |"
        summary, plan = results["summary"], results["plan"]
        yield f"\nParameters: {plan['nanogpt']:,} and {plan['dltlab']:,}."
        yield (
            f"\nnanoGPT's recipe in Keras reaches {summary['nanogpt']:.3f} nats after "
            f"{summary['seconds']:.0f} s, dltlab {summary['dltlab']:.3f} in the same time, and "
            f"{summary['nanogpt']:.3f} after {summary['seconds_to_reach']:.0f} s, "
            f"{summary['speedup']:.1f} × faster. nanoGPT's README: {PUBLISHED} after about 3 "
            "minutes on a laptop."
        )
    if rates := results.get("writing"):
        keras_rate = rates["Keras' compiled step"]
        yield "\n| writing | characters/s | × Keras' step |\n|---|---|---|"
        for name, rate in rates.items():
            yield f"| {name} | {rate:,.0f} | {rate / keras_rate:.1f} × |"
        yield f"\nTarget: the engine's step {MIN_SPEEDUP} × that of Keras."


def main() -> None:
    """Run the chosen parts, and print a report or JSON."""
    arguments = parse_arguments(__doc__, PARTS, seed=1)
    if arguments.worker:
        name, *numbers = arguments.parts
        if name == "writing":
            serve_results([writing()])
        elif name == "estimate":
            serve_results([estimate(int(numbers[0]))])
        else:
            serve_results(train(name, int(numbers[0]), float(numbers[1])))
        return
    from dltlab import data
    from dltlab.devices import inventory
    from dltlab.errors import LabError

    try:
        data.text(NAME)
    except LabError as error:
        sys.exit(str(error))
    machine = inventory(ask_tensorflow=False).cpu
    results: dict[str, Any] = {"hardware": f"{machine.model}, {machine.cores:g} cores"}
    if "race" in arguments.parts:
        plan = next(Worker(__file__, "estimate", arguments.seed))
        print(f"nanoGPT's iterations take about {plan['seconds']:.0f} s", file=sys.stderr)
        points = race(arguments.seed, plan["seconds"])
        results |= {"race": points, "summary": summarize(points), "plan": plan}
    if "writing" in arguments.parts:
        results["writing"] = next(Worker(__file__, "writing"))
    if arguments.json:
        print(json.dumps(results, indent=1))
        return
    print(f"{results['hardware']}\n")
    for line in report(results):
        print(line)


if __name__ == "__main__":
    main()
