"""Exercises of lab 08, Inference optimization."""

from time import monotonic_ns, perf_counter, process_time, sleep
from typing import Any

import numpy as np

from dltlab.checks._common import are_close_outputs
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


class _SleepingCall:
    """A call that sleeps, and notes when it begins and ends.

    So the check knows what each time must be, however fast the machine is: at least as long as the
    call itself took, and at most from the end of the call before to the start of the one after.
    """

    def __init__(self):
        self.times = [perf_counter()]

    def __call__(self):
        self.times.append(perf_counter())
        sleep((0.014, 0.022, 0.01, 0.018, 0.012, 0.02, 0.016)[self.num_calls % 7])
        self.times.append(perf_counter())

    @property
    def num_calls(self):
        return len(self.times) // 2

    def took(self, seconds, first):
        """Return whether `seconds` are the times of the calls from number `first` on."""
        times = np.array([*self.times, perf_counter()])[2 * first :][: 2 * len(seconds) + 2]
        shortest, longest = times[2::2] - times[1:-1:2], times[3::2] - times[:-2:2]
        tolerance = 0.001  # clocks differ a little
        return bool(np.all((shortest - tolerance < seconds) & (seconds < longest + tolerance)))


@exercise(
    "Write two loops: the first only calls `call`; the second takes the time before and after each "
    "call and appends the difference to a list.",
    "`start = time.perf_counter()` before the call; `time.perf_counter() - start` after it.",
)
def measure(answer):
    """Let the answer time calls that sleep, each as long as no other one."""
    for warmup, repeats in ((3, 4), (2, 5)):
        call = _SleepingCall()
        value = answer(call, warmup, repeats)
        _require_times(value, call, warmup, repeats)


def _require_times(value, call, warmup, repeats):
    num_calls = call.num_calls
    require(num_calls != repeats, "You do not warm up: call `call` a few times before you time it.")
    require(
        num_calls == warmup + repeats,
        f"You call `call` {num_calls} times. First call it {warmup} times to warm up, then time "
        f"{repeats} calls.",
    )
    times = Array(f"result of `measure(call, {warmup}, {repeats})`")
    seconds = times.convert(value)
    require(seconds.ndim, "You return one number. Return the time of each timed call.")
    require(seconds.shape != (num_calls,), "You return the times of the calls of the warm-up, too.")
    seconds = times.read(value, shape=(repeats,))
    if call.took(seconds, warmup):
        return
    for message, is_mistake in {
        "Your times are in milliseconds. Return seconds.": call.took(seconds / 1e3, warmup),
        "Your times are in microseconds. Return seconds.": call.took(seconds / 1e6, warmup),
        "Your times are in nanoseconds. Return seconds.": call.took(seconds / 1e9, warmup),
        "Your times are negative: subtract the time before a call from the time after it.": (
            call.took(-seconds, warmup)
        ),
        "Your times are near 0, though each call takes a while. Read the clock before and after "
        "each call, and one that does not stop while the processor waits: `time.perf_counter()`.": (
            np.abs(seconds).max() < 0.005
        ),
        "You return the time of a call of the warm-up.": (
            any(call.took(seconds, first) for first in range(warmup))
        ),
        "Your times grow from call to call: read the start again before each call.": (
            call.took(np.diff(seconds, prepend=0), warmup)
        ),
        "All your times are equal: time each call by itself, not all of them together.": (
            np.ptp(seconds) < 1e-9
        ),
        "Your times are not those that the calls took, in their order.": True,
    }.items():
        require(not is_mistake, message)


def _timed(call, number, clock=perf_counter):
    """Return the time of each of `number` calls."""
    seconds = []
    for _ in range(number):
        start = clock()
        call()
        seconds.append(clock() - start)
    return np.array(seconds)


@measure.accepts
def _(call, warmup, repeats):
    import timeit

    timeit.timeit(call, number=warmup)
    return timeit.repeat(call, number=1, repeat=repeats)


@measure.accepts
def _(call, warmup, repeats):
    return tuple(_timed(call, warmup + repeats, monotonic_ns).astype("float32")[warmup:] / 1e9)


for _message, _num_calls in {
    "You do not warm up": lambda warmup, repeats: repeats,
    "You call `call` 8 times. First call it 3 times": lambda warmup, repeats: warmup + repeats + 1,
    "You call `call` 8 times. First call it 2 times": lambda warmup, repeats: 3 + repeats,
    "You call `call` 6 times. First call it 2 times": lambda warmup, repeats: warmup + 4,
}.items():
    measure.rejects(_message)(
        lambda call, warmup, repeats, num_calls=_num_calls: _timed(
            call, num_calls(warmup, repeats)
        )[-repeats:]
    )

for _message, _change in {
    "the calls of the warm-up, too": lambda times, warmup: times,
    "You return one number": lambda times, warmup: np.median(times[warmup:]),
    "`measure(call, 3, 4)` has the shape (3,); exp": lambda times, warmup: times[warmup + 1 :],
    "`measure(call, 2, 5)` has the shape (4,); exp": lambda times, warmup: times[warmup:][:4],
    "are in milliseconds": lambda times, warmup: 1e3 * times[warmup:],
    "are in microseconds": lambda times, warmup: 1e6 * times[warmup:],
    "are in nanoseconds": lambda times, warmup: 1e9 * times[warmup:],
    "are negative": lambda times, warmup: -times[warmup:],
    "does not stop while the processor waits": lambda times, warmup: 0 * times[warmup:],
    "the time of a call of the warm-up": lambda times, warmup: times[:-warmup],
    "read the start again": lambda times, warmup: np.cumsum(times[warmup:]),
    "time each call by itself": lambda times, warmup: 0 * times[warmup:] + times[warmup:].mean(),
    "are not those that the calls took": lambda times, warmup: times[warmup:] / 2,
}.items():
    measure.rejects(_message)(
        lambda call, warmup, repeats, change=_change: change(_timed(call, warmup + repeats), warmup)
    )


@measure.rejects("does not stop while the processor waits")
def _(call, warmup, repeats):
    return _timed(call, warmup + repeats, process_time)[warmup:]


@question
def where_time_goes():
    """The arithmetic of an image takes a small part of the time that `model(x)` takes.

    Where does the rest go?
    """
    return [
        wrong(
            "To memory: the weights have to be loaded.",
            "The lab's network has half a megabyte of weights. Memory delivers it in well under a "
            "millisecond.",
        ),
        correct(
            "To Python, which looks up, checks and starts each of the many operations.",
            "Each layer takes far longer than its arithmetic, as printed above. The next section "
            "runs the network without Python.",
        ),
        wrong(
            "To the first call, which compiles.",
            "The first calls were the warm-up, and the median is that of the later ones.",
        ),
        wrong(
            "To the arithmetic: no program reaches the processor's peak.",
            "That is true, and explains a factor of a few. The factor here is much larger.",
        ),
    ]


@question
def who_waits():
    """Ten images a second come to your service, one at a time.

    A call with one image takes 1 ms, one with 32 takes 8 ms. With which batch size do the users
    get their answers soonest?
    """
    return [
        correct(
            "1: each image is answered before the next one comes.",
            "The processor is idle nearly all the time: that is the price of a short latency.",
        ),
        wrong(
            "32: it does four times as many images per second.",
            "It takes three seconds until 32 images have come. The first one waits all that time.",
        ),
        wrong(
            "8, as a compromise.",
            "The first of eight waits 0.7 seconds for the last, and gains nothing from it.",
        ),
    ]


@exercise(
    "Write the normalization as scale · x + shift: the scale is gamma / sqrt(variance + epsilon).",
    "x is the sum of kernel · pixel, plus bias. A factor of the sum is a factor of each number of "
    "the kernel for that output channel, and of the bias.",
    "`kernel * scale` multiplies all output channels at once, since they are the last axis. The "
    "new bias is what remains: `(bias - mean) * scale + beta`.",
    returns=(Array("kernel"), Array("bias")),
    otherwise={
        "kernel": "Your kernel is not the old one times gamma / sqrt(variance + epsilon), output "
        "by output.",
        "bias": "Your kernel is correct, your bias is not. What does the normalization make of a "
        "pixel of zeros, for which the convolution returns the old bias?",
    },
)
def fold():
    for kernel_shape, epsilon in (((3, 5, 4, 7), 0.3), ((5, 3, 6, 9), 0.1)):
        outputs = kernel_shape[-1:]
        kernel, *vectors, logarithm = random_arrays(kernel_shape, *5 * [outputs])
        yield kernel, *vectors, np.exp(logarithm / 2), epsilon  # bias, gamma, beta, mean


@fold.mistakes
def _(kernel, bias, gamma, beta, mean, variance, epsilon):
    deviation = np.sqrt(variance + epsilon)
    scale = gamma / deviation
    yield "You return the old kernel.", (kernel, ...)
    for sentence, wrong_scale in (
        ("In your kernel epsilon is missing.", gamma / np.sqrt(variance)),
        ("Add epsilon before you take the root.", gamma / (np.sqrt(variance) + epsilon)),
        ("You use 0.001 for epsilon. Use the argument.", gamma / np.sqrt(variance + 0.001)),
        ("You divide by the variance. Divide by its root.", gamma / (variance + epsilon)),
        ("You multiply by the standard deviation. Divide by it.", gamma * deviation),
        ("In your kernel the factor gamma is missing.", 1 / deviation),
        ("You divide by the scale. Multiply by it.", 1 / scale),
    ):
        yield sentence, (kernel * wrong_scale, ...)
    shift = (bias - mean) * scale
    on_paper = (
        "Put x = kernel · pixels + bias into the formula of the normalization, and multiply out on "
        "paper. The terms without pixels are the new bias."
    )
    for sentence, wrong_bias in (
        ("You return the old bias.", bias),
        ("In your bias the old one is missing: it is normalized, too.", beta - mean * scale),
        ("In your bias the mean is missing.", bias * scale + beta),
        ("Scale the old bias, too: it is part of what is normalized.", bias - mean * scale + beta),
        ("Scale the mean, too: it is subtracted before the scaling.", bias * scale - mean + beta),
        ("The shift beta is added after the scaling: do not scale it.", shift + beta * scale),
        ("In your bias the shift beta is missing.", shift),
        ("You subtract the shift beta. Add it.", shift - beta),
        ("You add the mean. Subtract it.", (bias + mean) * scale + beta),
    ):
        yield sentence, (..., wrong_bias), on_paper


@fold.accepts
def _(kernel, bias, gamma, beta, mean, variance, epsilon):
    inverse = (variance + epsilon) ** -0.5
    folded = np.einsum("hwio,o->hwio", kernel, gamma * inverse)
    return [folded.astype("float32"), (gamma * inverse * (bias - mean) + beta).tolist()]


@fold.rejects("return 2 values: kernel and bias. One array of shape (3, 5, 4, 7) counts as")
def _(kernel, bias, gamma, beta, mean, variance, epsilon):
    return kernel * (gamma / np.sqrt(variance + epsilon))


@fold.rejects("Your kernel is correct")
def _(kernel, bias, gamma, beta, mean, variance, epsilon):
    scale = gamma / np.sqrt(variance + epsilon)
    return kernel * scale, (bias + beta - mean) * scale + beta


@exercise(
    "`np.round` rounds, `np.clip(x, low, high)` limits the range, `.astype('int8')` converts to "
    "integers. The order matters.",
    "Converting 200 to int8 gives -56. So limit the range before you convert.",
    returns=Array("array", dtype="int8"),
    otherwise=lambda q: f"`{{call}}` returns {np.array(q).tolist()}: not all are the nearest.",
)
def quantize():
    yield np.array([0.0, 0.26, -0.24, 63.6, 64.9, -70.0, -31.8, 200.0]), 0.5
    (values,) = random_arrays((4, 7))
    yield values.astype("float32"), 0.01


@quantize.mistakes
def _(values, scale):
    steps = values / scale
    yield (
        "You cut off the decimals: 0.26 / 0.5 is 0.52, which is nearer to 1 than to 0.",
        np.clip(np.trunc(steps), -127, 127),
    )
    one_way = "You round in one direction only. Round to the nearest integer."
    yield one_way, np.clip(np.floor(steps), -127, 127)
    yield one_way, np.clip(np.ceil(steps), -127, 127)
    yield (
        "You multiply by the scale. Each value is scale * q, so divide.",
        np.clip(np.round(values * scale), -127, 127),
    )
    yield "You do not divide by the scale.", np.clip(np.round(values), -127, 127)
    yield (
        "You return scale * q, the values that are meant. Return the integers q.",
        scale * np.clip(np.round(steps), -127, 127),
    )
    yield "You return -128. Use -127 to 127.", np.clip(np.round(steps), -128, 127)
    yield (
        "You limit the values to -127 to 127, then divide. Divide first, then limit the result.",
        np.round(np.clip(values, -127, 127) / scale).astype("int64").astype("int8"),
    )
    yield (
        "Values out of range become other numbers. Limit them before you convert them to int8.",
        np.round(steps).astype("int64").astype("int8"),
    )
    yield "Values out of range are not limited to -127 to 127.", np.round(steps)
    yield (
        "Two steps are missing before you convert to int8: round to the nearest integer, and limit "
        "the result to -127 to 127.",
        np.trunc(steps).astype("int64").astype("int8"),
    )


@quantize.accepts
def _(values, scale):
    return np.rint(np.minimum(np.maximum(values / scale, -127), 127)).astype(np.int8)


@quantize.accepts
def _(values, scale):
    return np.floor(np.clip(values / scale, -127, 127) + 0.5).astype("int8")


@quantize.rejects("has the dtype float64; expected int8")
def _(values, scale):
    return np.clip(np.round(values / scale), -127, 127)


@quantize.rejects("not all are the nearest")
def _(values, scale):
    return np.clip(np.round(values / scale), -127, 127).astype("int8") // 2


@exercise(
    "The largest absolute value of one array is `np.abs(batch).max()`. You need that of all.",
    "The largest value should become 127: scale * 127 = largest.",
    returns=Number("scale"),
    otherwise="With your scale, {value}, the largest value does not become 127 or -127.",
)
def calibrate():
    for lengths, width, place, largest in (((5, 3, 4), 6, 1, -6.35), ((3, 7, 4, 5), 8, 3, 7.62)):
        batches = [np.tanh(batch) for batch in random_arrays(*((n, width) for n in lengths))]
        batches[place][2, 4], batches[place][0, 3] = largest, -0.4 * largest
        yield ([batch.astype("float32") for batch in batches],)


@calibrate.mistakes
def _(batches):
    magnitudes = [np.abs(batch).max() for batch in batches]
    values = np.concatenate(batches)
    largest = max(magnitudes)
    yield "You return the largest value. The scale is a 127th of it.", largest
    yield "You return 127 divided by the largest value. Divide the other way round.", 127 / largest
    yield "You return one scale for each batch. Return one for all.", np.array(magnitudes) / 127
    yield "You look at the last batch only.", magnitudes[-1] / 127
    yield "You look at the first batch only.", magnitudes[0] / 127
    yield "You average over the batches. Then a larger value is cut off.", np.mean(magnitudes) / 127
    signed = "The largest value may be positive or negative: take the absolute values."
    yield signed, values.max() / 127
    yield signed, -values.min() / 127
    yield signed, values.min() / 127
    yield (
        "That is the scale of a range from the smallest to the largest value. The range here is "
        "-127 to 127, with 0 in the middle.",
        (values.max() - values.min()) / 255,
    )
    for divisor in (128, 254, 255, 256):
        yield (
            f"You divide by {divisor}. The largest value should become 127, so divide by that.",
            largest / divisor,
        )


@calibrate.accepts
def _(batches):
    return np.array(np.abs(np.concatenate(batches)).max() / 127)


@calibrate.accepts
def _(batches):
    return max(max(float(batch.max()), -float(batch.min())) for batch in batches) / 127


@calibrate.rejects("does not become 127 or -127")
def _(batches):
    return 0.5 * max(np.abs(batch).max() for batch in batches)


@exercise(
    "First keep the points whose latency is at most the bound. Among them, `max(…, key=…)` finds "
    "the one with the most images per second.",
    "A point is (batch, latency, images_per_second). Think of the case in which no point is left.",
    returns=Integer("batch"),
    otherwise=lambda batch: (
        "`{call}` returns 0, though the latency of a point is within the bound."
        if batch == 0
        else "`{call}` returns {value}, which is not the batch with the most images per second "
        "among those within the bound."
    ),
)
def best_batch():
    points = [(16, 0.008, 2000.0), (1, 0.001, 1000.0), (32, 0.02, 2100.0), (8, 0.005, 2050.0)]
    yield points, 0.009
    yield points, 1.0
    yield [(4, 0.004, 700.0), (64, 0.05, 640.0), (2, 0.003, 500.0)], 0.06
    yield [(2, 0.004, 900.0), (4, 0.003, 950.0), (8, 0.006, 1500.0), (32, 0.03, 850.0)], 0.04
    yield points[:2], 0.001
    yield points[:2], 0.0005


@best_batch.mistakes
def _(points, bound):
    within = [point for point in points if point[1] <= bound]
    shorter = [point for point in points if point[1] < bound]

    def best(candidates):
        return max(candidates, key=lambda point: point[2], default=(...,) * 3)

    yield (
        "You return the whole point. Return its batch, the first of the three.",
        best(within) if within else ...,
    )
    yield "You return the images per second of a point. Return its batch.", best(within)[2]
    yield "You return the latency of a point. Return its batch.", best(within)[1]
    position = "You return the position of a point in the list. Return its batch."
    yield position, points.index(best(within)) if within else ...
    yield position, [point[2] for point in within].index(best(within)[2]) if within else ...
    yield (
        "`{call}` returns {value}, the best batch of all, but its latency is above the bound.",
        best(points)[0] if within else ...,
    )
    yield (
        "`{call}` returns {value}; another batch within the bound has more images per second.",
        max(within, default=(...,))[0],
    )
    yield (
        "You return the batch with the shortest latency, not the one with the most images/s.",
        min(within, key=lambda point: point[1], default=(...,))[0],
    )
    yield (
        "You return the batch with the fewest images/s, not the one with the most.",
        min(within, key=lambda point: point[2], default=(...,))[0],
    )
    yield (
        "You return the smallest batch, not the one with the most images/s.",
        min(within, default=(...,))[0],
    )
    yield "You stop at the first point within the bound. Look at all.", [*within, (...,)][0][0]
    yield "A latency that equals the bound is within it.", best(shorter)[0] if shorter else 0
    nothing = "Where no point is within the bound, return 0."
    yield nothing, best(within or points)[0]
    yield nothing, best(within)[0] if within else -1


@best_batch.accepts
def _(points, bound):
    best = (0, 0, 0)
    for point in points:
        if point[1] <= bound and point[2] > best[2]:
            best = point
    return best[0]


@best_batch.accepts
def _(points, bound):
    batches, latencies, rates = np.array(points).T
    return batches[np.argmax(np.where(latencies <= bound, rates, 0))] * (min(latencies) <= bound)


@best_batch.rejects("returns 0, though")
def _(points, bound):
    return 0


@best_batch.rejects("returns None. Does every branch return a value? The call was `best_batch([(16")
def _(points, bound):
    return best_batch.reference()(points, bound) or None


@best_batch.rejects("is not the batch with the most")
def _(points, bound):
    return 7


class _Network:
    """Stands for a network: it takes (n, *shape), returns (n, 3), and counts its calls."""

    def __init__(self, *shape):
        self.shape, self.num_calls = shape, 0

    def __call__(self, batch):
        self.num_calls += 1
        batch = np.asarray(batch)
        expected = ", ".join(map(str, ("n", *self.shape)))
        require(
            batch.shape[1:] == self.shape,
            f"You call the network with an array of shape {batch.shape}; it takes ({expected}).",
        )
        rows = batch.reshape(len(batch), -1)
        return np.column_stack([rows.sum(axis=1), rows.max(axis=1), rows[:, 0]])


@exercise(
    "`np.concatenate(requests)` puts all images into one array.",
    "`np.split(array, places)` cuts an array at the given places. They are the running sums of the "
    "lengths of the requests, without the last.",
    returns=[Array("answer")],
    otherwise="At least one answer does not belong to the images of its request.",
)
def answer_together():
    yield _Network(5), list(random_arrays((4, 5), (1, 5), (4, 5)))
    yield _Network(6, 4), list(random_arrays((3, 6, 4), (5, 6, 4), (1, 6, 4), (3, 6, 4)))


@answer_together.behavior
def _(answer):
    """Count the calls."""
    network = _Network(5)
    answer(network, list(random_arrays((4, 5), (1, 5), (4, 5))))
    require(
        network.num_calls == 1,
        f"Your answers are correct, but you call the network {network.num_calls} times. Call it "
        "once for all requests.",
    )


@answer_together.mistakes
def _(network, requests):
    rows = network(np.concatenate(requests))
    lengths = [len(request) for request in requests]
    yield (
        "You return one array for all requests. Split it, so that each request gets its part.",
        list(rows),
    )
    yield "Your list holds one array for all requests. Split it.", [rows]
    for place, name in ((0, "first"), (-1, "last")):
        yield f"You answer only the {name} request.", network(requests[place])
    yield (
        "Your last answer is empty: leave the last place out of those at which you split.",
        np.split(rows, np.cumsum(lengths)),
    )
    places = "The places at which you split are the running sums of the lengths: `np.cumsum`."
    example = (
        "Requests of 2, 3 and 1 images become the rows 0 to 1, 2 to 4, and 5. At which rows do the "
        "second and the third begin?"
    )
    yield places, np.split(rows, lengths), example
    yield places, np.split(rows, lengths[:-1]), example
    equal = np.array_split(rows, len(requests))
    yield "Your answers are all equally long, but the requests are not.", equal
    yield (
        "Each of your answers begins with the first row. Begin where the answer before it ends.",
        [rows[:length] for length in lengths],
    )
    firsts = [network(request[:1]) for request in requests]
    yield "You answer only the first image of each request.", firsts
    backwards = [network(request) for request in requests[::-1]]
    yield "Your answers are in the opposite order of the requests.", backwards


@answer_together.accepts
def _(network, requests):
    rows = iter(network(np.vstack(requests)))
    return tuple([next(rows).tolist() for _ in request] for request in requests)


@answer_together.accepts
def _(network, requests):
    rows = network(np.concatenate(requests)).astype("float32")
    answers, start = [], 0
    for request in requests:
        answers.append(rows[start : start + len(request)])
        start += len(request)
    return answers


@answer_together.rejects("you call the network 3 times")
def _(network, requests):
    return [network(request) for request in requests]


@answer_together.rejects("You call the network with an array of shape (45,); it takes (n, 5)")
def _(network, requests):
    return network(np.concatenate([request.ravel() for request in requests]))


@answer_together.rejects("does not belong to the images of its request")
def _(network, requests):
    rows = network(np.concatenate(requests[::-1]))
    return np.split(rows, np.cumsum([len(request) for request in requests])[:-1])


# The challenge.

BAR = 2  # times the images per second of `tf.function`
MIN_ACCURACY = 0.99  # of the accuracy of the network
_GRAPH_BATCH_SIZE = 32
_subjects: list[tuple[Any, ...]] = []


def judge_by(model, calibration, images, labels):
    """Set the network and images that `fastest_engine` is checked with.

    Args:
        model: The network of the lab.
        calibration: Training images; the first 300 are used.
        images: Validation images in random order: the answer gets the first half, and is judged on
            the second.
        labels: Their labels.
    """
    half = len(images) // 2
    _subjects[:] = [
        (model, calibration[:300], (images[:half], labels[:half]), (images[half:], labels[half:]))
    ]


@exercise(
    "In batches, int8 does most on nearly every processor; "
    "`inference.tune(engine, latency_ms=…).engine` has the best batch size, streams and threads.",
    "`inference.BACKENDS` names them all. `engine.configured(batch_size=64, streams=2)` sets an "
    "engine by hand.",
    smoke={"bar": 0.06, "seconds": 0.05},
)
def fastest_engine(answer, bar=BAR, seconds=0.2):
    """Measure images per second beside `tf.function`, in turns, and accuracy on other images."""
    from dltlab import inference

    if not _subjects:
        judge_by(*_digits())
    model, calibration, validation, (images, labels) = _subjects[0]
    engine = answer(model, calibration, validation)
    require(
        not isinstance(getattr(engine, "engine", None), inference.Engine),
        "You return the result of `inference.tune`. Return the engine in it, its `.engine`.",
    )
    require(
        isinstance(engine, inference.Engine),
        f"You return an object of type `{type(engine).__name__}`. Return an `inference.Engine`, as "
        "`inference.optimize` returns it.",
    )
    with attempt("running your engine on other images"):
        logits = np.asarray(engine(images))
    expected = model.predict(images, batch_size=500, verbose=0)
    require(
        _is_of(engine, logits, model, expected),
        "Your engine is that of another network: give `model` to `inference.optimize`.",
    )
    accuracy, model_accuracy = (
        np.mean(np.argmax(scores, axis=-1) == labels) for scores in (logits, expected)
    )
    require(
        accuracy >= MIN_ACCURACY * model_accuracy,
        f"Your engine has an accuracy of {accuracy:.4f}, the network {model_accuracy:.4f}: less "
        "than 99 % of it is kept.",
    )
    engine_rate, graph_rate = _rates(engine, model, images, seconds)
    measured = f"{engine_rate:,.0f} images per second, {engine_rate / graph_rate:.2f} times"
    require(
        engine_rate >= bar * graph_rate,
        f"Your engine does {measured} as many as `tf.function`; the bar is {bar}. How much is "
        "possible depends on the processor: on one that does not multiply int8 faster, or where a "
        "GPU runs the graph, the bar may be out of reach.",
    )
    return (
        f"{measured} as many as `tf.function`, at an accuracy of {accuracy:.4f} (the network: "
        f"{model_accuracy:.4f}). The bar is {bar}."
    )


def _is_of(engine, logits, model, expected):
    """Return whether an engine is that of the model, or of an equal one, such as a folded one."""
    from dltlab.models import in_precision, model_hash

    is_same = engine.manifest.model_hash == model_hash(in_precision(model, "float32"))
    return is_same or are_close_outputs(logits, expected)


def _rates(engine, model, images, seconds):
    """Return the images per second of an engine and of a graph: the best of 5, in turns.

    What else the machine does can only make a round slower.
    """
    import tensorflow as tf

    from dltlab import inference

    graph = tf.function(lambda batch: model(batch, training=False))
    batch = tf.constant(np.resize(images, (_GRAPH_BATCH_SIZE, *images.shape[1:])))
    settings = engine.settings

    def graph_rate():
        start, calls = perf_counter(), 0
        while perf_counter() - start < seconds:
            graph(batch).numpy()
            calls += 1
        return calls * _GRAPH_BATCH_SIZE / (perf_counter() - start)

    def engine_rate():
        (row,) = inference.benchmark(
            engine, batch_sizes=[settings.batch_size], streams=[settings.streams], seconds=seconds
        ).rows
        return row.images_per_second

    graph_rate()  # warms up
    return np.max([(engine_rate(), graph_rate()) for _ in range(5)], axis=0)


def _digits():
    """Train a small network on handwritten digits; return it and its images."""
    import keras
    from keras import layers

    from dltlab import data

    train_images, train_labels = data.arrays("digits", "train")
    keras.utils.set_random_seed(1)
    stack = [keras.Input(train_images.shape[1:])]
    for channels in (16, 32):
        stack += [
            layers.Conv2D(channels, 3, padding="same", use_bias=False),
            layers.BatchNormalization(momentum=0.8),
            layers.ReLU(),
        ]
    model = keras.Sequential([*stack, layers.Flatten(), layers.Dense(10)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.005), loss)
    model.fit(train_images, train_labels, epochs=4, batch_size=64, verbose=0)
    return model, train_images, *data.arrays("digits", "test")


def _optimized(model, precision="float32", backend="openvino", **options):
    from dltlab import inference

    return inference.optimize(model, precision=precision, backend=backend, **options)


@fastest_engine.accepts
def _(model, calibration, validation):
    return _optimized(model, batch_size=64).configured(streams=2)


@fastest_engine.accepts
def _(model, calibration, validation):
    import keras

    twin = keras.models.clone_model(model)
    twin.set_weights([weights * (1 + 1e-6) for weights in model.get_weights()])
    return _optimized(twin, batch_size=32)


@fastest_engine.rejects("Return the engine in it")
def _(model, calibration, validation):
    from dltlab import inference

    return inference.tune(_optimized(model), latency_ms=1e6, seconds=0.001)


@fastest_engine.rejects("Return an `inference.Engine`")
def _(model, calibration, validation):
    return model


@fastest_engine.rejects("that of another network")
def _(model, calibration, validation):
    import keras

    return _optimized(keras.models.clone_model(model))


@fastest_engine.rejects("less than 99 % of it is kept")
def _(model, calibration, validation):
    return _optimized(model, "int8", calibration=0.001 * calibration, max_accuracy_drop=1.0)


@fastest_engine.rejects("as many as `tf.function`; the bar is")
def _(model, calibration, validation):
    return _optimized(model, backend="keras")
