"""Exercises of lab 10, Multi-GPU training."""

import math
from functools import cache
from itertools import pairwise

import numpy as np

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
    "A replica with more rows counts more: multiply each gradient by its number of rows.",
    "Divide the sum by the number of all rows, `sum(rows)`, not by the number of replicas.",
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
        "You count each replica the same. The last batch of an epoch may be short: a gradient of "
        "two rows must not count as much as one of four.",
        np.mean(gradients, axis=0),
    )
    yield "You return the sum of the gradients, not their mean.", np.sum(gradients, axis=0)
    yield "You do not divide by the number of rows.", weighted
    yield (
        "You divide by the number of replicas. Divide by the number of rows.",
        weighted / len(rows),
    )
    yield "You return the gradient of the first replica only.", gradients[0]


@average_gradients.accepts
def _(gradients, rows):
    return np.average(gradients, axis=0, weights=rows)


@average_gradients.accepts
def _(gradients, rows):
    shares = np.array(rows) / np.sum(rows)
    return np.tensordot(shares, np.stack(gradients), axes=1).tolist()


@exercise(
    "After the warm-up the rate is `base * num_replicas`.",
    "During the warm-up, the share `step / warmup_steps` of the way from `base` to that rate is "
    "done. `min(1, …)` keeps it there.",
    "With `warmup_steps` 0 there is no warm-up: do not divide by it.",
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
    yield "Your warm-up is missing: the rate is large from the first step on.", scaled
    yield "You begin at 0. Begin at `base`, with which one replica trains.", share * scaled
    yield (
        "Your rate goes on rising after the warm-up.",
        base + progress * (scaled - base),
    )
    yield "Your rate rises to base · (num_replicas + 1).", base + share * scaled
    root = base * math.sqrt(num_replicas)
    yield "You multiply by the root of the number of replicas.", base + share * (root - base)
    yield (
        "With `warmup_steps` 0 the rate is the large one at once.",
        (base if not warmup_steps else base + share * (scaled - base)),
    )


@learning_rate.accepts
def _(step, base, num_replicas, warmup_steps):
    if step >= warmup_steps:
        return base * num_replicas
    return float(np.interp(step, [0, warmup_steps], [base, base * num_replicas]))


@exercise(
    "First, how many rows has the device with the most rows? Round up.",
    "How many times do they have to be taken in parts that fit? Round up again: `-(-a // b)`.",
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
        "`{call}` returns {value}: you round down, so some rows are left over. Round up, twice.",
        global_batch // num_devices // rows_that_fit,
    )
    yield (
        "`{call}` returns {value}, which is what one device would need. They share the rows.",
        -(-global_batch // rows_that_fit),
    )
    yield (
        "`{call}` returns {value}, the rows of a device. In how many parts do they fit?",
        per_device,
    )
    yield (
        "`{call}` returns {value}: multiply by nothing; more devices need fewer steps.",
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
    "The mean of all rows is the mean of the means, weighted with the rows.",
    "The mean of the squares of a replica is its variance plus its squared mean.",
    "Average those squares in the same way, and subtract the square of the mean of all.",
    returns=(Array("mean"), Array("variance")),
    otherwise={
        "mean": "Your mean is not that of all rows.",
        "variance": "Your mean is correct, your variance is not. What is the variance of two "
        "replicas of which one has only zeros, and the other only ones?",
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
        "In your mean each replica counts the same. Weight with the rows.",
        (
            means.mean(axis=0),
            ...,
        ),
    )
    yield (
        "Your variance is the mean of the variances. It lacks that the means of the replicas "
        "differ.",
        (..., within),
    )
    yield (
        "In your variance each replica counts the same.",
        (
            ...,
            (variances + means**2).mean(axis=0) - means.mean(axis=0) ** 2,
        ),
    )
    yield (
        "Your variance is the mean of the squares. Subtract the square of the mean.",
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
    "A multiply-add is 2 operations; the backward pass takes twice as many as the forward pass.",
    "Each device sends 2 (n - 1) / n times the bytes of the gradients; a float32 has 4 bytes.",
    "Without overlap a step takes compute + communication, and on one device only compute.",
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
        "You count the forward pass only. The backward pass takes twice as many operations.",
        of(compute / 3, send),
    )
    yield "You count neither the backward pass nor both operations.", of(compute / 6, send)
    yield "A gradient is a float32, of 4 bytes.", of(compute, send / 4)
    yield "4 bytes are 32 bits, but the bandwidth is in bytes per second.", of(compute, 8 * send)
    yield (
        "The batch size is missing: a step computes all of its rows.",
        of(compute / batch_size, send),
    )
    yield (
        "Each device computes its own batch: do not multiply it by the number of devices.",
        of(compute * num_devices, send),
    )
    yield (
        "Each device sends 2 (n - 1) / n times the bytes, not all of them once.",
        of(compute, 4 * params / bytes_per_second),
    )
    yield (
        "You count one half of the all-reduce. It reduces, then it sends the sum to all.",
        of(compute, send / 2),
    )
    yield (
        "That is the all-reduce in which each sends everything to all others. A ring sends "
        "2 (n - 1) / n times the bytes.",
        of(compute, (num_devices - 1) * 4 * params / bytes_per_second),
    )
    yield "You return the share of the communication.", 1 - of(compute, send)
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

    What does each GPU need less memory for?
    """
    return [
        wrong(
            "For the weights: each has a quarter of them.",
            "You have seen four whole copies. To divide the weights is another method, called "
            "sharding or model parallelism.",
        ),
        correct(
            "For the activations: each has a quarter of the rows.",
            "Weights, gradients and the optimizer's variables are there four times in full.",
        ),
        wrong(
            "For the optimizer's variables: one GPU keeps them for all.",
            "Each replica updates its own copy of the weights, and needs all of them for that.",
        ),
    ]


@question
def why_it_breaks():
    """Why does the linear rule break when the batch becomes very large?"""
    return [
        wrong(
            "Because the mean over more rows is less exact.",
            "It is more exact: its noise becomes smaller.",
        ),
        wrong(
            "Because the gradients of so many replicas no longer fit into memory.",
            "They are added; the sum is as large as one gradient.",
        ),
        correct(
            "Because one long step is taken where the short ones would have changed direction.",
            "The rule assumes that the gradient hardly changes over the steps it replaces.",
        ),
    ]


@question
def where_the_bytes_are():
    """Three quarters of VGG-16's parameters are in fc6, the first dense layer.

    It comes after all the convolutions, which take nearly all the operations. What follows for its
    gradient?
    """
    return [
        wrong(
            "It is ready last, so all of its bytes have to be waited for.",
            "The backward pass runs from the last layer to the first.",
        ),
        correct(
            "It is ready early, so its bytes can be sent while the convolutions compute.",
            "A framework that adds up gradients as soon as they are ready hides most of them.",
        ),
        wrong(
            "It is small: a dense layer has few operations.",
            "Few operations, but a number for each pair of an input and an output.",
        ),
    ]


# The challenge, and the network that it trains.

BATCH_SIZE = 32  # of one replica
BASE_RATE = 0.04
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
    "Begin with a small rate and let it rise for some steps: the first gradients are the largest.",
    "Let the rate fall to 0 in the last steps: a network settles when its steps become short.",
    "The highest rate is between `ex.BASE_RATE` and 16 times that. Try some.",
    smoke={"num_seeds": 1, "bar": 0.5},
)
def large_batch_rate(answer, num_seeds=3, bar=BAR):
    """Train with 32 replicas and the answer's schedule; compare the accuracy with the bar."""
    accuracies = [
        train_digits(NUM_REPLICAS, lambda step, steps: _rate(answer, step, steps), seed)
        for seed in range(101, 101 + num_seeds)
    ]
    mean = float(np.mean(accuracies))
    require(
        min(accuracies) > 0,
        "With your rates the weights become infinite. Begin with smaller ones.",
    )
    require(
        mean >= bar,
        f"The network reaches a mean accuracy of {mean:.3f}; the bar is {bar}.",
    )
    return f"A mean accuracy of {mean:.3f} with {NUM_REPLICAS} replicas. The bar is {bar}."


def _rate(answer, step, num_steps):
    with attempt(f"computing `large_batch_rate({step}, {num_steps})`"):
        value = answer(step, num_steps)
    rate = float(Number("rate").read(value))
    require(rate >= 0, f"Your rate in step {step} is negative: {rate:g}.")
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
