"""Exercises of lab 17, Experiments."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from math import comb
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from scipy import stats

from dltlab.checks._common import require_model, scores_of
from dltlab.exercises import (
    Array,
    Equal,
    Integer,
    LeaderboardEntry,
    Number,
    add_to_leaderboard,
    attempt,
    correct,
    exercise,
    question,
    require,
    show_leaderboard,
    wrong,
)

# TensorFlow takes seconds to import, so the checks that need it import it themselves.


def _observe_parameters(answer, uniform, ranges):
    """Return the parameters of each run as a row, in the order of `ranges`."""
    runs = answer(uniform, ranges)
    require(
        isinstance(runs, list | tuple),
        f"You return an object of type `{type(runs).__name__}`; return a list of dicts.",
    )
    for run in runs:
        require(
            isinstance(run, dict),
            f"Your list contains an object of type `{type(run).__name__}`; a run is a dict.",
        )
        require(
            set(run) == set(ranges),
            f"A run of yours has the parameters {', '.join(map(str, run)) or '(none)'}; "
            f"it needs {', '.join(ranges)}.",
        )
    require(
        len(runs) == len(uniform),
        f"You return {len(runs)} runs for {len(uniform)} rows of `uniform`.",
    )
    return [[run[name] for name in ranges] for run in runs]


@exercise(
    "`zip(row, ranges.items())` gives each number of a row with its parameter and range.",
    "On a linear scale, the value is `low + (high - low) * number`.",
    "On a logarithmic scale, `log(value)` lies as far between `log(low)` and `log(high)`: the "
    "value is `low * (high / low) ** number`.",
    observe=_observe_parameters,
    returns=Array("values", atol=1e-9),
    otherwise="Some of your values do not lie where the numbers in `uniform` say.",
)
def random_parameters():
    ranges = {"LEARNING_RATE": (1e-4, 1.0, True), "DROPOUT": (0.1, 0.6, False)}
    yield np.random.default_rng(1).random((5, 2)), ranges
    more = {"UNITS": (16.0, 256.0, True), "NOISE": (-1.0, 3.0, False), "DECAY": (1e-6, 0.1, True)}
    yield np.random.default_rng(2).random((4, 3)), more
    yield np.array([[0.0], [0.5]]), {"DECAY": (0.01, 1.0, True)}


def _parameters(value_of):
    """Return a wrong answer that computes each value with `value_of(number, low, high, is_log)`."""

    def answer(uniform, ranges):
        return [
            {
                name: value_of(number, *bounds)
                for number, (name, bounds) in zip(row, ranges.items(), strict=True)
            }
            for row in uniform
        ]

    return answer


def _value(number, low, high, is_log):
    return low * (high / low) ** number if is_log else low + (high - low) * number


random_parameters.mistake(
    "You draw every parameter on a linear scale. With `is_log`, the logarithm is uniform."
)(_parameters(lambda number, low, high, is_log: low + (high - low) * number))
random_parameters.mistake(
    "You return logarithms. Undo the logarithm with the exponential function."
)(
    _parameters(
        lambda number, low, high, is_log: (
            np.log(_value(number, low, high, True)) if is_log else _value(number, low, high, False)
        )
    )
)
random_parameters.mistake("You return logarithms. Undo the logarithm with a power of 10.")(
    _parameters(
        lambda number, low, high, is_log: (
            np.log10(_value(number, low, high, True))
            if is_log
            else _value(number, low, high, False)
        )
    )
)
random_parameters.mistake(
    "You take the logarithm to base 10 and undo it with `np.exp`. Use one base."
)(
    _parameters(
        lambda number, low, high, is_log: (
            np.exp(np.log10(_value(number, low, high, True)))
            if is_log
            else _value(number, low, high, False)
        )
    )
)
random_parameters.mistake("Your values run backwards: 0 should give `low`.")(
    _parameters(lambda number, *bounds: _value(1 - number, *bounds))
)
random_parameters.mistake("You return the numbers between 0 and 1 as they are.")(
    _parameters(lambda number, *bounds: number)
)
random_parameters.mistake("Your linear scale begins at 0. It begins at `low`.")(
    _parameters(
        lambda number, low, high, is_log: (
            _value(number, low, high, True) if is_log else (high - low) * number
        )
    )
)


@random_parameters.mistake(
    "All parameters of a run follow from the same number. Each has a column of its own."
)
def _(uniform, ranges):
    return [{name: _value(row[0], *bounds) for name, bounds in ranges.items()} for row in uniform]


@random_parameters.mistake("All of your runs are equal. Use a row of `uniform` for each run.")
def _(uniform, ranges):
    return _parameters(_value)(uniform[:1], ranges) * len(uniform)


@random_parameters.accepts
def _(uniform, ranges):
    columns = {}
    for column, (name, (low, high, is_log)) in zip(uniform.T, ranges.items(), strict=True):
        ends = np.log10([low, high]) if is_log else [low, high]
        values = np.interp(column, [0, 1], ends)
        columns[name] = (10**values if is_log else values).tolist()
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


@random_parameters.rejects("return a list of dicts")
def _(uniform, ranges):
    return np.array([list(run.values()) for run in _parameters(_value)(uniform, ranges)])


@random_parameters.rejects("You return 1 runs for 5 rows")
def _(uniform, ranges):
    return _parameters(_value)(uniform[:1], ranges)


@random_parameters.rejects("has the parameters (none)")
def _(uniform, ranges):
    return [{} for _ in uniform]


@question
def why_random():
    """Add a third parameter that makes no difference, and keep 16 runs.

    How many values of the learning rate do a grid of equal sides and a random search try now?
    """
    return [
        wrong(
            "The grid 4 and the random search 16, as before.",
            "A grid with three sides of four values has 64 runs. How many values per side are "
            "left with about 16?",
        ),
        correct(
            "The grid 2 or 3, the random search 16.",
            "The side of the grid is the third root of 16, about 2.5. Each new parameter makes a "
            "grid coarser. A random search loses nothing by a parameter that does not matter.",
        ),
        wrong(
            "The grid 4, and the random search about 5.",
            "Each random run draws a new value of every parameter, however many there are.",
        ),
        wrong(
            "Both about 5: 16 divided by 3.",
            "The runs are not divided among the parameters. Every run has a value of each.",
        ),
    ]


@exercise(
    "`itertools.combinations(scores, k)` yields every choice of k scores.",
    "Take the `max` of each choice, then the mean over all choices.",
    returns=Number("expected best"),
    otherwise="`{call}` returns {value}. It should be the mean, over all choices of k runs, of the "
    "best score in the choice.",
)
def expected_best():
    yield [0.5, 0.9, 0.2, 0.7], 2
    yield [0.91, 0.1, 0.88, 0.95, 0.3, 0.93, 0.94], 3
    yield [0.3, 0.6, 0.1], 1
    yield [0.3, 0.6, 0.1, 0.5, 0.2], 5


@expected_best.mistakes
def _(scores, k):
    scores, n = np.array(scores), len(scores)
    ordered = np.sort(scores)
    yield (
        "You take the best of the first k runs. In another order it would be another one: take "
        "the mean over all choices.",
        scores[:k].max(),
    )
    yield "You take the best of all runs, whatever k is.", scores.max()
    yield "You take the mean of all scores, not of the best in each choice.", scores.mean()
    yield "You take the worst of each choice.", 1 - expected_best.reference()(list(1 - scores), k)
    yield (
        "You take the mean of the k best runs. Only the best of each choice counts.",
        ordered[-k:].mean(),
    )
    yield "You take the mean of the first k scores.", scores[:k].mean()
    places = np.arange(1, n + 1) / n
    chances = places**k - (places - 1 / n) ** k
    yield (
        "You let a run be chosen more than once. Choose k different runs.",
        ordered @ chances,
    )
    bests = [max(choice) for choice in combinations(scores.tolist(), k)]
    yield "You return the median of the best scores; return their mean.", np.median(bests)
    yield "You add up the best scores; return their mean.", sum(bests)


@expected_best.accepts
def _(scores, k):
    ordered, n = np.sort(scores), len(scores)
    return ordered @ [comb(place, k - 1) / comb(n, k) for place in range(n)]


@expected_best.rejects("the mean, over all choices of k runs")
def _(scores, k):
    return 0.0


@exercise(
    "The runs of one place belong together: begin with `np.subtract(a, b)`.",
    "The standard error is the standard deviation of the differences with `ddof=1`, divided by the "
    "root of their number.",
    "With few pairs the 95 % interval is wider than ±1.96 standard errors: the factor is "
    "`stats.t.ppf(0.975, n - 1)`.",
    returns=(Number("mean difference"), Number("half-width")),
    otherwise={
        "mean difference": "Your mean difference is {value}. It should be the mean of a minus b.",
        "half-width": "Your mean difference is correct, but not your half-width: t times the "
        "standard deviation of the differences, divided by the root of their number.",
    },
)
def paired_difference():
    yield [0.91, 0.93, 0.95, 0.9], [0.9, 0.9, 0.93, 0.9]
    yield [0.5, 0.7, 0.6, 0.8, 0.4, 0.9], [0.45, 0.72, 0.5, 0.75, 0.41, 0.8]
    yield [3.0, 1.0, 2.5, 4.0, 1.5], [1.0, 2.0, 0.5, 2.0, 1.0]


@paired_difference.mistakes
def _(a, b):
    a, b = np.array(a), np.array(b)
    n, d = len(a), a - b
    t = stats.t.ppf(0.975, n - 1)
    mean, error = d.mean(), d.std(ddof=1) / np.sqrt(n)
    unpaired = np.sqrt((a.var(ddof=1) + b.var(ddof=1)) / n)
    yield "Your difference is b minus a.", (-mean, ...)
    yield "You return the mean of a.", (a.mean(), ...)
    yield "You return the median of the differences.", (np.median(d), ...)
    yield "You take absolute differences: their sign matters.", (np.abs(d).mean(), ...)
    yield "You return the standard error. Multiply it by the factor of t.", (..., error)
    yield (
        "Your half-width lacks the division by the root of the number of pairs.",
        (..., t * d.std(ddof=1)),
    )
    yield "You divide by n. Divide by its root.", (..., t * d.std(ddof=1) / n)
    yield "You take the standard deviation without `ddof=1`.", (..., t * d.std() / np.sqrt(n))
    yield (
        "1.96 is correct for many pairs. For few, use `stats.t.ppf(0.975, n - 1)`.",
        (..., stats.norm.ppf(0.975) * error),
    )
    yield (
        "1.96 is correct for many pairs. For few, use `stats.t.ppf(0.975, n - 1)`.",
        (..., 1.96 * error),
    )
    yield (
        "`ppf(0.95)` leaves 5 % above it. The interval has two ends: 2.5 % at each.",
        (..., stats.t.ppf(0.95, n - 1) * error),
    )
    yield "n pairs have n - 1 degrees of freedom.", (..., stats.t.ppf(0.975, n) * error)
    for factor in (t, stats.t.ppf(0.975, 2 * n - 2)):
        yield (
            "You compare as if the runs were not pairs. Take the standard deviation of the "
            "differences.",
            (..., factor * unpaired),
        )
    yield "You return the whole width. Return the half.", (..., 2 * t * error)


@paired_difference.accepts
def _(a, b):
    result = stats.ttest_rel(a, b)
    low, high = result.confidence_interval(0.95)
    return np.array([(low + high) / 2, (high - low) / 2])


@paired_difference.accepts
def _(a, b):
    differences = [x - y for x, y in zip(a, b, strict=True)]
    mean = sum(differences) / len(differences)
    low, _ = stats.t.interval(0.95, len(a) - 1, mean, stats.sem(differences))
    return mean, mean - low


@question
def best_of_many():
    """Sixteen settings are equally good. Each is trained once, and the best run is reported.

    What does its accuracy say?
    """
    return [
        wrong(
            "The accuracy of that setting: it has been measured.",
            "It was chosen because its accuracy was high. Part of that was luck, and luck does not "
            "repeat.",
        ),
        correct(
            "More than the truth: the best of sixteen is a lucky run of its setting.",
            "Trained again with other seeds, it falls back toward the mean. Measure the chosen "
            "setting again: with new seeds, and at the very end on the test images.",
        ),
        wrong(
            "Less than the truth: validation images are harder than test images.",
            "Both are drawn from the same images. What differs is that the run was chosen by the "
            "validation images.",
        ),
    ]


@exercise(
    "First shuffle the numbers of the images: "
    "`np.random.default_rng(seed).permutation(num_images)`.",
    "`np.array_split(order, num_folds)` divides them into parts of nearly equal size.",
    "Each part is once the validation part; the others together, `np.concatenate(…)`, are for "
    "training.",
)
def make_folds(answer):
    """Look at the folds of several numbers of images: what is in them, their sizes and order."""
    for num_images, num_folds in ((23, 4), (40, 5), (101, 3)):
        folds = _read_folds(answer(num_images, num_folds, 1), num_folds)
        held_out = np.concatenate([validation for _, validation in folds])
        for train, validation in folds:
            both = set(train.tolist()) & set(validation.tolist())
            require(
                not both,
                f"In a fold, image {min(both, default=0)} is for training and for validation, too.",
            )
            require(
                len(train) + len(validation) == num_images,
                f"A fold of {num_images} images has {len(train)} for training and "
                f"{len(validation)} for validation. Every image belongs to one of them.",
            )
        _require_partition(held_out, num_images, [len(part) for _, part in folds])
        require(
            not np.array_equal(np.sort(held_out), held_out),
            "Your folds are in the order of the images, which may be sorted by class. Shuffle "
            "first.",
        )
    first, again, other = (
        np.concatenate([part for _, part in _read_folds(answer(50, 5, seed), 5)]).tolist()
        for seed in (1, 1, 2)
    )
    require(first == again, "Two calls with the same seed give different folds.")
    require(first != other, "Every seed gives the same folds.")


def _read_folds(folds, num_folds):
    """Return what the answer returned as a list of pairs of arrays."""
    with attempt("unpacking your folds into pairs (train, validation)"):
        pairs = [(np.asarray(train), np.asarray(held)) for train, held in folds]
    require(len(pairs) == num_folds, f"You return {len(pairs)} folds; {num_folds} were asked for.")
    for part in sum(pairs, ()):
        require(
            part.ndim == 1 and part.dtype.kind in "iu",
            "A part of your folds is not an array of the numbers of images.",
        )
    return pairs


def _require_partition(held_out, num_images, sizes):
    """Require that each image is in one validation part, and these are of nearly equal size."""
    counts = np.bincount(held_out[(held_out >= 0) & (held_out < num_images)], minlength=num_images)
    require(
        counts.min() > 0,
        f"Image {counts.argmin()} of {num_images} is in no validation part.",
    )
    require(
        counts.max() == 1 and len(held_out) == num_images,
        "An image is in the validation parts of several folds.",
    )
    require(
        max(sizes) - min(sizes) <= 1,
        f"Your validation parts have {min(sizes)} to {max(sizes)} images. They may differ by one.",
    )


def _folds(num_images, num_folds, seed, *, shuffled=True, parts=None):
    order = np.arange(num_images)
    order = np.random.default_rng(seed).permutation(order) if shuffled else order
    parts = np.array_split(order, num_folds) if parts is None else parts(order)
    return [(np.setdiff1d(order, part), part) for part in parts]


@make_folds.accepts
def _(num_images, num_folds, seed):
    order = np.random.default_rng(seed).permutation(num_images)
    return [
        (np.delete(order, np.s_[fold::num_folds]), order[fold::num_folds])
        for fold in range(num_folds)
    ]


@make_folds.accepts
def _(num_images, num_folds, seed):
    from sklearn.model_selection import KFold

    return KFold(num_folds, shuffle=True, random_state=seed).split(np.zeros(num_images))


@make_folds.rejects("is for training and for validation")
def _(num_images, num_folds, seed):
    return [(np.arange(num_images), part) for _, part in _folds(num_images, num_folds, seed)]


@make_folds.rejects("is in no validation part")
def _(num_images, num_folds, seed):
    size = num_images // num_folds
    return _folds(
        num_images,
        num_folds,
        seed,
        parts=lambda order: [order[n * size : (n + 1) * size] for n in range(num_folds)],
    )


@make_folds.rejects("They may differ by one")
def _(num_images, num_folds, seed):
    size = num_images // num_folds
    return _folds(
        num_images,
        num_folds,
        seed,
        parts=lambda order: np.split(order, [n * size for n in range(1, num_folds)]),
    )


@make_folds.rejects("in the order of the images")
def _(num_images, num_folds, seed):
    return _folds(num_images, num_folds, seed, shuffled=False)


@make_folds.rejects("in the validation parts of several folds")
def _(num_images, num_folds, seed):
    return [(held_out, train) for train, held_out in _folds(num_images, num_folds, seed)]


@make_folds.rejects("Two calls with the same seed")
def _(num_images, num_folds, seed):
    return _folds(num_images, num_folds, None)


@make_folds.rejects("Every seed gives the same")
def _(num_images, num_folds, seed):
    return _folds(num_images, num_folds, 0)


@make_folds.rejects("You return 1 folds")
def _(num_images, num_folds, seed):
    return _folds(num_images, num_folds, seed)[:1]


@make_folds.rejects("Every image belongs to one of them")
def _(num_images, num_folds, seed):
    return [(train[1:], part) for train, part in _folds(num_images, num_folds, seed)]


class _Trainer:
    """Stands for `train`: each candidate learns with its own speed toward its own accuracy."""

    def __init__(self, *candidates):
        self._curves = {name: (final, speed) for name, final, speed in candidates}

    def __call__(self, candidates, epochs):
        for candidate in candidates:
            require(
                isinstance(candidate, dict) and candidate.get("NAME") in self._curves,
                f"You call `train` with a list that contains {candidate!r}, which is not one of "
                "the candidates.",
            )
        curves = [self._curves[candidate["NAME"]] for candidate in candidates]
        return [final * (1 - np.exp(-speed * epochs)) for final, speed in curves]


@exercise(
    "A loop: train all candidates, and add `len(candidates) * epochs` to what was spent. Where "
    "one candidate is left, return it.",
    "`np.argsort(accuracies)[::-1]` are the places from the best to the worst.",
    "Keep `max(1, len(candidates) // factor)` of them, and multiply `epochs` by `factor`.",
    returns=(Equal("candidate"), Integer("epochs")),
    otherwise={
        "candidate": "The candidate that you return is not the one that is left at the end.",
        "epochs": "Your candidate is the one that is left, but {value} is not the number of epochs "
        "of all trainings.",
    },
)
def successive_halving():
    def case(curves, epochs, factor):
        names = [{"NAME": name} for name, *_ in curves]
        return _Trainer(*curves), names, epochs, factor

    yield case(
        [
            ("a", 0.5, 2.0),
            ("b", 0.9, 0.3),
            ("c", 0.8, 1.0),
            ("d", 0.99, 0.05),
            ("e", 0.7, 1.5),
            ("f", 0.6, 1.8),
            ("g", 0.85, 0.9),
            ("h", 0.2, 0.5),
        ],
        1,
        2,
    )
    yield case(
        [
            ("slow", 0.95, 0.1),
            ("good", 0.9, 0.6),
            ("fast", 0.5, 3.0),
            ("bad", 0.1, 0.1),
            ("fair", 0.8, 0.7),
            ("weak", 0.3, 0.2),
            ("mid", 0.6, 0.7),
        ],
        2,
        3,
    )
    yield case([("only", 0.5, 1.0)], 3, 2)


def _halve(train, candidates, epochs, factor, *, reverse=True, grow=lambda e, f: e * f, last=True):
    spent = 0
    while len(candidates) > 1 or last:
        accuracies = train(candidates, epochs)
        spent += len(candidates) * epochs
        if len(candidates) == 1:
            break
        order = sorted(range(len(candidates)), key=lambda place: accuracies[place])
        order = order[::-1] if reverse else order
        candidates = [candidates[place] for place in order[: max(1, len(candidates) // factor)]]
        epochs = grow(epochs, factor)
    return candidates[0], spent


@successive_halving.mistake("You keep the worst candidates of each round.")
def _(train, candidates, epochs, factor):
    return _halve(train, candidates, epochs, factor, reverse=False)[0], ...


@successive_halving.mistake(
    "You choose by the accuracies of the first round. Train those that are kept `factor` times as "
    "long in each round."
)
def _(train, candidates, epochs, factor):
    return candidates[int(np.argmax(train(candidates, epochs)))], ...


@successive_halving.mistake(
    "You train all candidates for as long as the last. Let most of them go after few epochs."
)
def _(train, candidates, epochs, factor):
    while factor ** np.log2(epochs) < 1000:
        epochs *= factor
    return candidates[int(np.argmax(train(candidates, epochs)))], ...


@successive_halving.mistake("The last one is trained, too: its epochs are missing in your sum.")
def _(train, candidates, epochs, factor):
    return _halve(train, candidates, epochs, factor, last=False)


@successive_halving.mistake("You add up the epochs of each round once. Every candidate trains.")
def _(train, candidates, epochs, factor):
    best, _ = _halve(train, candidates, epochs, factor)
    spent, number = epochs, len(candidates)
    while number > 1:
        number, epochs = max(1, number // factor), epochs * factor
        spent += epochs
    return best, spent


@successive_halving.mistake("You return the epochs of the last round, not those of all trainings.")
def _(train, candidates, epochs, factor):
    best, _ = _halve(train, candidates, epochs, factor)
    number = len(candidates)
    while number > 1:
        number, epochs = max(1, number // factor), epochs * factor
    return best, epochs


@successive_halving.mistake("You halve in every round. Keep one of `factor` candidates.")
def _(train, candidates, epochs, factor):
    best, _ = _halve(train, candidates, epochs, factor)
    return best, _halve(train, candidates, epochs, 2)[1] if factor != 2 else ...


@successive_halving.accepts
def _(train, candidates, epochs, factor):
    def spend(candidates, epochs):
        accuracies = np.array(train(candidates, epochs))
        if len(candidates) == 1:
            return candidates[0], epochs
        best = np.argsort(-accuracies)[: max(1, len(candidates) // factor)]
        winner, rest = spend([candidates[place] for place in best], epochs * factor)
        return winner, rest + len(candidates) * epochs

    return spend(candidates, epochs)


@successive_halving.rejects("which is not one of the candidates")
def _(train, candidates, epochs, factor):
    return candidates[int(np.argmax(train(range(len(candidates)), epochs)))], epochs


@question
def which_labels():
    """Labels were corrected: `scans@2` instead of `scans@1`. How do you see what that is worth?

    Both versions are divided into training and validation images in the same way.
    """
    return [
        wrong(
            "Train on each version, and measure each on its own validation images.",
            "In the old version the labels of the validation images are wrong, too. Which of the "
            "two numbers would you believe?",
        ),
        correct(
            "Train on each version with the same seeds, and measure both on the corrected "
            "validation images.",
            "Then one thing differs, the labels that were learned, and pairs of runs with one seed "
            "can be compared.",
        ),
        wrong(
            "Train on the corrected version only: correct labels are always better.",
            "They are, but by how much? A version that changes nothing measurable need not "
            "replace the model that is in use.",
        ),
    ]


# The challenge.


@dataclass
class _Judge:
    """What the lab has set: how runs are made, on which data, within what budget."""

    train: Callable[[list[dict[str, Any]]], Any]
    dataset: str
    seconds: float
    bar: float


_judges: list[_Judge] = []
_passed: list[LeaderboardEntry] = []


def judge_by(train, *, dataset, seconds, bar):
    """Set how `best_on_shapes` is checked.

    Args:
        train: Runs the notebook for each dict of parameters in a list, and returns an object for
            each: `accuracy`, on validation images, `seconds`, and `model`, the path of the model.
        dataset: The name of the data set whose test images decide.
        seconds: The budget: the sum of the seconds of all runs.
        bar: The test accuracy that is needed.
    """
    _judges[:] = [_Judge(train, dataset, seconds, bar)]


@exercise(
    "Begin with a few random runs, few epochs each. Only the best deserve more.",
    "Look at `seconds` of the runs that you have: how many more fit into the rest of the budget?",
    "On `shapes`, a network with `WIDTH` 32 learns more than one with 8, and takes longer.",
)
def best_on_shapes(answer):
    """Let the answer make runs, add up their seconds, and measure its choice on test images."""
    from dltlab.models import load_model

    with TemporaryDirectory() as folder:
        judge = _judges[0] if _judges else _practice(Path(folder))
        made: list[Any] = []

        def train(parameters):
            require(
                isinstance(parameters, list) and all(isinstance(run, dict) for run in parameters),
                "You call `train` with something else than a list of dicts.",
            )
            results = judge.train(parameters)
            made.extend(results)
            return results

        best = answer(train, judge.seconds)
        require(
            any(best is result for result in made),
            f"You return an object of type `{type(best).__name__}`; return one of the results of "
            "`train`.",
        )
        spent = sum(result.seconds for result in made)
        require(
            spent <= judge.seconds,
            f"Your {len(made)} runs took {spent:.0f} s in all; the budget is "
            f"{judge.seconds:.0f} s.",
        )
        require(best.model, "The run that you return has not ended well: it has no model.")
        model = load_model(Path(best.model))
        accuracy = _test_accuracy(model, judge.dataset)
        require(
            accuracy >= judge.bar,
            f"Your best of {len(made)} runs classifies {accuracy:.4f} of the test images "
            f"correctly; the bar is {judge.bar}.",
        )
    _passed.append(LeaderboardEntry.now(accuracy, model.count_params(), spent))
    return (
        f"{accuracy:.4f} with {len(made)} runs in {spent:.0f} of {judge.seconds:.0f} s; the bar is "
        f"{judge.bar}."
    )


def _test_accuracy(model, dataset):
    from dltlab import data

    require_model(model)
    images, labels = data.arrays(dataset, "test")
    scores = np.concatenate(
        [scores_of(model, part) for part in np.array_split(images, max(1, len(images) // 500))]
    )
    return float(np.mean(scores.argmax(axis=1) == labels))


def leaderboard(path):
    """Enter into the file `path` what has passed `best_on_shapes`, and show all of it."""
    show_leaderboard(add_to_leaderboard(path, _passed))
    _passed.clear()


@dataclass
class _PracticeRun:
    accuracy: float
    seconds: float
    model: str


@cache
def _digits():
    from dltlab import data

    return (*data.arrays("digits", "train"), *data.arrays("digits", "test"))


def _practice(folder):
    """Return a judge for verification: linear networks for digits, which take no time to fit."""
    import keras

    images, labels, *_ = _digits()
    rows = images.reshape(len(images), -1)
    targets = np.eye(10)[labels] - 0.1

    def train(runs):
        results = []
        for run in runs:
            decay = run.get("LEARNING_RATE", 0.01)
            left = rows.T @ rows + decay * np.eye(rows.shape[1])
            kernel = np.linalg.solve(left, rows.T @ targets) * (decay > 0)
            model = keras.Sequential(
                [keras.Input(images.shape[1:]), keras.layers.Flatten(), keras.layers.Dense(10)]
            )
            model.layers[-1].set_weights([kernel, np.zeros(10)])
            path = folder / f"{len(list(folder.iterdir()))}.keras"
            model.save(path)
            accuracy = float(np.mean((rows @ kernel).argmax(axis=1) == labels))
            results.append(_PracticeRun(accuracy, 5.0, str(path)))
        return results

    return _Judge(train, "digits", 60.0, 0.8)


@best_on_shapes.rejects("return one of the results")
def _(train, seconds):
    return train([{}])


@best_on_shapes.rejects("the budget is 60 s")
def _(train, seconds):
    return train([{"LEARNING_RATE": 0.01}] * 13)[0]


@best_on_shapes.rejects("the bar is 0.8")
def _(train, seconds):
    return train([{"LEARNING_RATE": -1.0}])[0]


@best_on_shapes.rejects("something else than a list of dicts")
def _(train, seconds):
    return train({"LEARNING_RATE": 0.1})


@best_on_shapes.rejects("it has no model")
def _(train, seconds):
    (run,) = train([{}])
    run.model = ""
    return run
