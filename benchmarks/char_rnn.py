"""How soon a network learns to write, and how fast it writes.

    python benchmarks/char_rnn.py [race] [sampling] [--json]

race: tinyshakespeare, the first 90 % to learn from, the last 10 % to judge by, mean nats a
character, read in windows of 256. The tutorial is TensorFlow's "Text generation with an RNN": an
embedding of 256, a GRU of 1024, Adam, batches of 64 sequences of 100 characters, shuffled, float32,
at most 20 epochs; it ends once it has not got better for an epoch and a half. Ours is
`models.char_rnn`, one LSTM of 512 with dropout, batches of 64 windows of 64 characters, AdamW on
one cycle, mixed bfloat16. Each is a process of its own with all cores. The one that has trained for
the shorter time goes on, so that whatever else slows the machine slows both alike; the clock runs
from the first step, with what is compiled in it, and stands still while the held-out text is read.

sampling: characters a second from our network by `training.generate`; by the tutorial's way, a
compiled step that keeps its state and is called for each character; and by the naive loop, which
reads the last 256 characters once more for each, with `predict` and with the model called.
"""

import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, NamedTuple

from turns import Worker, answer, arguments

NAME = "tinyshakespeare"
PARTS = ("race", "sampling")
EPOCHS, PATIENCE = 20, 8  # of the tutorial; looks at the held-out text, five an epoch
TUTORIAL_STRIDE, OUR_STRIDE, OUR_STEPS = 31, 50, 1000  # steps
NATS, WORKSHOP, SOONER, FASTER = 1.55, 300, 5, 20  # targets
PUBLISHED = (
    "nanoGPT's README: 1.88 nats with its settings for a CPU, 1.4697 on an A100 in 3 minutes"
)
CONTEXT, REPEATS = 256, 3


class Point(NamedTuple):
    """Where a training stands."""

    seconds: float
    characters: int
    nats: float


def tutorial(ids: Any, num_symbols: int) -> tuple[Any, Any, int]:
    """Its model, an epoch of its batches, and its steps."""
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


def ours(ids: Any, num_symbols: int, seed: int) -> tuple[Any, Any, int]:
    """The same of ours."""
    import keras

    from dltlab import data, models, training

    model = models.char_rnn(num_symbols, units=512, embedding=128, dropout=0.1)
    rate = training.one_cycle(0.005, OUR_STEPS)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.AdamW(rate, weight_decay=0.02, beta_2=0.99), loss)
    return model, data.windows(ids, 64, 64, shuffle=True, seed=seed), OUR_STEPS


def train(side: str, seed: int) -> Iterator[Point]:
    """Train one side; a point every so many steps."""
    from dltlab import data, devices, training

    is_ours = side == "dltlab"
    devices.setup(precision="mixed_bfloat16" if is_ours else "float32", seed=seed)
    corpus = data.corpus(NAME)
    ids, held_out = map(corpus.vocabulary.encode, (corpus.train, corpus.validation))
    num_symbols = len(corpus.vocabulary)
    model, batches, steps = ours(ids, num_symbols, seed) if is_ours else tutorial(ids, num_symbols)
    stride = OUR_STRIDE if is_ours else TUTORIAL_STRIDE
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
    """The points of both sides."""
    workers = {name: Worker(__file__, name, seed) for name in ("tutorial", "dltlab")}
    points: dict[str, list[Point]] = {name: [] for name in workers}
    going = dict(workers)
    while going:
        name = min(going, key=lambda each: points[each][-1].seconds if points[each] else 0.0)
        found = next(going[name], None)
        if found is None:
            del going[name]
            continue
        points[name].append(point := Point(*found))
        print(f"{name}: {point.nats:.3f} nats after {point.seconds:.0f} s", file=sys.stderr)
        if name == "tutorial" and has_ended(points[name]):
            going.pop(name).stop()
    return points


def has_ended(points: list[Point]) -> bool:
    """The last looks, as many as the patience, have brought nothing."""
    best = min(range(len(points)), key=lambda place: points[place].nats)
    return len(points) - 1 - best >= PATIENCE


def verdict(points: dict[str, list[Point]]) -> dict[str, float]:
    """What the claims are made of."""
    best = min(points["tutorial"], key=lambda point: point.nats)
    passed = next((p.seconds for p in points["dltlab"] if p.nats <= best.nats), math.nan)
    ended = points["dltlab"][-1]
    in_time = min(p.nats for p in points["dltlab"] if p.seconds <= WORKSHOP)
    equal = min(p.nats for p in points["tutorial"] if p.seconds <= ended.seconds)
    return {
        "tutorial_best": best.nats,
        "tutorial_seconds": best.seconds,
        "passed_after": passed,
        "sooner": best.seconds / passed,
        "in_time": in_time,
        "ours": ended.nats,
        "ours_seconds": ended.seconds,
        "tutorial_then": equal,
    }


def sampling() -> dict[str, float]:
    """Characters a second of each way to write."""
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

    ways: dict[str, tuple[Callable[[int], object], int]] = {
        "dltlab": (lambda number: "".join(islice(text, number)), 4000),
        "a compiled step a character": (step_by_step, 1000),
        "naive, predict": (lambda number: naive(lambda x: model.predict(x, verbose=0), number), 30),
        "naive, model called": (lambda number: naive(model, number), 30),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(REPEATS + 1):
        for name, (write, number) in ways.items():
            start = time.perf_counter()
            write(number)
            if repeat:  # the first one compiles
                rates[name].append(number / (time.perf_counter() - start))
    return {name: statistics.median(each) for name, each in rates.items()}


def report(found: dict[str, Any]) -> Iterator[str]:
    """The lines of a page in Markdown."""
    if points := found.get("race"):
        yield "| characters read | tutorial | after | dltlab | after |\n|---|---|---|---|---|"
        for mark in (10**6 * each for each in range(1, 31)):
            pair = [
                next((p for p in points[side] if p.characters >= mark), None)
                for side in ("tutorial", "dltlab")
            ]
            if any(pair):
                cells = (f"{p.nats:.3f} | {p.seconds:.0f} s" if p else "|" for p in pair)
                yield f"| {mark / 10**6:.0f} million | {' | '.join(cells)} |"
        about = found["verdict"]
        yield (
            f"\nThe tutorial's best: {about['tutorial_best']:.3f} nats after "
            f"{about['tutorial_seconds']:,.0f} s. Ours passes that after "
            f"{about['passed_after']:.0f} s, {about['sooner']:.1f} × sooner (target {SOONER}). "
            f"Within a workshop's {WORKSHOP} s it reaches {about['in_time']:.3f} (target {NATS}), "
            f"and it ends at {about['ours']:.3f} after {about['ours_seconds']:.0f} s, when the "
            f"tutorial has reached {about['tutorial_then']:.3f}. {PUBLISHED}."
        )
    if rates := found.get("sampling"):
        yield "\n| writing | characters/s | dltlab is faster by |\n|---|---|---|"
        for name, rate in rates.items():
            yield f"| {name} | {rate:,.0f} | {rates['dltlab'] / rate:.1f} × |"
        yield f"\nTarget: {FASTER} × the naive loop."


def main() -> None:
    """Measure, and print a page or JSON."""
    chosen = arguments(__doc__, PARTS, seed=1)
    if chosen.one:
        name, *rest = chosen.parts
        answer(train(name, *map(int, rest)) if rest else [sampling()])
        return
    from dltlab import data
    from dltlab.devices import inventory
    from dltlab.errors import LabError

    try:
        data.text(NAME)
    except LabError as error:
        sys.exit(str(error))
    machine = inventory(ask_tensorflow=False).cpu
    found: dict[str, Any] = {"hardware": f"{machine.model}, {machine.cores:g} cores"}
    if "race" in chosen.parts:
        points = race(chosen.seed)
        found |= {"race": points, "verdict": verdict(points)}
    if "sampling" in chosen.parts:
        found["sampling"] = next(Worker(__file__, "sampling"))
    if chosen.json:
        print(json.dumps(found, indent=1))
        return
    print(f"{found['hardware']}\n")
    for line in report(found):
        print(line)


if __name__ == "__main__":
    main()
