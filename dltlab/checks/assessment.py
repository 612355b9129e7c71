"""Exercises of lab 18, Assessment: three tasks, their data, and how they are evaluated."""

import io
import shutil
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from dltlab.checks._common import are_close_outputs, require_model, scores_of
from dltlab.display import NEUTRAL, PALETTE, Result
from dltlab.exercises import (
    correct,
    exercise,
    question,
    require,
    run_here,
    run_isolated,
    wrong,
)

if TYPE_CHECKING:
    import pandas as pd

# TensorFlow takes seconds to import, so the checks that need it import it themselves.

TASKS = ("classify_galaxies", "read_morse", "build_engine")
BAR = 0.92  # of the reference's score
SEEDS = 5  # evaluations of each task
_SECONDS = 1800  # for all evaluations of one task, the reference's among them
_MEMORY_GB = 6
_TEST_EXAMPLES = 600  # in each evaluation
_TEST_SEED = 1_000_000  # added to the seed of the training data

# Task 1: galaxies.

GALAXIES = ("bar", "edge_on", "elliptical", "ring", "spiral_s", "spiral_z")
_SIDE = 32
_IMAGES = 120  # in a folder for training


def write_galaxies(folder: str | Path, seed: int, count: int = _IMAGES) -> None:
    """Write images of galaxies as PNG files of 32×32 pixels, in a folder for each class."""
    from PIL import Image

    images, labels = draw_galaxies(count, seed)
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = Path(folder) / GALAXIES[label] / f"{number:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0]).save(path)


def draw_galaxies(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return uint8 images `(count, 32, 32, 1)` of galaxies, and their classes."""
    rng = np.random.default_rng([seed, 18, 1])
    labels = np.arange(count) % len(GALAXIES)
    return np.stack([_galaxy(GALAXIES[label], rng) for label in labels])[..., None], labels


def _galaxy(kind, rng):
    """Draw a galaxy: its light, some stars in front of it, and the noise of the camera."""
    rows, columns = np.mgrid[:_SIDE, :_SIDE]
    y, x = np.array([rows, columns]) - (_SIDE - 1) / 2 - rng.uniform(-2, 2, (2, 1, 1))
    angle = rng.uniform(0, 2 * np.pi)
    along = x * np.cos(angle) + y * np.sin(angle)
    across = y * np.cos(angle) - x * np.sin(angle)
    light = _light(kind, along, across, rng)
    for _ in range(rng.integers(4)):
        star_x, star_y = rng.uniform(0, _SIDE, 2)
        distance = (columns - star_x) ** 2 + (rows - star_y) ** 2
        light += rng.uniform(0.3, 1) * np.exp(-distance / 1.2)
    image = 0.08 + rng.uniform(0.5, 0.9) * light + rng.normal(0, 0.055, light.shape)
    return (255 * np.clip(image, 0, 1)).astype(np.uint8)


def _light(kind, along, across, rng):
    """Return the light of a galaxy at coordinates along and across its long axis."""
    size = rng.uniform(4, 6)
    if kind == "edge_on":
        disk = np.exp(-abs(along) / size - abs(across) / rng.uniform(0.8, 1.4))
        return disk + rng.uniform(0.2, 0.6) * np.exp(-np.hypot(along, across) / 2)
    across = across / rng.uniform(0.65, 1)  # a disk seen at an angle
    radius, turn = np.hypot(along, across), rng.uniform(0, 2 * np.pi)
    core, disk = rng.uniform(0.3, 0.8) * np.exp(-radius / 1.5), np.exp(-radius / size)
    if kind == "elliptical":
        return core + disk
    if kind == "ring":
        distance = radius - rng.uniform(1.6, 2.1) * size
        return core + 0.15 * disk + 0.5 * np.exp(-((distance / 1.6) ** 2))
    sense = {"spiral_s": 1, "spiral_z": -1}.get(kind) or rng.choice([-1, 1])
    winding = 2 * np.log(radius + 0.5) / np.tan(rng.uniform(0.3, 0.45))
    arms = np.cos(2 * (np.arctan2(across, along) - turn) + sense * winding)
    arms *= rng.uniform(0.7, 1)
    if kind == "bar":
        length = along * np.cos(turn) + across * np.sin(turn)
        width = across * np.cos(turn) - along * np.sin(turn)
        bar = np.exp(-((length / size) ** 4) - (width / 1.3) ** 2)
        return 0.7 * (core + bar) + 0.5 * disk * (1 + 0.5 * arms * (radius > size))
    return core + 0.9 * disk * (1 + arms * np.clip(radius / 4, 0, 1))


# Task 2: Morse code.

LETTERS = "ADEHILNORSTU"
_MORSE = {
    **{"A": ".-", "D": "-..", "E": ".", "H": "....", "I": "..", "L": ".-.."},
    **{"N": "-.", "O": "---", "R": ".-.", "S": "...", "T": "-", "U": "..-"},
}
_SAMPLES = 64  # of a signal
_SIGNALS = 1000  # for training
_NOISE = 0.3


def draw_morse(letters: str, seed: int) -> np.ndarray:
    """Return the signal of each letter as float32 `(n, 64, 1)`: loudness over time, and noise."""
    rng = np.random.default_rng([seed, 18, 2])
    return np.stack([_signal(letter, rng) for letter in letters]).astype(np.float32)[..., None]


def random_letters(count: int, seed: int) -> str:
    """Return letters drawn at random."""
    return "".join(np.random.default_rng([seed, 18, 3]).choice(list(LETTERS), count))


def classes_of(letters: str) -> np.ndarray:
    """Return the class of each letter: its place in `LETTERS`."""
    return np.array([LETTERS.index(letter) for letter in letters])


def _signal(letter, rng):
    """Key a letter by hand: the unit of time, and each mark and pause, vary."""
    unit = rng.uniform(3, 5)
    marks = [1 if mark == "." else 3 for mark in _MORSE[letter]]
    durations = unit * rng.uniform(0.8, 1.2, (len(marks), 2)) * np.array([[m, 1] for m in marks])
    ends = np.cumsum(durations).reshape(-1, 2)  # of each mark, and of the pause after it
    start = rng.uniform(0, max(1, _SAMPLES - ends[-1, 0] - 1))
    time = np.arange(_SAMPLES)
    loud = np.zeros(_SAMPLES)
    for end, duration in zip(start + ends[:, 0], durations[:, 0], strict=True):
        loud[(time >= end - duration) & (time < end)] = 1
    fading = 1 + 0.3 * np.sin(2 * np.pi * (time / rng.uniform(40, 120) + rng.uniform()))
    return loud * fading + _NOISE * rng.normal(size=_SAMPLES)


# Task 3: an engine.

BOUND = 2.0  # times the latency of one image in `tf.function` is the bound of a call
MIN_ACCURACY = 0.99  # of the accuracy of the network
_ROUND_SECONDS = 0.03
_MAX_ENGINE_BYTES = 100_000_000


def _network():
    """Return a small network for images of galaxies, untrained and compiled."""
    import keras
    from keras import layers

    stack = [keras.Input((_SIDE, _SIDE, 1))]
    for filters, strides in ((16, 2), (32, 2), (64, 1)):
        stack += [
            layers.Conv2D(filters, 3, strides=strides, padding="same", use_bias=False),
            layers.BatchNormalization(momentum=0.8),
            layers.ReLU(),
        ]
    model = keras.Sequential([*stack, layers.Flatten(), layers.Dense(len(GALAXIES))])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.003), loss)
    return model


def _trained_networks(seeds):
    """Yield a network for each seed, trained on 1,500 images: the same object with other weights.

    So TensorFlow traces the training only once.
    """
    import keras

    model = _network()
    model.optimizer.build(model.trainable_variables)
    start = [variable.numpy() for variable in model.optimizer.variables]
    for seed in seeds:
        keras.utils.set_random_seed(seed)
        model.set_weights(_network().get_weights())
        for variable, value in zip(model.optimizer.variables, start, strict=True):
            variable.assign(value)
        images, labels = draw_galaxies(1500, _TEST_SEED + seed)
        model.fit(images / np.float32(255), labels, epochs=2, batch_size=64, verbose=0)
        yield model


def _bound_of(model):
    """Return the bound of a call in seconds: a multiple of the latency of `tf.function`."""
    import tensorflow as tf

    graph = tf.function(lambda batch: model(batch, training=False))
    image = tf.constant(draw_galaxies(1, _TEST_SEED)[0] / np.float32(255))
    rounds = []
    for _ in range(10):
        latencies = []
        for _ in range(20):
            start = perf_counter()
            graph(image).numpy()
            latencies.append(perf_counter() - start)
        rounds.append(min(latencies))
    return BOUND * float(min(rounds))


def _engine_data(seed):
    """Return 300 images to calibrate with, and 600 other images with their labels."""
    images, labels = draw_galaxies(900, 2 * _TEST_SEED + seed)
    order = np.random.default_rng(seed).permutation(len(images))
    images, labels = images[order] / np.float32(255), labels[order]
    return images[:300], (images[300:], labels[300:])


def engine_case(seed: int) -> tuple[Any, np.ndarray, tuple[np.ndarray, np.ndarray], float]:
    """Return the arguments of `build_engine`: a network, images, labels, and a bound in seconds."""
    (model,) = _trained_networks([seed])
    return model, *_engine_data(seed), _bound_of(model)


def _engine_tests(seed):
    """Return the images that engines are tested with, and their labels."""
    images, labels = draw_galaxies(2 * _TEST_EXAMPLES, 3 * _TEST_SEED + seed)
    return images / np.float32(255), labels


# The evaluations run in a process of their own. They return what the answer does with the test
# data; the score is computed outside.


def _train_and_predict(answer, seeds, examples):
    """Train on new images for each seed; return the scores of test images."""
    scores = []
    for seed in seeds:
        folder = Path(f"galaxies{seed}").absolute()
        write_galaxies(folder, seed, examples)
        model = answer(folder, seed)
        require_model(model)
        images = draw_galaxies(_TEST_EXAMPLES, _TEST_SEED + seed)[0] / np.float32(255)
        scores.append(scores_of(model, images, len(GALAXIES)))
    return {"scores": np.stack(scores)}


def _train_and_decode(answer, seeds, examples):
    """Train on new signals for each seed; return the scores of test signals."""
    scores = []
    for seed in seeds:
        letters = random_letters(examples, seed)
        model = answer(draw_morse(letters, seed), classes_of(letters), seed)
        require_model(model)
        tests = draw_morse(random_letters(_TEST_EXAMPLES, _TEST_SEED + seed), _TEST_SEED + seed)
        scores.append(scores_of(model, tests, len(LETTERS)))
    return {"scores": np.stack(scores)}


# An engine is built in one process, and saved. Another, in which no code of the answer runs, opens
# and measures it: the answer can change neither the clock there nor what the engine returns.


def _prepare_networks(reference, seeds):
    """Train the networks, measure the bound, and build the reference's engines, if there is one.

    Returns:
        Weights, outputs for the test images, and engines, of each seed; the bound in seconds.
    """
    arrays, bounds = {}, []
    for seed, model in zip(seeds, _trained_networks(seeds), strict=True):
        for number, value in enumerate(model.get_weights()):
            arrays[f"weights {seed} {number}"] = value
        arrays[f"outputs {seed}"] = model.predict(_engine_tests(seed)[0], batch_size=200, verbose=0)
        bounds.append(_bound_of(model))
    arrays["bound"] = np.median(bounds)
    return arrays | (_build_engines(reference, arrays, seeds) if reference else {})


def _build_engines(answer, networks, seeds):
    """Return the engine that an answer builds for each network, as a zip file, and its settings."""
    arrays = {}
    for seed in seeds:
        model = _network()
        model.set_weights(_numbered(networks, f"weights {seed} "))
        engine = answer(model, *_engine_data(seed), float(networks["bound"]))
        _require_engine(engine)
        folder = Path(f"engine{seed}").absolute()
        engine.save(folder)
        archive = shutil.make_archive(str(folder), "zip", folder)
        arrays[f"engine {seed}"] = np.fromfile(archive, np.uint8)
        settings = engine.settings
        arrays[f"settings {seed}"] = np.array(
            [settings.batch_size, settings.streams, settings.threads]
        )
    return arrays


def _numbered(arrays, prefix):
    """Return the arrays whose names begin with a prefix, in the order of the numbers after it."""
    count = sum(name.startswith(prefix) for name in arrays)
    return [arrays[f"{prefix}{number}"] for number in range(count)]


def _require_engine(engine):
    from dltlab import inference

    require(
        not isinstance(getattr(engine, "engine", None), inference.Engine),
        "You return the result of `inference.tune`. Return the engine in it, its `.engine`.",
    )
    require(
        isinstance(engine, inference.Engine),
        f"You return an object of type `{type(engine).__name__}`. Return an `inference.Engine`.",
    )


def _measure_engines(contestants, networks, seeds, slack, turns):
    """Measure the engines that `_build_engines` returned, in turns: the answer's is the first.

    Returns:
        Images per second, latency over bound, and accuracy over the network's, of each seed and
        contestant; for the answer, whether its outputs are close to the network's.
    """
    rates, latencies, accuracies, are_close = [], [], [], []
    for seed in seeds:
        images, labels = _engine_tests(seed)
        expected = networks[f"outputs {seed}"]
        engines = [_opened(arrays, seed) for arrays in contestants]
        outputs = [np.asarray(engine(images)) for engine in engines]
        are_close.append(are_close_outputs(outputs[0], expected))
        accuracies.append([_accuracy(scores, labels) for scores in outputs])
        accuracies[-1] /= _accuracy(expected, labels)
        rate, latency = _measured_in_turns(engines, turns, 2 * slack * networks["bound"])
        rates.append(rate)
        latencies.append(latency / networks["bound"])
    return {
        "rates": np.stack(rates),
        "latencies": np.stack(latencies),
        "accuracies": np.stack(accuracies),
        "are_close": np.array(are_close),
    }


def _opened(arrays, seed):
    """Open an engine that `_build_engines` returned."""
    from dltlab import inference

    batch_size, streams, threads = map(int, arrays[f"settings {seed}"])
    with (
        TemporaryDirectory() as folder,
        zipfile.ZipFile(io.BytesIO(arrays[f"engine {seed}"].tobytes())) as archive,
    ):
        size = sum(entry.file_size for entry in archive.infolist())
        require(size <= _MAX_ENGINE_BYTES, f"Your engine has {size / 1e6:,.0f} MB, too much.")
        archive.extractall(folder)
        engine = inference.Engine.load(folder, batch_size=batch_size)
        return engine.configured(streams=streams, threads=threads)


def _measured_in_turns(engines, count, hopeless):
    """Return the images per second and the latency of engines, measured in short turns.

    Other work on the machine slows neighboring turns alike, so what is compared is the median of
    the ratios to the last engine. A latency is that of the best turn; where that of the first
    engine is still above `hopeless` after three turns, it does not come down.
    """
    turns: list[list[tuple[float, float]]] = []
    while len(turns) < count and (len(turns) < 3 or np.min(turns, axis=0)[0, 1] <= hopeless):
        turns.append([_measured(engine) for engine in engines])
    rates, latencies = np.moveaxis(np.array(turns), 2, 0)
    ratios = np.median(rates / rates[:, -1:], axis=0)
    return ratios * np.max(rates[:, -1]), np.min(latencies, axis=0)


def _measured(engine):
    """Return the images per second of an engine, and the latency of its shortest call."""
    from dltlab import inference

    settings = engine.settings
    (row,) = inference.benchmark(
        engine,
        batch_sizes=[settings.batch_size],
        streams=[settings.streams],
        seconds=_ROUND_SECONDS,
    ).rows
    return row.images_per_second, row.percentile(0)


def _accuracy(scores, labels):
    return np.mean(np.argmax(scores, axis=-1) == labels)


# Results.


@dataclass(frozen=True)
class TaskResult:
    """The evaluations of one task.

    Attributes:
        task: Name of the exercise.
        unit: What a score is: "accuracy" or "images/s".
        scores: The learner's, one for each seed.
        reference_scores: Those of the reference on the same machine, with the same seeds.
        isolated: Whether it was evaluated in a fresh process.
    """

    task: str
    unit: str
    scores: tuple[float, ...]
    reference_scores: tuple[float, ...]
    isolated: bool

    @property
    def share(self) -> float:
        """The mean score as a share of the reference's."""
        return float(np.mean(self.scores) / np.mean(self.reference_scores))


def score_text(score: Any) -> str:
    """Return a score as text: an accuracy, or images per second."""
    return f"{score:.3f}" if score < 10 else f"{score:,.0f}"


@dataclass(frozen=True, repr=False)
class AssessmentResult(Result):
    """The results of the tasks that were evaluated in this session, in the lab's order."""

    tasks: tuple[TaskResult, ...]

    _formats: ClassVar[Mapping[str, Callable[[Any], str]]] = {
        **dict.fromkeys(("mean", "reference"), score_text),
        "share": "{:.3f}".format,
    }

    @property
    def passed(self) -> bool:
        """Whether all three tasks have reached the bar in fresh processes, with `SEEDS` seeds."""
        return len(self.tasks) == len(TASKS) and all(
            task.share >= BAR and task.isolated and len(task.scores) >= SEEDS for task in self.tasks
        )

    @property
    def summary(self) -> str:
        """Which tasks have reached the bar."""
        reached = [task.task for task in self.tasks if task.share >= BAR]
        names = f": {', '.join(reached)}" if reached else ""
        ending = " The assessment is passed." if self.passed else ""
        return (
            f"{len(reached)} of {len(TASKS)} tasks have reached {BAR} of the reference{names}."
            + ending
        )

    @property
    def table(self) -> "pd.DataFrame":
        """A row for each task."""
        import pandas as pd

        return pd.DataFrame(
            {
                "task": [task.task for task in self.tasks],
                "score": [task.unit for task in self.tasks],
                "mean": [np.mean(task.scores) for task in self.tasks],
                "reference": [np.mean(task.reference_scores) for task in self.tasks],
                "share": [task.share for task in self.tasks],
                "passed": ["yes" if task.share >= BAR else "not yet" for task in self.tasks],
            }
        )

    def figure(self):
        """Draw each score over the reference's mean, each mean, and the bar."""
        import matplotlib.pyplot as plt

        if not self.tasks:
            return None
        figure, axis = plt.subplots(figsize=(8, 1.4 + 0.6 * len(self.tasks)), layout="constrained")
        for place, task in enumerate(self.tasks):
            shares = np.array(task.scores) / np.mean(task.reference_scores)
            label = "one evaluation" if place == 0 else None
            axis.plot(shares, [place] * len(shares), "o", color=PALETTE[0], alpha=0.5, label=label)
            label = "their mean" if place == 0 else None
            axis.plot(task.share, place, "D", color=PALETTE[1], markersize=9, label=label)
        axis.axvline(BAR, color=NEUTRAL, linestyle="--", label=f"the bar, {BAR}")
        axis.set_yticks(range(len(self.tasks)), [task.task for task in self.tasks])
        axis.set(xlabel="score / mean score of the reference", ylabel="task")
        axis.set_ylim(len(self.tasks) - 0.5, -0.5)
        axis.set_title("What counts is the mean of the evaluations")
        axis.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
        axis.spines[["top", "right"]].set_visible(False)
        return figure


_results: dict[str, TaskResult] = {}


def results() -> AssessmentResult:
    """Return the last evaluation of each task in this session."""
    return AssessmentResult(tuple(_results[name] for name in TASKS if name in _results))


def _judge(task, unit, scores, reference_scores, evaluation):
    """Keep a result, and reject it where its mean is below the bar."""
    own, reference = (tuple(map(float, values)) for values in (scores, reference_scores))
    result = _results[task] = TaskResult(task, unit, own, reference, evaluation.isolated)
    count = len(result.scores)
    text = (
        f"{score_text(np.mean(own))} {unit} on average of {count} "
        f"evaluation{'s' * (count != 1)}; the reference on this machine: "
        f"{score_text(np.mean(reference))}. That is a share of "
        f"{result.share:.3f}; the bar is {evaluation.bar}."
    )
    require(result.share >= evaluation.bar, text)
    return text


def _run(evaluation, function, *arguments):
    if evaluation.isolated:
        return run_isolated(function, *arguments, seconds=_SECONDS, memory_gb=_MEMORY_GB)
    return run_here(function, *arguments)


def _judge_training(task, answer, evaluation, examples):
    """Evaluate an answer that trains, then the reference; judge the mean of the accuracies."""
    accuracies = _accuracies(task, answer, evaluation, examples)
    reference = _reference_accuracies(task, evaluation, examples)
    return _judge(task, "accuracy", accuracies, reference, evaluation)


@cache
def _reference_accuracies(task, evaluation, examples):
    """Measure the reference of a task that trains; once in a session."""
    if not evaluation.trains_reference:
        return [1.0] * evaluation.num_seeds
    return _accuracies(task, globals()[task].reference(), evaluation, examples)


def _accuracies(task, answer, evaluation, examples):
    """Train with each seed; return the accuracies on the test data, whose labels stay here."""
    evaluate, labels_of = _TRAININGS[task]
    scores = _run(evaluation, evaluate, answer, evaluation.seeds, examples)["scores"]
    require(
        scores.shape[:2] == (evaluation.num_seeds, _TEST_EXAMPLES),
        "The scores of your models are not complete.",
    )
    pairs = zip(scores, evaluation.seeds, strict=True)
    return [_accuracy(part, labels_of(seed)) for part, seed in pairs]


# How an answer that trains is evaluated, and the true classes of the test data.
_TRAININGS = {
    "classify_galaxies": (
        _train_and_predict,
        lambda seed: draw_galaxies(_TEST_EXAMPLES, _TEST_SEED + seed)[1],
    ),
    "read_morse": (
        _train_and_decode,
        lambda seed: classes_of(random_letters(_TEST_EXAMPLES, _TEST_SEED + seed)),
    ),
}


@dataclass(frozen=True)
class Evaluation:
    """How answers are evaluated.

    Attributes:
        num_seeds: The number of evaluations of each task, each with a seed of its own.
        images: In each folder for training.
        signals: For training.
        slack: A factor of the engine's bound.
        turns: In which each engine is measured.
        isolated: Whether they run in a fresh process.
        trains_reference: Whether the reference is evaluated, too; else its accuracy counts as 1,
            and its images per second as those of `tf.function`, one at a time.
        bar: The share of the reference's mean score that passes.
    """

    num_seeds: int = SEEDS
    images: int = _IMAGES
    signals: int = _SIGNALS
    slack: float = 1.0
    turns: int = 25
    isolated: bool = True
    trains_reference: bool = True
    bar: float = BAR

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds, from 1."""
        return tuple(range(1, self.num_seeds + 1))


FULL = Evaluation()
QUICK = Evaluation(
    1, images=48, signals=200, slack=5.0, turns=3, isolated=False, trains_reference=False, bar=0.3
)
_evaluations = [FULL]


def evaluate_with(evaluation: Evaluation) -> None:
    """Choose how the checks of this session evaluate; what falls short of `FULL` never counts."""
    _evaluations[:] = [evaluation]


@exercise(smoke={"evaluation": QUICK}, solution_after_passing=True)
def classify_galaxies(answer, evaluation=None):
    """Train on folders of new images, and measure the accuracy on other images."""
    evaluation = evaluation or _evaluations[0]
    return _judge_training("classify_galaxies", answer, evaluation, evaluation.images)


@exercise(smoke={"evaluation": QUICK}, solution_after_passing=True)
def read_morse(answer, evaluation=None):
    """Train on new signals, and measure the accuracy on other signals."""
    evaluation = evaluation or _evaluations[0]
    return _judge_training("read_morse", answer, evaluation, evaluation.signals)


@exercise(smoke={"evaluation": replace(QUICK, bar=0.05)}, solution_after_passing=True)
def build_engine(answer, evaluation=None):
    """Build engines of new networks in one process, and measure them in another."""
    evaluation = evaluation or _evaluations[0]
    seeds = evaluation.seeds
    networks = _networks(evaluation)
    engines = _run(evaluation, _build_engines, answer, networks, seeds)
    contestants = [engines, networks] if evaluation.trains_reference else [engines]
    measured = _run(
        evaluation,
        _measure_engines,
        *(contestants, networks, seeds, evaluation.slack, evaluation.turns),
    )
    require(
        measured["are_close"].all(),
        "Your engine computes something else than the network. Give `model` to "
        "`inference.optimize`, and calibrate int8 with the images of the task.",
    )
    accuracy = measured["accuracies"][:, 0].mean()
    require(
        accuracy >= MIN_ACCURACY,
        f"Your engines keep {accuracy:.4f} of the networks' accuracy on average, less than "
        f"{MIN_ACCURACY}.",
    )
    within = measured["latencies"] <= evaluation.slack
    late = np.sum(~within[:, 0])
    require(
        late < evaluation.num_seeds,
        f"A call of your engine takes {measured['latencies'][:, 0].mean():.2f} times the bound.",
    )
    rates = np.where(within, measured["rates"], 0)
    if evaluation.trains_reference:
        own, reference = rates.T
    else:
        own, reference = rates[:, 0], np.full(len(rates), BOUND / networks["bound"])
    require(
        reference.any(), "The machine is too busy to measure the reference. Run the check again."
    )
    text = _judge("build_engine", "images/s", own, reference, evaluation)
    return f"{text} {late} of {evaluation.num_seeds} engines exceed the bound." if late else text


@cache
def _networks(evaluation):
    """Return the networks and the reference's engines; made once in a session."""
    reference = build_engine.reference() if evaluation.trains_reference else None
    return _run(evaluation, _prepare_networks, reference, evaluation.seeds)


@question
def one_evaluation():
    """Suppose the mean of your five shares is 0.93, and single ones lie between 0.88 and 0.97.

    You check the same answer again, but with one seed only, drawn at random. Does it pass?
    """
    return [
        wrong(
            "Yes: the mean is above the bar.",
            "A single score is not the mean. Some of the five are below the bar.",
        ),
        correct(
            "It depends on the seed.",
            "The scores of one answer differ by more than the distance of their mean from the bar. "
            "The mean of five varies less than half as much as a single score.",
        ),
        wrong(
            "No: the lowest of the five is below the bar.",
            "Only if the seed is one of the unlucky ones. Others are well above the bar.",
        ),
    ]


def _untrained(side_or_samples, outputs):
    import keras
    from keras import layers

    return keras.Sequential(
        [keras.Input(side_or_samples), layers.Flatten(), layers.Dense(outputs, "softmax")]
    )


@classify_galaxies.rejects("return a Keras model")
def _(folder, seed):
    return seed


@classify_galaxies.rejects("Calling your model on 600 images of shape (32, 32, 1) raised")
def _(folder, seed):
    return _untrained((64, 64, 3), 6)


@classify_galaxies.rejects("; the bar is 0.3")
def _(folder, seed):
    model = _untrained((32, 32, 1), 6)
    model.layers[-1].set_weights([np.zeros((1024, 6)), np.eye(6)[0]])  # always the first class
    return model


@read_morse.rejects("return a Keras model")
def _(signals, classes, seed):
    return classes


@read_morse.rejects("(600, 12)")
def _(signals, classes, seed):
    return _untrained((64, 1), 26)


@read_morse.rejects("; the bar is 0.3")
def _(signals, classes, seed):
    model = _untrained((64, 1), 12)
    model.layers[-1].set_weights([np.zeros((64, 12)), np.eye(12)[0]])
    return model


def _optimized(model, precision="float32", backend="openvino", **options):
    from dltlab import inference

    return inference.optimize(model, precision=precision, backend=backend, **options)


@build_engine.accepts
def _(model, calibration, validation, bound):
    return _optimized(model, batch_size=8)


@build_engine.rejects("Return the engine in it")
def _(model, calibration, validation, bound):
    return SimpleNamespace(engine=_optimized(model))  # as `inference.tune` returns it


@build_engine.rejects("Return an `inference.Engine`")
def _(model, calibration, validation, bound):
    return model


@build_engine.rejects("computes something else than the network")
def _(model, calibration, validation, bound):
    import keras

    return _optimized(keras.models.clone_model(model))


@build_engine.rejects("of the networks' accuracy on average")
def _(model, calibration, validation, bound):
    # An offset of one class: the outputs stay close, and some images change their class.
    outputs = model.predict(validation[0], verbose=0)
    bias = model.layers[-1].bias
    offset = np.zeros(len(GALAXIES))
    offset[0] = 0.2 * np.sqrt(np.mean(np.sum(outputs**2, axis=1)))
    bias.assign_add(offset)
    return _optimized(model)


@build_engine.rejects("times the bound")
def _(model, calibration, validation, bound):
    return _optimized(model, batch_size=1000)
