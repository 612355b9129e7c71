"""Exercises and questions of lab 05, arithmetic of training."""

from functools import cache
from itertools import pairwise

import numpy as np

from dltlab.exercises import (
    Integer,
    Number,
    attempt,
    correct,
    exercise,
    question,
    require,
    wrong,
)


@exercise(
    "Each of the side² · filters outputs is a sum of kernel² · channels products.",
    "A product and its addition are two FLOPs.",
    "Bytes: the input has side² · channels numbers, the output side² · filters, the kernel "
    "kernel² · channels · filters; each takes 4 bytes.",
    returns=(Integer("number of FLOPs"), Integer("number of bytes")),
    otherwise={
        "number of FLOPs": "`{call}`: {value} FLOPs. How many products does one output need, and "
        "how many outputs are there?",
        "number of bytes": "`{call}`: {value} bytes. Count the numbers of the input, the output "
        "and the kernel; each takes 4 bytes.",
    },
)
def conv_cost():
    yield 32, 3, 3, 16
    yield 14, 64, 1, 256
    yield 7, 10, 5, 6


@conv_cost.mistakes
def _(side, channels, kernel, filters):
    macs = side**2 * kernel**2 * channels * filters
    maps, weights = 4 * side**2 * (channels + filters), 4 * kernel**2 * channels * filters
    yield (
        "`{call}`: the two numbers are in the opposite order; return the FLOPs first.",
        (maps + weights, 2 * macs),
    )
    yield (
        "`{call}`: you count multiply-adds. Each is two FLOPs, a multiplication and an addition.",
        (macs, ...),
    )
    yield (
        "`{call}`: your FLOPs are those of one channel of the input. Each output sums over all.",
        (2 * macs // channels, ...),
    )
    yield (
        "`{call}`: a kernel has kernel² positions. Your FLOPs are those of one row of it.",
        (2 * macs // kernel, ...),
    )
    yield (
        "`{call}`: your FLOPs are those without padding. With it, the output is as large as the "
        "input.",
        (2 * macs // side**2 * (side - kernel + 1) ** 2, ...),
    )
    yield (
        "`{call}`: your FLOPs are those of one filter.",
        (2 * macs // filters, ...),
    )
    yield (
        "`{call}`: your FLOPs are those of one position of the image.",
        (2 * macs // side**2, ...),
    )
    yield (
        "`{call}`: you leave out one addition of each sum. By convention, each product has one, so "
        "that a multiply-add is two FLOPs.",
        (2 * macs - side**2 * filters, ...),
    )
    yield "`{call}`: you count numbers, not bytes; each takes 4.", (..., (maps + weights) // 4)
    yield (
        "`{call}`: the bytes of the input and of the output add up; you multiply them.",
        (..., 4 * side**2 * channels * filters + weights),
    )
    yield "`{call}`: your bytes lack those of the kernel.", (..., maps)
    one_map, total = 4 * side**2, maps + weights
    yield "`{call}`: your bytes lack those of the output.", (..., total - one_map * filters)
    yield "`{call}`: your bytes lack those of the input.", (..., total - one_map * channels)


@conv_cost.accepts
def _(side, channels, kernel, filters):
    weights = np.empty((kernel, kernel, channels, filters))
    maps = [np.empty((side, side, depth)) for depth in (channels, filters)]
    return 2 * side * side * weights.size, 4 * (weights.size + sum(part.size for part in maps))


@conv_cost.accepts
def _(side, channels, kernel, filters):
    flops = 2.0 * side**2 * kernel**2 * channels * filters
    return [flops, 4.0 * (side**2 * (channels + filters) + flops / 2 / side**2)]


@conv_cost.rejects("return 2 values: number of FLOPs and number of bytes")
def _(side, channels, kernel, filters):
    return 2 * side**2 * kernel**2 * channels * filters


@exercise(
    "The forward pass computes each layer once, the gradients of the weights once more, and those "
    "of the inputs a third time: each has as many multiply-adds as the layer.",
    "The input of the first layer is the image. Nobody needs its gradient.",
    "`batch_size * 2 * (3 * sum(macs) - macs[0])`.",
    returns=Integer("number of FLOPs"),
    otherwise="`{call}` returns {value}. Three passes for each layer, two for the first, two FLOPs "
    "per multiply-add, for each image of the batch.",
)
def training_flops():
    yield [100, 200, 50], 1
    yield [7, 11, 13, 17], 64
    yield [1000], 8


@training_flops.mistakes
def _(macs, batch_size):
    total = sum(macs)
    yield (
        "`{call}` returns {value}: three passes for every layer. Which gradient does the first "
        "layer not need?",
        6 * total * batch_size,
    )
    yield "`{call}` returns {value}: only the forward pass.", 2 * total * batch_size
    yield (
        "`{call}` returns {value}: a backward pass computes two gradients, those of the weights "
        "and those of the inputs.",
        4 * total * batch_size,
    )
    for multiply_adds in (3 * total - macs[0], 3 * total):
        yield (
            "`{call}` returns {value}: you count multiply-adds. Each is two FLOPs.",
            multiply_adds * batch_size,
        )
    yield (
        "`{call}` returns {value}: you leave out one pass too many, or the pass of another layer. "
        "Only the gradient of the first layer's input is not needed.",
        2 * batch_size * (total + 2 * (total - macs[-1])) if len(macs) > 1 else ...,
    )
    yield (
        "`{call}` returns {value}: you leave out a gradient of the last layer. It is the first "
        "layer's input whose gradient is not needed.",
        (6 * total - 2 * macs[-1]) * batch_size if len(macs) > 1 else ...,
    )
    yield (
        "`{call}` returns {value}: you leave out both gradients of the first layer. Its weights "
        "are trained, too.",
        (6 * total - 4 * macs[0]) * batch_size,
    )
    yield (
        f"`{{call}}` returns {{value}}: that is for one image, and the batch has {batch_size}.",
        6 * total - 2 * macs[0] if batch_size > 1 else ...,
    )


@training_flops.accepts
def _(macs, batch_size):
    first, *others = macs
    return 2.0 * batch_size * (2 * first + 3 * np.sum(others))


@training_flops.rejects("Three passes for each layer")
def _(macs, batch_size):
    return 7 * sum(macs) * batch_size


@question
def which_bytes():
    """The slide gives both networks in FLOPs per input byte.

    AlexNet's figure fits pixels of one byte, VGG's fits numbers of four. Counted alike, how do they
    compare?
    """
    return [
        wrong(
            "As on the slide: VGG needs about 5.6 times as many FLOPs for each byte.",
            "The two figures are quotients with different denominators. Make them alike first.",
        ),
        correct(
            "VGG needs about 23 times as many FLOPs for each byte.",
            "Four times the slide's ratio: AlexNet's figure is for a byte of the pixels, VGG's for "
            "one of the four bytes of a float32.",
        ),
        wrong(
            "VGG needs about 1.4 times as many FLOPs for each byte.",
            "You divide by 4. Is the number of FLOPs for each byte larger or smaller if a pixel "
            "has fewer bytes?",
        ),
    ]


@exercise(
    "What does not depend on the batch: each parameter, its gradient, and the optimizer's slots, "
    "4 bytes each.",
    "What is left of the memory is for activations: how many images fit?",
    "`(free_bytes - 4 * params * (2 + slots)) // activation_bytes`, and 0 if that is negative.",
    returns=Integer("largest batch"),
    otherwise="`{call}` returns {value}. Subtract from the free memory what does not depend on the "
    "batch, then divide by the bytes of one image.",
)
def largest_batch():
    yield 10**9, 10**6, 3_100_000, 2
    yield 10**9, 25 * 10**6, 10_900_000, 1
    yield 16 * 10**9, 138 * 10**6, 115 * 10**6, 0
    yield 10**8, 10**8, 10**6, 2


@largest_batch.mistakes
def _(free_bytes, params, activation_bytes, slots):
    def fit(fixed):
        return max(0, (free_bytes - fixed) // activation_bytes)

    fits = free_bytes >= 4 * params * (2 + slots)
    yield "`{call}` returns {value}: you forget the memory of the weights.", fit(0)
    yield (
        "`{call}` returns {value}: the weights are there, but not their gradients and the "
        "optimizer's slots.",
        fit(4 * params),
    )
    yield (
        "`{call}` returns {value}: the optimizer's slots are missing.",
        fit(8 * params) if slots else ...,
    )
    yield (
        "`{call}` returns {value}: each gradient takes memory, too.",
        fit(4 * params * (1 + slots)),
    )
    yield (
        "`{call}` returns {value}: a parameter takes 4 bytes, not 1.",
        fit(params * (2 + slots)),
    )
    yield (
        "`{call}` returns {value}: only whole images fit. Round down.",
        (free_bytes - 4 * params * (2 + slots)) / activation_bytes if fits else ...,
    )
    yield (
        "`{call}` returns {value}: not even the weights fit, so the batch is 0.",
        ... if fits else (free_bytes - 4 * params * (2 + slots)) // activation_bytes,
    )
    yield (
        "`{call}` returns {value}: not even the weights fit, so the batch is 0.",
        ... if fits else 1,
    )
    yield (
        "`{call}` returns {value}: this batch is larger than the memory. Round down.",
        fit(4 * params * (2 + slots)) + 1 if fits else ...,
    )


@largest_batch.accepts
def _(free_bytes, params, activation_bytes, slots):
    batch_size = 0
    rest = free_bytes - 4 * params - 4 * params - slots * 4 * params
    while rest >= activation_bytes:
        rest -= activation_bytes
        batch_size += 1
    return batch_size


@largest_batch.rejects("Subtract from the free memory")
def _(free_bytes, params, activation_bytes, slots):
    return 17


@exercise(
    "Computing takes `flops / peak` seconds, moving takes `num_bytes / bandwidth`.",
    "A processor computes while data move, so at best the shorter of the two is hidden behind the "
    "longer.",
    returns=Number("time"),
    otherwise="`{call}` returns {value}. Compute the time of both, then take the longer one.",
)
def least_seconds():
    yield 8e9, 1e8, 1e11, 2e10
    yield 1e8, 1e8, 1e11, 2e10
    yield 3e9, 6e8, 2e12, 3e11


@least_seconds.mistakes
def _(flops, num_bytes, peak, bandwidth):
    computing, moving = flops / peak, num_bytes / bandwidth
    yield "`{call}` returns {value}: one after the other. At best both overlap.", computing + moving
    yield (
        "`{call}` returns {value}: the shorter of the two. A step ends when both have ended.",
        min(computing, moving),
    )
    yield (
        "`{call}` returns {value}: the time of the FLOPs, as if data moved in no time.",
        computing,
    )
    yield "`{call}` returns {value}: the time of the bytes, as if computing took none.", moving
    yield (
        "`{call}` returns {value}: you divide the wrong way round. More FLOPs take longer.",
        max(peak / flops, bandwidth / num_bytes),
    )
    yield (
        "`{call}` returns {value}: the peak is for the FLOPs, and the bandwidth for the bytes.",
        max(flops / bandwidth, num_bytes / peak),
    )
    yield (
        "`{call}` returns {value}: divide by the peak and by the bandwidth, both are per second.",
        max(peak * flops, bandwidth * num_bytes),
    )
    yield (
        "`{call}` returns {value}, a speed in FLOP/s. Return the time.",
        min(peak, flops / num_bytes * bandwidth),
    )
    yield (
        "`{call}` returns {value}, the arithmetic intensity in FLOP per byte. Return the time.",
        flops / num_bytes,
    )


@least_seconds.accepts
def _(flops, num_bytes, peak, bandwidth):
    return flops / min(peak, flops / num_bytes * bandwidth)


@least_seconds.accepts
def _(flops, num_bytes, peak, bandwidth):
    return np.max(np.divide([flops, num_bytes], [peak, bandwidth]))


@least_seconds.rejects("Compute the time of both")
def _(flops, num_bytes, peak, bandwidth):
    return 1.5 * flops / peak + 1


@question
def dense_of_one_image():
    """A dense layer at batch 1 lies far below the peak. Which change moves it up most?"""
    return [
        wrong(
            "A processor with twice the FLOP/s.",
            "On the slope the time is that of the bytes. More FLOP/s leave it as it is.",
        ),
        wrong(
            "A layer with twice the units.",
            "It has twice the FLOPs and twice the weights: FLOP per byte stays the same.",
        ),
        correct(
            "Thirty-two images at a time.",
            "They share the weights: 32 times the FLOPs for nearly the same bytes.",
        ),
        wrong(
            "Weights of 2 bytes each.",
            "That halves the bytes: at most twice the speed. Another change does more.",
        ),
    ]


@exercise(
    "The recurrent weights of an LSTM with n units: n rows, 4 · n columns.",
    "Each weight is multiplied and added once for each sequence of the batch: two operations. But "
    "it is loaded only once for the whole batch.",
    returns=(Integer("number of operations"), Integer("number of bytes")),
    otherwise={
        "number of operations": "`{call}`: {value} operations. Each recurrent weight takes part in "
        "a multiplication and an addition, in each sequence of the batch.",
        "number of bytes": "`{call}`: {value} bytes. Each recurrent weight is loaded once.",
    },
)
def lstm_step_cost():
    yield 10, 3, 8
    yield 64, 16, 2
    yield 7, 5, 4


@lstm_step_cost.mistakes
def _(units, batch, bytes_each):
    weights = 4 * units * units
    plain = "are those of a plain recurrent network. An LSTM has four such matrices."
    yield (
        "`{call}`: the two numbers are in the opposite order; return the operations first.",
        (weights * bytes_each, 2 * weights * batch),
    )
    yield "`{call}`: your operations " + plain, (weights * batch / 2, ...)
    yield (
        "`{call}`: a GRU has three such matrices, an LSTM four.",
        (6 * units * units * batch, 3 * units * units * bytes_each),
    )
    yield (
        "`{call}`: you count x·W as well. The exercise asks for h·U only.",
        (4 * weights * batch, 2 * weights * bytes_each),
    )
    yield (
        "`{call}`: you count a multiplication and an addition as one operation.",
        (weights * batch, ...),
    )
    yield (
        f"`{{call}}`: your operations are those of one sequence, and the batch has {batch}.",
        (2 * weights, ...),
    )
    yield (
        "`{call}`: you load the weights once for each sequence. The batch shares them.",
        (..., weights * bytes_each * batch),
    )
    yield (
        f"`{{call}}`: you count weights, not bytes; each takes {bytes_each} bytes.",
        (..., weights),
    )
    yield "`{call}`: your bytes " + plain, (..., units**2 * bytes_each)


@lstm_step_cost.accepts
def _(units, batch, bytes_each):
    matrix = np.empty((units, 4 * units))
    return np.array([2 * batch * matrix.size, bytes_each * matrix.size])


@lstm_step_cost.accepts
def _(units, batch, bytes_each):
    return [8.0 * batch * units**2, 4.0 * bytes_each * units**2]


@lstm_step_cost.rejects("return 2 values: number of operations and number of bytes")
def _(units, batch, bytes_each):
    return 2 * batch / bytes_each


@question
def faster_than_the_bound():
    """The P100 trained AlexNet and VGG-16 faster than its data sheet allows for our count. How?"""
    return [
        wrong(
            "The benchmark used synthetic images, which need fewer FLOPs.",
            "Nothing is read from disk then, but the network computes the same.",
        ),
        wrong(
            "Our count is too high: the backward pass needs fewer FLOPs.",
            "The count agrees with the compiler's program to the last operation.",
        ),
        correct(
            "The library computed the convolutions with fewer multiplications.",
            "All convolutions of VGG are 3 × 3, and three of AlexNet's five. Winograd's algorithm "
            "needs up to 2.25 times fewer multiplications for these.",
        ),
        wrong(
            "The memory was faster than its data sheet says.",
            "Look at the last column: it is the FLOPs that limit these networks.",
        ),
    ]


# The challenge.

TOLERANCE = 0.05  # more recomputed FLOPs than the best plan
PLANS = {  # (bytes of the outputs in MB, GFLOPs of the layers, MB of memory)
    "a chain of equal layers": ([4] * 16, [1] * 16, 32),
    "wide, then deep": (
        [24, 24, 12, 12, 12, 6, 6, 6, 6, 3, 3, 3, 3, 2, 2, 2],
        [1, 9, 2, 9, 9, 2, 9, 9, 9, 2, 9, 9, 9, 1, 1, 1],
        70,
    ),
    "forty layers": ([5, 3, 8, 2, 6] * 8, [3, 7, 2, 9, 4] * 8, 80),
}


@cache
def least_recomputed(name: str) -> int:
    """Return the fewest GFLOPs that have to be computed again in a plan of the challenge."""
    sizes, flops, limit = PLANS[name]
    spans = sorted({sum(sizes[i:j]) for i in range(len(sizes)) for j in range(i, len(sizes) + 1)})
    return sum(flops) - max(_most_kept(sizes, flops, limit - span, span) for span in spans)


def _most_kept(sizes: list[int], flops: list[int], kept: int, span: int) -> int:
    """Return the most GFLOPs of kept layers: `kept` MB of them, and segments of `span` MB."""
    if kept < 0:
        return -1
    # best[j][m]: the most with layer j kept, which is the last so far, in m MB; j = 0: none.
    best = np.full((len(sizes) + 1, kept + 1), -1)
    best[0] = 0
    for j, (size, worth) in enumerate(zip(sizes, flops, strict=True), start=1):
        for i in range(j - 1, -1, -1):
            if sum(sizes[i : j - 1]) > span:
                break
            if size <= kept:
                before = best[i, : kept + 1 - size]
                reached = np.where(before >= 0, before + worth, -1)
                best[j, size:] = np.maximum(best[j, size:], reached)
    ends = [best[j, -1] for j in range(len(sizes) + 1) if sum(sizes[j:]) <= span]
    return int(max(ends))


def memory_of(sizes: list[int], kept: set[int]) -> int:
    """Return the MB that a plan needs: all kept outputs, and the largest segment between them."""
    places = [-1, *sorted(kept), len(sizes)]
    segments = [sum(sizes[first + 1 : last]) for first, last in pairwise(places)]
    return sum(sizes[place] for place in kept) + max(segments)


@exercise(
    "Try a size of the largest segment. Then every segment between two kept layers must not be "
    "larger, and what is left of the memory is for the kept outputs.",
    "For one such size, go through the layers in order, and remember for each layer that is kept "
    "last, and for each number of MB, the most FLOPs of kept layers.",
    "For 16 layers you can try all 65,536 sets. For 40 layers you need the second hint.",
)
def checkpoints(answer):
    """Ask for the layers to keep of three networks, and compare with the best plan."""
    reports = []
    for name, (sizes, flops, limit) in PLANS.items():
        kept = answer(list(sizes), list(flops), limit)
        with attempt("reading your result as a set of the numbers of layers"):
            places = list(kept)
            numbers = {int(place) for place in places}
        require(
            all(place == int(place) and not isinstance(place, bool | np.bool) for place in places),
            f"{name}: return the numbers of the layers to keep, such as {{3, 7}}.",
        )
        for place in sorted(numbers):
            require(
                0 <= place < len(sizes),
                f"{name}: there is no layer {place}; they are 0 to {len(sizes) - 1}.",
            )
        memory = memory_of(sizes, numbers)
        require(
            memory <= limit,
            f"{name}: your plan needs {memory} MB, and there are {limit}. It is the kept outputs "
            "plus the largest segment between two of them.",
        )
        again = sum(flops) - sum(flops[place] for place in numbers)
        require(
            again <= (1 + TOLERANCE) * least_recomputed(name),
            f"{name}: your plan fits, but computes {again} GFLOPs again. Another plan has more "
            f"than {TOLERANCE:.0%} fewer.",
        )
        reports.append(f"{name}: {memory} of {limit} MB, {again / sum(flops):.0%} computed again")
    return "; ".join(reports) + "."


@checkpoints.rejects("there is no layer 99")
def _(sizes, flops, limit):
    return {99}


@checkpoints.rejects("your plan needs 64 MB, and there are 32")
def _(sizes, flops, limit):
    return set()


@checkpoints.rejects("your plan needs 64 MB, and there are 32")
def _(sizes, flops, limit):
    return range(len(sizes))


@checkpoints.rejects("your plan fits, but computes")
def _(sizes, flops, limit):
    every = next(
        step
        for step in range(2, len(sizes))
        if memory_of(sizes, set(range(step - 1, len(sizes), step))) <= limit
    )
    return set(range(every - 1, len(sizes), every))


@checkpoints.rejects("return the numbers of the layers to keep")
def _(sizes, flops, limit):
    return [layer % 4 == 3 for layer in range(len(sizes))]


@checkpoints.rejects("return the numbers of the layers to keep")
def _(sizes, flops, limit):
    return np.arange(3.5, len(sizes), 4)


@checkpoints.rejects("Reading your result as a set")
def _(sizes, flops, limit):
    return 3
