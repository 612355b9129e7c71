"""Exercises of lab 10, Multi-GPU training."""

import math
from functools import cache
from itertools import pairwise

import numpy as np
from threadpoolctl import threadpool_limits

from dltlab.exercises import (
    Array,
    Integer,
    Number,
    attempt,
    correct,
    exercise,
    question,
    random_arrays,
    require,
    wrong,
)


@exercise(
    "A replica with more rows needs a larger weight: multiply each gradient by its number of rows.",
    "Divide the sum by the total number of rows, `sum(rows)`, not by the number of replicas.",
    returns=Array("gradient"),
    otherwise="Your gradient is not the mean over all rows.",
)
def average_gradients():
    yield list(random_arrays((4, 3), (4, 3), (4, 3))), [4, 4, 2]
    yield list(random_arrays((5,), (5,), (5,), (5,))), [3, 2, 1, 0]
    yield list(random_arrays((2, 6), (2, 6))), [7, 1]


@average_gradients.mistakes
def _(gradients, rows):
    weighted = sum(count * gradient for count, gradient in zip(rows, gradients, strict=True))
    yield (
        "You give every replica the same weight. The last batch of an epoch can be smaller, so the "
        "replicas can have different numbers of rows. Weight each gradient by its rows.",
        np.mean(gradients, axis=0),
    )
    yield "You return the sum of the gradients, not their mean.", np.sum(gradients, axis=0)
    yield "Divide the weighted sum by the total number of rows.", weighted
    yield (
        "You divide by the number of replicas. Divide by the total number of rows.",
        weighted / len(rows),
    )
    yield "You return only the gradient of the first replica.", gradients[0]


@average_gradients.accepts
def _(gradients, rows):
    return np.average(gradients, axis=0, weights=rows)


@average_gradients.accepts
def _(gradients, rows):
    shares = np.array(rows) / np.sum(rows)
    return np.tensordot(shares, np.stack(gradients), axes=1).tolist()


@exercise(
    "After the warm-up the rate is `base * num_replicas`.",
    "During the warm-up, add the fraction `step / warmup_steps` of the difference between that "
    "rate and `base`. `min(1, …)` stops the rise at the end of the warm-up.",
    "With `warmup_steps=0` there is no warm-up: avoid the division by zero.",
    returns=Number("rate"),
    otherwise="`{call}` returns {value}.",
)
def learning_rate():
    for step in (0, 3, 10, 11, 500):
        yield step, 0.1, 8, 10
    yield 0, 0.05, 4, 0
    yield 20, 0.02, 16, 40


@learning_rate.mistakes
def _(step, base, num_replicas, warmup_steps):
    scaled = base * num_replicas
    share = min(1, step / warmup_steps) if warmup_steps else 1
    progress = step / warmup_steps if warmup_steps else 1
    yield "You do not multiply the rate by the number of replicas.", base
    yield "The warm-up is missing: the rate has its final value from the first step on.", scaled
    yield "Your warm-up starts at 0. Start at `base`, the rate of one replica.", share * scaled
    yield (
        "Your rate keeps rising after the warm-up.",
        base + progress * (scaled - base),
    )
    yield (
        "Your rate rises to `base * (num_replicas + 1)`. It should reach `base * num_replicas`.",
        base + share * scaled,
    )
    root = base * math.sqrt(num_replicas)
    yield (
        "You multiply by the square root of the number of replicas. Multiply by the number itself.",
        base + share * (root - base),
    )
    yield (
        "With `warmup_steps=0`, the rate is `base * num_replicas` from the first step on.",
        (base if not warmup_steps else base + share * (scaled - base)),
    )


@learning_rate.accepts
def _(step, base, num_replicas, warmup_steps):
    if step >= warmup_steps:
        return base * num_replicas
    return float(np.interp(step, [0, warmup_steps], [base, base * num_replicas]))


@exercise(
    "First, how many rows does the device with the most rows have? Round up.",
    "Into how many parts of at most `rows_that_fit` rows do you divide them? Round up again: "
    "`-(-a // b)`.",
    returns=Integer("steps"),
    otherwise="`{call}` returns {value}.",
)
def accumulation_steps():
    yield 256, 2, 32
    yield 256, 1, 32
    yield 64, 4, 16
    yield 100, 4, 10
    yield 7, 2, 3
    yield 1000, 3, 64


@accumulation_steps.mistakes
def _(global_batch, num_devices, rows_that_fit):
    per_device = -(-global_batch // num_devices)
    yield (
        "`{call}` returns {value}: you round down, so some rows are never processed. Round up "
        "in both divisions.",
        global_batch // num_devices // rows_that_fit,
    )
    yield (
        "`{call}` returns {value}, the number of steps for a single device. The devices share the "
        "rows.",
        -(-global_batch // rows_that_fit),
    )
    yield (
        "`{call}` returns {value}, the rows of one device. Divide them by the rows that fit.",
        per_device,
    )
    yield (
        "`{call}` returns {value}: you multiply by the number of devices, but more devices need "
        "fewer steps.",
        -(-global_batch // rows_that_fit) * num_devices,
    )


@accumulation_steps.accepts
def _(global_batch, num_devices, rows_that_fit):
    return math.ceil(global_batch / num_devices / rows_that_fit)


@accumulation_steps.accepts
def _(global_batch, num_devices, rows_that_fit):
    steps = 1
    while steps * num_devices * rows_that_fit < global_batch:
        steps += 1
    return np.int64(steps)


@exercise(
    "The mean of all rows is the mean of the means, weighted by the number of rows.",
    "The mean of the squared values of a replica is its variance plus its squared mean.",
    "Average these with the same weights, and subtract the square of the mean of all rows.",
    returns=(Array("mean"), Array("variance")),
    otherwise={
        "mean": "Your mean is not the mean of all rows.",
        "variance": "Your mean is correct, but your variance is not. Which variance do you "
        "expect for two replicas, one with only zeros and one with only ones?",
    },
)
def combine_moments():
    for rows, units in (([3, 5], 4), ([2, 2, 2, 2], 3), ([8, 1, 4], 6)):
        shape = (len(rows), units)
        means, logarithms = random_arrays(shape, shape)
        yield means, np.exp(logarithms), np.array(rows)


@combine_moments.mistakes
def _(means, variances, rows):
    shares = (rows / rows.sum())[:, None]
    mean = (shares * means).sum(axis=0)
    within = (shares * variances).sum(axis=0)
    squares = (shares * (variances + means**2)).sum(axis=0)
    yield (
        "Your mean gives every replica the same weight. Weight by the number of rows.",
        (
            means.mean(axis=0),
            ...,
        ),
    )
    yield (
        "Your variance is the mean of the variances. It ignores that the replicas have different "
        "means.",
        (..., within),
    )
    yield (
        "Your variance gives every replica the same weight. Weight by the number of rows.",
        (
            ...,
            (variances + means**2).mean(axis=0) - means.mean(axis=0) ** 2,
        ),
    )
    yield (
        "Your variance is the mean of the squared values. Subtract the square of the mean.",
        (
            ...,
            squares,
        ),
    )
    yield (
        "You return the standard deviation. Return its square.",
        (
            ...,
            np.sqrt(squares - mean**2),
        ),
    )


@combine_moments.accepts
def _(means, variances, rows):
    mean = np.average(means, axis=0, weights=rows)
    return mean, np.average(variances + (means - mean) ** 2, axis=0, weights=rows)


@exercise(
    "A multiply-add is 2 operations; the backward pass needs twice as many as the forward pass.",
    "Each device sends 2 (n - 1) / n times the bytes of the gradients; a float32 has 4 bytes.",
    "Without overlap, a step takes computation plus communication; one device only computes.",
    returns=Number("efficiency"),
    otherwise="`{call}` returns {value}.",
)
def efficiency():
    yield 138e6, 15.5e9, 32, 8, 9e12, 10e9
    yield 61e6, 0.72e9, 128, 4, 5e12, 20e9
    yield 7e6, 1.6e9, 256, 2, 4e12, 5e9
    yield 25e6, 3.9e9, 64, 1, 5e12, 10e9


@efficiency.mistakes
def _(params, macs, batch_size, num_devices, flops_per_second, bytes_per_second):
    share = 2 * (num_devices - 1) / num_devices
    compute = 6 * macs * batch_size / flops_per_second
    send = share * 4 * params / bytes_per_second

    def of(compute, send):
        return compute / (compute + send)

    yield "A multiply-add is two operations.", of(compute / 2, send)
    yield (
        "You count only the forward pass. The backward pass needs twice as many operations.",
        of(compute / 3, send),
    )
    yield (
        "You omit the backward pass, and you count a multiply-add as one operation.",
        of(compute / 6, send),
    )
    yield "You count one byte per gradient. A float32 has 4 bytes.", of(compute, send / 4)
    yield "You count bits, but the bandwidth is in bytes per second.", of(compute, 8 * send)
    yield (
        "The batch size is missing: a step processes a whole batch, not one image.",
        of(compute / batch_size, send),
    )
    yield (
        "`batch_size` is already per device: do not multiply by the number of devices.",
        of(compute * num_devices, send),
    )
    yield (
        "You let each device send the gradients once. It sends 2 (n - 1) / n times their bytes.",
        of(compute, 4 * params / bytes_per_second),
    )
    yield (
        "You count only half of the all-reduce. It first adds the gradients (reduce-scatter), then "
        "it distributes the sums (all-gather).",
        of(compute, send / 2),
    )
    yield (
        "You let each device send its gradients to all others. In a ring, it sends only "
        "2 (n - 1) / n times their bytes.",
        of(compute, (num_devices - 1) * 4 * params / bytes_per_second),
    )
    yield (
        "You return the fraction of the time that is spent on communication.",
        1 - of(compute, send),
    )
    yield (
        "You return the speedup. Divide by the number of devices.",
        (num_devices * of(compute, send)),
    )


@efficiency.accepts
def _(params, macs, batch_size, num_devices, flops_per_second, bytes_per_second):
    ratio = (8 * params * (1 - 1 / num_devices) / bytes_per_second) / (
        6 * macs * batch_size / flops_per_second
    )
    return np.float64(1 / (1 + ratio))


@question
def what_is_saved():
    """A network is trained on four GPUs instead of one, with the same global batch.

    What takes less memory on each GPU than it does on one GPU alone?
    """
    return [
        wrong(
            "The weights: each GPU has a quarter of them.",
            "The table above shows a complete copy on each device. Dividing the weights is another "
            "method, called sharding or model parallelism.",
        ),
        correct(
            "The activations: each GPU has a quarter of the rows.",
            "Each GPU still has all weights, gradients and optimizer variables.",
        ),
        wrong(
            "The optimizer's variables: one GPU keeps them for all.",
            "Each replica updates its own copy of the weights, which requires all these variables.",
        ),
    ]


@question
def why_it_breaks():
    """Why does the linear rule fail when the batch becomes very large?"""
    return [
        wrong(
            "Because the mean over more rows is less exact.",
            "It is more exact: a mean over more rows has less noise.",
        ),
        wrong(
            "Because the gradients of so many replicas no longer fit into memory.",
            "They are averaged, and the average takes as much memory as one gradient.",
        ),
        correct(
            "Because one large step replaces small steps that would have changed direction.",
            "The rule assumes that the gradient hardly changes during the steps that it replaces.",
        ),
    ]


@question
def where_the_bytes_are():
    """Three quarters of VGG-16's parameters are in fc6, the first dense layer.

    It comes after the convolutions, which account for nearly all operations. What does this mean
    for its gradient?
    """
    return [
        wrong(
            "It is ready last, so the GPUs have to wait for all of its bytes.",
            "The backward pass runs from the last layer to the first.",
        ),
        correct(
            "It is ready early, so its bytes can be sent while the convolutions compute.",
            "A framework that averages gradients as soon as they are ready can hide most of it.",
        ),
        wrong(
            "It is small, because a dense layer needs few operations.",
            "It needs few operations, but it has a weight for each pair of an input and an output.",
        ),
    ]


# The challenge, and the network that it trains.

BATCH_SIZE = 32  # of one replica
BASE_RATE = 0.02
EPOCHS = 30
_MOMENTUM, _UNITS = 0.9, 64


@cache
def _digits():
    """Return images and labels for training and validation, both from the training split."""
    from dltlab import data

    images, labels = data.arrays("digits", "train")
    images = images.reshape(len(images), -1).astype("float32")
    order = np.random.default_rng(0).permutation(len(images))
    images, labels = images[order], labels[order]
    stop = int(0.8 * len(images))
    return images[:stop], labels[:stop], images[stop:], labels[stop:]


@threadpool_limits.wrap(limits=1)  # threads only slow down matrices that are this small
def train_digits(num_replicas, rate_of, seed, epochs=EPOCHS):
    """Train a network of three dense layers on handwritten digits, in NumPy.

    Replicas that average their gradients compute what one device computes with all of their rows.
    So this trains with `num_replicas` times 32 rows in a step, by SGD with momentum 0.9.

    Args:
        num_replicas: The number of replicas, each with 32 rows.
        rate_of: A function of the step, from 0, and of the number of steps, for the learning rate.
        seed: Of the initial weights and the order.
        epochs: The passes over the data.

    Returns:
        The accuracy on validation images; 0 where the weights are no longer finite.
    """
    images, labels, validation_images, validation_labels = _digits()
    generator = np.random.default_rng(seed)
    sizes = [images.shape[1], _UNITS, _UNITS, 10]
    weights = []
    for inputs, outputs in pairwise(sizes):
        scale = np.sqrt(2 / inputs)
        weights += [generator.normal(0, scale, (inputs, outputs)), np.zeros(outputs)]
    weights = [array.astype("float32") for array in weights]
    velocities = [np.zeros_like(array) for array in weights]
    batch_size = BATCH_SIZE * num_replicas
    num_steps = epochs * -(-len(images) // batch_size)
    step = 0
    with np.errstate(all="ignore"):
        for _ in range(epochs):
            order = generator.permutation(len(images))
            for start in range(0, len(images), batch_size):
                rows = order[start : start + batch_size]
                rate = np.float32(rate_of(step, num_steps))
                gradients = _gradients(weights, images[rows], labels[rows])
                for array, velocity, gradient in zip(weights, velocities, gradients, strict=True):
                    velocity *= _MOMENTUM
                    velocity -= rate * gradient
                    array += velocity
                step += 1
        scores = _layers(weights, validation_images)[-1]
    if not np.isfinite(scores).all():
        return 0.0
    return float(np.mean(np.argmax(scores, axis=1) == validation_labels))


def _layers(weights, images):
    """Return the images and the outputs of each layer."""
    outputs = [images]
    for index in range(0, len(weights), 2):
        values = outputs[-1] @ weights[index] + weights[index + 1]
        outputs.append(values if index == len(weights) - 2 else np.maximum(values, 0))
    return outputs


def _gradients(weights, images, labels):
    """Return the gradients of the mean cross-entropy."""
    *hidden, scores = _layers(weights, images)
    probabilities = np.exp(scores - scores.max(axis=1, keepdims=True))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    probabilities[np.arange(len(labels)), labels] -= 1
    slope = probabilities / len(labels)
    gradients: list[np.ndarray] = []
    for index in range(len(weights) - 2, -1, -2):
        inputs = hidden[index // 2]
        gradients = [inputs.T @ slope, slope.sum(axis=0), *gradients]
        slope = (slope @ weights[index].T) * (inputs > 0)
    return gradients


BAR = 0.95  # mean validation accuracy over the seeds
NUM_REPLICAS = 16


@exercise(
    "Start with a small rate and let it rise for some steps: at first, the gradient changes fast.",
    "Let the rate fall to 0 towards the end: small steps reduce the noise of the updates.",
    "Try peak rates between `ex.BASE_RATE` and 16 times that value.",
    smoke={"num_seeds": 1, "bar": 0.5},
)
def large_batch_rate(answer, num_seeds=3, bar=BAR):
    """Train with 16 replicas and the answer's schedule; compare the accuracy with the bar."""
    accuracies = [
        train_digits(NUM_REPLICAS, lambda step, steps: _rate(answer, step, steps), seed)
        for seed in range(101, 101 + num_seeds)
    ]
    mean = float(np.mean(accuracies))
    require(
        min(accuracies) > 0,
        "With your learning rates, the weights become infinite. Use smaller rates.",
    )
    require(
        mean >= bar,
        f"The network reaches a mean validation accuracy of {mean:.3f}; the bar is {bar}.",
    )
    return f"Mean validation accuracy with {NUM_REPLICAS} replicas: {mean:.3f}. The bar is {bar}."


def _rate(answer, step, num_steps):
    with attempt(f"computing `large_batch_rate({step}, {num_steps})`"):
        value = answer(step, num_steps)
    rate = float(Number("rate").read(value))
    require(rate >= 0, f"Your learning rate in step {step} is negative: {rate:g}.")
    return rate


@large_batch_rate.accepts
def _(step, num_steps):
    rising = min(1, (step + 1) / 15)
    return np.float32(0.16 * rising * min(1, (num_steps - step) / 30))


@large_batch_rate.rejects("the bar is")
def _(step, num_steps):
    return 0.0001


@large_batch_rate.rejects("become infinite")
def _(step, num_steps):
    return 1e30


@large_batch_rate.rejects("is negative")
def _(step, num_steps):
    return -0.1
