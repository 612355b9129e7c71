"""Exercises of lab 03, Recurrent networks."""

import numpy as np

from dltlab.exercises import (
    Array,
    Number,
    attempt,
    correct,
    exercise,
    question,
    random_arrays,
    require,
    wrong,
)


def _sigmoid(z):
    return 1 / (1 + np.exp(-z))


@exercise(
    "Two matrix products, `x @ kernel` and `h @ recurrent_kernel`. Both have the shape "
    "(b, units), so they can be added.",
    "Add the bias to their sum, and take `np.tanh` of the result last.",
    returns=Array("new state"),
    otherwise="Your new state is not tanh(x·W + h·U + b).",
)
def rnn_step():
    yield random_arrays((3, 5), (3, 4), (5, 4), (4, 4), (4,))
    yield random_arrays((6, 3), (6, 7), (3, 7), (7, 7), (7,))


@rnn_step.mistakes
def _(x, h, kernel, recurrent_kernel, bias):
    inputs, states = x @ kernel, h @ recurrent_kernel
    says = "makes no difference to what you return"
    yield (
        "You return the sum itself: without the tanh the state could grow without bound.",
        inputs + states + bias,
    )
    yield f"The bias {says}.", np.tanh(inputs + states)
    yield "You add the bias after the tanh, not before it.", np.tanh(inputs + states) + bias
    yield f"The old state {says}: such a network remembers nothing.", np.tanh(inputs + bias)
    yield f"The input {says}.", np.tanh(states + bias)
    yield (
        "You use the transpose of the recurrent kernel; use `h @ recurrent_kernel`.",
        np.tanh(inputs + h @ recurrent_kernel.T + bias),
    )
    yield "You take a sigmoid of the sum; take the tanh.", _sigmoid(inputs + states + bias)
    yield "You take a ReLU of the sum; take the tanh.", np.maximum(inputs + states + bias, 0)
    for part in (np.tanh(inputs) + states + bias, inputs + np.tanh(states + bias)):
        yield "You take the tanh of a part of the sum; take it of the whole sum.", part
    yield (
        "You add two hyperbolic tangents; take one, of the whole sum.",
        np.tanh(inputs + bias) + np.tanh(states),
    )


@rnn_step.accepts
def _(x, h, kernel, recurrent_kernel, bias):
    joined = np.concatenate([x, h], axis=1) @ np.concatenate([kernel, recurrent_kernel])
    return np.tanh(joined + bias).tolist()


@rnn_step.accepts
def _(x, h, kernel, recurrent_kernel, bias):
    x, h, kernel, recurrent_kernel = map(np.float32, (x, h, kernel, recurrent_kernel))
    return 2 * _sigmoid(2 * (x @ kernel + h @ recurrent_kernel + np.float32(bias))) - 1


@rnn_step.rejects("has the shape (3, 7); expected (6, 7)")
def _(x, h, kernel, recurrent_kernel, bias):
    return [np.tanh(x[i] @ kernel + h[i] @ recurrent_kernel + bias) for i in range(3)]


@exercise(
    "Go backward through what a step does. The tanh came last, so its slope comes first: multiply "
    "the gradient by `1 - state**2`, entry by entry.",
    "In the forward direction the old state was multiplied by `recurrent_kernel`. Backward it is "
    "its transpose: `@ recurrent_kernel.T`.",
    returns=Array("gradient"),
    otherwise="A small change of the old state changes the loss by another amount than your "
    "gradient says.",
)
def step_back():
    for batch, units in ((3, 4), (2, 6)):
        gradient, state, recurrent_kernel = random_arrays(
            (batch, units), (batch, units), (units, units)
        )
        yield gradient, np.tanh(state), recurrent_kernel


@step_back.mistakes
def _(gradient, state, recurrent_kernel):
    slope = 1 - state**2
    yield (
        "The slope of the tanh is missing: where the state is near 1 or -1, little gets through.",
        gradient @ recurrent_kernel.T,
    )
    yield "The gradient does not pass through the recurrent kernel.", gradient * slope
    yield (
        "`gradient` makes no difference to what you return: multiply it by the slope.",
        slope @ recurrent_kernel.T,
    )
    yield (
        "Backward, use the transpose of the recurrent kernel.",
        (gradient * slope) @ recurrent_kernel,
        "In the forward direction, entry j of the new state gets `h[i] * U[i, j]` from entry i of "
        "the old one. So over which of the two indices do you sum on the way back?",
    )
    yield (
        "You multiply by the slope after the matrix. The tanh came last, so backward it comes "
        "first.",
        (gradient @ recurrent_kernel.T) * slope,
    )
    yield (
        "`state` is the result of the tanh already, and you take its tanh again.",
        (gradient * (1 - np.tanh(state) ** 2)) @ recurrent_kernel.T,
    )
    yield (
        "s · (1 - s) is the slope of a sigmoid with the value s; the one of a tanh is 1 - s².",
        (gradient * state * (1 - state)) @ recurrent_kernel.T,
    )
    yield (
        "The slope of a tanh with the value s is not 1 - s. Is there a square?",
        (gradient * (1 - state)) @ recurrent_kernel.T,
    )


@step_back.accepts
def _(gradient, state, recurrent_kernel):
    return [recurrent_kernel @ row for row in gradient * (1 - state) * (1 + state)]


@step_back.accepts
def _(gradient, state, recurrent_kernel):
    sums = np.arctanh(state)
    small = 1e-5 * np.eye(len(recurrent_kernel))[:, np.newaxis] @ recurrent_kernel
    changes = (np.tanh(sums + small) - np.tanh(sums - small)) / 2e-5
    return (gradient * changes).sum(axis=2).T


@question
def forgetting():
    """Look at the solid curves. What decides how fast the gradient vanishes on the direct path?"""
    return [
        wrong(
            "The tanh: an LSTM has none, so nothing is lost.",
            "It has two. But on the direct path from one cell state to the next there is none.",
        ),
        wrong(
            "The number of its weights: it has four times as many.",
            "All curves belong to networks of the same size.",
        ),
        correct(
            "The forget gate: at each step back along the cell state, the gradient is multiplied "
            "by f, and f can be near 1.",
            "An LSTM does not remember by itself, but it can learn to: it has to keep a gate near "
            "1. A plain network would have to keep a whole matrix neither too large nor too small.",
        ),
        wrong(
            "Clipping: Keras clips the gradients of an LSTM.",
            "Nothing was clipped in this figure.",
        ),
    ]


def _length(arrays):
    return np.sqrt(sum(np.sum(np.square(array)) for array in arrays))


@exercise(
    "One length for all arrays together: the square root of the sum of the squares of all entries "
    "of all arrays.",
    "`factor = limit / length` if the length is above the limit, else 1. Then multiply every array "
    "by the same factor.",
    returns=[Array("clipped gradient")],
    otherwise=lambda value: (
        f"Your gradients, together of length {_length(value):.3f}, are not the given ones "
        "multiplied by the one factor that the limit asks for."
    ),
)
def clip():
    generator = np.random.default_rng(1)
    yield [generator.normal(size=(3, 5)), 5 * generator.normal(size=4)], 1.5
    yield [generator.normal(size=shape) for shape in ((7,), (2, 6), (4, 3))], 0.8
    yield [generator.normal(size=(4, 3)) / 10, np.zeros(5)], 1.5
    yield [np.zeros(3), np.zeros(2)], 1.5


@clip.mistakes
def _(gradients, limit):
    length = _length(gradients)
    solution = clip.reference()(gradients, limit)
    lengths = sum(np.linalg.norm(gradient) for gradient in gradients)
    yield (
        "You shorten each array by its own length. That changes the direction of the step, since "
        "their lengths relative to each other change.",
        [gradient * limit / max(_length([gradient]), limit) for gradient in gradients],
        "Two arrays of length 3 and 4 together have a length of 5. Compute this one length before "
        "you change any array.",
    )
    yield (
        "You clip every entry at the limit. That changes the direction of the step; make it "
        "shorter in the same direction.",
        [np.clip(gradient, -limit, limit) for gradient in gradients],
    )
    yield (
        f"Gradients of length {length:.1f} come back unchanged, though the limit is {limit}.",
        list(gradients),
    )
    yield "Your step goes in the opposite direction.", [-gradient for gradient in solution]
    yield (
        lambda value: (
            f"With a limit of {limit} your gradients together have a length of "
            f"{_length(value):.3f}. Do you take the root of the sum of all squares?"
        ),
        [gradient * limit / max(lengths, limit) for gradient in gradients],
    )
    yield (
        "You divide by the sum of the squares. The length is the square root of this sum.",
        [gradient * limit / max(length**2, limit) for gradient in gradients],
    )
    yield (
        "You divide by the largest entry. The length is the square root of the sum of all squares.",
        [
            gradient * limit / max(*(np.abs(array).max() for array in gradients), limit)
            for gradient in gradients
        ],
    )
    yield (
        "Your arrays are not all multiplied by the same factor: the step changes direction.",
        ...
        if length < limit
        else [np.sign(array) * limit * (array / length) ** 2 for array in gradients],
    )
    yield (
        "Gradients that are shorter than the limit must stay as they are; yours change.",
        [gradient * limit / (length or 1) for gradient in gradients],
    )
    yield (
        lambda value: f"For gradients that are all zeros you return {value[0].flat[0]}.",
        [gradient / length * min(length, limit) for gradient in gradients],
    )


@clip.accepts
def _(gradients, limit):
    length = np.linalg.norm(np.concatenate([gradient.ravel() for gradient in gradients]))
    return tuple(gradient * min(1, limit / (length + 1e-300)) for gradient in gradients)


@clip.accepts
def _(gradients, limit):
    import tensorflow as tf

    return tf.clip_by_global_norm([np.float32(gradient) for gradient in gradients], limit)[0]


@clip.rejects("changes its argument `gradients`")
def _(gradients, limit):
    factor = limit / max(_length(gradients), limit)
    for gradient in gradients:
        gradient *= factor
    return gradients


@exercise(
    "One sum for all four gates, `z = x @ kernel + h @ recurrent_kernel + bias`, of shape "
    "(b, 4 · units). `np.split(z, 4, axis=1)` cuts it into the four parts, in Keras' order: "
    "i, f, g, o.",
    "Three of the parts go through `sigmoid`, the candidate g goes through `np.tanh`.",
    "The new cell state is `f * c + i * g`. The new state is `o * np.tanh(…)` of the *new* cell "
    "state.",
    returns=(Array("new state"), Array("new cell state")),
    otherwise={
        "new cell state": "Your cell state is not f · c + i · g. Are the four parts in the order "
        "i, f, g, o?",
        "new state": "The cell state is correct, the state is not.",
    },
)
def lstm_step():
    yield random_arrays((3, 5), (3, 4), (3, 4), (5, 16), (4, 16), (16,))
    yield random_arrays((7, 2), (7, 6), (7, 6), (2, 24), (6, 24), (24,))


def _lstm(x, h, c, kernel, recurrent_kernel, bias, order=(0, 1, 2, 3)):
    sums = np.split(x @ kernel + h @ recurrent_kernel + bias, 4, axis=1)
    i, f, g, o = (sums[place] for place in order)
    c = _sigmoid(f) * c + _sigmoid(i) * np.tanh(g)
    return _sigmoid(o) * np.tanh(c), c


@lstm_step.mistakes
def _(x, h, c, kernel, recurrent_kernel, bias):
    weights = kernel, recurrent_kernel, bias
    state, cell = _lstm(x, h, c, *weights)
    sums = np.split(x @ kernel + h @ recurrent_kernel + bias, 4, axis=1)
    i, f, g, o = *map(_sigmoid, sums[:2]), np.tanh(sums[2]), _sigmoid(sums[3])
    order, says = "Keras' order is i, f, g, o.", "makes no difference to your cell state"
    yield (
        "You return the two in the opposite order: first the state, then the cell state.",
        (cell, state),
    )
    yield "Your cell state forgets everything: it does not contain the old one.", (..., i * g)
    yield "Your cell state forgets nothing: the forget gate is missing.", (..., c + i * g)
    yield "The input gate is missing: your cell state adds the whole candidate.", (..., f * c + g)
    yield f"Input gate and forget gate are swapped. {order}", (..., i * c + f * g)
    yield (
        f"Candidate and output gate are swapped. {order}",
        (..., _lstm(x, h, c, *weights, order=(0, 1, 3, 2))[1]),
    )
    yield (
        "Your candidate goes through a sigmoid, so that nothing can ever be subtracted from the "
        "cell state. It needs the tanh.",
        (..., f * c + i * _sigmoid(sums[2])),
    )
    yield (
        "Your candidate goes through a sigmoid and then through the tanh; only the gates need the "
        "sigmoid.",
        (..., f * c + i * np.tanh(_sigmoid(sums[2]))),
    )
    for candidate in (sums[2], g):
        yield (
            "Your gates are the sums themselves; a gate is a number between 0 and 1.",
            (..., sums[1] * c + sums[0] * candidate),
        )
    yield (
        "That is nearly a GRU: in an LSTM the input gate is not 1 - f but a gate of its own.",
        (..., f * c + (1 - f) * g),
    )
    yield f"The old state h {says}.", (..., _lstm(x, 0 * h, c, *weights)[1])
    yield f"The input x {says}.", (..., _lstm(0 * x, h, c, *weights)[1])
    yield f"The bias {says}.", (..., _lstm(x, h, c, kernel, recurrent_kernel, 0)[1])
    yield (
        "The cell state is correct. Before it is multiplied by the output gate, it goes through a "
        "tanh.",
        (o * cell, cell),
    )
    yield (
        "The cell state is correct, but your state is computed from the old one.",
        (o * np.tanh(c), cell),
    )
    yield "The cell state is correct; the output gate is missing.", (np.tanh(cell), cell)
    yield (
        "The cell state is correct; the output gate needs a sigmoid, as the other gates do.",
        (np.tanh(sums[3]) * np.tanh(cell), cell),
    )


@lstm_step.accepts
def _(x, h, c, kernel, recurrent_kernel, bias):
    import keras

    cell = keras.layers.LSTMCell(h.shape[1])
    cell.build(x.shape)
    cell.set_weights([kernel, recurrent_kernel, bias])
    return cell(x, [h, c])[1]


@lstm_step.accepts
def _(x, h, c, kernel, recurrent_kernel, bias):
    return np.stack(_lstm(x, h, c, kernel, recurrent_kernel, bias))


@lstm_step.rejects("You return 3 values; return 2 values: new state and new cell state")
def _(x, h, c, kernel, recurrent_kernel, bias):
    return _lstm(x, h, c, kernel, recurrent_kernel, bias)[0]


@exercise(
    "Begin with `reset_after=True`. Two sums, each of shape (b, 3 · units): `x @ kernel + bias[0]` "
    "and `h @ recurrent_kernel + bias[1]`. Cut each into three with `np.split`: z, r, g.",
    "`z = sigmoid(xz + hz)`, `r = sigmoid(xr + hr)`, `g = np.tanh(xg + r * hg)`, and the new state "
    "is `z * h + (1 - z) * g`.",
    "With `reset_after=False` there is one bias, and the reset gate acts on the state *before* the "
    "matrix: `np.tanh(xg + (r * h) @ recurrent_kernel[:, 2 * units:])`.",
    returns=Array("new state"),
    otherwise="`{call}` does not return the new state of a GRU. Are the parts in the order z, r, "
    "g, and are the biases included?",
)
def gru_step():
    for reset_after in (True, False):
        for batch, inputs, units in ((3, 5, 4), (6, 2, 7)):
            shapes = (batch, inputs), (batch, units), (inputs, 3 * units), (units, 3 * units)
            biases = (2, 3 * units) if reset_after else (3 * units,)
            yield *random_arrays(*shapes, biases), reset_after


def _gru(x, h, kernel, recurrent_kernel, bias, reset_after, *, order=(0, 1, 2), swap=False,
         reset=True, squash=np.tanh):  # fmt: skip
    units = h.shape[1]
    input_bias, recurrent_bias = bias if reset_after else (bias, 0)
    inputs = np.split(x @ kernel + input_bias, 3, axis=1)
    states = np.split(h @ recurrent_kernel + recurrent_bias, 3, axis=1)
    z, r = (_sigmoid(inputs[place] + states[place]) for place in order[:2])
    r = r if reset else np.ones_like(r)
    back = r * states[2] if reset_after else (r * h) @ recurrent_kernel[:, 2 * units :]
    g = squash(inputs[2] + back)
    return (1 - z) * h + z * g if swap else z * h + (1 - z) * g


@gru_step.mistakes
def _(x, h, kernel, recurrent_kernel, bias, reset_after):
    weights = kernel, recurrent_kernel
    arguments = x, h, *weights, bias, reset_after
    wrong_in_either = {
        "z and 1 - z are swapped. In Keras z is the fraction of the old state that stays.": _gru(
            *arguments, swap=True
        ),
        "update gate and reset gate are swapped. Keras' order is z, r, g.": _gru(
            *arguments, order=(1, 0, 2)
        ),
        "the reset gate makes no difference to what you return.": _gru(*arguments, reset=False),
        "your candidate g needs the tanh.": _gru(*arguments, squash=np.asarray),
        "your candidate g goes through a sigmoid; it needs the tanh.": _gru(
            *arguments, squash=_sigmoid
        ),
    }
    for convention in (True, False):
        for sentence, value in wrong_in_either.items():
            yield (
                f"With reset_after={convention}: {sentence}",
                value if reset_after is convention else ...,
            )
    yield (
        "With reset_after=True: you reset the state before the matrix. That is the other "
        "convention.",
        _gru(x, h, *weights, bias.sum(axis=0), False) if reset_after else ...,
    )
    yield (
        "With reset_after=True: your recurrent bias is not affected by the reset. It belongs to "
        "h · U, and r multiplies both.",
        _gru(x, h, *weights, np.stack([bias.sum(axis=0), 0 * bias[0]]), True)
        if reset_after
        else ...,
    )
    yield (
        "With reset_after=False: you reset after the matrix. That is the other convention.",
        ... if reset_after else _gru(x, h, *weights, np.stack([bias, 0 * bias]), True),
    )


@gru_step.accepts
def _(x, h, kernel, recurrent_kernel, bias, reset_after):
    import keras

    cell = keras.layers.GRUCell(h.shape[1], reset_after=reset_after)
    cell.build(x.shape)
    cell.set_weights([kernel, recurrent_kernel, bias])
    return cell(x, [h])[0]


@gru_step.accepts
def _(x, h, kernel, recurrent_kernel, bias, reset_after):
    n = h.shape[1]
    gates = x @ kernel[:, : 2 * n] + h @ recurrent_kernel[:, : 2 * n]
    shared = bias.sum(axis=0) if reset_after else bias
    z, r = np.split(_sigmoid(gates + shared[: 2 * n]), 2, axis=1)
    last = recurrent_kernel[:, 2 * n :]
    if reset_after:
        inner = bias[0, 2 * n :] + r * (h @ last + bias[1, 2 * n :])
    else:
        inner = bias[2 * n :] + (r * h) @ last
    g = np.tanh(x @ kernel[:, 2 * n :] + inner)
    return g + z * (h - g)


@gru_step.rejects("bias, False)` does not return the new state of a GRU")
def _(x, h, kernel, recurrent_kernel, bias, reset_after):
    return _gru(x, h, kernel, recurrent_kernel, bias if reset_after else 0 * bias, reset_after)


@exercise(
    "Where do the windows begin? At 0, stride, 2 · stride, …, as long as the last target, at "
    "start + length - 1 + horizon, is still in the series.",
    "`starts = np.arange(0, len(series) - length - horizon + 1, stride)`, and "
    "`places = starts[:, None] + np.arange(length)` is a table of indices: a row per window.",
    "`series[places]` takes all the windows at once, and `series[places + horizon]` the targets.",
    returns=(Array("array of inputs"), Array("array of targets")),
    otherwise={
        "array of inputs": "`{call}`: your inputs are not windows of consecutive values that begin "
        "at 0, stride, 2 · stride, ….",
        "array of targets": "`{call}`: not every target is the value `horizon` places after its "
        "input.",
    },
)
def windows():
    for size, *arguments in ((12, 4, 3, 1), (20, 5, 2, 3), (9, 4, 5, 1)):
        yield *random_arrays((size,)), *arguments


@windows.mistakes
def _(series, length, horizon, stride):
    cut = windows.reference()
    inputs, targets = cut(series, length, horizon, stride)
    yield (
        "`{call}`: each step of each window has a target, not only the last.",
        (inputs, targets[:, -1]),
    )
    table = (
        "Write a table: with length 3 and horizon 2, the inputs are at places 0, 1, 2 and their "
        "targets at places 2, 3, 4."
    )
    one_window = (
        "Does your range leave out its end? In a series of exactly length + horizon values there "
        "is one window."
    )
    far = f"`{{call}}`: your targets lie {horizon + 1} places ahead, one too far."
    yield far, cut(series, length, horizon + 1, stride), table
    near = f"`{{call}}`: your targets lie {horizon - 1} places ahead, one too few."
    yield near, cut(series, length, horizon - 1, stride), table
    yield near, (inputs, cut(series[horizon - 1 :], length, 0, stride)[0][: len(inputs)])
    yield (
        f"`{{call}}`: your windows begin one place apart, not {stride}.",
        cut(series, length, horizon, 1),
    )
    last = "`{call}`: the last window is missing. All of its targets are still in the series."
    yield last, (inputs[:-1], targets[:-1]) if len(inputs) > 1 else ..., one_window
    yield last, cut(series[:-1], length, horizon, stride), one_window
    yield (
        "`{call}`: the last targets are not in the series after their inputs.",
        (
            cut(series, length, 0, stride)[0],
            cut(np.roll(series, -horizon), length, 0, stride)[0],
        ),
    )


@windows.accepts
def _(series, length, horizon, stride):
    view = np.lib.stride_tricks.sliding_window_view
    return (
        view(series[: len(series) - horizon], length)[::stride],
        view(series[horizon:], length)[::stride],
    )


@windows.accepts
def _(series, length, horizon, stride):
    inputs, targets = [], []
    start = 0
    while start + length + horizon <= len(series):
        inputs.append(series[start : start + length])
        targets.append(series[start + horizon : start + horizon + length])
        start += stride
    return inputs, targets


@windows.rejects("not every target is the value `horizon` places after")
def _(series, length, horizon, stride):
    inputs, _ = windows.reference()(series, length, horizon, stride)
    return inputs, inputs + horizon


@windows.rejects("out of bounds")
def _(series, length, horizon, stride):
    starts = np.arange(0, len(series) - length + 1, stride)
    places = starts[:, None] + np.arange(length)
    return series[places], series[places + horizon]


@windows.rejects("return 2 values: array of inputs and array of targets")
def _(series, length, horizon, stride):
    return windows.reference()(series, length, horizon, stride)[0]


@question
def memoryless():
    """The network without memory classifies half of the sequences correctly. Why not more?"""
    return [
        wrong(
            "It was not trained for long enough.",
            "For each test sequence there is one with the same symbols and the other answer. "
            "Longer training cannot distinguish two sequences with the same mean.",
        ),
        correct(
            "The mean over the steps is the same for every order of the symbols, and here only the "
            "order decides.",
            "It sees the same numbers for both sequences of a pair, so it gives both the same "
            "answer, and one of them is wrong. No size and no training changes that.",
        ),
        wrong(
            "It has too few weights to remember 60 symbols.",
            "It would do no better with a million weights. What happens to the order in a mean?",
        ),
        wrong(
            "The padding hides the symbols.",
            "Its mean leaves the padding out: it is masked.",
        ),
    ]


@exercise(
    "Go through the lengths in steps of `batch_size`: `lengths[start:start + batch_size]` is one "
    "batch, the last one may be smaller.",
    "A batch takes `len(batch) * max(batch)` steps, of which `sum(batch)` are not padding.",
    "Add up both over all batches first, and divide last.",
    returns=Number("fraction"),
    otherwise="`{call}` returns {value}, which is not the fraction of the steps that are padding.",
)
def padded_share():
    yield np.array([3, 1, 8, 8, 2, 2, 5]), 3
    yield np.array([4, 9, 6, 6, 1, 7]), 4
    yield np.array([7, 2, 5, 3, 6, 6, 1, 9]), 2


@padded_share.mistakes
def _(lengths, batch_size):
    starts = range(0, len(lengths), batch_size)
    batches = [lengths[start : start + batch_size] for start in starts]
    used, steps = lengths.sum(), sum(batch.size * batch.max() for batch in batches)
    fraction = padded_share.reference()
    yield "You return how many steps are padding; return their fraction of all.", steps - used
    yield "You return the fraction of the steps that are used; return the rest.", used / steps
    yield "You return a percentage; return a fraction between 0 and 1.", 100 - 100 * used / steps
    yield "You divide by the steps that are used; divide by all steps.", steps / used - 1
    yield (
        "You pad every batch to the longest sequence of all; each needs only its own longest.",
        1 - lengths.mean() / lengths.max(),
    )
    yield (
        "You take the mean of the batches' fractions, but the batches are not of one size. Add up "
        "the steps first.",
        np.mean([1 - batch.mean() / batch.max() for batch in batches]),
    )
    yield (
        "You add up the batches' fractions. Add up the steps first, and divide last.",
        np.sum([1 - batch.mean() / batch.max() for batch in batches]),
    )
    yield (
        "You count the last batch as full, though it holds fewer sequences.",
        1 - used / sum(batch_size * batch.max() for batch in batches),
    )
    yield (
        "You leave the last batch out where it is not full. It is computed, too.",
        fraction(lengths[: len(lengths) // batch_size * batch_size], batch_size),
    )
    yield (
        "You sort the lengths first. Take the batches in the order of the lengths.",
        fraction(np.sort(lengths), batch_size),
    )


@padded_share.accepts
def _(lengths, batch_size):
    batches = np.array_split(lengths, np.arange(batch_size, len(lengths), batch_size))
    return np.array(1 - sum(map(sum, batches)) / sum(len(batch) * max(batch) for batch in batches))


@padded_share.accepts
def _(lengths, batch_size):
    steps = padding = 0
    for start in range(0, len(lengths), batch_size):
        batch = lengths[start : start + batch_size]
        steps += batch.size * batch.max()
        padding += (batch.max() - batch).sum()
    return np.float32(padding / steps)


@exercise(
    "`table[ids]` takes all rows at once; its shape is (b, steps, dims). Which of these rows must "
    "not count?",
    "`is_word = (ids > 0)[:, :, np.newaxis]` is true where a row counts. Multiply by it before you "
    "sum over the steps.",
    "Divide by the number of words of each sentence, `is_word.sum(axis=1)`, not by the number of "
    "steps.",
    returns=Array("mean"),
    otherwise="Your result is not the mean of the rows of the words in each sentence.",
)
def mean_embedding():
    (table,) = random_arrays((9, 4))
    yield np.array([[3, 5, 3, 0, 0], [8, 0, 0, 0, 0], [1, 2, 6, 7, 4]]), table
    (table,) = random_arrays((6, 3))
    yield np.array([[5, 5, 1, 2, 0, 0, 0], [2, 4, 0, 0, 0, 0, 0]]), table


@mean_embedding.mistakes
def _(ids, table):
    is_word = (ids > 0)[:, :, np.newaxis]
    rows, count = table[ids], is_word.sum(axis=1)
    yield (
        "Your mean counts the padding: the same sentence with more padding gets another mean.",
        rows.mean(axis=1),
        "Which entries of `ids` are 0? Their rows must be left out, and not be counted either.",
    )
    yield (
        "You leave out the rows of the padding, but divide by the number of steps. Divide by the "
        "number of words.",
        (rows * is_word).mean(axis=1),
    )
    yield (
        "You divide by the number of words, but the sum contains the rows of the padding.",
        rows.sum(axis=1) / count,
    )
    yield (
        "You return the sum of the rows; divide it by the number of words.",
        ((rows * is_word).sum(axis=1)),
    )
    yield (
        "You divide by the number of words of the whole batch; each sentence has its own.",
        (rows * is_word).sum(axis=1) / is_word.sum(),
    )
    yield (
        "A word that occurs twice in a sentence counts twice.",
        [table[np.unique(row[row > 0])].mean(axis=0) for row in ids],
    )
    yield (
        "You leave out word 1, too. Only 0 is padding.",
        [table[row[row > 1]].mean(axis=0) for row in ids],
    )
    yield (
        "Your rows are those of other words: word n has the row `table[n]`.",
        (table[ids - 1] * is_word).sum(axis=1) / count,
    )
    yield (
        "You take the largest value of each column; take the mean.",
        np.where(is_word, rows, -np.inf).max(axis=1),
    )


@mean_embedding.accepts
def _(ids, table):
    return [table[row[row > 0]].mean(axis=0).tolist() for row in ids]


@mean_embedding.accepts
def _(ids, table):
    counts = np.stack([(ids == word).sum(axis=1) for word in range(1, len(table))], axis=1)
    return counts @ table[1:] / counts.sum(axis=1, keepdims=True)


@mean_embedding.accepts
def _(ids, table):
    import keras

    embedding = keras.layers.Embedding(*table.shape, weights=[table], mask_zero=True)
    return keras.layers.GlobalAveragePooling1D()(embedding(ids))


@mean_embedding.rejects("has the shape (4,); expected (3, 4)")
def _(ids, table):
    return table[ids[ids > 0]].mean(axis=0)


@question
def keeps_the_kernel():
    """A GPU is there. Which of these layers still runs on cuDNN's kernel?"""
    return [
        wrong(
            "`layers.LSTM(64, recurrent_dropout=0.2)`",
            "The kernel contains the whole loop, and it drops nothing between its steps.",
        ),
        wrong(
            "`layers.LSTM(64, unroll=True)`",
            "Unrolled, there is no loop left that the kernel could replace.",
        ),
        correct(
            "`layers.LSTM(64, dropout=0.2)`",
            "Dropout of the inputs happens before the loop begins, outside the kernel.",
        ),
        wrong(
            "`layers.GRU(64, reset_after=False)`",
            "Keras' default was chosen for the kernel's convention; this is the other one.",
        ),
    ]


BAR, CHALLENGE_SEEDS, HISTORY, HORIZON = 0.0005, 2, 500, 84


@exercise(
    "Begin with the echo state network above. Which of its numbers has not been tuned?",
    "More units, and let the state move only a part of the way at each step: "
    "`h = h / 2 + step(…) / 2`. That makes a slower memory.",
    "800 units, such a slower state, and a ridge of 1e-12 are enough to reach the bar.",
)
def train_forecaster(answer):
    """Train from two seeds on the training series, and forecast 80 values of the test series."""
    from dltlab import data

    train, test = (data.series("mackey_glass", split) for split in ("train", "test"))
    starts = np.arange(0, len(test) - HISTORY - HORIZON, 17)[:80]
    histories = test[starts[:, None] + np.arange(HISTORY)]
    errors: list[float] = []

    def values_after(steps):
        """Return the value of the series so many steps after the end of each history."""
        return test[starts + HISTORY - 1 + steps].astype(float)

    def error_of(forecasts, steps=HORIZON):
        """Return the normalized error of forecasts of the values after so many steps."""
        targets = values_after(steps)
        return float(np.sqrt(np.mean((forecasts - targets) ** 2)) / targets.std())

    for seed in range(CHALLENGE_SEEDS):
        forecast = answer(train.copy(), seed)
        require(
            callable(forecast),
            f"You return an object of type `{type(forecast).__name__}`; return a function that "
            "forecasts.",
        )
        with attempt(f"forecasting from histories of shape {histories.shape}"):
            forecasts = forecast(histories.copy())
        forecasts = Array("array of forecasts").read(forecasts, starts.shape)
        errors.append(error_of(forecasts))
        listed = ", ".join(f"{error:.5f}" for error in errors)
        missed = f"Normalized error {HORIZON} steps ahead: {listed}."
        for steps in (HORIZON - 1, HORIZON + 1):
            require(
                errors[-1] <= BAR or error_of(forecasts, steps) > errors[-1] / 4,
                f"{missed} Your forecasts fit the values {steps} steps ahead better: count the "
                "steps after the last value of a history.",
            )
        design = np.column_stack([forecasts, np.ones(len(forecasts))])
        rescaled = design @ np.linalg.lstsq(design, values_after(HORIZON))[0]
        require(
            errors[-1] < 0.5 or error_of(rescaled) > 0.1,
            f"{missed} Multiplied by one number, plus another, your forecasts would be much "
            "better: do you return them on the scale of the series?",
        )
        require(
            sum(errors) <= BAR * CHALLENGE_SEEDS,
            f"{missed} A mean of {BAR} over {CHALLENGE_SEEDS} seeds can no longer be reached.",
        )
    return f"A mean normalized error of {np.mean(errors):.5f} ({listed}); the bar is {BAR}."


def _equation(series):
    """Forecast with the known equation of the series, whose weights need no random numbers.

    The next value depends on the last one and on x / (1 + x^10) some 17 steps before.
    """
    lags = np.arange(14, 20)

    def features(histories):
        delayed = histories[:, -lags - 1]
        return np.column_stack([histories[:, -1], delayed / (1 + delayed**10)])

    series = series.astype(float)
    past = np.lib.stride_tricks.sliding_window_view(series[:-1], lags[-1] + 1)
    weights = np.linalg.lstsq(features(past), series[lags[-1] + 1 :])[0]

    def forecast(histories, steps=HORIZON):
        histories = histories.astype(float)
        for _ in range(steps):
            histories = np.column_stack([histories, features(histories) @ weights])
        return histories[:, -1]

    return forecast


@train_forecaster.accepts
def _(series, seed):
    return _equation(series)


@train_forecaster.rejects("error 84 steps ahead: 0.00070, 0.00070. A mean of 0.0005 over 2 seeds")
def _(series, seed):
    forecast = _equation(series)
    return lambda histories: forecast(histories) + 0.00016


@train_forecaster.rejects("fit the values 83 steps ahead better")
def _(series, seed):
    forecast = _equation(series)
    return lambda histories: forecast(histories, 83)


@train_forecaster.rejects("do you return them on the scale of the series?")
def _(series, seed):
    forecast = _equation(series)
    return lambda histories: (forecast(histories) - series.mean()) / series.std()


@train_forecaster.rejects("return a function that forecasts")
def _(series, seed):
    return series[-84:]


@train_forecaster.rejects("raised")
def _(series, seed):
    return lambda histories: series @ histories


@train_forecaster.rejects("has the shape (80, 500); expected (80,)")
def _(series, seed):
    return lambda histories: histories


@train_forecaster.rejects("is not a finite number")
def _(series, seed):
    return lambda histories: np.full(len(histories), np.nan)


@train_forecaster.rejects("error 84 steps ahead: 1.")
def _(series, seed):
    return lambda histories: histories[:, -1]


@train_forecaster.rejects("error 84 steps ahead: 0.")
def _(series, seed):
    inputs, targets = windows.reference()(series.astype(float), 100, HORIZON, 1)
    weights = np.linalg.lstsq(np.c_[inputs, np.ones(len(inputs))], targets[:, -1])[0]
    return lambda histories: histories[:, -100:] @ weights[:-1] + weights[-1]
