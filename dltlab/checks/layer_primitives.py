"""Exercises of lab 06, Layer primitives."""

from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from dltlab.errors import Invalid
from dltlab.exercises import (
    Array,
    Text,
    attempt,
    correct,
    exercise,
    question,
    random_arrays,
    require,
    wrong,
)


@question
def free_transform():
    """You have images as NHWC. For which of these must the numbers be copied?"""
    return [
        wrong(
            "To use them as NCHW.",
            "Exchanging axes exchanges strides. The view does not copy; but its numbers along a "
            "row of pixels are far apart.",
        ),
        wrong(
            "To use only every second pixel in each direction.",
            "The strides of rows and columns become twice as large.",
        ),
        correct(
            "To have each channel of each image as one row of a matrix, whose columns are the "
            "pixels in their order.",
            "As NCHW they are a view, and the pixels of a channel are even evenly spaced. But to "
            "be a matrix, images and channels would have to be one axis: from the last channel of "
            "an image to the first of the next, the step differs from that between channels.",
        ),
        wrong(
            "To have all pixels of all images as rows of a matrix, whose columns are the channels.",
            "In NHWC, all pixels follow each other at the same distance. They become one axis.",
        ),
    ]


@exercise(
    "`sliding_window_view(images, (height, width), axis=(1, 2))` has the shape (n, rows, columns, "
    "channels, height, width), with the axes of the windows at the end.",
    "Bring the axes into the order n, rows, columns, height, width, channels with `transpose`, "
    "then `reshape`.",
    "`windows.transpose(0, 1, 2, 4, 5, 3).reshape(-1, height * width * images.shape[3])`",
    returns=Array("matrix"),
    otherwise="Your matrix has the correct shape, but other numbers. Its first row is "
    "`images[0, :height, :width]`, flattened; the second one is a pixel further to the right.",
)
def im2col():
    images, more = random_arrays((2, 6, 5, 3), (3, 4, 7, 2))
    yield images, 3, 2
    yield more, 2, 3
    yield more, 1, 1


@im2col.mistakes
def _(images, height, width):
    channels = images.shape[3]
    windows = sliding_window_view(images, (height, width), axis=(1, 2))
    n, rows, columns = windows.shape[:3]

    def matrix(*order):
        return windows.transpose(order).reshape(n * rows * columns, -1)

    yield (
        "In your rows, the channels come first: (channels, height, width). The kernel has the "
        "order height, width, channels.",
        matrix(0, 1, 2, 3, 4, 5),
    )
    yield (
        "Within your rows, height and width of the window are exchanged.",
        matrix(0, 1, 2, 5, 4, 3),
    )
    yield (
        "Your rows are in the order of the columns of the image first. Go through a row of the "
        "image, then through the next one.",
        matrix(0, 2, 1, 4, 5, 3),
    )
    yield (
        "Your rows are correct, but in another order: the same place of all images, then the next "
        "place. Go through all of the first image before the second.",
        matrix(1, 2, 0, 4, 5, 3),
    )
    flipped = windows[..., ::-1, ::-1].transpose(0, 1, 2, 4, 5, 3)
    yield (
        "Your windows are flipped. A layer does not flip: the first number of a row is the pixel "
        "at the top left of the window.",
        flipped.reshape(n * rows * columns, -1),
    )
    ordered = windows.transpose(0, 1, 2, 4, 5, 3)
    yield "Your matrix is transposed: windows are its rows.", matrix(0, 1, 2, 4, 5, 3).T
    yield (
        "You return an array with an axis for each index. Return a matrix, with one row for each "
        "window.",
        ordered,
    )
    yield (
        "Each of your rows has an axis for each index. Flatten it.",
        ordered.reshape(n * rows * columns, height, width, channels),
    )
    yield (
        "You have one matrix for each image. Put the rows of all images into a single matrix.",
        ordered.reshape(n, rows * columns, -1),
    )
    tiles = images[:, : height * (images.shape[1] // height), : width * (images.shape[2] // width)]
    blocks = tiles.reshape(n, tiles.shape[1] // height, height, tiles.shape[2] // width, width, -1)
    yield (
        "Your windows do not overlap. There is one for each position, a pixel apart.",
        blocks.transpose(0, 1, 3, 2, 4, 5).reshape(-1, height * width * channels),
    )


@im2col.accepts
def _(images, height, width):
    rows, columns = images.shape[1] - height + 1, images.shape[2] - width + 1
    shifted = [
        images[:, i : i + rows, j : j + columns] for i in range(height) for j in range(width)
    ]
    return np.concatenate(shifted, axis=3).reshape(-1, height * width * images.shape[3])


@im2col.accepts
def _(images, height, width):
    n, rows, columns, _ = images.shape
    return [
        images[image, row : row + height, column : column + width].astype("float32").ravel()
        for image in range(n)
        for row in range(rows - height + 1)
        for column in range(columns - width + 1)
    ]


@im2col.rejects("has the correct shape, but other numbers")
def _(images, height, width):
    return im2col.reference()(images[::-1], height, width)


def _convolve(images: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Return the convolution that the learner's function is given; names shapes that do not fit."""
    images, kernel = np.asarray(images), np.asarray(kernel)
    both = f"images of shape {images.shape} and a kernel of shape {kernel.shape}"
    require(
        images.ndim == kernel.ndim == 4,
        f"You call `convolve` with {both}. Both need four axes.",
    )
    require(
        images.shape[3] == kernel.shape[2],
        f"You call `convolve` with {both}: {images.shape[3]} channels, where the kernel takes "
        f"{kernel.shape[2]}.",
    )
    require(
        kernel.shape[0] <= images.shape[1] and kernel.shape[1] <= images.shape[2],
        f"You call `convolve` with {both}: the kernel is larger than the images.",
    )
    windows = sliding_window_view(images, kernel.shape[:2], axis=(1, 2))
    result: np.ndarray = np.einsum("nhwcij,ijco->nhwo", windows, kernel)
    return result


@exercise(
    "`np.pad(output_gradient, ((0, 0), (height - 1, height - 1), (width - 1, width - 1), (0, 0)))` "
    "adds the borders.",
    "`kernel[::-1, ::-1]` is flipped in both directions, and `.transpose(0, 1, 3, 2)` exchanges "
    "the last two axes.",
    returns=Array("gradient"),
    otherwise="Your gradient has the correct shape, but other numbers. Which pixel meets which "
    "number of the kernel?",
)
def data_gradient():
    kernel, gradient, other, more = random_arrays(
        (3, 2, 4, 5), (2, 4, 6, 5), (2, 3, 3, 3), (3, 5, 4, 3)
    )
    yield _convolve, kernel, gradient
    yield _convolve, other, more


@data_gradient.mistakes
def _(convolve, kernel, output_gradient):
    height, width = kernel.shape[:2]
    down, across = (height - 1, height - 1), (width - 1, width - 1)
    padded = np.pad(output_gradient, ((0, 0), down, across, (0, 0)))
    back = kernel.transpose(0, 1, 3, 2)
    yield (
        "You do not flip the kernel. The first pixel of a window meets the kernel's first number, "
        "so seen from the pixel, the results come in the opposite order.",
        convolve(padded, back),
    )
    one_way = "You flip the kernel in one direction only. Flip rows and columns."
    yield one_way, convolve(padded, back[::-1])
    yield one_way, convolve(padded, back[:, ::-1])
    yield (
        "You flip the kernel's channels, too. Flip only its rows and columns.",
        convolve(padded, back[::-1, ::-1, ::-1, ::-1]),
    )
    flipped = back[::-1, ::-1]
    channels = "You flip one of the kernel's channel axes, too. Flip only its rows and columns."
    yield channels, convolve(padded, flipped[:, :, ::-1])
    yield channels, convolve(padded, flipped[..., ::-1])
    top_left = np.pad(output_gradient, ((0, 0), (2 * height - 2, 0), (2 * width - 2, 0), (0, 0)))
    yield "You add zeros on two sides only. Each side needs them.", convolve(top_left, flipped)
    bottom_right = np.pad(output_gradient, ((0, 0), (0, down[0] * 2), (0, across[0] * 2), (0, 0)))
    yield "You add zeros on two sides only. Each side needs them.", convolve(bottom_right, flipped)
    for mode in ("edge", "reflect", "wrap"):
        copied = np.pad(output_gradient, ((0, 0), down, across, (0, 0)), mode=mode)
        yield (
            "Your border holds copies of the gradient. It must be zero.",
            convolve(copied, flipped),
        )
    larger = np.pad(output_gradient, ((0, 0), (height, height), (width, width), (0, 0)))
    yield (
        "Your gradient is larger than the images. The border has `height - 1` and `width - 1` "
        "zeros on each side.",
        convolve(larger, flipped),
    )
    same = convolve(padded, flipped)
    yield (
        "You return the gradient with its axes in another order. It has the axes of the images: "
        "(n, rows, columns, channels).",
        same.transpose(0, 3, 1, 2),
    )


@data_gradient.accepts
def _(convolve, kernel, output_gradient):
    height, width = kernel.shape[:2]
    n, rows, columns, outputs = output_gradient.shape
    padded = np.zeros((n, rows + 2 * height - 2, columns + 2 * width - 2, outputs), "float32")
    padded[:, height - 1 : height - 1 + rows, width - 1 : width - 1 + columns] = output_gradient
    return convolve(padded, np.swapaxes(np.flip(kernel, (0, 1)), 2, 3))


@data_gradient.accepts
def _(convolve, kernel, output_gradient):
    height, width, inputs, _ = kernel.shape
    n, rows, columns, _ = output_gradient.shape
    result = np.zeros((n, rows + height - 1, columns + width - 1, inputs))
    for i, j in np.ndindex(height, width):
        result[:, i : i + rows, j : j + columns] += output_gradient @ kernel[i, j].T
    return result


@data_gradient.rejects("5 channels, where the kernel takes 4")
def _(convolve, kernel, output_gradient):
    return convolve(output_gradient, kernel[::-1, ::-1])


@data_gradient.rejects("Your gradient has the shape (2, 2, 5, 4); expected (2, 6, 7, 4)")
def _(convolve, kernel, output_gradient):
    return convolve(output_gradient, kernel[::-1, ::-1].transpose(0, 1, 3, 2))


@data_gradient.rejects("Both need four axes")
def _(convolve, kernel, output_gradient):
    return convolve(output_gradient[0], kernel)


@data_gradient.rejects("the kernel is larger than the images")
def _(convolve, kernel, output_gradient):
    return convolve(kernel.transpose(2, 0, 1, 3), output_gradient.transpose(1, 2, 3, 0))


@data_gradient.rejects("but other numbers")
def _(convolve, kernel, output_gradient):
    return 2 * data_gradient.reference()(convolve, kernel, output_gradient)


@exercise(
    "Take the four rows, `d0, d1, d2, d3 = tiles`, and compute d0 - d2, d1 + d2, d2 - d1 and "
    "d1 - d3. Do the same with the kernel's three rows.",
    "Then repeat it for the second axis: exchange the first two axes (`swapaxes(0, 1)`), do the "
    "same again, and exchange them back.",
    "`np.stack([…], axis=1)` puts the new axis second, which exchanges the two. So a loop "
    "`for _ in range(2)` around both lines does all of it.",
    returns=(Array("tiles"), Array("kernel")),
    otherwise={
        "tiles": "Your factors of the tiles are not those of the equations, along both axes.",
        "kernel": "Your factors of the tiles are correct, those of the kernel are not.",
    },
)
def transforms():
    yield random_arrays((4, 4), (3, 3))
    yield random_arrays((4, 4, 6, 2), (3, 3, 2, 5), seed=2)


_TILE = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]])
_KERNEL = np.array([[2, 0, 0], [1, 1, 1], [1, -1, 1], [0, 0, 2]]) / 2


def _along(matrix: np.ndarray, array: np.ndarray, axes: Sequence[int] = (0, 1)) -> np.ndarray:
    """Return a stack of tiles with a transform applied along its first axes."""
    for axis in axes:
        array = np.moveaxis(np.tensordot(matrix, array, (1, axis)), 0, axis)
    return array


@transforms.mistakes
def _(tiles, kernel):
    left, right = _along(_TILE, tiles), _along(_KERNEL, kernel)
    yield "The two results are in the opposite order: tiles first.", (right, left)
    first = "You transform only the first axis. Transform the second one, too."
    yield first, (_along(_TILE, tiles, [0]), ...)
    second = "You transform only the second axis. Transform the first one, too."
    yield second, (_along(_TILE, tiles, [1]), ...)
    yield "You transform the first axis twice.", (_along(_TILE, tiles, (0, 0)), ...)
    yield "In your tiles, the two axes are exchanged at the end.", (left.swapaxes(0, 1), ...)
    for row, expression in enumerate(("d0 - d2", "d1 + d2", "d2 - d1", "d1 - d3")):
        changed = _TILE.copy()
        changed[row] *= -1
        yield f"In your tiles, the sign of {expression} is wrong.", (_along(changed, tiles), ...)
    both = _TILE.copy()
    both[2] *= -1
    both[3] *= -1
    yield (
        "In your tiles, the signs of d2 - d1 and d1 - d3 are wrong.",
        (_along(both, tiles), ...),
    )
    plus = _TILE.copy()
    plus[1, 1] = -1
    yield "In your tiles, the second factor is d1 + d2, a sum.", (_along(plus, tiles), ...)
    yield (
        "In your kernel, only the first axis is transformed. Transform the second one, too.",
        (..., _along(_KERNEL, kernel, [0])),
    )
    yield (
        "In your kernel, only the second axis is transformed. Transform the first one, too.",
        (..., _along(_KERNEL, kernel, [1])),
    )
    yield "In your kernel, the two axes are exchanged at the end.", (..., right.swapaxes(0, 1))
    whole = np.array([[1, 0, 0], [1, 1, 1], [1, -1, 1], [0, 0, 1]])
    yield "In your kernel, the division by 2 is missing.", (..., _along(whole, kernel))
    halves = _KERNEL / 2
    yield (
        "In your kernel, you divide all four rows by 2. Only the middle two are divided.",
        (..., _along(halves * [[1], [2], [2], [1]], kernel)),
    )
    minus = _KERNEL.copy()
    minus[2] = [0.5, 0.5, -0.5]
    yield (
        "In your kernel, the third factor is (g0 - g1 + g2) / 2: only g1 is subtracted.",
        (..., _along(minus, kernel)),
    )
    yield (
        "Your kernel is flipped. A layer does not flip its kernel.",
        (..., _along(_KERNEL, kernel[::-1, ::-1])),
    )


@transforms.accepts
def _(tiles, kernel):
    return np.einsum("ij,kl,jl...->ik...", _TILE, _TILE, tiles), np.einsum(
        "ij,kl,jl...->ik...", _KERNEL, _KERNEL, kernel
    ).astype("float32")


@transforms.accepts
def _(tiles, kernel):
    def rows(a):
        return np.array([a[0] - a[2], a[1] + a[2], a[2] - a[1], a[1] - a[3]])

    def columns(g):
        return [g[0], sum(g) / 2, (g[0] - g[1] + g[2]) / 2, g[2]]

    once = np.array(columns(kernel)).swapaxes(0, 1)
    return rows(rows(tiles).swapaxes(0, 1)).swapaxes(0, 1), np.swapaxes(columns(once), 0, 1)


@transforms.rejects("You return 1 value; return 2 values: tiles and kernel")
def _(tiles, kernel):
    return [transforms.reference()(tiles, kernel)[0]]


@transforms.rejects("Your tiles has the shape (4,); expected (4, 4)")
def _(tiles, kernel):
    left, right = transforms.reference()(tiles, kernel)
    return left[0], right


@transforms.rejects("Your factors of the tiles are not those of the equations")
def _(tiles, kernel):
    left, right = transforms.reference()(tiles, kernel)
    return 3 * left, right


@transforms.rejects("Your factors of the tiles are correct, those of the kernel are not")
def _(tiles, kernel):
    left, right = transforms.reference()(tiles, kernel)
    return left, 3 * right


@question
def fewer_multiplications():
    """Winograd's algorithm needs 2.25 times fewer multiplications.

    Why is our code not 2.25 times as fast?
    """
    return [
        wrong(
            "Tiles reach beyond the border, so many results are computed for nothing.",
            "At most one row and one column of each image. Here none: both numbers are even.",
        ),
        correct(
            "The transforms and the sums are extra work, and it moves arrays much larger than the "
            "images through memory.",
            "A tile of 4 × 4 pixels gives only 2 × 2 results, so the factors are four times as "
            "many numbers as the images. With more channels, the matrix products grow faster than "
            "the transforms, and Winograd gains.",
        ),
        wrong(
            "Its matrix products are in float64.",
            "All arrays are in float32. Dividing by 2 does not change that.",
        ),
        wrong(
            "The number of multiplications has nothing to do with the time.",
            "With many channels, the multiplications take most of the time. But they are not all "
            "of it.",
        ),
    ]


class _Clock:
    """Stands for calls and their measurement: disturbed times, from a list for each call."""

    def __init__(self, **seconds: Sequence[float]) -> None:
        self.calls = {name: self._call(name) for name in seconds}
        self._seconds, self.counts = seconds, Counter[str]()
        self.num_runs = 0

    def _call(self, name: str) -> Any:
        def call() -> str:
            self.num_runs += 1
            return name

        call.__name__ = name
        return call

    def measure(self, call: Any) -> float:
        name = next((name for name, known in self.calls.items() if known is call), None)
        require(
            name is not None,
            "You call `measure` with something else than one of the functions in `calls`.",
        )
        assert name is not None
        times = self._seconds[name]
        self.counts[name] += 1
        return times[(self.counts[name] - 1) % len(times)]


@exercise(
    "First look whether `key` is in `memory`. Only if it is not, measure.",
    "`min(measure(call) for _ in range(repeats))` is the shortest time of one call.",
    "With a dict `shortest` of the times, `min(shortest, key=shortest.get)` is the name of the "
    "fastest. Store it with `memory[key] = …`.",
)
def pick(answer):
    """Let the answer pick among calls whose times are known."""
    name = Text("result")
    clock = _Clock(
        direct=[9.0, 3.0, 5.0],
        matrix=[3.5, 8.0, 6.0],
        fft=[4.5, 4.4, 4.6],
        winograd=[9.5, 9.6, 9.7],
    )
    memory: dict[Any, str] = {}
    first = name.convert(answer(memory, "small", clock.calls, clock.measure, 3))
    require(
        first in clock.calls,
        f"You return {first!r}. Return one of the names in `calls`.",
    )
    require(clock.counts, "You never call `measure`.")
    require(
        len(clock.counts) == len(clock.calls),
        f"You measure only {', '.join(clock.counts)}. Measure all calls.",
    )
    counts = set(clock.counts.values())
    require(
        counts != {1},
        "You measure each call once. A single measurement may be disturbed: measure `repeats` "
        "times.",
    )
    require(
        counts == {3},
        f"With `repeats=3`, you measure the calls {_listed(clock.counts)} times.",
    )
    require(
        not clock.num_runs,
        "You run the calls yourself. `measure(call)` runs a call and returns its seconds.",
    )
    times = "direct 9, 3 and 5 s, matrix 3.5, 8 and 6 s, fft 4.5, 4.4 and 4.6 s, winograd over 9 s"
    explanations = {
        "fft": "That has the shortest mean or median, but disturbances only make a time longer: "
        "compare the shortest times.",
        "matrix": "That has the shortest first time. Compare the shortest of all.",
        "winograd": "That is the slowest.",
    }
    require(
        first == "direct",
        f"For times of {times} you pick {first}. {explanations.get(first, '')}",
    )
    require(memory, "You do not store the result in `memory`.")
    require(
        set(memory) == {"small"},
        f"You store the result under {next(iter(memory))!r}. Store it under `key`, 'small'.",
    )
    before = sum(clock.counts.values())
    second = name.convert(answer(memory, "small", clock.calls, clock.measure, 3))
    require(
        sum(clock.counts.values()) == before,
        "You measure again for a key that is in `memory`.",
    )
    require(
        second == "direct",
        f"For a key in `memory`, you return {second!r}, not the name that was returned first.",
    )
    _check_second_key(answer, memory)


def _check_second_key(answer, memory):
    """Let the answer pick for another key, with other times."""
    clock = _Clock(winograd=[2.0, 2.0], direct=[1.0, 6.0], other=[5.0, 5.0], one=[7.0, 7.0])
    third = answer(memory, (64, 3), clock.calls, clock.measure, 2)
    require(clock.counts, "For a second key you measure nothing. Each key has its own result.")
    require(
        third == "direct" and set(clock.counts.values()) == {2},
        f"For a second key, with 4 calls and `repeats=2`, you measure {_listed(clock.counts)} "
        f"times and return {third!r}. The first key went well.",
    )
    memory["known"] = "one"
    known = answer(memory, "known", clock.calls, clock.measure, 2)
    require(known == "one", f"`memory` has 'one' for a key, and you return {known!r}.")


def _listed(counts: Counter[str]) -> str:
    return ", ".join(map(str, counts.values()))


@pick.accepts
def _(memory, key, calls, measure, repeats):
    try:
        return memory[key]
    except KeyError:
        times = sorted((measure(c), name) for name, c in calls.items() for _ in range(repeats))
        return memory.setdefault(key, times[0][1])


@pick.accepts
def _(memory, key, calls, measure, repeats):
    if key not in memory:
        rounds = np.array([[measure(call) for call in calls.values()] for _ in range(repeats)])
        memory[key] = list(calls)[rounds.min(axis=0).argmin()]
    return memory[key]


def _picking(summary, store=True, count=None, key_of=lambda key: key):
    """Return an answer that compares `summary` of the times."""

    def answer(memory, key, calls, measure, repeats):
        if key_of(key) not in memory:
            times = {n: [measure(c) for _ in range(count or repeats)] for n, c in calls.items()}
            name = min(times, key=lambda name: summary(times[name]))
            if not store:
                return name
            memory[key_of(key)] = name
        return memory[key_of(key)]

    return answer


for _message, _answer in {
    "you pick fft. That has the shortest mean or median": _picking(np.mean),
    "You measure each call once": _picking(min, count=1),
    "That has the shortest first time": _picking(lambda times: times[0]),
    "You do not store the result": _picking(min, store=False),
    "Store it under `key`": _picking(min, key_of=lambda key: "key"),
}.items():
    pick.rejects(_message)(_answer)


@pick.rejects("With `repeats=3`, you measure the calls 2, 2, 2, 2 times")
def _(memory, key, calls, measure, repeats):
    return _picking(min, count=2)(memory, key, calls, measure, repeats)


@pick.rejects("you pick winograd. That is the slowest")
def _(memory, key, calls, measure, repeats):
    shortest = {name: min(measure(call) for _ in range(repeats)) for name, call in calls.items()}
    return max(shortest, key=lambda name: shortest[name])


@pick.rejects("Return one of the names in `calls`")
def _(memory, key, calls, measure, repeats):
    return str(min(measure(call) for call in calls.values()))


@pick.rejects("`float`; return a string")
def _(memory, key, calls, measure, repeats):
    return min(measure(call) for call in calls.values())


@pick.rejects("You never call `measure`")
def _(memory, key, calls, measure, repeats):
    return next(iter(calls))


@pick.rejects("something else than one of the functions in `calls`")
def _(memory, key, calls, measure, repeats):
    return min(calls, key=measure)


@pick.rejects("You measure only direct")
def _(memory, key, calls, measure, repeats):
    measure(next(iter(calls.values())))
    return next(iter(calls))


@pick.rejects("You run the calls yourself")
def _(memory, key, calls, measure, repeats):
    for call in calls.values():
        call()
    return pick.reference()(memory, key, calls, measure, repeats)


@pick.rejects("You measure again for a key")
def _(memory, key, calls, measure, repeats):
    memory.pop(key, None)
    return pick.reference()(memory, key, calls, measure, repeats)


@pick.rejects("not the name that was returned first")
def _(memory, key, calls, measure, repeats):
    if key in memory:
        return "key"
    return pick.reference()(memory, key, calls, measure, repeats)


@pick.rejects("For a second key you measure nothing")
def _(memory, key, calls, measure, repeats):
    if memory:
        return next(iter(memory.values()))
    return pick.reference()(memory, key, calls, measure, repeats)


@pick.rejects("For a second key, with 4 calls")
def _(memory, key, calls, measure, repeats):
    return pick.reference()(memory, key, calls, measure, 3)


@pick.rejects("`memory` has 'one' for a key")
def _(memory, key, calls, measure, repeats):
    if key == "known":
        return "direct"
    return pick.reference()(memory, key, calls, measure, repeats)


class _Counted(np.ndarray):
    """An array that counts the matrix products in which it, or an array made of it, takes part."""

    num_products = 0
    _PRODUCTS = (np.dot, np.tensordot, np.einsum, np.inner, np.vdot)

    def __array_ufunc__(self, ufunc, method, *inputs, **options):
        if ufunc is np.matmul:
            _Counted.num_products += 1
        plain = [np.asarray(part) if isinstance(part, _Counted) else part for part in inputs]
        if "out" in options:
            options["out"] = tuple(np.asarray(part) for part in options["out"])
        return _counted(getattr(ufunc, method)(*plain, **options))

    def __array_function__(self, function, types, arguments, options):
        if function in self._PRODUCTS:
            _Counted.num_products += 1
        return _counted(function(*_plain(arguments), **_plain(options)))


def _counted(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.view(_Counted)
    if isinstance(value, list | tuple):
        return type(value)(map(_counted, value))
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, _Counted):
        return np.asarray(value)
    if isinstance(value, list | tuple):
        return type(value)(map(_plain, value))
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    return value


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


@exercise(
    "`np.concatenate([x, h], axis=1)` puts x and h side by side, and "
    "`np.concatenate([kernel, recurrent_kernel])` their weights below each other.",
    "`np.split(parts, 4, axis=1)` gives i, f, g and o. The logistic function is "
    "`1 / (1 + np.exp(-x))`; g gets `np.tanh`.",
    "The new c is `f * c + i * np.tanh(g)`, after the logistic function of i and f. Return "
    "`o * np.tanh(c)` and c.",
    returns=(Array("new h"), Array("new c")),
    otherwise={
        "new c": "Your new c is not σ(f)·c + σ(i)·tanh(g), with the four parts in Keras' order.",
        "new h": "Your new c is correct. Your new h is not σ(o)·tanh(c').",
    },
)
def lstm_step():
    for batch, inputs, units, seed in ((3, 4, 2, 1), (2, 3, 5, 2)):
        state = (batch, units)
        weights = ((inputs, 4 * units), (units, 4 * units), (4 * units,))
        yield random_arrays((batch, inputs), state, state, *weights, seed=seed)


@lstm_step.behavior
def _(answer):
    """Count the matrix products."""
    arrays = random_arrays((3, 4), (3, 2), (3, 2), (4, 8), (2, 8), (8,))
    _Counted.num_products = 0
    answer(*(array.view(_Counted) for array in arrays))
    require(
        _Counted.num_products <= 1,
        f"Your result is correct, but takes {_Counted.num_products} matrix products. Put x and h "
        "side by side, and their weights below each other, for a single one.",
    )


@lstm_step.mistakes
def _(x, h, c, kernel, recurrent_kernel, bias):
    parts = x @ kernel + h @ recurrent_kernel + bias

    def result(i, f, g, o, old=c):
        new = _sigmoid(f) * old + _sigmoid(i) * np.tanh(g)
        return _sigmoid(o) * np.tanh(new), new

    i, f, g, o = np.split(parts, 4, axis=1)
    new_h, new_c = result(i, f, g, o)
    yield "You return c before h.", (new_c, new_h)
    order = "Your parts are in another order: Keras has input gate, forget gate, new values, output"
    yield order + " gate. You exchange the last two.", result(i, f, o, g)
    yield order + " gate. You exchange the first two.", result(f, i, g, o)
    yield order + " gate. You have the forget gate first.", result(f, i, o, g)
    exchanged = np.concatenate([h, x], axis=1) @ np.concatenate([kernel, recurrent_kernel]) + bias
    yield (
        "You put h before x, but the weights of x before those of h. Both need the same order.",
        result(*np.split(exchanged, 4, axis=1)),
    )
    yield (
        "Your logistic function has the opposite sign: it is 1 / (1 + exp(-x)).",
        result(-i, -f, g, -o),
    )
    yield (
        "The bias is missing.",
        result(*np.split(x @ kernel + h @ recurrent_kernel, 4, axis=1)),
    )
    yield "The old h is missing.", result(*np.split(x @ kernel + bias, 4, axis=1))
    yield "The input x is missing.", result(*np.split(h @ recurrent_kernel + bias, 4, axis=1))
    yield (
        "Your new c has no tanh around g.",
        (..., _sigmoid(f) * c + _sigmoid(i) * g),
    )
    yield (
        "Your new c has the logistic function of g. It should be tanh(g).",
        (..., _sigmoid(f) * c + _sigmoid(i) * _sigmoid(g)),
    )
    yield (
        "Your gates i and f lack the logistic function σ.",
        (..., f * c + i * np.tanh(g)),
    )
    yield "Your new c forgets the old one: σ(f)·c is missing.", (..., _sigmoid(i) * np.tanh(g))
    yield (
        "Your new c lacks the input gate: tanh(g) is multiplied by σ(i).",
        (..., _sigmoid(f) * c + np.tanh(g)),
    )
    yield (
        "Your new c lacks the forget gate: the old c is multiplied by σ(f).",
        (..., c + _sigmoid(i) * np.tanh(g)),
    )
    yield (
        "Your new h is made of the old c. Use the new one.",
        (_sigmoid(o) * np.tanh(c), ...),
    )
    yield "Your new h has no tanh around the new c.", (_sigmoid(o) * new_c, ...)
    yield "Your new h lacks the logistic function of o.", (o * np.tanh(new_c), ...)
    yield "Your new h lacks the output gate.", (np.tanh(new_c), ...)
    yield (
        "You return the old c. Return the new one.",
        (..., c),
    )


@lstm_step.accepts
def _(x, h, c, kernel, recurrent_kernel, bias):
    parts = np.hstack([x, h]).dot(np.vstack([kernel, recurrent_kernel])) + bias
    n = h.shape[1]
    sigmoid = 0.5 + 0.5 * np.tanh(parts / 2)
    new = sigmoid[:, n : 2 * n] * c + sigmoid[:, :n] * np.tanh(parts[:, 2 * n : 3 * n])
    return [sigmoid[:, 3 * n :] * np.tanh(new), new]


@lstm_step.accepts
def _(x, h, c, kernel, recurrent_kernel, bias):
    both = np.column_stack([x, h, np.ones(len(x))]).astype("float32")
    parts = both @ np.concatenate([kernel, recurrent_kernel, bias[None]]).astype("float32")
    i, f, g, o = np.moveaxis(parts.reshape(len(x), 4, -1), 1, 0)
    c = c * _sigmoid(f) + np.tanh(g) * _sigmoid(i)
    return np.array([_sigmoid(o) * np.tanh(c), c])


@lstm_step.rejects("is correct, but takes 2 matrix products")
def _(x, h, c, kernel, recurrent_kernel, bias):
    i, f, g, o = np.split(x @ kernel + h @ recurrent_kernel + bias, 4, axis=1)
    c = _sigmoid(f) * c + _sigmoid(i) * np.tanh(g)
    return _sigmoid(o) * np.tanh(c), c


@lstm_step.rejects("is correct, but takes 8 matrix products")
def _(x, h, c, kernel, recurrent_kernel, bias):
    weights = zip(np.split(kernel, 4, 1), np.split(recurrent_kernel, 4, 1), strict=True)
    i, f, g, o = (
        np.dot(x, a) + np.dot(h, b) + part
        for (a, b), part in zip(weights, np.split(bias, 4), strict=True)
    )
    c = _sigmoid(f) * c + _sigmoid(i) * np.tanh(g)
    return _sigmoid(o) * np.tanh(c), c


@lstm_step.rejects("Your new c is correct")
def _(x, h, c, kernel, recurrent_kernel, bias):
    h, c = lstm_step.reference()(x, h, c, kernel, recurrent_kernel, bias)
    return h / 2, c


@question
def two_threads():
    """Each of your layers keeps all cores busy with its matrix product for nearly all of its time.

    Does it help to compute two of them at once, on two threads?
    """
    return [
        correct(
            "Hardly: all cores are busy already, and the threads compete for them and for caches.",
            "What remains to gain are parts on one core, such as copies of windows. Two threads "
            "pay off where a layer cannot fill the machine by itself, as a small layer on a large "
            "GPU. A busy machine changes these times, too.",
        ),
        wrong(
            "Yes, two threads always take half the time.",
            "Only if half of the cores are idle otherwise.",
        ),
        wrong(
            "No, because Python's lock lets only one thread compute.",
            "NumPy releases the lock during a matrix product, so two threads can compute at the "
            "same time, if a second core is free.",
        ),
    ]


# The challenge.

BAR = 0.5  # of the error with Lavin and Gray's points
LAVIN_AND_GRAY = (0, 1, -1, 2, -2)
_CHANNELS, _TILES = 64, 200


def cook_toom(points: Sequence[float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compute the transforms of F(m, 3), where m is the number of points less one.

    The result of a row d of m + 2 pixels and a kernel g of 3 numbers is `A @ ((G @ g) * (B @ d))`.
    With all points and infinity, the polynomial that is a product of two others is interpolated
    from their values (Toom and Cook); the transposed algorithm is the convolution (Lavin and Gray,
    arXiv:1509.09308; wincnn).

    Args:
        points: Different numbers.

    Returns:
        A (m, m + 2), G (m + 2, 3) and B (m + 2, m + 2), in float64.
    """
    places = np.array([float(point) for point in points])
    num_results = len(places) - 1
    at_infinity = np.eye(num_results)[-1:]
    output = np.concatenate([np.vander(places, num_results, increasing=True), at_infinity]).T
    others = [np.delete(places, place) for place in range(len(places))]
    scales = np.array([np.prod(point - rest) for point, rest in zip(places, others, strict=True)])[
        :, None
    ]
    kernel = np.concatenate([np.vander(places, 3, increasing=True) / scales, [[0, 0, 1]]])
    rows = [np.append(np.poly(rest)[::-1], 0) for rest in others]
    return output, kernel, np.array([*rows, np.poly(places)[::-1]])


def winograd_error(points: Sequence[float], dtype: str = "float32", seed: int = 1) -> float:
    """Measure the error of Winograd's algorithm with the transforms of some points.

    Random tiles of 64 channels are convolved with random kernels. The error is the root mean
    square, relative to that of the exact results.

    Args:
        points: Different numbers: 3 for F(2 × 2, 3 × 3), 5 for F(4 × 4, 3 × 3).
        dtype: "float32", or "bfloat16" to round the factors of all products to it. Sums are always
            in float32.
        seed: Of the random numbers.

    Raises:
        Invalid: Points are equal, too few or not numbers, or the dtype is another one.
    """
    if dtype not in ("float32", "bfloat16"):
        raise Invalid(f"The dtype is 'float32' or 'bfloat16', not {dtype!r}.")
    try:
        numbers = [float(point) for point in points]
    except (TypeError, ValueError):
        raise Invalid(f"Points are numbers, not {points!r}.") from None
    if len({*numbers}) < max(2, len(numbers)) or not np.isfinite(numbers).all():
        raise Invalid(f"Give at least two different, finite points, not {points!r}.")
    tiles, kernels, exact = _convolution_data(len(numbers) + 1, seed)
    output, kernel, tile = (matrix.astype("float32") for matrix in cook_toom(numbers))
    left, right = tile @ tiles @ tile.T, kernel @ kernels @ kernel.T
    if dtype == "bfloat16":
        import ml_dtypes

        left, right = (part.astype(ml_dtypes.bfloat16).astype("float32") for part in (left, right))
    result = output @ (left * right).sum(axis=1) @ output.T
    return float(np.linalg.norm(result - exact) / np.linalg.norm(exact))


@cache
def _convolution_data(size: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return tiles (tiles, channels, size, size), kernels (channels, 3, 3), and exact results."""
    generator = np.random.default_rng(seed)
    tiles = generator.standard_normal((_TILES, _CHANNELS, size, size), "float32")
    kernels = generator.standard_normal((_CHANNELS, 3, 3), "float32")
    windows = sliding_window_view(tiles.astype("float64"), (3, 3), axis=(2, 3))
    return tiles, kernels, np.einsum("tcxyij,cij->txy", windows, kernels.astype("float64"))


@exercise(
    "Small and large numbers are both bad: powers of a point up to the fourth appear in the "
    "transforms. Fractions around 1 are good, and so are pairs: a point and its negative, or its "
    "inverse.",
    "Let the computer search: `itertools.combinations` of some fractions between 1/2 and 2, each "
    "with its negative, and 0. `min(choices, key=error_of)` finds the best.",
)
def winograd_points(answer):
    """Measure the error of the points on data that the answer does not see."""
    num_calls = 0

    def error_of(points):
        nonlocal num_calls
        num_calls += 1
        return winograd_error(points)

    value = answer(error_of)
    with attempt("reading your points as numbers"):
        value = [float(point) for point in value]
    points = Array("result").read(value)
    require(points.shape == (5,), f"You return an array of shape {points.shape}; return 5 points.")
    require(len({*points.tolist()}) == 5, f"Your points are {_text(points)}. All must differ.")
    errors = [
        np.mean([winograd_error(choice, seed=seed) for seed in (2, 3, 4)])
        for choice in (points.tolist(), LAVIN_AND_GRAY)
    ]
    share = errors[0] / errors[1]
    measured = f"With {_text(points)} the error is {errors[0]:.2e}, {share:.3g} times that of"
    require(
        share <= BAR,
        f"{measured} 0, 1, -1, 2 and -2. The bar is {BAR}.",
    )
    return (
        f"{measured} Lavin and Gray's points. The bar is {BAR}. Calls of `error_of`: {num_calls}."
    )


def _text(points: np.ndarray) -> str:
    return ", ".join(f"{point:.4g}" for point in points)


@winograd_points.accepts
def _(error_of):
    return (0, 1.5, -1.5, 2 / 3, -2 / 3)


@winograd_points.accepts
def _(error_of):
    from fractions import Fraction

    return [Fraction(0), Fraction(5, 8), Fraction(-5, 8), Fraction(3, 2), Fraction(-3, 2)]


@winograd_points.rejects("The bar is 0.5")
def _(error_of):
    return [0, 1, -1, 1 / 2, -2]


@winograd_points.rejects(" 1 times that of 0, 1, -1, 2 and -2")
def _(error_of):
    return list(LAVIN_AND_GRAY)


@winograd_points.rejects("return 5 points")
def _(error_of):
    return [0, 1, -1]


@winograd_points.rejects("All must differ")
def _(error_of):
    return [0, 1, 1, 2, -2]


@winograd_points.rejects("different, finite points")
def _(error_of):
    return error_of([1, 1, 0, 2, 3])
