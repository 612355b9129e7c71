"""Exercises of lab 12, Weak scaling."""

from functools import cache
from typing import Any, NamedTuple

import numpy as np

from dltlab.exercises import (
    Number,
    attempt,
    correct,
    exercise,
    question,
    require,
    wrong,
)


@question
def above_the_peak():
    """By TensorFlow's benchmarks, the P100 computes more per second than its peak. Why?"""
    return [
        wrong(
            "The images were synthetic, so the network had less to compute.",
            "With synthetic images, nothing is read from disk. The network computes the same.",
        ),
        correct(
            "The network is computed with fewer operations than we count.",
            "We count a plain convolution. cuDNN also has routines with fewer multiplications, "
            "such as Winograd's for 3 × 3 kernels: 2.25 times fewer.",
        ),
        wrong(
            "For a short time, a GPU can exceed the peak of its data sheet.",
            "The peak is all multiply-adds at the highest clock. Nothing exceeds it.",
        ),
        wrong(
            "With eight GPUs, the peak is eight times as high.",
            "This row is the rate of a single P100.",
        ),
    ]


KINDS = ("strong", "weak")


@exercise(
    "In weak scaling every worker has the work of the single one, so ideally n take as long as "
    "one.",
    "In strong scaling n workers share the work of one, so in the ideal case they take "
    "`seconds_one / num_workers`.",
    "Efficiency is the ideal time divided by the measured one.",
    returns=Number("efficiency"),
    otherwise="`{call}` returns {value}, which is not the ideal time divided by the measured one.",
)
def efficiency():
    yield 2.0, 2.5, 4, "weak"
    yield 2.0, 0.8, 4, "strong"
    yield 0.3, 0.05, 8, "strong"
    yield 0.3, 0.36, 8, "weak"


@efficiency.mistakes
def _(seconds_one, seconds_n, num_workers, kind):
    is_weak = kind == "weak"
    ratio = seconds_one / seconds_n
    yield (
        "You have swapped the two kinds: in weak scaling each worker has as much work "
        "as the one worker had.",
        ratio / num_workers if is_weak else ratio,
    )
    yield (
        "You return {value}, more than 1: the measured time divided by the ideal one.",
        1 / ratio if is_weak else num_workers / ratio,
    )
    yield (
        "`{call}` returns the speedup. Divide it by the number of workers.",
        ratio * num_workers if is_weak else ratio,
    )
    yield (
        "You return a percentage; return a fraction.",
        100 * ratio / (1 if is_weak else num_workers),
    )
    yield (
        "`{call}`: weak scaling is correct. In strong scaling the work is divided by the workers.",
        ... if is_weak else ratio,
    )
    yield (
        "`{call}`: strong scaling is correct. In weak scaling the work of a worker stays the same.",
        ratio / num_workers if is_weak else ...,
    )


@efficiency.accepts
def _(seconds_one, seconds_n, num_workers, kind):
    ideal = {"weak": seconds_one, "strong": seconds_one / num_workers}[kind]
    return np.float32(ideal / seconds_n)


@efficiency.accepts
def _(seconds_one, seconds_n, num_workers, kind):
    work = num_workers if kind == "weak" else 1
    speedup = work * seconds_one / seconds_n
    return speedup / num_workers


@efficiency.rejects("is not the ideal time divided by the measured one")
def _(seconds_one, seconds_n, num_workers, kind):
    return 1 - seconds_one / seconds_n / 17


@exercise(
    "Amdahl: of one second, `serial` remain as they are, and the rest is divided by the number of "
    "workers. The speedup is one second divided by that.",
    "Gustafson: in one second of n workers, the serial share is done once, and the rest n times.",
    "`1 / (serial + (1 - serial) / num_workers)` and `serial + (1 - serial) * num_workers`.",
    returns=(Number("speedup by Amdahl"), Number("speedup by Gustafson")),
    otherwise={
        "speedup by Amdahl": "`{call}`: {value} is not Amdahl's speedup. How long do n workers "
        "take for what takes one worker a second?",
        "speedup by Gustafson": "`{call}`: {value} is not Gustafson's speedup. How long would one "
        "worker take for what n workers do in a second?",
    },
)
def speedups():
    yield 0.1, 8
    yield 0.25, 64
    yield 0.02, 992


@speedups.mistakes
def _(serial, num_workers):
    amdahl = 1 / (serial + (1 - serial) / num_workers)
    gustafson = serial + (1 - serial) * num_workers
    yield "`{call}`: the two speedups are swapped.", (gustafson, amdahl)
    yield (
        "`{call}`: you divide the serial share by the workers. It is the other part that they "
        "share.",
        (1 / (1 - serial + serial / num_workers), ...),
    )
    yield (
        "`{call}`: for Amdahl's law you return the time of n workers. The speedup is its inverse.",
        (1 / amdahl, ...),
    )
    yield (
        "`{call}`: for Amdahl's law you leave out the serial share, which no number of workers "
        "shortens.",
        (num_workers / (1 - serial), ...),
    )
    yield (
        "`{call}`: for Amdahl's law you return the limit for infinitely many workers.",
        (1 / serial, ...),
    )
    yield (
        "`{call}`: for Gustafson's law you multiply the serial share by the workers. It is done "
        "once.",
        (..., 1 - serial + serial * num_workers),
    )
    yield (
        "`{call}`: for Gustafson's law you leave out the serial share.",
        (..., (1 - serial) * num_workers),
    )
    for law, efficiencies in (
        ("Amdahl", (amdahl / num_workers, ...)),
        ("Gustafson", (..., gustafson / num_workers)),
    ):
        yield f"`{{call}}`: by {law} you return the efficiency, not the speedup.", efficiencies


@speedups.accepts
def _(serial, num_workers):
    return [
        num_workers / (serial * num_workers + 1 - serial),
        num_workers - serial * (num_workers - 1),
    ]


@speedups.accepts
def _(serial, num_workers):
    parallel = 1 - serial
    return np.array([1 / (serial + parallel / num_workers), serial + parallel * num_workers])


@speedups.rejects("return 2 values: speedup by Amdahl and speedup by Gustafson")
def _(serial, num_workers):
    return 1 / (serial + (1 - serial) / num_workers)


@exercise(
    "Go through the buckets in order, and remember when the all-reduce of the one before has "
    "ended.",
    "An all-reduce starts when its bucket is ready and the one before has ended: "
    "`max(end, ready[i])`.",
    "`for start, duration in zip(ready, seconds): end = max(end, start) + duration`.",
    returns=Number("end"),
    otherwise="`{call}` returns {value}. Draw the buckets on a time line: when does each "
    "all-reduce begin?",
)
def last_end():
    yield [1.0, 2.0, 3.0], [0.5, 0.5, 0.5]
    yield [1.0, 2.0, 3.0], [1.5, 1.5, 0.25]
    yield [0.0, 0.2, 2.0, 2.1], [0.3, 0.4, 0.7, 0.1]
    yield [2.0, 2.5], [3.0, 0.1]


@last_end.mistakes
def _(ready, seconds):
    ready, seconds = np.array(ready), np.array(seconds)
    yield "`{call}` returns {value}: you forget when the first bucket is ready.", seconds.sum()
    yield (
        "`{call}` returns {value}: you start each all-reduce when its bucket is ready. There is "
        "only one network: it starts when the one before has ended, too.",
        (ready + seconds).max(),
    )
    yield (
        "`{call}` returns {value}: you look at the last bucket only.",
        ready[-1] + seconds[-1],
    )
    yield (
        "`{call}` returns {value}: you send all buckets one right after the other from the first "
        "on. But it must wait for a bucket that is not ready yet.",
        ready[0] + seconds.sum(),
    )
    yield (
        "`{call}` returns {value}: you begin when the last bucket is ready. Then nothing is hidden "
        "behind the backward pass.",
        ready[-1] + seconds.sum(),
    )
    end = 0.0
    for start, duration in zip(ready, seconds, strict=True):
        begin, end = max(end, start), max(end, start) + duration
    yield "`{call}` returns {value}: that is when the last all-reduce begins.", begin


@last_end.accepts
def _(ready, seconds):
    # The end is decided by the last bucket that did not have to wait.
    return max(start + sum(seconds[place:]) for place, start in enumerate(ready))


@last_end.accepts
def _(ready, seconds):
    end = ready[0]
    for start, duration in zip(ready, seconds, strict=True):
        if start > end:
            end = start
        end += duration
    return np.float64(end)


@last_end.rejects("when does each all-reduce begin?")
def _(ready, seconds):
    return sum(ready) + sum(seconds)


@question
def strong_ceiling():
    """With 256 images a step in all, why do more servers stop helping, whatever their speed?"""
    return [
        wrong(
            "Because the bytes of an all-reduce grow with the number of servers.",
            "Hardly: each server sends 2(n−1)/n times the gradients, less than twice their size.",
        ),
        correct(
            "Because a step takes at least as long as its all-reduce, so the rate is at most 256 "
            "images divided by that time.",
            "The gradients have the same size for one image as for 256. Only more images per step "
            "raise the ceiling: that is weak scaling.",
        ),
        wrong(
            "Because the batch gets too large to train well.",
            "The batch stays at 256 images. A batch that is too large is the problem of weak "
            "scaling.",
        ),
        wrong(
            "Because a server with two images computes them twice as slowly.",
            "Small batches are slower per image, but even if computing took no time, there would "
            "be a ceiling.",
        ),
    ]


@exercise(
    "E|g_b|² = |G|² + S / b: the mean squared norm of a gradient over b images is that of the true "
    "gradient, plus noise that falls with b. You have two of these equations.",
    "Subtract one from the other: S = (small − big) / (1 / b − 1 / B), with the means over the "
    "steps.",
    "|G|² = (B · big − b · small) / (B − b). Return S / |G|².",
    returns=Number("noise scale"),
    otherwise="`{call}` returns {value}, which is not S / |G|².",
)
def noise_scale():
    yield np.array([1.5, 1.7, 1.6]), 32, np.array([0.6, 0.7, 0.65]), 256
    yield np.array([5.0, 7.0]), 8, np.array([2.5, 2.1]), 64
    yield np.array([0.31, 0.38, 0.35, 0.41]), 16, np.array([0.25, 0.29, 0.24, 0.3]), 48


@noise_scale.mistakes
def _(small, small_batch, big, big_batch):
    def estimates(small, big, low=small_batch, high=big_batch):
        return (small - big) / (1 / low - 1 / high), (high * big - low * small) / (high - low)

    noise, signal = estimates(small.mean(), big.mean())
    one_sided = big.mean() * big_batch
    yield "You return S, the noise. Divide it by |G|².", noise
    yield "You return |G|². Divide S by it.", signal
    yield "You return |G|² / S, the inverse.", signal / noise
    each = estimates(small, big)
    yield (
        "You take the mean of the ratios of the steps. Each of them is very noisy: take the means "
        "of `small` and `big` first.",
        np.mean(each[0] / each[1]),
    )
    yield (
        "You return one value for each step. Take the means of `small` and `big` first.",
        (each[0] / each[1]),
    )
    swapped = estimates(small.mean(), big.mean(), big_batch, small_batch)
    yield "You have swapped the two batch sizes.", swapped[0] / swapped[1]
    yield (
        "You take `big` for |G|². A gradient over B images contains noise, too: S / B.",
        noise / big.mean(),
    )
    yield (
        "You take `small` for |G|². A gradient over b images contains noise, too: S / b.",
        noise / small.mean(),
    )
    yield (
        "You take the roots of the norms. The estimates are of squared norms.",
        np.divide(*estimates(np.sqrt(small).mean(), np.sqrt(big).mean())),
    )
    yield (
        "Your S is the difference of the means. Divide it by 1 / b − 1 / B.",
        (small.mean() - big.mean()) / signal,
    )
    yield (
        "Your |G|² lacks the division by B − b.",
        noise / (one_sided - small_batch * small.mean()),
    )
    yield (
        "You use only the first step. Take the means over all.",
        np.divide(*estimates(small[0], big[0])),
    )


@noise_scale.accepts
def _(small, small_batch, big, big_batch):
    signal, noise = np.linalg.solve(
        [[1, 1 / small_batch], [1, 1 / big_batch]], [np.mean(small), np.mean(big)]
    )
    return noise / signal


@noise_scale.accepts
def _(small, small_batch, big, big_batch):
    low, high = sum(small) / len(small), sum(big) / len(big)
    return np.array(small_batch * big_batch * (low - high) / (big_batch * high - small_batch * low))


@noise_scale.rejects("is not S / |G|²")
def _(small, small_batch, big, big_batch):
    return small.mean() / big.mean()


@exercise(
    "All devices together see `batch = num_devices * batch_size` images in a step, so the training "
    "needs `min_images * (1 + batch / critical_batch)` images.",
    "The number of steps is the number of images divided by `batch`. Each takes `step_seconds`.",
    "Every device consumes `watts` all the time: kWh are kilowatts of all devices times hours.",
    returns=(Number("time"), Number("energy"), Number("cost")),
    otherwise={
        "time": "`{call}`: {value} hours. How many images does a step take, how many does the "
        "training need, and how many seconds are in an hour?",
        "energy": "`{call}`: your time is correct, but {value} kWh is not: kilowatts of all "
        "devices "
        "times hours.",
        "cost": "`{call}`: time and energy are correct, but {value} dollars is not: dollars of all "
        "devices per hour times hours.",
    },
)
def training_cost():
    yield 1, 64, 0.25, 1e7, 1000, 400, 0.5
    yield 8, 64, 0.3, 1e7, 1000, 300, 0.7
    yield 96, 16, 0.12, 2.5e7, 4000, 250, 1.5


@training_cost.mistakes
def _(num_devices, batch_size, step_seconds, min_images, critical_batch, watts, dollars_per_hour):
    def result(images, batch, time_unit=3600, devices=num_devices, kilo=1000):
        time = images / batch * step_seconds / time_unit
        return time, devices * watts / kilo * time, devices * dollars_per_hour * time

    batch = num_devices * batch_size
    images = min_images * (1 + batch / critical_batch)
    own = min_images * (1 + batch_size / critical_batch)
    yield "Your time is in seconds; return hours.", (result(images, batch, 1)[0], ..., ...)
    yield "Your time is in minutes; return hours.", (result(images, batch, 60)[0], ..., ...)
    yield (
        "`{call}`: your time is that of a training in which a step sees only the images of one "
        "device.",
        (result(images, batch_size)[0], ..., ...),
    )
    yield (
        "`{call}`: for the number of images you take the batch of one device. What counts is the "
        "batch of a step, of all devices together.",
        (result(own, batch)[0], ..., ...),
    )
    yield (
        "`{call}`: your training needs the same number of images for every batch. A larger batch "
        "needs more.",
        (result(min_images, batch)[0], ..., ...),
    )
    yield (
        "`{call}`: that is the time for 1 + critical_batch / batch times the images. That factor "
        "belongs to the steps; that of the images is 1 + batch / critical_batch.",
        (result(min_images * (1 + critical_batch / batch), batch)[0], ..., ...),
    )
    time, energy, cost = result(images, batch)
    yield "Your energy is in watt-hours; return kilowatt-hours.", (..., 1000 * energy, ...)
    yield "`{call}`: your energy is that of one device.", (..., energy / num_devices, ...)
    yield (
        "Your energy is in joules or kilojoules: use hours, not seconds.",
        (
            ...,
            3600 * energy,
            ...,
        ),
    )
    yield "`{call}`: your cost is that of one device.", (..., ..., cost / num_devices)
    yield "Your cost is computed with seconds; the price is for an hour.", (..., ..., 3600 * cost)
    yield "`{call}`: the energy and the cost are in the opposite order.", (time, cost, energy)


@training_cost.accepts
def _(num_devices, batch_size, step_seconds, min_images, critical_batch, watts, dollars_per_hour):
    batch = num_devices * batch_size
    steps = min_images / critical_batch * (1 + critical_batch / batch)
    device_hours = num_devices * steps * step_seconds / 3600
    return [device_hours / num_devices, device_hours * watts / 1e3, device_hours * dollars_per_hour]


@training_cost.accepts
def _(num_devices, batch_size, step_seconds, min_images, critical_batch, watts, dollars_per_hour):
    batch = num_devices * batch_size
    hours = step_seconds / 3600 * min_images * (1 / batch + 1 / critical_batch)
    return np.array([1, num_devices * watts / 1000, num_devices * dollars_per_hour]) * hours


@training_cost.rejects("return 3 values: time, energy and cost")
def _(num_devices, batch_size, step_seconds, min_images, critical_batch, watts, dollars_per_hour):
    return min_images / num_devices / batch_size * step_seconds / 3600


@question
def beyond_critical():
    """Your batch is five times the critical one. What does twice the number of devices give you?

    Each device keeps its number of images.
    """
    return [
        wrong(
            "Half of the time for the same cost.",
            "So it is far below the critical batch, where twice the batch needs half of the steps.",
        ),
        wrong(
            "Half of the time for twice the cost.",
            "The steps cannot become half: there is a smallest number of steps, and you are near "
            "it.",
        ),
        correct(
            "A few percent less time for nearly twice the cost.",
            "The steps fall from 1 + 1/5 to 1 + 1/10 times their minimum, by 8 %, while each step "
            "costs twice as much.",
        ),
        wrong(
            "A worse network, after the same time.",
            "With a tuned learning rate it may become as good, but takes more images for it.",
        ),
    ]


# The challenge.

DEADLINES = {24.0: 96.38, 2.0: 122.34, 0.5: 191.60}  # hours, and dollars of the cheapest plan
TOLERANCE = 0.02  # of these dollars
MAX_CALLS = 80
ALGORITHMS = ("ring", "halving_doubling")
BATCH_SIZES = (4, 8, 16, 32, 64)
_IMAGES, _CRITICAL_BATCH = 1.14e8, 20_000  # as in the lab
_DOLLARS_PER_HOUR = 0.65  # of a device
# ResNet-50 in blocks: million parameters of each; all of them take about as long.
_BLOCKS = (0.01, *3 * [0.07], *4 * [0.3], *6 * [1.15], *3 * [4.9], 2.05)
_STEP_SECONDS, _IMAGES_PER_SECOND = 0.036, 250.0  # a P100: a fixed time, and one for each image


class Training(NamedTuple):
    """What a plan comes to."""

    hours: float
    dollars: float


@cache
def train_on(num_nodes: int, batch_size: int, algorithm: str) -> Training:
    """Simulate the training of the challenge.

    Args:
        num_nodes: Servers with 8 GPUs, 1 to 124.
        batch_size: Images in a step on each device, one of `BATCH_SIZES`.
        algorithm: Of the all-reduce between the nodes, one of `ALGORITHMS`.
    """
    from dltlab.distribute import FatTree, LayerTime, Link, simulate

    _require_plan(num_nodes, batch_size, algorithm)
    seconds = (_STEP_SECONDS + batch_size / _IMAGES_PER_SECOND) / len(_BLOCKS)
    layers = [
        LayerTime(f"block {place}", seconds / 3, 2 * seconds / 3, 4e6 * params)
        for place, params in enumerate(_BLOCKS)
    ]
    network = FatTree(num_nodes, Link(alpha=30e-6, bandwidth=50e9), algorithm)
    step_seconds = float(np.mean(simulate(layers, network).step_seconds))
    num_devices = 8 * num_nodes
    batch = num_devices * batch_size
    hours = _IMAGES * (1 / batch + 1 / _CRITICAL_BATCH) * step_seconds / 3600
    return Training(hours, num_devices * _DOLLARS_PER_HOUR * hours)


def _require_plan(num_nodes, batch_size, algorithm):
    with attempt("reading the number of nodes"):
        is_whole = num_nodes == int(num_nodes)
    require(
        is_whole and 1 <= num_nodes <= 124,
        f"{num_nodes} nodes: there are 1 to 124 of them.",
    )
    require(
        batch_size in BATCH_SIZES,
        f"{batch_size!r} images on a device: choose from {', '.join(map(str, BATCH_SIZES))}.",
    )
    require(
        algorithm in ALGORITHMS,
        f"There is no algorithm {algorithm!r}; choose from {', '.join(ALGORITHMS)}.",
    )


@exercise(
    "For one number of images per device, more nodes are faster and more expensive. So the "
    "cheapest plan "
    "with them is the one with the fewest nodes that meets the deadline.",
    "Find this number by halving: 7 calls are enough for 124 nodes. Do it for each batch size, and "
    "keep the cheapest.",
    "Which algorithm is better where there are many nodes? Try both once, before you search.",
)
def plan_training(answer):
    """Ask for a plan for each deadline, and compare it with the cheapest there is."""
    plans = []
    for deadline, best in DEADLINES.items():
        calls: list[int] = []

        def counted(num_nodes: int, batch_size: int, algorithm: str, calls: Any = calls) -> Any:
            calls.append(num_nodes)
            require(
                len(calls) <= MAX_CALLS,
                f"You call `train_on` more than {MAX_CALLS} times for one deadline.",
            )
            return train_on(num_nodes, batch_size, algorithm)

        plan = answer(counted, deadline)
        require(
            isinstance(plan, tuple | list) and len(plan) == 3,
            "Return three values: the number of nodes, the images per device, and the algorithm.",
        )
        _require_plan(*plan)
        hours, dollars = train_on(*plan)
        require(
            hours <= deadline,
            f"The deadline is {deadline:g} h; this plan takes {hours:.2f} h.",
        )
        require(
            dollars <= (1 + TOLERANCE) * best,
            f"Within {deadline:g} h you pay ${dollars:,.2f}. There is a plan that is cheaper by "
            f"more than {TOLERANCE:.0%}.",
        )
        plans.append(f"{deadline:g} h: {plan[0]} nodes, {plan[1]} images each, ${dollars:,.2f}")
    return "; ".join(plans) + "."


@plan_training.rejects("Return three values")
def _(train_on, deadline):
    return 124


@plan_training.rejects("125 nodes: there are 1 to 124")
def _(train_on, deadline):
    return 125, 64, "ring"


@plan_training.rejects("100 images on a device")
def _(train_on, deadline):
    return 1, 100, "ring"


@plan_training.rejects("There is no algorithm 'star'")
def _(train_on, deadline):
    return 1, 64, "star"


@plan_training.rejects("The deadline is 2 h; this plan takes")
def _(train_on, deadline):
    return 1, 64, "halving_doubling"


@plan_training.rejects("Within 24 h you pay")
def _(train_on, deadline):
    return 124, 16, "halving_doubling"


@plan_training.rejects("more than 80 times")
def _(train_on, deadline):
    plans = [(nodes, 32, "halving_doubling") for nodes in range(1, 125)]
    return min(plans, key=lambda plan: train_on(*plan).dollars)
