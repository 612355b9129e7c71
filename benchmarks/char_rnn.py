"""Measure how fast a network learns to write text, and how fast it writes.

    python benchmarks/char_rnn.py [race] [sampling] [--json]

race: tinyshakespeare, the first 90 % for training, the last 10 % held out, mean nats per character,
read in windows of 256. The tutorial is TensorFlow's "Text generation with an RNN": an embedding of
256, a GRU of 1024 units, Adam, batches of 64 sequences of 100 characters, shuffled, float32, at
most 20 epochs; it stops when it has not improved for an epoch and a half. dltlab is
`models.char_rnn`, one LSTM of 512 units with dropout, batches of 64 windows of 64 characters, AdamW
with a one-cycle schedule, mixed bfloat16. Each side is a process of its own with all cores. The
side that has trained for the shorter time continues, so that other load affects both sides equally.
The measured time includes compilation, and excludes the evaluation on the held-out text.

sampling: characters per second of dltlab's network with `training.generate`; as in the tutorial,
with a compiled step that keeps its state and is called for each character; and with the naive loop,
which reads the last 256 characters again for each character, with `predict` and by a call.
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
PARTS = ("race", "sampling")
EPOCHS, PATIENCE = 20, 8  # of the tutorial; patience in evaluations, five per epoch
TUTORIAL_STRIDE, DLTLAB_STRIDE, DLTLAB_STEPS = 31, 50, 1000  # steps
MAX_NATS, WORKSHOP_SECONDS, MIN_SPEEDUP, MIN_SAMPLING_SPEEDUP = 1.55, 300, 5, 20  # targets
PUBLISHED = (
    "nanoGPT's README: 1.88 nats with its settings for a CPU, 1.4697 on an A100 in 3 minutes"
)
CONTEXT, REPEATS = 256, 3


class Point(NamedTuple):
    """The state of a training run at an evaluation."""

    seconds: float
    characters: int
    nats: float


def tutorial(ids: Any, num_symbols: int) -> tuple[Any, Any, int]:
    """Return the tutorial's model, one epoch of its batches, and its number of steps."""
    import keras
    import tensorflow as tf
    from keras import layers

    pairs = tf.data.Dataset.from_tensor_slices(ids).batch(101, drop_remainder=True)
    pairs = pairs.map(lambda sequence: (sequence[:-1], sequence[1:]))
    batches = pairs.shuffle(10_000).batch(64, drop_remainder=True).prefetch(tf.data.AUTOTUNE)
    model = keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            layers.Embedding(num_symbols, 256),
            layers.GRU(1024, return_sequences=True),
            layers.Dense(num_symbols),
        ]
    )
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model, batches, EPOCHS * len(batches)


def dltlab_side(ids: Any, num_symbols: int, seed: int) -> tuple[Any, Any, int]:
    """Return dltlab's model, its batches, and its number of steps."""
    import keras

    from dltlab import data, models, training

    model = models.char_rnn(num_symbols, units=512, embedding=128, dropout=0.1)
    rate = training.one_cycle(0.005, DLTLAB_STEPS)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.AdamW(rate, weight_decay=0.02, beta_2=0.99), loss)
    return model, data.windows(ids, 64, 64, shuffle=True, seed=seed), DLTLAB_STEPS


def train(side: str, seed: int) -> Iterator[Point]:
    """Train one side; yield a point after each evaluation."""
    from dltlab import data, devices, training

    is_dltlab = side == "dltlab"
    devices.setup(precision="mixed_bfloat16" if is_dltlab else "float32", seed=seed)
    corpus = data.corpus(NAME)
    ids, held_out = map(corpus.vocabulary.encode, (corpus.train, corpus.validation))
    num_symbols = len(corpus.vocabulary)
    if is_dltlab:
        model, batches, steps = dltlab_side(ids, num_symbols, seed)
    else:
        model, batches, steps = tutorial(ids, num_symbols)
    stride = DLTLAB_STRIDE if is_dltlab else TUTORIAL_STRIDE
    seconds, characters, endless = 0.0, 0, iter(batches.repeat())
    for first in range(0, steps, stride):
        start = time.perf_counter()
        for inputs, targets in islice(endless, min(stride, steps - first)):
            model.train_on_batch(inputs, targets)
            characters += int(inputs.shape[0]) * int(inputs.shape[1])
        seconds += time.perf_counter() - start
        nats = training.bits_per_character(model, held_out) * math.log(2)
        yield Point(seconds, characters, nats)


def race(seed: int) -> dict[str, list[Point]]:
    """Return the points of both sides."""
    workers = {name: Worker(__file__, name, seed) for name in ("tutorial", "dltlab")}
    points: dict[str, list[Point]] = {name: [] for name in workers}
    running = dict(workers)
    while running:
        name = min(running, key=lambda side: points[side][-1].seconds if points[side] else 0.0)
        result = next(running[name], None)
        if result is None:
            del running[name]
            continue
        points[name].append(point := Point(*result))
        print(f"{name}: {point.nats:.3f} nats after {point.seconds:.0f} s", file=sys.stderr)
        if name == "tutorial" and has_ended(points[name]):
            running.pop(name).stop()
    return points


def has_ended(points: list[Point]) -> bool:
    """Return whether the last `PATIENCE` evaluations brought no improvement."""
    best = min(range(len(points)), key=lambda index: points[index].nats)
    return len(points) - 1 - best >= PATIENCE


def summarize(points: dict[str, list[Point]]) -> dict[str, float]:
    """Return the numbers of the claims."""
    best = min(points["tutorial"], key=lambda point: point.nats)
    seconds_to_reach = next((p.seconds for p in points["dltlab"] if p.nats <= best.nats), math.nan)
    last = points["dltlab"][-1]
    in_time = min(p.nats for p in points["dltlab"] if p.seconds <= WORKSHOP_SECONDS)
    tutorial_then = min(p.nats for p in points["tutorial"] if p.seconds <= last.seconds)
    return {
        "tutorial_best": best.nats,
        "tutorial_seconds": best.seconds,
        "seconds_to_reach": seconds_to_reach,
        "speedup": best.seconds / seconds_to_reach,
        "in_workshop": in_time,
        "dltlab": last.nats,
        "dltlab_seconds": last.seconds,
        "tutorial_then": tutorial_then,
    }


def sampling() -> dict[str, float]:
    """Return the characters per second of each method of writing."""
    import numpy as np
    import tensorflow as tf

    from dltlab import data, devices, models, training

    devices.setup(precision="float32", seed=1)
    corpus = data.corpus(NAME)
    vocabulary, prompt = corpus.vocabulary, corpus.validation[:CONTEXT]
    model = models.char_rnn(len(vocabulary), units=512, embedding=128)
    embedding, recurrent, dense = model.layers[1:]
    text = training.generate(model, vocabulary, prompt, seed=1)

    @tf.function
    def step(symbol: Any, states: Any) -> tuple[Any, Any]:
        output, *states = recurrent.cell(embedding(symbol), states)
        return tf.random.categorical(dense(output), 1, dtype=tf.int32)[:, 0], states[0]

    def step_by_step(number: int) -> None:
        states = recurrent.cell.get_initial_state(batch_size=1)
        symbol = tf.zeros((1,), tf.int32)
        for _ in range(number):
            symbol, states = step(symbol, states)
            vocabulary.decode(symbol.numpy())

    def naive(logits_of: Callable[[Any], Any], number: int) -> None:
        random, ids = np.random.default_rng(1), vocabulary.encode(prompt)
        for _ in range(number):
            logits = np.asarray(logits_of(ids[np.newaxis, -CONTEXT:]))[0, -1].astype("float64")
            powers = np.exp(logits - logits.max())
            ids = np.append(ids, random.choice(len(powers), p=powers / powers.sum()))

    methods: dict[str, tuple[Callable[[int], object], int]] = {
        "dltlab": (lambda number: "".join(islice(text, number)), 4000),
        "a compiled step for each character": (step_by_step, 1000),
        "naive, predict": (lambda number: naive(lambda x: model.predict(x, verbose=0), number), 30),
        "naive, model called": (lambda number: naive(model, number), 30),
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
        yield "| characters read | tutorial | after | dltlab | after |\n|---|---|---|---|---|"
        for mark in (10**6 * millions for millions in range(1, 31)):
            pair = [
                next((p for p in points[side] if p.characters >= mark), None)
                for side in ("tutorial", "dltlab")
            ]
            if any(pair):
                cells = (f"{p.nats:.3f} | {p.seconds:.0f} s" if p else "|" for p in pair)
                yield f"| {mark / 10**6:.0f} million | {' | '.join(cells)} |"
        summary = results["summary"]
        yield (
            f"\nThe tutorial's best loss is {summary['tutorial_best']:.3f} nats after "
            f"{summary['tutorial_seconds']:,.0f} s; dltlab reaches it after "
            f"{summary['seconds_to_reach']:.0f} s, {summary['speedup']:.1f} × faster (target "
            f"{MIN_SPEEDUP}). Within the {WORKSHOP_SECONDS} s of a workshop it reaches "
            f"{summary['in_workshop']:.3f} (target {MAX_NATS}), and it ends at "
            f"{summary['dltlab']:.3f} after {summary['dltlab_seconds']:.0f} s, when the tutorial "
            f"has reached {summary['tutorial_then']:.3f}. {PUBLISHED}."
        )
    if rates := results.get("sampling"):
        yield "\n| writing | characters/s | dltlab is faster by |\n|---|---|---|"
        for name, rate in rates.items():
            yield f"| {name} | {rate:,.0f} | {rates['dltlab'] / rate:.1f} × |"
        yield f"\nTarget: {MIN_SAMPLING_SPEEDUP} × the naive loop."


def main() -> None:
    """Run the chosen parts, and print a report or JSON."""
    arguments = parse_arguments(__doc__, PARTS, seed=1)
    if arguments.worker:
        name, *seed = arguments.parts
        serve_results(train(name, *map(int, seed)) if seed else [sampling()])
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
        points = race(arguments.seed)
        results |= {"race": points, "summary": summarize(points)}
    if "sampling" in arguments.parts:
        results["sampling"] = next(Worker(__file__, "sampling"))
    if arguments.json:
        print(json.dumps(results, indent=1))
        return
    print(f"{results['hardware']}\n")
    for line in report(results):
        print(line)


if __name__ == "__main__":
    main()
