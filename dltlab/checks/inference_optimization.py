"""Exercises of lab 08, Inference optimization."""

from contextlib import ExitStack
from time import perf_counter
from typing import Any
from unittest.mock import patch

import numpy as np

from dltlab.exercises import attempt, correct, exercise, question, require, wrong

# TensorFlow takes seconds to import, so the checks that need it import it themselves.


class _Clock:
    """Time that passes only when `call` is called: the first three calls take long, as they do."""

    def __init__(self):
        self.now, self.calls = 100.0, 0

    def call(self):
        self.calls += 1
        self.now += 5.0 if self.calls <= 3 else 0.5 + 0.001 * self.calls

    def time(self):
        return self.now


@exercise(
    "Two loops: the first calls `call` and does nothing else; the second takes the time before and "
    "after each call and appends the difference to a list.",
    "`start = time.perf_counter()` before the call; `time.perf_counter() - start` after it.",
)
def measure(answer):
    """A call that takes long three times, on a clock of our own."""
    value, clock = _measured(answer, 3, 5)
    says = "For measure(call, 3, 5)"
    require(clock.calls != 5, f"{says} you call 5 times: the 3 calls of the warm-up are missing.")
    require(
        clock.calls == 8, f"{says} you call {clock.calls} times; 3 calls warm up and 5 are timed."
    )
    try:
        seconds = np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        seconds = np.array(0.0)
    require(seconds.ndim == 1, f"{says} return a row of numbers: the seconds of each timed call.")
    require(
        len(seconds) != 8, f"{says} the calls of the warm-up are among the times that you return."
    )
    require(len(seconds) == 5, f"{says} you return {len(seconds)} times, not 5.")
    require(
        not 0 <= seconds.max() < 0.01,
        f"{says} your times are hardly above 0. Take the time before and after each call with "
        "`time.perf_counter()`, called by that name.",
    )
    require(seconds.max() < 5, f"{says} a call of the warm-up is among the times.")
    wanted = 0.5 + 0.001 * np.arange(4, 9)
    require(
        not np.allclose(seconds, np.cumsum(wanted)),
        f"{says} your times grow from call to call: take the start anew before each one.",
    )
    require(
        not np.allclose(seconds, wanted.mean()),
        f"{says} all your times are equal: time each call by itself, not all of them together.",
    )
    require(np.allclose(seconds, wanted), f"{says} your times are not those that the calls took.")
    again, _ = _measured(answer, 4, 2)
    require(len(again) == 2, f"For measure(call, 4, 2) you return {len(again)} times, not 2.")


def _measured(answer, warmup, repeats):
    clock = _Clock()
    with ExitStack() as patches:
        for name in ("perf_counter", "time", "monotonic", "process_time"):
            patches.enter_context(patch(f"time.{name}", clock.time))
            patches.enter_context(patch(f"time.{name}_ns", lambda: round(1e9 * clock.time())))
        return answer(clock.call, warmup, repeats), clock


@measure.accepts
def _(call, warmup, repeats):
    import time

    def once(_):
        start = time.perf_counter()
        call()
        return time.perf_counter() - start

    return [once(place) for place in range(warmup + repeats)][warmup:]


@measure.rejects("the 3 calls of the warm-up are missing")
def _(call, warmup, repeats):
    return _timed(call, repeats)


@measure.rejects("are among the times that you return")
def _(call, warmup, repeats):
    return _timed(call, warmup + repeats)


@measure.rejects("you call 9 times")
def _(call, warmup, repeats):
    return _timed(call, warmup + repeats + 1)[warmup:]


@measure.rejects("return a row of numbers")
def _(call, warmup, repeats):
    return _timed(call, warmup + repeats)[warmup:].mean()


@measure.rejects("you return 4 times, not 5")
def _(call, warmup, repeats):
    return _timed(call, warmup + repeats)[warmup + 1 :]


@measure.rejects("hardly above 0")
def _(call, warmup, repeats):
    for _ in range(warmup + repeats):
        call()
    return np.zeros(repeats)


@measure.rejects("a call of the warm-up is among the times")
def _(call, warmup, repeats):
    return _timed(call, warmup + repeats)[:repeats]


@measure.rejects("take the start anew")
def _(call, warmup, repeats):
    return np.cumsum(_timed(call, warmup + repeats)[warmup:])


@measure.rejects("time each call by itself")
def _(call, warmup, repeats):
    return np.full(repeats, _timed(call, warmup + repeats)[warmup:].mean())


@measure.rejects("are not those that the calls took")
def _(call, warmup, repeats):
    return _timed(call, warmup + repeats)[warmup:] / 10


@measure.rejects("For measure(call, 4, 2) you return 5 times")
def _(call, warmup, repeats):
    return _timed(call, warmup + 5)[warmup:]


def _timed(call, number):
    import time

    seconds = []
    for _ in range(number):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return np.array(seconds)


@question
def where_time_goes():
    """The arithmetic of an image takes a small part of the time that `model(x)` takes.

    Where is the rest?
    """
    return [
        wrong(
            "In memory: the weights have to be loaded.",
            "The weights are half a megabyte. Memory delivers that in well under a millisecond.",
        ),
        correct(
            "In Python, which looks up, checks and starts each of the many operations.",
            "Each operation costs some tens of microseconds before the first number is multiplied.",
        ),
        wrong(
            "In the first call, which compiles.",
            "The warm-up had the first calls, and the median is over the later ones.",
        ),
        wrong(
            "The arithmetic is slower: nobody reaches the peak.",
            "That is true, and worth a factor of two or three. Here much more is missing.",
        ),
    ]


@question
def when_to_fold():
    """Why is the normalization not folded before the training?"""
    return [
        wrong(
            "Because float32 would be too inexact.",
            "You have just seen how small the difference is.",
        ),
        wrong(
            "Because it would make the training slower.",
            "There would be less to compute, so it would be faster.",
        ),
        correct(
            "Because in training mean and variance are those of each batch, so they change.",
            "And the gradient goes through them. Only what is kept after training is constant.",
        ),
        wrong(
            "Because a convolution in training has no bias.",
            "It may have one; only the normalization would take it away again.",
        ),
    ]


@question
def who_waits():
    """Ten images a second come to your service, one at a time.

    A call with one image takes 1 ms, one with 32 takes 8 ms. With which batch do the users get
    their answers soonest?
    """
    return [
        correct(
            "1: each image is answered before the next one comes.",
            "The processor is idle nearly all the time, and that is the price of short answers.",
        ),
        wrong(
            "32: it does four times as many images per second.",
            "Until 32 images are there three seconds pass. Who is served by that?",
        ),
        wrong(
            "8, a middle way.",
            "The first of eight waits 0.7 seconds for the last, though nobody is in its way.",
        ),
    ]


@exercise(
    "Write the normalization as scale · x + shift: the scale is gamma / sqrt(variance + epsilon).",
    "x is the sum of kernel · pixel, plus bias. A factor before the sum is a factor before each "
    "kernel number of that output channel, and before the bias.",
    "`kernel * scale` does it for all outputs at once, since they are the last axis. What is left "
    "over is the new bias: `(bias - mean) * scale + beta`.",
)
def fold(answer):
    """Random numbers, none of them special; the kernel as a 1×1 convolution by matmul."""
    random = np.random.default_rng(1)
    kernel = random.normal(size=(3, 3, 4, 5))
    bias, gamma, beta, mean = random.normal(size=(4, 5))
    variance, epsilon = random.uniform(0.2, 2, 5), 0.3
    given = [each.copy() for each in (kernel, bias, gamma, beta, mean, variance)]
    value = answer(*given, epsilon)
    require(
        isinstance(value, tuple | list) and len(value) == 2,
        "Return two things: the new kernel and the new bias.",
    )
    new_kernel, new_bias = (np.asarray(each) for each in value)
    scale = gamma / np.sqrt(variance + epsilon)
    require(
        new_kernel.shape == kernel.shape and new_bias.shape == bias.shape,
        f"Your kernel and bias have the shapes {new_kernel.shape} and {new_bias.shape}; they "
        f"should be {kernel.shape} and {bias.shape}, as before.",
    )
    require(
        all(np.array_equal(*each) for each in zip(given[:2], (kernel, bias), strict=True)),
        "Your function changes the arrays that it was given.",
    )
    _require_kernel(new_kernel, kernel, gamma, variance, epsilon)
    require(
        not np.allclose(new_bias, beta - mean * scale),
        "In your bias the old one is missing: it is normalized as everything else is.",
    )
    require(
        not np.allclose(new_bias, bias - mean * scale + beta),
        "The old bias is scaled, too: the normalization sees the sum with it in.",
    )
    require(
        not np.allclose(new_bias, (bias - mean) * scale),
        "In your bias the shift beta is missing.",
    )
    require(
        np.allclose(new_bias, (bias - mean) * scale + beta),
        "Your kernel is right, your bias is not. What does the normalization make of a pixel of "
        "zeros, where the convolution gives just the old bias?",
    )


def _require_kernel(value, kernel, gamma, variance, epsilon):
    scale = gamma / np.sqrt(variance + epsilon)
    require(not np.allclose(value, kernel), "You return the old kernel.")
    require(
        not np.allclose(value, kernel * gamma / np.sqrt(variance)),
        "In your kernel epsilon is missing. Here it is large, so that one sees it.",
    )
    require(
        not np.allclose(value, kernel * gamma / (variance + epsilon)),
        "You divide by the variance; it is the standard deviation, its root, that counts.",
    )
    require(
        not np.allclose(value, kernel / np.sqrt(variance + epsilon)),
        "In your kernel the factor gamma is missing.",
    )
    require(not np.allclose(value, kernel / scale), "You divide by the scale; multiply by it.")
    require(
        np.allclose(value, kernel * scale),
        "Your kernel is not the old one times gamma / sqrt(variance + epsilon), output by output.",
    )


@fold.accepts
def _(kernel, bias, gamma, beta, mean, variance, epsilon):
    inverse = 1 / np.sqrt(variance + epsilon)
    return [
        np.einsum("hwio,o->hwio", kernel, gamma * inverse),
        gamma * inverse * (bias - mean) + beta,
    ]


@fold.rejects("Return two things")
def _(kernel, bias, gamma, beta, mean, variance, epsilon):
    return kernel * gamma / np.sqrt(variance + epsilon)


@fold.rejects("as before")
def _(kernel, bias, gamma, beta, mean, variance, epsilon):
    return kernel * (gamma / np.sqrt(variance + epsilon)), 0


@fold.rejects("changes the arrays")
def _(kernel, bias, gamma, beta, mean, variance, epsilon):
    scale = gamma / np.sqrt(variance + epsilon)
    kernel *= scale
    return kernel, (bias - mean) * scale + beta


@fold.rejects("You return the old kernel")
def _(kernel, bias, gamma, beta, mean, variance, epsilon):
    return kernel, beta


@fold.rejects("epsilon is missing")
def _(kernel, bias, gamma, beta, mean, variance, epsilon):
    return kernel * gamma / np.sqrt(variance), bias


@fold.rejects("You divide by the variance")
def _(kernel, bias, gamma, beta, mean, variance, epsilon):
    return kernel * gamma / (variance + epsilon), bias


@fold.rejects("the factor gamma is missing")
def _(kernel, bias, gamma, beta, mean, variance, epsilon):
    return kernel / np.sqrt(variance + epsilon), bias


@fold.rejects("You divide by the scale")
def _(kernel, bias, gamma, beta, mean, variance, epsilon):
    return kernel * np.sqrt(variance + epsilon) / gamma, bias


@fold.rejects("Your kernel is not the old one times")
def _(kernel, bias, gamma, beta, mean, variance, epsilon):
    return kernel * gamma, bias


@fold.rejects("the old one is missing")
def _(kernel, bias, gamma, beta, mean, variance, epsilon):
    scale = gamma / np.sqrt(variance + epsilon)
    return kernel * scale, beta - mean * scale


@fold.rejects("The old bias is scaled, too")
def _(kernel, bias, gamma, beta, mean, variance, epsilon):
    scale = gamma / np.sqrt(variance + epsilon)
    return kernel * scale, bias - mean * scale + beta


@fold.rejects("the shift beta is missing")
def _(kernel, bias, gamma, beta, mean, variance, epsilon):
    scale = gamma / np.sqrt(variance + epsilon)
    return kernel * scale, (bias - mean) * scale


@fold.rejects("your bias is not")
def _(kernel, bias, gamma, beta, mean, variance, epsilon):
    scale = gamma / np.sqrt(variance + epsilon)
    return kernel * scale, (bias + mean) * scale + beta


@exercise(
    "`np.round` rounds, `np.clip(x, low, high)` cuts off, `.astype('int8')` makes the integers. "
    "The order matters.",
    "An int8 that gets 200 becomes -56. So cut off before you change the type.",
)
def quantize(answer):
    """Values within the range, at its ends and beyond."""
    values = np.array([[0.0, 0.26, -0.24], [63.6, 64.9, -70.0], [0.74, -31.8, 200.0]], "float32")
    scale = 0.5
    value = answer(values.copy(), scale)
    require(
        isinstance(value, np.ndarray) and value.shape == values.shape,
        f"Return a NumPy array of the shape {values.shape} of the values.",
    )
    require(
        value.dtype == np.int8, f"Your numbers have the type {value.dtype}; they should be int8."
    )
    wide = np.round(values / scale)
    wanted = np.clip(wide, -127, 127).astype("int8")
    beyond = np.abs(wide) > 127
    require(
        not np.array_equal(value, np.clip(np.trunc(values / scale), -127, 127).astype("int8")),
        "You cut the decimals off: 0.26 / 0.5 is 0.52, and 1 is nearer to that than 0.",
    )
    require(
        not np.array_equal(value, np.clip(np.round(values * scale), -127, 127).astype("int8")),
        "You multiply by the scale. scale * q is the value, so divide.",
    )
    require(
        np.array_equal(value[~beyond], wanted[~beyond]),
        f"With the scale 0.5, {_first_wrong(value, wanted, values, ~beyond)}.",
    )
    require(
        value.min() != -128, "You return -128: we use -127 to 127, so that both sides are alike."
    )
    require(
        np.array_equal(value, wanted),
        f"With the scale 0.5, {_first_wrong(value, wanted, values, beyond)}: what is out of range "
        "belongs at its end, and must be there before the type is int8.",
    )


def _first_wrong(value, wanted, values, where):
    """What became of the first value that is not as wanted; empty where there is none."""
    places = zip(value[where], wanted[where], values[where], strict=True)
    return next((f"you make {v} of {x:g}" for v, w, x in places if v != w), "")


@quantize.accepts
def _(values, scale):
    return np.rint(np.minimum(np.maximum(values / scale, -127), 127)).astype(np.int8)


@quantize.rejects("Return a NumPy array of the shape")
def _(values, scale):
    return [int(each) for each in np.round(values / scale).ravel()]


@quantize.rejects("have the type float32")
def _(values, scale):
    return np.clip(np.round(values / scale), -127, 127)


@quantize.rejects("You cut the decimals off")
def _(values, scale):
    return np.clip(values / scale, -127, 127).astype("int8")


@quantize.rejects("You multiply by the scale")
def _(values, scale):
    return np.clip(np.round(values * scale), -127, 127).astype("int8")


@quantize.rejects("With the scale 0.5, you make")
def _(values, scale):
    return np.clip(np.floor(values / scale), -127, 127).astype("int8")


@quantize.rejects("You return -128")
def _(values, scale):
    return np.clip(np.round(values / scale), -128, 127).astype("int8")


@quantize.rejects("must be there before the type is int8")
def _(values, scale):
    return np.round(values / scale).astype("int32").astype("int8")


@exercise(
    "The largest absolute value of one array is `np.abs(batch).max()`. You need that of all.",
    "The largest value should become 127: scale * 127 = largest.",
)
def calibrate(answer):
    """Batches of several shapes; the largest number is negative and not in the last one."""
    random = np.random.default_rng(1)
    batches = [random.uniform(-1, 1, shape).astype("float32") for shape in ((2, 3), (4, 5), (1,))]
    batches[1][2, 2], batches[1][0, 0] = -6.35, 2.54
    value = answer([each.copy() for each in batches])
    require(isinstance(value, float | np.floating), "Return one number, the scale of all batches.")
    last, first = (np.abs(batches[place]).max() for place in (-1, 0))
    for largest, why in (
        (6.35 * 127, "You return the largest value; the scale is a 127th of it."),
        (last, "You look at the last batch only."),
        (first, "You look at the first batch only."),
        (2.54, "The largest value by size is negative here: take the absolute values."),
    ):
        require(not np.isclose(value, largest / 127), why)
    require(
        not np.isclose(value, (6.35 + 2.54) / 255),
        "That is the scale of a range from the smallest to the largest value. Ours goes from -127 "
        "to 127 steps, with 0 in the middle.",
    )
    require(
        not np.isclose(value, 6.35 / 128) and not np.isclose(value, 6.35 / 255),
        "The largest value should become 127: divide by that.",
    )
    require(
        np.isclose(value, 6.35 / 127),
        "With your scale the largest value does not become 127 or -127.",
    )


@calibrate.accepts
def _(batches):
    return float(np.abs(np.concatenate([each.ravel() for each in batches])).max()) / 127


@calibrate.rejects("Return one number")
def _(batches):
    return [np.abs(each).max() / 127 for each in batches]


@calibrate.rejects("a 127th of it")
def _(batches):
    return max(np.abs(each).max() for each in batches)


@calibrate.rejects("last batch only")
def _(batches):
    for each in batches:
        scale = np.abs(each).max() / 127
    return scale


@calibrate.rejects("first batch only")
def _(batches):
    return np.abs(batches[0]).max() / 127


@calibrate.rejects("take the absolute values")
def _(batches):
    return max(each.max() for each in batches) / 127


@calibrate.rejects("from the smallest to the largest value")
def _(batches):
    whole = np.concatenate([each.ravel() for each in batches])
    return (whole.max() - whole.min()) / 255


@calibrate.rejects("divide by that")
def _(batches):
    return max(np.abs(each).max() for each in batches) / 128


@calibrate.rejects("does not become 127 or -127")
def _(batches):
    return 1 / 127


@exercise(
    "First keep the points whose latency is at most the bound. Among them `max(…, key=…)` finds "
    "the one with the largest images per second.",
    "A point is (batch, latency, images_per_second). Think of the case in which no point is left.",
)
def best_batch(answer):
    """Points out of order, where the largest batch within the bound is not the best."""
    points = [(16, 0.008, 2000.0), (1, 0.001, 1000.0), (32, 0.02, 2100.0), (8, 0.005, 2050.0)]
    for bound, wanted in ((0.009, 8), (0.001, 1), (1.0, 32)):
        value = answer(list(points), bound)
        call = f"best_batch(points, {bound})"
        require(
            np.ndim(value) == 0,
            f"`{call}` must return one number, the batch, and not the whole point.",
        )
        require(
            value not in {each[2] for each in points},
            f"`{call}` returns images per second; the batch is wanted.",
        )
        require(value != 0, f"`{call}` returns 0, though a point keeps within the bound.")
        require(
            value in {each[0] for each in points}, f"`{call}` returns {value}, which is no batch."
        )
        within = [each for each in points if each[1] <= bound]
        require(
            value in {each[0] for each in within},
            f"`{call}` returns {value}, and calls with that batch take longer than the bound; one "
            "that takes exactly as long keeps within it.",
        )
        require(
            value == wanted,
            f"`{call}` returns {value}. It keeps within the bound, and another one that does makes "
            "more images per second.",
        )
    value = answer(list(points), 0.0005)
    require(value == 0, "Where no point keeps within the bound you should return 0.")


@best_batch.accepts
def _(points, bound):
    best = (0, 0, 0)
    for point in points:
        if point[1] <= bound and point[2] > best[2]:
            best = point
    return best[0]


@best_batch.rejects("and not the whole point")
def _(points, bound):
    return max((each for each in points if each[1] <= bound), key=lambda each: each[2])


@best_batch.rejects("the batch is wanted")
def _(points, bound):
    return max(each[2] for each in points if each[1] <= bound)


@best_batch.rejects("take longer than the bound")
def _(points, bound):
    return max(points, key=lambda each: each[2])[0]


@best_batch.rejects("though a point keeps within the bound")
def _(points, bound):
    return 0


@best_batch.rejects("which is no batch")
def _(points, bound):
    return max(range(len(points)), key=lambda place: points[place][2])


@best_batch.rejects("makes more images per second")
def _(points, bound):
    return max((each[0] for each in points if each[1] <= bound), default=0)


@best_batch.rejects("return 0")
def _(points, bound):
    return max([each for each in points if each[1] <= bound] or points, key=lambda each: each[2])[0]


@exercise(
    "`np.concatenate(requests)` puts all images into one array.",
    "`np.split(array, places)` cuts an array at the places given. They are the running sums of the "
    "lengths of the requests, without the last.",
)
def answer_together(answer):
    """Requests of one, three and two examples, and a network that counts its calls."""
    random = np.random.default_rng(1)
    requests = [random.normal(size=(number, 2)) for number in (1, 3, 2)]
    calls = []

    def network(batch):
        batch = np.asarray(batch)
        require(
            batch.ndim == 2 and batch.shape[1] == 2,
            f"You call the network with an array of shape {batch.shape}; the requests together "
            "have the shape (6, 2).",
        )
        calls.append(len(batch))
        return np.column_stack([batch.sum(axis=1), batch.max(axis=1), batch[:, 0]])

    value = answer(network, [each.copy() for each in requests])
    require(
        len(calls) <= 1,
        f"You call the network {len(calls)} times: once for all is the point of it.",
    )
    require(calls == [6], f"The network got {sum(calls)} of the six examples.")
    require(
        isinstance(value, list | tuple),
        f"You return an object of type `{type(value).__name__}`, not a list of three answers.",
    )
    require(len(value) == 3, f"Your list has {len(value)} entries; there are three requests.")
    lengths = [len(each) for each in value]
    require(
        lengths == [1, 3, 2],
        f"The requests hold 1, 3 and 2 examples, and your answers {lengths} rows.",
    )
    calls.clear()
    for place, request in enumerate(requests):
        require(
            np.allclose(value[place], network(request)),
            f"The answer to request {place} is that of other examples.",
        )


@answer_together.accepts
def _(network, requests):
    rows = iter(network(np.vstack(requests)))
    return [np.array([next(rows) for _ in request]) for request in requests]


@answer_together.rejects("You call the network 3 times")
def _(network, requests):
    return [network(each) for each in requests]


@answer_together.rejects("You call the network with an array of shape")
def _(network, requests):
    return network(np.concatenate([each.ravel() for each in requests]))


@answer_together.rejects("got 1 of the six")
def _(network, requests):
    return network(requests[0])


@answer_together.rejects("an object of type `ndarray`")
def _(network, requests):
    return network(np.concatenate(requests))


@answer_together.rejects("Your list has 1 entries")
def _(network, requests):
    return [network(np.concatenate(requests))]


@answer_together.rejects("1, 3 and 2 examples, and your answers")
def _(network, requests):
    return np.split(network(np.concatenate(requests)), 3)


@answer_together.rejects("is that of other examples")
def _(network, requests):
    answers = network(np.concatenate(requests[::-1]))
    return np.split(answers, [1, 4])


# The challenge.

FASTER = 3
KEPT = 0.99
_GRAPH_BATCH = 32
_ROUNDS = 5
_judged: list[tuple[Any, ...]] = []


def judge_by(model, train_images, test_images, test_labels):
    """Say with which network and images `fastest_engine` is checked; by default small ones."""
    half = len(test_images) // 2
    _judged[:] = [
        (
            model,
            train_images[:300],
            (test_images[:half], test_labels[:half]),
            (test_images[half:], test_labels[half:]),
        )
    ]


@exercise(
    "int8 does most on nearly every processor; `inference.tune(engine, latency_ms=…).engine` "
    "has the best batch size, streams and threads.",
    "`inference.BACKENDS` names them all. `engine.configured(batch_size=64, streams=2)` sets an "
    "engine by hand.",
)
def fastest_engine(answer):
    """Images per second beside `tf.function`, in turns, and the accuracy on other images."""
    from dltlab import inference
    from dltlab.models import in_precision, model_hash

    model, calibration, validation, (images, labels) = _subject()
    engine = answer(model, calibration, validation)
    require(
        isinstance(engine, inference.Engine),
        f"You return an object of type `{type(engine).__name__}`; an `inference.Engine` is wanted, "
        "such as `inference.optimize` returns.",
    )
    require(
        engine.manifest.model_hash == model_hash(in_precision(model, "float32")),
        "Your engine is that of another network: give `model` to `inference.optimize`.",
    )
    with attempt("running your engine on the test images"):
        found = np.mean(np.argmax(engine(images), axis=-1) == labels)
    logits = model.predict(images, batch_size=500, verbose=0)
    wanted = np.mean(np.argmax(logits, axis=-1) == labels)
    require(
        found >= KEPT * wanted,
        f"Your engine has an accuracy of {found:.4f}, the network {wanted:.4f}: less than 99 % of "
        "it is kept.",
    )
    ours, graph = _rates(engine, model, images)
    require(
        ours >= FASTER * graph,
        f"Your engine does {ours:,.0f} images per second, {ours / graph:.2f} times `tf.function`; "
        f"the bar is {FASTER}. What a processor can do differs: on one without units for few bits, "
        "or where a GPU runs the graph, it may be out of reach.",
    )
    return (
        f"{ours:,.0f} images per second, {ours / graph:.2f} times `tf.function`, at an accuracy of "
        f"{found:.4f} (the network: {wanted:.4f}). The bar is {FASTER}."
    )


def _rates(engine, model, images):
    """Images per second of the engine, as it is set, and of a graph; medians, in turns."""
    import tensorflow as tf

    from dltlab import inference

    graph = tf.function(lambda batch: model(batch, training=False))
    batch = tf.constant(np.resize(images, (_GRAPH_BATCH, *images.shape[1:])))
    settings = engine.settings

    def graph_rate():
        start, calls = perf_counter(), 0
        while perf_counter() - start < 0.2:
            graph(batch).numpy()
            calls += 1
        return calls * _GRAPH_BATCH / (perf_counter() - start)

    def engine_rate():
        (row,) = inference.benchmark(
            engine, batch_sizes=[settings.batch_size], streams=[settings.streams], seconds=0.2
        ).rows
        return row.images_per_second

    graph_rate()
    pairs = [(engine_rate(), graph_rate()) for _ in range(_ROUNDS)]
    return (float(np.median(each)) for each in zip(*pairs, strict=True))


def _subject():
    """The network of the lab, and its images; before `judge_by`, one of digits that is quick."""
    if not _judged:
        judge_by(*_digits())
    return _judged[0]


def _digits():
    import keras
    from keras import layers

    from dltlab import data

    train_images, train_labels = data.arrays("digits", "train")
    test_images, test_labels = data.arrays("digits", "test")
    stack = [keras.Input(train_images.shape[1:])]
    for channels in (16, 32):
        stack += [
            layers.Conv2D(channels, 3, padding="same", use_bias=False),
            layers.BatchNormalization(momentum=0.8),
            layers.ReLU(),
        ]
    keras.utils.set_random_seed(1)
    model = keras.Sequential([*stack, layers.Flatten(), layers.Dense(10)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.005), loss)
    model.fit(train_images, train_labels, epochs=4, batch_size=64, verbose=0)
    return model, train_images, test_images, test_labels


@fastest_engine.accepts
def _(model, calibration, validation):
    from dltlab import inference

    engine = inference.optimize(model, backend="openvino", precision="float32", batch_size=64)
    return engine.configured(streams=2)


@fastest_engine.rejects("an `inference.Engine` is wanted")
def _(model, calibration, validation):
    return model


@fastest_engine.rejects("that of another network")
def _(model, calibration, validation):
    import keras

    from dltlab import inference

    other = keras.models.clone_model(model)
    return inference.optimize(other, backend="openvino", precision="float32")


@fastest_engine.rejects("less than 99 % of it is kept")
def _(model, calibration, validation):
    from dltlab import inference

    return inference.optimize(
        model,
        backend="openvino",
        precision="int8",
        calibration=0.001 * calibration,
        validation=validation,
        max_accuracy_drop=1.0,
    )


@fastest_engine.rejects("times `tf.function`; the bar is")
def _(model, calibration, validation):
    from dltlab import inference

    return inference.optimize(model, backend="keras", precision="float32", batch_size=1)
