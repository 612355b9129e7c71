"""Exercises of lab 03, Recurrent networks."""

import numpy as np

from dltlab.exercises import attempt, correct, exercise, question, require, wrong


def _array(value, shape, what="value"):
    """`value`, which the answer returned, if it is a NumPy array of this shape."""
    require(
        isinstance(value, np.ndarray),
        f"Your {what} is an object of type `{type(value).__name__}`; a NumPy array is wanted.",
    )
    require(
        value.shape == shape,
        f"Your {what} has the shape {value.shape}; wanted is {shape}.",
    )
    return value


def _near(value, wanted):
    return np.allclose(value, wanted, rtol=1e-5, atol=1e-6)


def _sigmoid(z):
    return 1 / (1 + np.exp(-z))


def _random(*shapes):
    generator = np.random.default_rng(1)
    return [generator.normal(size=shape) for shape in shapes]


def _call(answer, *arguments):
    """What the answer returns; its arguments stay as they were."""
    given = [np.copy(each) for each in arguments]
    value = answer(*arguments)
    require(
        all(np.array_equal(one, other) for one, other in zip(given, arguments, strict=True)),
        "Your function changes the arrays that it was given.",
    )
    return value


@exercise(
    "Two matrix products, `x @ kernel` and `h @ recurrent_kernel`. Both have the shape "
    "(b, units), so they can be added.",
    "Add the bias to their sum, and take `np.tanh` of it all, last.",
)
def rnn_step(answer):
    """Two sequences, three inputs, four units."""
    x, h, kernel, recurrent, bias = _random((2, 3), (2, 4), (3, 4), (4, 4), (4,))
    h = np.tanh(h)
    value = _array(_call(answer, x, h, kernel, recurrent, bias), (2, 4), "new state")
    before = x @ kernel + h @ recurrent + bias
    require(
        not _near(value, before),
        "You return the sum as it is: without the tanh the state would grow without bound.",
    )
    require(
        not _near(value, np.tanh(before - bias)),
        "The bias makes no difference to what you return.",
    )
    require(
        not _near(value, np.tanh(x @ kernel + bias)),
        "The old state makes no difference to what you return: such a network remembers nothing.",
    )
    require(
        not _near(value, np.tanh(h @ recurrent + bias)),
        "The input makes no difference to what you return.",
    )
    require(
        not _near(value, np.tanh(x @ kernel + h @ recurrent.T + bias)),
        "You use the transpose of the recurrent kernel: `h @ recurrent_kernel` is wanted.",
    )
    require(
        not _near(value, np.tanh(x @ kernel + bias) + np.tanh(h @ recurrent)),
        "You take two hyperbolic tangents and add them; wanted is one, of the whole sum.",
    )
    require(_near(value, np.tanh(before)), "Your new state is not tanh(x·W + h·U + b).")


@rnn_step.accepts
def _(x, h, kernel, recurrent_kernel, bias):
    joined = np.concatenate([x, h], axis=1) @ np.concatenate([kernel, recurrent_kernel])
    return np.tanh(joined + bias)


@rnn_step.accepts
def _(x, h, kernel, recurrent_kernel, bias):
    return 2 * _sigmoid(2 * (x @ kernel + h @ recurrent_kernel + bias)) - 1


@rnn_step.rejects("without bound")
def _(x, h, kernel, recurrent_kernel, bias):
    return x @ kernel + h @ recurrent_kernel + bias


@rnn_step.rejects("The bias makes no difference")
def _(x, h, kernel, recurrent_kernel, bias):
    return np.tanh(x @ kernel + h @ recurrent_kernel)


@rnn_step.rejects("remembers nothing")
def _(x, h, kernel, recurrent_kernel, bias):
    return np.tanh(x @ kernel + bias)


@rnn_step.rejects("The input makes no difference")
def _(x, h, kernel, recurrent_kernel, bias):
    return np.tanh(h @ recurrent_kernel + bias)


@rnn_step.rejects("the transpose")
def _(x, h, kernel, recurrent_kernel, bias):
    return np.tanh(x @ kernel + h @ recurrent_kernel.T + bias)


@rnn_step.rejects("two hyperbolic tangents")
def _(x, h, kernel, recurrent_kernel, bias):
    return np.tanh(x @ kernel + bias) + np.tanh(h @ recurrent_kernel)


@rnn_step.rejects("is not tanh(x·W")
def _(x, h, kernel, recurrent_kernel, bias):
    return _sigmoid(x @ kernel + h @ recurrent_kernel + bias)


@rnn_step.rejects("wanted is (2, 4)")
def _(x, h, kernel, recurrent_kernel, bias):
    return np.tanh(x @ kernel + h @ recurrent_kernel + bias)[0]


@rnn_step.rejects("a NumPy array is wanted")
def _(x, h, kernel, recurrent_kernel, bias):
    return np.tanh(x @ kernel + h @ recurrent_kernel + bias).tolist()


@rnn_step.rejects("mismatch")
def _(x, h, kernel, recurrent_kernel, bias):
    return np.tanh(kernel @ x + recurrent_kernel @ h + bias)


@rnn_step.rejects("changes the arrays")
def _(x, h, kernel, recurrent_kernel, bias):
    h[:] = np.tanh(x @ kernel + h @ recurrent_kernel + bias)
    return h


@exercise(
    "Go backward through what a step does. Last came the tanh, so its slope comes first: multiply "
    "the gradient by `1 - state**2`, entry by entry.",
    "Forward the old state was multiplied by `recurrent_kernel`. Backward it is its transpose: "
    "`@ recurrent_kernel.T`.",
)
def step_back(answer):
    """Two sequences, four units; the gradient is compared with finite differences."""
    gradient, before, recurrent, inputs = _random((2, 4), (2, 4), (4, 4), (2, 4))
    state = np.tanh(inputs + np.tanh(before) @ recurrent)
    value = _array(_call(answer, gradient, state, recurrent), (2, 4), "gradient")
    slope = 1 - state**2
    require(
        not _near(value, gradient @ recurrent.T),
        "The slope of the tanh is missing: where the state is near 1 or -1, little comes through.",
    )
    require(not _near(value, gradient * slope), "The gradient does not pass the recurrent kernel.")
    require(
        not _near(value, (gradient * slope) @ recurrent),
        "Backward it is the transpose of the recurrent kernel that counts.",
    )
    require(
        not _near(value, (gradient @ recurrent.T) * slope),
        "You multiply by the slope after the matrix. The tanh came last, so backward it is first.",
    )
    require(
        not _near(value, (gradient * (1 - np.tanh(state) ** 2)) @ recurrent.T),
        "`state` is the tanh already, and you take the tanh of it once more.",
    )
    require(
        not _near(value, (gradient * (1 - state)) @ recurrent.T),
        "The slope of a tanh with the value s is not 1 - s. Is there a square?",
    )
    wanted = np.zeros((2, 4))
    for place in np.ndindex(2, 4):
        nudge = np.zeros((2, 4))
        nudge[place] = 1e-6
        ahead, behind = (
            np.sum(gradient * np.tanh(inputs + (np.tanh(before) + sign * nudge) @ recurrent))
            for sign in (1, -1)
        )
        wanted[place] = (ahead - behind) / 2e-6
    require(
        np.allclose(value, wanted, atol=1e-5),
        "Nudging the old state a little changes the loss by another amount than you say.",
    )


@step_back.accepts
def _(gradient, state, recurrent_kernel):
    return np.stack([recurrent_kernel @ row for row in gradient * (1 - state) * (1 + state)])


@step_back.accepts
def _(gradient, state, recurrent_kernel):
    return np.einsum("bj,ij->bi", gradient * (1 - np.square(state)), recurrent_kernel)


@step_back.rejects("The slope of the tanh is missing")
def _(gradient, state, recurrent_kernel):
    return gradient @ recurrent_kernel.T


@step_back.rejects("does not pass the recurrent kernel")
def _(gradient, state, recurrent_kernel):
    return gradient * (1 - state**2)


@step_back.rejects("it is the transpose")
def _(gradient, state, recurrent_kernel):
    return (gradient * (1 - state**2)) @ recurrent_kernel


@step_back.rejects("backward it is first")
def _(gradient, state, recurrent_kernel):
    return (gradient @ recurrent_kernel.T) * (1 - state**2)


@step_back.rejects("once more")
def _(gradient, state, recurrent_kernel):
    return (gradient * (1 - np.tanh(state) ** 2)) @ recurrent_kernel.T


@step_back.rejects("Is there a square?")
def _(gradient, state, recurrent_kernel):
    return (gradient * (1 - state)) @ recurrent_kernel.T


@step_back.rejects("by another amount")
def _(gradient, state, recurrent_kernel):
    return (gradient * state * (1 - state)) @ recurrent_kernel.T


@step_back.rejects("changes the arrays")
def _(gradient, state, recurrent_kernel):
    gradient *= 1 - state**2
    return gradient @ recurrent_kernel.T


@step_back.rejects("wanted is (2, 4)")
def _(gradient, state, recurrent_kernel):
    return ((gradient * (1 - state**2)) @ recurrent_kernel.T).sum(axis=0)


@question
def forgetting():
    """Look at the two curves of the LSTM. What decides how fast its gradient dies away?"""
    return [
        wrong(
            "The tanh: an LSTM has none, so nothing is lost.",
            "It has two. But on the way from one cell state to the next there is none.",
        ),
        wrong(
            "The number of its weights: it has four times as many.",
            "Both curves belong to networks of the same size.",
        ),
        correct(
            "Its forget gate: from step to step the gradient of the cell state is multiplied by "
            "about f, and f can be near 1.",
            "An LSTM does not remember by itself. It can learn to: a gate near 1 costs it nothing. "
            "A plain network would have to keep a whole matrix at the edge.",
        ),
        wrong(
            "Clipping: Keras clips the gradients of an LSTM.",
            "Nothing was clipped in this image.",
        ),
    ]


@exercise(
    "One length for all of it: the square root of the sum of the squares of all entries of all "
    "arrays.",
    "`factor = limit / length` if the length is above the limit, else 1. Then multiply every array "
    "by the same factor.",
)
def clip(answer):
    """Two arrays of different shape, above the limit, below it, and all zeros."""
    generator = np.random.default_rng(1)
    large = [generator.normal(size=(3, 2)), 5 * generator.normal(size=4)]
    length = np.sqrt(sum(np.sum(each**2) for each in large))
    value = _clipped(answer, large, 1.5)
    new = np.sqrt(sum(np.sum(each**2) for each in value))
    own = [each * np.minimum(1, 1.5 / np.linalg.norm(each)) for each in large]
    require(
        not all(map(_near, value, own)),
        "You shorten each array by its own length. That turns the step: their lengths compared "
        "with each other change.",
    )
    require(
        not all(map(_near, value, [np.clip(each, -1.5, 1.5) for each in large])),
        "You cut every entry at the limit. That turns the step; wanted is a shorter step in the "
        "same direction.",
    )
    require(
        not all(map(_near, value, large)),
        f"A gradient of length {length:.1f} comes back as it was, though the limit is 1.5.",
    )
    factors = np.concatenate([(v / g).ravel() for v, g in zip(value, large, strict=True)])
    require(
        np.allclose(factors, factors[0]),
        "Your arrays are not all multiplied by the same factor, so the step turns.",
    )
    require(factors[0] > 0, "Your step goes the other way.")
    require(
        np.isclose(new, 1.5, rtol=1e-4),
        f"With a limit of 1.5 your gradients together have a length of {new:.3f}. Is it the root "
        "of the sum of all squares?",
    )
    small = [each / length for each in large]
    with np.errstate(all="ignore"):
        value = _clipped(answer, small, 1.5)
        zeros = _clipped(answer, [np.zeros(3), np.zeros(2)], 1.5)
    require(
        all(map(_near, value, small)),
        "Gradients that are shorter than the limit must stay as they are; yours change.",
    )
    require(
        not any(each.any() for each in zeros),
        f"For gradients that are all zeros you return {zeros[0][0]}.",
    )


def _clipped(answer, gradients, limit):
    given = [each.copy() for each in gradients]
    value = answer(given, limit)
    require(
        all(map(np.array_equal, given, gradients)),
        "Your function changes the gradients that it was given.",
    )
    require(
        isinstance(value, list | tuple) and len(value) == len(gradients),
        f"You return {type(value).__name__}; a list with an array for each gradient is wanted.",
    )
    return [
        _array(each, gradient.shape, "clipped gradient")
        for each, gradient in zip(value, gradients, strict=True)
    ]


@clip.accepts
def _(gradients, limit):
    length = np.linalg.norm(np.concatenate([each.ravel() for each in gradients]))
    return [each * min(1, limit / (length + 1e-300)) for each in gradients]


@clip.accepts
def _(gradients, limit):
    import tensorflow as tf

    return [np.asarray(each) for each in tf.clip_by_global_norm(gradients, limit)[0]]


@clip.rejects("by its own length")
def _(gradients, limit):
    return [each * min(1, limit / np.linalg.norm(each)) for each in gradients]


@clip.rejects("cut every entry")
def _(gradients, limit):
    return [np.clip(each, -limit, limit) for each in gradients]


@clip.rejects("comes back as it was")
def _(gradients, limit):
    length = np.sqrt(sum(np.sum(each**2) for each in gradients))
    return list(gradients) if length > limit else [each * limit / length for each in gradients]


@clip.rejects("the root of the sum of all squares")
def _(gradients, limit):
    length = sum(np.linalg.norm(each) for each in gradients)
    return [each * min(1, limit / length) for each in gradients]


@clip.rejects("yours change")
def _(gradients, limit):
    length = np.sqrt(sum(np.sum(each**2) for each in gradients))
    return [each * limit / length for each in gradients]


@clip.rejects("all zeros you return nan")
def _(gradients, limit):
    length = np.sqrt(sum(np.sum(each**2) for each in gradients))
    return [each / length * min(length, limit) for each in gradients]


@clip.rejects("the other way")
def _(gradients, limit):
    length = np.sqrt(sum(np.sum(each**2) for each in gradients))
    return [-each * limit / max(length, limit) for each in gradients]


@clip.rejects("changes the gradients")
def _(gradients, limit):
    length = np.sqrt(sum(np.sum(each**2) for each in gradients))
    for each in gradients:
        each *= min(1, limit / length)
    return gradients


@clip.rejects("a list with an array for each")
def _(gradients, limit):
    return np.sqrt(sum(np.sum(each**2) for each in gradients))


@clip.rejects("same factor")
def _(gradients, limit):
    length = np.sqrt(sum(np.sum(each**2) for each in gradients))
    return [np.sign(each) * limit * np.abs(each) ** 2 / length**2 for each in gradients]


@exercise(
    "One sum for all four gates, `z = x @ kernel + h @ recurrent_kernel + bias`, of shape "
    "(b, 4 · units). `np.split(z, 4, axis=1)` cuts it into the four parts, in Keras' order: "
    "i, f, g, o.",
    "Three of the parts go through `sigmoid`, the candidate g goes through `np.tanh`.",
    "The new cell state is `f * c + i * g`. The new state is `o * np.tanh(…)` of the *new* cell "
    "state.",
)
def lstm_step(answer):
    """Two sequences, three inputs, four units."""
    x, h, c, kernel, recurrent, bias = _random((2, 3), (2, 4), (2, 4), (3, 16), (4, 16), (16,))
    h = np.tanh(h)
    value = _call(answer, x, h, c, kernel, recurrent, bias)
    require(
        isinstance(value, list | tuple) and len(value) == 2,
        "Return two arrays: the new state and the new cell state.",
    )
    new_h, new_c = _array(value[0], (2, 4), "state"), _array(value[1], (2, 4), "cell state")
    parts = np.split(x @ kernel + h @ recurrent + bias, 4, axis=1)
    i, f, g, o = _sigmoid(parts[0]), _sigmoid(parts[1]), np.tanh(parts[2]), _sigmoid(parts[3])
    wanted = f * c + i * g
    require(
        not (_near(new_h, wanted) and _near(new_c, o * np.tanh(wanted))),
        "You return the two the other way round: first the state, then the cell state.",
    )
    _require_cell(new_c, c, parts, wanted)
    require(
        not _near(new_h, o * wanted),
        "The cell state is right. Before the output gate lets it out, it goes through a tanh.",
    )
    require(
        not _near(new_h, o * np.tanh(c)),
        "The cell state is right, but your state is made of the old one.",
    )
    require(
        not _near(new_h, np.tanh(wanted)), "The cell state is right; the output gate is missing."
    )
    require(_near(new_h, o * np.tanh(wanted)), "The cell state is right, the state is not.")


def _require_cell(value, c, parts, wanted):
    """Say what is wrong with a cell state."""
    i, f, g = _sigmoid(parts[0]), _sigmoid(parts[1]), np.tanh(parts[2])
    require(
        not _near(value, i * g), "Your cell state forgets everything: the old one is not in it."
    )
    require(
        not _near(value, c + i * g), "Your cell state forgets nothing: the forget gate is missing."
    )
    require(
        not _near(value, i * c + f * g),
        "Input gate and forget gate are swapped. Keras' order is i, f, g, o.",
    )
    require(
        not _near(value, f * c + i * np.tanh(parts[3])),
        "Candidate and output gate are swapped. Keras' order is i, f, g, o.",
    )
    require(
        not _near(value, f * c + i * _sigmoid(parts[2])),
        "Your candidate goes through a sigmoid, so nothing can ever be taken away from the cell "
        "state. It needs the tanh.",
    )
    require(
        not _near(value, parts[1] * c + parts[0] * parts[2]),
        "Your gates are sums as they are; a gate is a number between 0 and 1.",
    )
    require(
        not _near(value, f * c + (1 - f) * g),
        "That is nearly a GRU: in an LSTM the input gate is not 1 - f but a gate of its own.",
    )
    require(
        _near(value, wanted),
        "Your cell state is not f · c + i · g. Are the four parts in the order i, f, g, o, and is "
        "the bias in?",
    )


@lstm_step.accepts
def _(x, h, c, kernel, recurrent_kernel, bias):
    import keras

    cell = keras.layers.LSTMCell(h.shape[1], dtype="float64")
    cell.build(x.shape)
    cell.set_weights([kernel, recurrent_kernel, bias])
    _, (new_h, new_c) = cell(x, [h, c])
    return np.asarray(new_h), np.asarray(new_c)


@lstm_step.accepts
def _(x, h, c, kernel, recurrent_kernel, bias):
    n = h.shape[1]
    z = x @ kernel + h @ recurrent_kernel + bias
    new_c = _sigmoid(z[:, n : 2 * n]) * c + _sigmoid(z[:, :n]) * np.tanh(z[:, 2 * n : 3 * n])
    return [_sigmoid(z[:, 3 * n :]) * np.tanh(new_c), new_c]


def _lstm(x, h, c, kernel, recurrent, bias, order=(0, 1, 2, 3), candidate=np.tanh):
    z = np.split(x @ kernel + h @ recurrent + bias, 4, axis=1)
    i, f, g, o = (z[place] for place in order)
    new_c = _sigmoid(f) * c + _sigmoid(i) * candidate(g)
    return _sigmoid(o) * np.tanh(new_c), new_c


@lstm_step.rejects("the other way round")
def _(x, h, c, kernel, recurrent_kernel, bias):
    return _lstm(x, h, c, kernel, recurrent_kernel, bias)[::-1]


@lstm_step.rejects("Input gate and forget gate are swapped")
def _(x, h, c, kernel, recurrent_kernel, bias):
    return _lstm(x, h, c, kernel, recurrent_kernel, bias, (1, 0, 2, 3))


@lstm_step.rejects("Candidate and output gate are swapped")
def _(x, h, c, kernel, recurrent_kernel, bias):
    return _lstm(x, h, c, kernel, recurrent_kernel, bias, (0, 1, 3, 2))


@lstm_step.rejects("goes through a sigmoid")
def _(x, h, c, kernel, recurrent_kernel, bias):
    return _lstm(x, h, c, kernel, recurrent_kernel, bias, candidate=_sigmoid)


@lstm_step.rejects("forgets everything")
def _(x, h, c, kernel, recurrent_kernel, bias):
    return _lstm(x, h, 0 * c, kernel, recurrent_kernel, bias)


@lstm_step.rejects("forgets nothing")
def _(x, h, c, kernel, recurrent_kernel, bias):
    i, _, g, o = np.split(x @ kernel + h @ recurrent_kernel + bias, 4, axis=1)
    new_c = c + _sigmoid(i) * np.tanh(g)
    return _sigmoid(o) * np.tanh(new_c), new_c


@lstm_step.rejects("nearly a GRU")
def _(x, h, c, kernel, recurrent_kernel, bias):
    _, f, g, o = np.split(x @ kernel + h @ recurrent_kernel + bias, 4, axis=1)
    new_c = _sigmoid(f) * c + (1 - _sigmoid(f)) * np.tanh(g)
    return _sigmoid(o) * np.tanh(new_c), new_c


@lstm_step.rejects("between 0 and 1")
def _(x, h, c, kernel, recurrent_kernel, bias):
    i, f, g, o = np.split(x @ kernel + h @ recurrent_kernel + bias, 4, axis=1)
    new_c = f * c + i * g
    return o * np.tanh(new_c), new_c


@lstm_step.rejects("is not f · c + i · g")
def _(x, h, c, kernel, recurrent_kernel, bias):
    return _lstm(x, h, c, kernel, recurrent_kernel, 0 * bias)


@lstm_step.rejects("goes through a tanh")
def _(x, h, c, kernel, recurrent_kernel, bias):
    z = np.split(x @ kernel + h @ recurrent_kernel + bias, 4, axis=1)
    _, new_c = _lstm(x, h, c, kernel, recurrent_kernel, bias)
    return _sigmoid(z[3]) * new_c, new_c


@lstm_step.rejects("made of the old one")
def _(x, h, c, kernel, recurrent_kernel, bias):
    z = np.split(x @ kernel + h @ recurrent_kernel + bias, 4, axis=1)
    _, new_c = _lstm(x, h, c, kernel, recurrent_kernel, bias)
    return _sigmoid(z[3]) * np.tanh(c), new_c


@lstm_step.rejects("the output gate is missing")
def _(x, h, c, kernel, recurrent_kernel, bias):
    _, new_c = _lstm(x, h, c, kernel, recurrent_kernel, bias)
    return np.tanh(new_c), new_c


@lstm_step.rejects("Return two arrays")
def _(x, h, c, kernel, recurrent_kernel, bias):
    return _lstm(x, h, c, kernel, recurrent_kernel, bias)[0]


@exercise(
    "Begin with `reset_after=True`. Two sums, each of shape (b, 3 · units): `x @ kernel + bias[0]` "
    "and `h @ recurrent_kernel + bias[1]`. Cut each into three with `np.split`: z, r, g.",
    "`z = sigmoid(xz + hz)`, `r = sigmoid(xr + hr)`, `g = np.tanh(xg + r * hg)`, and the new state "
    "is `z * h + (1 - z) * g`.",
    "With `reset_after=False` there is one bias, and the reset gate acts on the state *before* the "
    "matrix: `np.tanh(xg + (r * h) @ recurrent_kernel[:, 2 * units:])`.",
)
def gru_step(answer):
    """Both conventions; two sequences, three inputs, four units."""
    x, h, kernel, recurrent, two, one = _random((2, 3), (2, 4), (3, 12), (4, 12), (2, 12), (12,))
    h = np.tanh(h)
    for after, bias in ((True, two), (False, one)):
        call = f"With reset_after={after}: "
        given = _call(lambda *a, after=after: answer(*a, after), x, h, kernel, recurrent, bias)
        value = _array(given, (2, 4), f"state with reset_after={after}")
        wanted = _gru(x, h, kernel, recurrent, bias, after)
        require(
            not _near(value, _gru(x, h, kernel, recurrent, bias, after, swap=True)),
            f"{call}z and 1 - z are swapped. In Keras z is the share of the old state that stays.",
        )
        require(
            not _near(value, _gru(x, h, kernel, recurrent, bias, after, order=(1, 0, 2))),
            f"{call}update gate and reset gate are swapped. Keras' order is z, r, g.",
        )
        require(
            not _near(value, _gru(x, h, kernel, recurrent, bias, after, reset=False)),
            f"{call}the reset gate makes no difference to what you return.",
        )
        if after:
            require(
                not _near(value, _gru(x, h, kernel, recurrent, two.sum(axis=0), False)),
                f"{call}you reset the state before the matrix. That is the other convention.",
            )
            require(
                not _near(value, _gru(x, h, kernel, recurrent, _joined(two), True)),
                f"{call}your recurrent bias stands outside of the reset. It belongs to "
                "h · U, and r multiplies both.",
            )
        else:
            both = np.stack([one, 0 * one])
            require(
                not _near(value, _gru(x, h, kernel, recurrent, both, True)),
                f"{call}you reset after the matrix. That is the other convention.",
            )
        require(
            _near(value, wanted),
            f"{call}your new state is not that of a GRU. Are the parts in the order z, r, g, and "
            "are the biases in?",
        )


def _joined(bias):
    return np.stack([bias.sum(axis=0), 0 * bias[0]])


def _gru(x, h, kernel, recurrent, bias, after, order=(0, 1, 2), swap=False, reset=True):
    n = h.shape[1]
    given, recur = bias if after else (bias, 0)
    inputs = np.split(x @ kernel + given, 3, axis=1)
    states = np.split(h @ recurrent + recur, 3, axis=1)
    z, r = (_sigmoid(inputs[place] + states[place]) for place in order[:2])
    if not reset:
        r = np.ones_like(r)
    back = r * states[2] if after else (r * h) @ recurrent[:, 2 * n :]
    g = np.tanh(inputs[2] + back)
    return (1 - z) * h + z * g if swap else z * h + (1 - z) * g


@gru_step.accepts
def _(x, h, kernel, recurrent_kernel, bias, reset_after):
    import keras

    cell = keras.layers.GRUCell(h.shape[1], reset_after=reset_after, dtype="float64")
    cell.build(x.shape)
    cell.set_weights([kernel, recurrent_kernel, bias])
    return np.asarray(cell(x, [h])[0])


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


@gru_step.rejects("With reset_after=True: z and 1 - z are swapped")
def _(x, h, kernel, recurrent_kernel, bias, reset_after):
    return _gru(x, h, kernel, recurrent_kernel, bias, reset_after, swap=True)


@gru_step.rejects("update gate and reset gate are swapped")
def _(x, h, kernel, recurrent_kernel, bias, reset_after):
    return _gru(x, h, kernel, recurrent_kernel, bias, reset_after, order=(1, 0, 2))


@gru_step.rejects("With reset_after=True: the reset gate makes no difference")
def _(x, h, kernel, recurrent_kernel, bias, reset_after):
    return _gru(x, h, kernel, recurrent_kernel, bias, reset_after, reset=False)


@gru_step.rejects("you reset the state before the matrix")
def _(x, h, kernel, recurrent_kernel, bias, reset_after):
    shared = bias.sum(axis=0) if reset_after else bias
    return _gru(x, h, kernel, recurrent_kernel, shared, False)


@gru_step.rejects("outside of the reset")
def _(x, h, kernel, recurrent_kernel, bias, reset_after):
    return _gru(x, h, kernel, recurrent_kernel, _joined(bias), True)


@gru_step.rejects("you reset after the matrix")
def _(x, h, kernel, recurrent_kernel, bias, reset_after):
    both = bias if reset_after else np.stack([bias, 0 * bias])
    return _gru(x, h, kernel, recurrent_kernel, both, True)


@gru_step.rejects("With reset_after=False: the reset gate")
def _(x, h, kernel, recurrent_kernel, bias, reset_after):
    return _gru(x, h, kernel, recurrent_kernel, bias, reset_after, reset=reset_after)


@gru_step.rejects("not that of a GRU")
def _(x, h, kernel, recurrent_kernel, bias, reset_after):
    return _gru(x, h, kernel, recurrent_kernel, 0 * bias, reset_after)


@gru_step.rejects("Is there a `return`?")
def _(x, h, kernel, recurrent_kernel, bias, reset_after):
    _gru(x, h, kernel, recurrent_kernel, bias, reset_after)


@exercise(
    "Where do the windows begin? At 0, stride, 2 · stride, …, as long as the last target, at "
    "start + length - 1 + horizon, is still in the series.",
    "`starts = np.arange(0, len(series) - length - horizon + 1, stride)`, and "
    "`places = starts[:, None] + np.arange(length)` is a table of indices: a row a window.",
    "`series[places]` takes all the windows at once, and `series[places + horizon]` the targets.",
)
def windows(answer):
    """The series 0, 1, 2, …, so that each value tells its place."""
    for size, length, horizon, stride in ((12, 4, 3, 1), (20, 5, 2, 3), (9, 4, 5, 1)):
        call = f"windows(series of {size}, {length}, {horizon}, {stride})"
        series = np.arange(size, dtype=np.float32)
        value = answer(series.copy(), length, horizon, stride)
        require(
            isinstance(value, list | tuple) and len(value) == 2,
            f"`{call}` must return two arrays: inputs and targets.",
        )
        count = (size - length - horizon) // stride + 1
        inputs, targets = value
        with attempt(f"reading what `{call}` returns"):
            inputs, targets = np.asarray(inputs), np.asarray(targets)
        require(
            inputs.ndim == 2 and inputs.shape[1] == length,
            f"`{call}`: your inputs have the shape {inputs.shape}; wanted are rows of {length}.",
        )
        require(
            targets.shape == inputs.shape,
            f"`{call}`: your targets have the shape {targets.shape}, the inputs {inputs.shape}. "
            "Each step of each window has a target.",
        )
        _require_windows(call, inputs, targets, (count, length, horizon, stride, size))


def _require_windows(call, inputs, targets, sizes):
    """Say what is wrong with the windows of the series 0, 1, 2, …."""
    count, length, horizon, stride, size = sizes
    require(len(inputs), f"`{call}` finds no window at all.")
    require(
        len(inputs) == 1 or not np.array_equal(np.diff(inputs[:, 0]), np.full(len(inputs) - 1, 1))
        or stride == 1,
        f"`{call}`: your windows begin one value apart, not {stride}.",
    )  # fmt: skip
    ahead = targets - inputs
    require(
        not np.array_equal(ahead, np.full(ahead.shape, horizon + 1)),
        f"`{call}`: your targets lie {horizon + 1} values ahead, one too far.",
    )
    require(
        not np.array_equal(ahead, np.full(ahead.shape, horizon - 1)),
        f"`{call}`: your targets lie {horizon - 1} values ahead, one too few.",
    )
    require(
        targets.max() <= size - 1 and np.all(ahead == horizon),
        f"`{call}`: not every target is the value {horizon} after its input.",
    )
    require(
        len(inputs) == count,
        f"`{call}` finds {len(inputs)} window(s). Is the last one there whose targets all lie in "
        "the series, and none twice?",
    )
    wanted = stride * np.arange(count)[:, None] + np.arange(length)
    require(
        np.array_equal(inputs, wanted),
        f"`{call}`: the inputs are not consecutive values from 0, {stride}, {2 * stride}, … on.",
    )


def _windows(series, length, horizon, stride):
    starts = np.arange(0, len(series) - length - horizon + 1, stride)
    places = starts[:, None] + np.arange(length)
    return series[places], series[places + horizon]


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


@windows.rejects("Each step of each window has a target")
def _(series, length, horizon, stride):
    inputs, targets = _windows(series, length, horizon, stride)
    return inputs, targets[:, -1]


@windows.rejects("one too far")
def _(series, length, horizon, stride):
    return _windows(series, length, horizon + 1, stride)


@windows.rejects("one too few")
def _(series, length, horizon, stride):
    return _windows(series, length, horizon - 1, stride)


@windows.rejects("begin one value apart")
def _(series, length, horizon, stride):
    return _windows(series, length, horizon, 1)


@windows.rejects("finds 5 window(s)")
def _(series, length, horizon, stride):
    return tuple(each[:-1] if len(each) > 1 else each for each in _windows(
        series, length, horizon, stride))  # fmt: skip


@windows.rejects("out of bounds")
def _(series, length, horizon, stride):
    starts = np.arange(0, len(series) - length + 1, stride)
    places = starts[:, None] + np.arange(length)
    return series[places], series[places + horizon]


@windows.rejects("not every target is the value")
def _(series, length, horizon, stride):
    starts = np.arange(0, len(series) - length + 1, stride)
    places = starts[:, None] + np.arange(length)
    return series[places], np.roll(series, -horizon)[places]


@windows.rejects("must return two arrays")
def _(series, length, horizon, stride):
    return _windows(series, length, horizon, stride)[0]


@windows.rejects("wanted are rows of 4")
def _(series, length, horizon, stride):
    return tuple(each[..., np.newaxis] for each in _windows(series, length, horizon, stride))


@question
def memoryless():
    """The network without memory gets half of the sequences right. Why not more?"""
    return [
        wrong(
            "It was not trained for long enough.",
            "For each test sequence there is one with the same symbols and the other answer. "
            "Longer training cannot tell two equal bags apart.",
        ),
        correct(
            "The mean over the steps is the same in whatever order they come, and here only the "
            "order decides.",
            "It sees the same numbers for both sequences of a pair, so it gives both the same "
            "answer, and one of them is wrong. No size and no training changes that.",
        ),
        wrong(
            "It has too few weights to remember 60 symbols.",
            "It would do no better with a million weights: look at what the mean does to order.",
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
)
def padded_share(answer):
    """Batches that differ in their longest sequence, and one that is not full."""
    lengths = np.array([3, 1, 8, 8, 2, 2, 5])
    given = lengths.copy()
    value = answer(given, 3)
    require((given == lengths).all(), "Your function changes the lengths that it was given.")
    with attempt("reading the number that you return"):
        value = np.asarray(value, float)
    require(value.ndim == 0, f"You return an array of shape {value.shape}; one number is wanted.")
    batches = [lengths[:3], lengths[3:6], lengths[6:]]
    steps = [len(batch) * batch.max() for batch in batches]
    used = [batch.sum() for batch in batches]
    require(
        not np.isclose(value, sum(steps) - sum(used)),
        "You return how many steps are padding; wanted is their share of all steps.",
    )
    require(
        not np.isclose(value, sum(used) / sum(steps)),
        "You return the share of the steps that are used; wanted is the rest.",
    )
    require(
        not np.isclose(value, 100 * (1 - sum(used) / sum(steps))),
        "You return a percentage; a share between 0 and 1 is wanted.",
    )
    require(
        not np.isclose(value, 1 - sum(used) / (len(lengths) * lengths.max())),
        "You pad every batch to the longest sequence of all; it needs only its own longest.",
    )
    require(
        not np.isclose(value, np.mean([1 - u / s for u, s in zip(used, steps, strict=True)])),
        "You take the mean of the batches' shares, but the batches are not of one size. Add up the "
        "steps first.",
    )
    full = sum(3 * batch.max() for batch in batches)
    require(
        not np.isclose(value, 1 - sum(used) / full),
        "You count the last batch as full. It holds one sequence.",
    )
    require(
        not np.isclose(value, 1 - sum(used[:2]) / sum(steps[:2])),
        "You leave the last batch out, as it is not full. It is computed, too.",
    )
    ordered = np.sort(lengths)
    parts = [ordered[:3], ordered[3:6], ordered[6:]]
    in_order = 1 - lengths.sum() / sum(len(part) * part.max() for part in parts)
    require(
        not np.isclose(value, in_order),
        "You sort the lengths first. Take the batches in the order in which they come.",
    )
    require(
        np.isclose(value, 1 - sum(used) / sum(steps)),
        f"For the lengths {lengths.tolist()} in batches of 3 you return {value:.3f}, which is not "
        "the share of the steps that are padding.",
    )


@padded_share.accepts
def _(lengths, batch_size):
    batches = np.array_split(lengths, np.arange(batch_size, len(lengths), batch_size))
    return 1 - sum(map(sum, batches)) / sum(len(batch) * max(batch) for batch in batches)


@padded_share.accepts
def _(lengths, batch_size):
    steps = padding = 0
    for start in range(0, len(lengths), batch_size):
        batch = lengths[start : start + batch_size]
        steps += batch.size * batch.max()
        padding += (batch.max() - batch).sum()
    return padding / steps


def _batches(lengths, size):
    return [lengths[start : start + size] for start in range(0, len(lengths), size)]


@padded_share.rejects("how many steps are padding")
def _(lengths, batch_size):
    return sum((batch.max() - batch).sum() for batch in _batches(lengths, batch_size))


@padded_share.rejects("share of the steps that are used")
def _(lengths, batch_size):
    return lengths.sum() / sum(b.size * b.max() for b in _batches(lengths, batch_size))


@padded_share.rejects("a percentage")
def _(lengths, batch_size):
    return 100 - 100 * lengths.sum() / sum(b.size * b.max() for b in _batches(lengths, batch_size))


@padded_share.rejects("only its own longest")
def _(lengths, batch_size):
    return 1 - lengths.mean() / lengths.max()


@padded_share.rejects("mean of the batches' shares")
def _(lengths, batch_size):
    return np.mean([1 - batch.mean() / batch.max() for batch in _batches(lengths, batch_size)])


@padded_share.rejects("the last batch as full")
def _(lengths, batch_size):
    return 1 - lengths.sum() / sum(batch_size * b.max() for b in _batches(lengths, batch_size))


@padded_share.rejects("leave the last batch out")
def _(lengths, batch_size):
    lengths = lengths[: len(lengths) // batch_size * batch_size]
    return 1 - lengths.sum() / sum(b.size * b.max() for b in _batches(lengths, batch_size))


@padded_share.rejects("sort the lengths first")
def _(lengths, batch_size):
    batches = _batches(np.sort(lengths), batch_size)
    return 1 - lengths.sum() / sum(b.size * b.max() for b in batches)


@padded_share.rejects("one number is wanted")
def _(lengths, batch_size):
    return [1 - batch.mean() / batch.max() for batch in _batches(lengths, batch_size)]


@padded_share.rejects("which is not the share")
def _(lengths, batch_size):
    return 0.25


@question
def keeps_the_kernel():
    """A GPU is there. Which of these layers still runs on cuDNN's kernel?"""
    return [
        wrong(
            "`layers.LSTM(64, recurrent_dropout=0.2)`",
            "The kernel holds the whole loop, and it drops nothing between its steps.",
        ),
        wrong(
            "`layers.LSTM(64, unroll=True)`",
            "Unrolled, there is no loop left that the kernel could replace.",
        ),
        correct(
            "`layers.LSTM(64, dropout=0.2)`",
            "Dropout of the inputs happens before the loop begins, so the kernel never sees it.",
        ),
        wrong(
            "`layers.GRU(64, reset_after=False)`",
            "Keras' default was chosen for the kernel's convention; this is the other one.",
        ),
    ]


@exercise(
    "The recurrent weights of an LSTM with n units: n rows, 4 · n columns.",
    "Each weight is multiplied and added once for each sequence of the batch: two operations. But "
    "it is loaded only once for the whole batch.",
)
def lstm_step_cost(answer):
    """Some sizes, none of them equal."""
    for units, batch, size in ((10, 3, 4), (64, 16, 2)):
        call = f"lstm_step_cost({units}, {batch}, {size})"
        value = answer(units, batch, size)
        require(
            isinstance(value, list | tuple) and len(value) == 2,
            f"`{call}` must return two numbers: operations and bytes.",
        )
        operations, loaded = value
        weights = 4 * units * units
        require(
            (operations, loaded) != (weights * size, 2 * weights * batch),
            f"`{call}`: the two numbers are the other way round: operations first.",
        )
        require(
            operations != 2 * units * units * batch,
            f"`{call}`: your operations are those of a plain recurrent network. An LSTM has four "
            "such matrices.",
        )
        require(
            operations != weights * batch,
            f"`{call}`: you count a multiplication and an addition as one operation.",
        )
        require(
            operations != 2 * weights,
            f"`{call}`: your operations are those of one sequence, and the batch has {batch}.",
        )
        require(
            operations == 2 * weights * batch,
            f"`{call}`: your operations come to {operations}. Each recurrent weight takes part in "
            "a multiplication and an addition, in each sequence of the batch.",
        )
        require(
            loaded != weights * size * batch,
            f"`{call}`: you load the weights once for each sequence. The batch shares them.",
        )
        require(
            loaded != weights, f"`{call}`: you count weights, not bytes; each takes {size} bytes."
        )
        require(
            loaded == weights * size,
            f"`{call}`: your bytes come to {loaded}. Each recurrent weight is loaded once.",
        )


@lstm_step_cost.accepts
def _(units, batch, bytes_each):
    matrix = np.empty((units, 4 * units))
    return 2 * batch * matrix.size, bytes_each * matrix.size


@lstm_step_cost.accepts
def _(units, batch, bytes_each):
    return [8.0 * batch * units**2, 4.0 * bytes_each * units**2]


@lstm_step_cost.rejects("the other way round")
def _(units, batch, bytes_each):
    return 4 * units**2 * bytes_each, 8 * batch * units**2


@lstm_step_cost.rejects("four such matrices")
def _(units, batch, bytes_each):
    return 2 * units**2 * batch, units**2 * bytes_each


@lstm_step_cost.rejects("as one operation")
def _(units, batch, bytes_each):
    return 4 * units**2 * batch, 4 * units**2 * bytes_each


@lstm_step_cost.rejects("those of one sequence")
def _(units, batch, bytes_each):
    return 8 * units**2, 4 * units**2 * bytes_each


@lstm_step_cost.rejects("The batch shares them")
def _(units, batch, bytes_each):
    return 8 * units**2 * batch, 4 * units**2 * bytes_each * batch


@lstm_step_cost.rejects("weights, not bytes")
def _(units, batch, bytes_each):
    return 8 * units**2 * batch, 4 * units**2


@lstm_step_cost.rejects("must return two numbers")
def _(units, batch, bytes_each):
    return 2 * batch / bytes_each


@lstm_step_cost.rejects("your operations come to")
def _(units, batch, bytes_each):
    return 8 * units * batch, 4 * units**2 * bytes_each


@lstm_step_cost.rejects("your bytes come to")
def _(units, batch, bytes_each):
    return 8 * units**2 * batch, 4 * units * bytes_each


BAR, CHALLENGE_SEEDS, HISTORY, HORIZON = 0.0005, 2, 500, 84


@exercise(
    "Begin with the echo state network above. Which of its numbers did nobody tune?",
    "More units, and let the state move only a part of the way at each step: "
    "`h = h / 2 + step(…) / 2`. That makes a slower memory.",
    "With 800 units, such a slower state, and a ridge of 1e-12, the bar is well within reach.",
)
def train_forecaster(answer):
    """Trains from two seeds on the training series, and forecasts 80 places of the test series."""
    from dltlab import data

    train, test = (data.series("mackey_glass", split) for split in ("train", "test"))
    starts = np.arange(0, len(test) - HISTORY - HORIZON, 17)[:80]
    histories = test[starts[:, None] + np.arange(HISTORY)]
    targets = test[starts + HISTORY - 1 + HORIZON].astype(float)
    errors = []
    previous = np.empty(0)
    for seed in range(CHALLENGE_SEEDS):
        forecast = answer(train.copy(), seed)
        require(
            callable(forecast),
            f"You return an object of type `{type(forecast).__name__}`; a function that forecasts "
            "is wanted.",
        )
        with attempt(f"forecasting from histories of shape {histories.shape}"):
            value = np.asarray(forecast(histories.copy()), float)
        require(
            value.shape == targets.shape,
            f"For histories of shape {histories.shape} your forecasts have the shape "
            f"{value.shape}; one value for each is wanted, {targets.shape}.",
        )
        require(np.isfinite(value).all(), "Some of your forecasts are no finite numbers.")
        require(
            not np.array_equal(value, previous),
            f"Seeds {seed - 1} and {seed} forecast the same: let everything random follow `seed`.",
        )
        previous = value
        errors.append(float(np.sqrt(np.mean((value - targets) ** 2)) / targets.std()))
        listed = ", ".join(f"{error:.5f}" for error in errors)
        require(
            sum(errors) <= BAR * CHALLENGE_SEEDS,
            f"Normalized error 84 steps ahead: {listed}. A mean of {BAR} over {CHALLENGE_SEEDS} "
            "seeds is out of reach now.",
        )
    return f"A mean normalized error of {np.mean(errors):.5f} ({listed}); the bar is {BAR}."


@train_forecaster.rejects("a function that forecasts is wanted")
def _(series, seed):
    return series[-84:]


@train_forecaster.rejects("raised")
def _(series, seed):
    return lambda histories: series @ histories


@train_forecaster.rejects("one value for each is wanted")
def _(series, seed):
    return lambda histories: histories


@train_forecaster.rejects("no finite numbers")
def _(series, seed):
    return lambda histories: np.full(len(histories), np.nan)


@train_forecaster.rejects("error 84 steps ahead: 1.")
def _(series, seed):
    return lambda histories: histories[:, -1]


@train_forecaster.rejects("error 84 steps ahead: 0.")
def _(series, seed):
    inputs, targets = _windows(series.astype(float), 100, HORIZON, 1)
    weights = np.linalg.lstsq(np.c_[inputs, np.ones(len(inputs))], targets[:, -1])[0]
    return lambda histories: histories[:, -100:] @ weights[:-1] + weights[-1]
