"""Exercises of the draft of lab 05, Arithmetic of training."""

import numpy as np

from dltlab.exercises import Integer, exercise


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
