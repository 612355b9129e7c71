"""Exercises of lab 09, Collectives."""

import numpy as np

from dltlab import distribute
from dltlab.errors import Invalid
from dltlab.exercises import (
    Array,
    Number,
    correct,
    exercise,
    question,
    random_arrays,
    require,
    wrong,
)


def _run(algorithm, arrays, collective=distribute.all_reduce):
    """Run a function on all ranks; reject it where its messages do not fit together."""
    try:
        return collective(arrays, algorithm=algorithm)
    except Invalid as error:
        require(False, str(error))


def _neighbors(comm):
    """Return the number of ranks, this rank, and those to its left and right."""
    n, rank = comm.size, comm.rank
    return n, rank, (rank - 1) % n, (rank + 1) % n


def _observe_scatter(answer, arrays):
    """Return what the ranks return, and the bytes that they send."""
    run = _run(answer, arrays, distribute.reduce_scatter)
    return run.outputs, run.bytes_sent


@exercise(
    "In step 0, rank r sends piece r - 1, so that piece p starts at rank p + 1. In each later step "
    "it sends the piece that has just arrived.",
    "In step t, rank r sends piece r - 1 - t and receives piece r - 2 - t, both modulo n.",
    "In a loop over n - 1 steps: `comm.send(pieces[(rank - 1 - step) % n], right)`, then add "
    "`comm.receive(left)` to `pieces[(rank - 2 - step) % n]`. At the end return `pieces[rank]`.",
    returns=([Array("part")], Array("bytes")),
    otherwise={
        "part": "At least one rank does not return its part of the sum: rank r returns piece r, "
        "summed over all ranks.",
        "bytes": "Your parts are correct, but the ranks send more than needed: in each of n - 1 "
        "steps, one piece.",
    },
    observe=_observe_scatter,
)
def reduce_scatter():
    yield (list(random_arrays(*4 * [(8,)])),)
    yield (list(random_arrays(*3 * [(9,)])),)


def _pass_pieces(array, comm, first, num_steps, add=True):
    """Pass the pieces around the ring, beginning with the piece `rank + first`."""
    n, rank, left, right = _neighbors(comm)
    pieces = np.array_split(array, n)
    for step in range(num_steps(n)):
        arriving = (rank + first - 1 - step) % n
        comm.send(pieces[(arriving + 1) % n], right)
        received = comm.receive(left)
        pieces[arriving] = pieces[arriving] + received if add else received
    return pieces


def _all_but_one(n):
    return n - 1


@reduce_scatter.mistake(
    "You return the original piece of one rank; nothing was added to it. Which piece arrives in "
    "the last step? With which piece must a rank start so that this is piece r?",
)
def _(array, comm):
    return _pass_pieces(array, comm, 0, _all_but_one)[comm.rank]


@reduce_scatter.mistake(
    "You start with piece `rank + 1`, your right neighbor's. It reaches its owner after one step, "
    "but is complete only after n - 1 steps.",
)
def _(array, comm):
    return _pass_pieces(array, comm, 1, _all_but_one)[comm.rank]


@reduce_scatter.mistake(
    "What arrives replaces your own piece, so this rank's data is lost. Add it instead."
)
def _(array, comm):
    return _pass_pieces(array, comm, -1, _all_but_one, add=False)[comm.rank]


@reduce_scatter.mistake("You stop one step too early: with n ranks there are n - 1 steps.")
def _(array, comm):
    return _pass_pieces(array, comm, -1, lambda n: n - 2)[comm.rank]


@reduce_scatter.mistake(
    "You take n steps: after n - 1, every piece is complete, and one more adds it up a second time."
)
def _(array, comm):
    return _pass_pieces(array, comm, -1, lambda n: n)[comm.rank]


@reduce_scatter.mistake(
    "Your piece is complete, but it is that of your right neighbor: begin one piece earlier."
)
def _(array, comm):
    return _pass_pieces(array, comm, 0, _all_but_one)[(comm.rank + 1) % comm.size]


@reduce_scatter.mistake("You return the piece before yours: rank r returns piece r.")
def _(array, comm):
    return _pass_pieces(array, comm, -1, _all_but_one)[comm.rank - 1]


@reduce_scatter.mistake(
    "You send the same piece in every step. Send on the piece that has just arrived."
)
def _(array, comm):
    n, rank, left, right = _neighbors(comm)
    pieces = np.array_split(array, n)
    for step in range(n - 1):
        comm.send(pieces[(rank - 1) % n], right)
        arriving = (rank - 2 - step) % n
        pieces[arriving] = pieces[arriving] + comm.receive(left)
    return pieces[rank]


@reduce_scatter.mistake(
    "Your parts are correct, but each message is a whole array. Send one piece in each step."
)
def _(array, comm):
    n, rank, left, right = _neighbors(comm)
    total, passing = array, array
    for _ in range(n - 1):
        comm.send(passing, right)
        passing = comm.receive(left)
        total = total + passing
    return np.array_split(total, n)[rank]


@reduce_scatter.accepts
def _(array, comm):
    n, rank = comm.size, comm.rank
    pieces = np.array_split(array, n)
    for distance in range(1, n):  # each piece directly to the rank that sums it
        comm.send(pieces[(rank + distance) % n], (rank + distance) % n)
    return sum((comm.receive((rank - i) % n) for i in range(1, n)), start=pieces[rank]).tolist()


@reduce_scatter.accepts
def _(array, comm):
    n, rank, left, right = _neighbors(comm)
    pieces = np.array_split(array.copy(), n)
    for piece in range(rank + 1, rank + n):  # the other way around
        comm.send(pieces[piece % n], left)
        pieces[(piece + 1) % n] += comm.receive(right)
    return pieces[rank]


@reduce_scatter.rejects("Ranks wait for messages that are never sent: rank 0 for rank 3, rank 1")
def _(array, comm):
    n, rank, left, right = _neighbors(comm)
    pieces = np.array_split(array, n)
    for step in range(n - 1):
        pieces[(rank - 2 - step) % n] += comm.receive(left)
        comm.send(pieces[(rank - 1 - step) % n], right)
    return pieces[rank]


@reduce_scatter.rejects("Your part has the shape (8,); expected (2,)")
def _(array, comm):
    return np.concatenate(_pass_pieces(array, comm, -1, _all_but_one))


@reduce_scatter.rejects("wants to send to rank 4, which is not a rank from 0 to 3")
def _(array, comm):
    pieces = np.array_split(array, comm.size)
    comm.send(pieces[comm.rank - 1], comm.rank + 1)
    return comm.receive((comm.rank - 1) % comm.size)


@reduce_scatter.rejects("At least one rank does not return its part of the sum")
def _(array, comm):
    return 2 * _pass_pieces(array, comm, -1, _all_but_one)[comm.rank]


@reduce_scatter.rejects("the ranks send more than needed")
def _(array, comm):
    _, rank, left, right = _neighbors(comm)
    pieces = _pass_pieces(array, comm, -1, _all_but_one)
    comm.send(array, right)
    comm.receive(left)
    return pieces[rank]


def _observe_gather(answer, arrays):
    """Return what the ranks return, and the bytes that they send, after a reduce-scatter."""
    scatter = reduce_scatter.reference()
    run = _run(lambda array, comm: answer(scatter(array, comm), comm), arrays)
    return run.outputs, run.bytes_sent


@exercise(
    "In step 0 a rank sends its own part, in each later step the one that has just arrived.",
    "In step t, rank r sends piece r - t and receives piece r - 1 - t, both modulo n.",
    "In a loop over n - 1 steps: `comm.send(pieces[(rank - step) % n], right)`, then "
    "`pieces[(rank - 1 - step) % n] = comm.receive(left)`. At the end return "
    "`np.concatenate(pieces)`.",
    returns=([Array("array")], Array("bytes")),
    otherwise={
        "array": "At least one rank does not return the whole array, with the pieces in the order "
        "of the ranks.",
        "bytes": "Your arrays are correct, but the ranks send more than needed: in each of n - 1 "
        "steps, one piece.",
    },
    observe=_observe_gather,
)
def all_gather():
    yield (list(random_arrays(*4 * [(8,)])),)
    yield (list(random_arrays(*3 * [(9,)])),)


@all_gather.mistake(
    "Your pieces are in the order in which they arrived. Return them in the order of the ranks."
)
def _(part, comm):
    n, _, left, right = _neighbors(comm)
    pieces = [part]
    for _ in range(n - 1):
        comm.send(pieces[-1], right)
        pieces.append(comm.receive(left))
    return np.concatenate(pieces)


@all_gather.mistake(
    "You send your own part in every step, so that only your right neighbor gets it. Send on what "
    "has just arrived."
)
def _(part, comm):
    n, rank, left, right = _neighbors(comm)
    pieces = n * [part]
    for step in range(n - 1):
        comm.send(part, right)
        pieces[(rank - 1 - step) % n] = comm.receive(left)
    return np.concatenate(pieces)


@all_gather.mistake("Each piece is one place too far to the right: which one arrives in step 0?")
def _(part, comm):
    n, rank, left, right = _neighbors(comm)
    pieces = n * [part]
    for step in range(n - 1):
        comm.send(pieces[(rank - step + 1) % n] if step else part, right)
        pieces[(rank - step) % n] = comm.receive(left)
    pieces[(rank + 1) % n] = part
    return np.concatenate(pieces)


@all_gather.mistake("Your arrays are correct, but a rank sends all that it has in every step.")
def _(part, comm):
    n, rank, left, right = _neighbors(comm)
    known = {rank: part}
    for step in range(n - 1):
        for number in range(rank - step, rank + 1):
            comm.send(known[number % n], right)
        for number in range(rank - 1 - step, rank):
            known[number % n] = comm.receive(left)
    return np.concatenate([known[number] for number in range(n)])


@all_gather.accepts
def _(part, comm):
    others = [rank for rank in range(comm.size) if rank != comm.rank]
    for rank in others:  # directly, without the ring
        comm.send(part, rank)
    pieces = {rank: comm.receive(rank) for rank in others} | {comm.rank: part}
    return np.concatenate([pieces[rank] for rank in sorted(pieces)]).tolist()


@all_gather.accepts
def _(part, comm):
    n, rank, left, right = _neighbors(comm)
    pieces = n * [part]
    for step in range(1, n):  # the other way around
        comm.send(pieces[(rank + step - 1) % n], left)
        pieces[(rank + step) % n] = comm.receive(right)
    return np.hstack(pieces)


@all_gather.rejects("Your array has the shape (4, 2); expected (8,)")
def _(part, comm):
    n, rank, left, right = _neighbors(comm)
    pieces = n * [part]
    for step in range(n - 1):
        comm.send(pieces[(rank - step) % n], right)
        pieces[(rank - 1 - step) % n] = comm.receive(left)
    return pieces


@all_gather.rejects("Ranks wait for messages that are never sent")
def _(part, comm):
    _, _, left, right = _neighbors(comm)
    received = comm.receive(left)
    comm.send(part, right)
    return np.concatenate([part, received])


@all_gather.rejects("does not return the whole array, with the pieces in the order")
def _(part, comm):
    return np.tile(part, comm.size)


@all_gather.rejects("the ranks send more than needed")
def _(part, comm):
    if comm.rank == 0:
        comm.send(part, 1)
    elif comm.rank == 1:
        comm.receive(0)
    return all_gather.reference()(part, comm)


_FACTORS = {
    "all_reduce": lambda n: 2 * (n - 1) / n,
    "reduce_scatter": lambda n: (n - 1) / n,
    "all_gather": lambda n: (n - 1) / n,
    "reduce": lambda n: 1,
    "broadcast": lambda n: 1,
}


@exercise(
    "The table above has the bytes that a rank sends, divided by the size of the array. For which "
    "functions does that number depend on n, and how?",
    "(n - 1) / n for a reduce-scatter and an all-gather, the sum of both for an all-reduce, and 1 "
    "for a reduce and a broadcast: the root receives or sends the whole array.",
    "A dict from the name of the function to its factor; multiply by num_bytes and divide by "
    "seconds.",
    returns=Number("bus bandwidth"),
    otherwise="`{call}` returns {value}. It should be the bytes that the busiest link must carry, "
    "divided by the seconds.",
)
def bus_bandwidth():
    yield "all_reduce", 1000.0, 0.5, 4
    yield "all_gather", 3000.0, 2.0, 3
    yield "reduce_scatter", 1e6, 0.001, 16
    yield "reduce", 500.0, 0.1, 2
    yield "broadcast", 200.0, 4.0, 8


@bus_bandwidth.mistakes
def _(collective, num_bytes, seconds, num_ranks):
    n, algbw = num_ranks, num_bytes / seconds
    factor = _FACTORS[collective](n)
    is_rooted = collective in ("reduce", "broadcast")
    yield "You return the size divided by the time, which is the algorithm bandwidth.", algbw
    yield "You return seconds per byte. Divide the bytes by the seconds.", factor / algbw
    yield "You return bits. Return bytes per second.", 8 * factor * algbw
    yield (
        "You multiply by n / (n - 1) instead of (n - 1) / n: a rank sends less than the whole.",
        algbw / factor if not is_rooted else ...,
    )
    yield (
        "An all-reduce is a reduce-scatter and an all-gather: it takes the bytes of both.",
        (n - 1) / n * algbw if not is_rooted else ...,
    )
    yield (
        "You use the factor of an all-reduce for all functions. Which of them do half of its work?",
        2 * (n - 1) / n * algbw,
    )
    yield (
        "In a reduce and a broadcast, the whole array passes the link of the root: factor 1.",
        (n - 1) / n * algbw if is_rooted else ...,
    )
    yield (
        "In a reduce and a broadcast, the root exchanges data with one neighbor, not with all n - "
        "1 ranks.",
        (n - 1) * algbw if is_rooted else ...,
    )
    yield "You count the bytes of all ranks together. Count those of one link.", n * factor * algbw


@bus_bandwidth.accepts
def _(collective, num_bytes, seconds, num_ranks):
    return np.float32(distribute.bandwidth(collective, num_bytes, seconds, num_ranks).busbw)


@bus_bandwidth.rejects("It should be the bytes that the busiest link must carry")
def _(collective, num_bytes, seconds, num_ranks):
    return 7.0


@exercise(
    "How many steps does your ring take? How many bytes does a message have?",
    "2(n - 1) steps. Each message is a piece, num_bytes / n bytes.",
    "The number of steps times the time of one message, alpha + beta * num_bytes / n.",
    returns=Number("time"),
    otherwise="`{call}` returns {value}. Multiply the number of steps by the time of one message.",
)
def ring_seconds():
    yield 1000.0, 4, 0.5, 0.001
    yield 600.0, 3, 0.01, 0.02
    yield 1e8, 8, 1e-5, 1e-10


@ring_seconds.mistakes
def _(num_bytes, num_ranks, alpha, beta):
    n, piece = num_ranks, num_bytes / num_ranks
    steps = 2 * (n - 1)
    yield (
        "You count the latency once. Each step waits for it again.",
        alpha + steps * beta * piece,
    )
    yield "A message is one piece, not the whole array.", steps * (alpha + beta * num_bytes)
    yield (
        "You count the steps of one half. After the reduce-scatter comes the all-gather.",
        (n - 1) * (alpha + beta * piece),
    )
    yield "Each half has n - 1 steps, not n.", 2 * n * (alpha + beta * piece)
    yield (
        "You add the times of all ranks. They send at the same time.",
        n * steps * (alpha + beta * piece),
    )
    yield (
        "You divide by beta. It is the seconds for one byte, so multiply by it.",
        steps * (alpha + piece / beta),
    )
    yield "You leave the latency out.", steps * beta * piece
    yield "You leave the bytes out.", steps * alpha


@ring_seconds.accepts
def _(num_bytes, num_ranks, alpha, beta):
    factor = 2 - 2 / num_ranks
    return np.array(factor * (num_ranks * alpha + num_bytes * beta))


@ring_seconds.rejects("Multiply the number of steps")
def _(num_bytes, num_ranks, alpha, beta):
    return 7.0


@exercise(
    "Divided by the measured time, the prediction should be 1 for every size. That is linear in "
    "alpha and beta: alpha · (1 / t) + beta · (b / t) = 1.",
    "`np.linalg.lstsq(matrix, ones)[0]` solves it, where the columns of the matrix are 1 / seconds "
    "and num_bytes / seconds.",
    "`matrix = np.column_stack([1 / seconds, num_bytes / seconds])`, then "
    "`alpha, beta = np.linalg.lstsq(matrix, np.ones(len(seconds)))[0]`.",
    returns=(Number("alpha"), Number("beta")),
    otherwise={
        "alpha": "Your alpha, {value}, does not minimize the squares of the relative errors.",
        "beta": "Your alpha is correct, but your beta, {value}, is not.",
    },
)
def fit_line():
    noise = 1 + 0.1 * random_arrays((7,))[0]
    sizes = 8.0 ** np.arange(1, 8)
    yield sizes, (2e-4 + 1e-9 * sizes) * noise
    yield sizes[2:], (5.0 + 0.003 * sizes[2:]) * noise[2:]


def _line(num_bytes, seconds, weights):
    """Return alpha and beta of a line, fitted with the errors multiplied by weights."""
    beta, alpha = np.polyfit(num_bytes, seconds, 1, w=weights)
    return alpha, beta


@fit_line.mistakes
def _(num_bytes, seconds):
    alpha, beta = _line(num_bytes, seconds, 1 / seconds)
    yield "You return beta, alpha. Return alpha first.", (beta, alpha)
    yield "You return the bandwidth, 1 / beta. Return beta.", (alpha, 1 / beta)
    yield "You return alpha in microseconds. Return seconds.", (1e6 * alpha, ...)
    yield (
        "You minimize the absolute errors, so that only the largest sizes count: an error of 10 % "
        "is large there and tiny at 8 bytes. Divide each error by the measured time.",
        _line(num_bytes, seconds, np.ones_like(seconds)),
    )
    yield (
        "You weight the squares of the errors by 1 / seconds. It is the errors that are divided, "
        "before they are squared.",
        _line(num_bytes, seconds, seconds**-0.5),
    )
    yield (
        "You divide the errors by the square of the time. Divide by the time.",
        _line(num_bytes, seconds, seconds**-2),
    )
    yield (
        "You divide the errors by the size. Divide by the measured time.",
        _line(num_bytes, seconds, 1 / num_bytes),
    )
    yield (
        "You take alpha from the smallest size alone. Fit alpha and beta to all sizes.",
        (seconds[0], ...),
    )


@fit_line.accepts
def _(num_bytes, seconds):
    return list(_line(num_bytes, seconds, 1 / seconds))


@fit_line.accepts
def _(num_bytes, seconds):
    fit = distribute.fit_alpha_beta(num_bytes, seconds)
    return np.array([fit.alpha, fit.beta])


@fit_line.rejects("does not minimize the squares of the relative errors")
def _(num_bytes, seconds):
    return 7.0, 7.0


@fit_line.rejects("Your alpha is correct, but your beta")
def _(num_bytes, seconds):
    alpha, beta = _line(num_bytes, seconds, 1 / seconds)
    return alpha, 2 * beta


@question
def more_ranks():
    """A ring of 8 ranks becomes one of 16, and the array stays the same.

    What happens to the bytes that each rank sends in an all-reduce?
    """
    return [
        wrong("They double.", "The number of pieces doubles, but each is half as large."),
        wrong(
            "They halve, since each piece is half as large.",
            "There are also twice as many steps, and a bit more than that.",
        ),
        correct(
            "They grow by a fourteenth: the factor goes from 1.75 to 1.875.",
            "2(n-1)/n approaches 2. What does grow with n is the number of steps.",
        ),
        wrong(
            "They stay the same, whatever the number of ranks.",
            "Nearly, but look at the factor: 2(n-1)/n for 8 and for 16.",
        ),
    ]


@question
def who_wins():
    """With 8 ranks, the tree is faster than the ring for small arrays.

    From 8 to 512 ranks, what happens to the size up to which it is faster?
    """
    return [
        correct(
            "It grows: the ring's steps increase with n, those of the tree with its logarithm.",
            "So a library chooses the algorithm by the size of the array and the number of ranks.",
        ),
        wrong(
            "It shrinks: each piece of the ring gets smaller, so its messages take less time.",
            "They do, but each still takes the latency, and there are more of them.",
        ),
        wrong(
            "It stays the same, since latency and bandwidth are the same.",
            "The crossing depends on the number of steps, too. How does it change for each?",
        ),
    ]


@question
def faster_than_the_link():
    """Eight H100 reach a bus bandwidth of 480 GB/s over links of 450 GB/s.

    How can that be?
    """
    return [
        wrong(
            "The links are faster than their line rate.",
            "A link may be slower than its line rate, not faster. Where is the sum computed?",
        ),
        wrong(
            "The time was measured before the last message had arrived.",
            "nccl-tests waits for the result, and compares it with the correct one.",
        ),
        wrong(
            "Half precision halves the bytes.",
            "The bandwidth counts the bytes of the array as it is, in any precision.",
        ),
        correct(
            "The switch adds the arrays, so that each GPU sends its array once.",
            "The factor 2(n-1)/n is for ranks that add. With NVLink SHARP, fewer bytes pass the "
            "link than the formula counts, so this bus bandwidth is no longer the speed of a link.",
        ),
    ]


# The challenge.

_NUM_RANKS = 8
_ALPHA, _BETA = 10e-6, 1 / 10e9
_SMALL, _LARGE = 128, 2**19  # elements of float64: 1 kB and 4 MB
SMALL_BAR, LARGE_BAR = 0.5, 1.001  # times the time of a ring


@exercise(
    "In a ring, a piece needs n - 1 steps to reach everyone. If ranks r and r ^ 1 exchange what "
    "they have, then r and r ^ 2, then r and r ^ 4, everyone has everything after 3 steps.",
    "Halve what you exchange: in the first step, rank r and its partner r ^ 4 each send the half "
    "that the partner will sum. After 3 steps a rank has an eighth of the sum.",
    "Then reverse the steps: in each, partners exchange everything they have of the sum.",
)
def fast_all_reduce(answer):
    """Run it on 8 ranks with a small and a large array, and compare its time with a ring's."""
    measured = []
    for length, bar in ((_SMALL, SMALL_BAR), (_LARGE, LARGE_BAR)):
        arrays = list(np.random.default_rng(1).normal(size=(_NUM_RANKS, length)))
        run = _run(answer, arrays)
        total = np.sum(arrays, axis=0)
        for rank, output in enumerate(run.outputs):
            require(
                output is not None
                and output.shape == total.shape
                and np.allclose(output, total, atol=1e-9),
                f"With {run.num_bytes:,} bytes, rank {rank} does not return the sum of all arrays.",
            )
        seconds = run.seconds(_ALPHA, _BETA)
        ring = distribute.all_reduce(arrays).seconds(_ALPHA, _BETA)
        size = f"{run.num_bytes:,} bytes"
        require(
            seconds <= bar * ring,
            f"With {size}, your all-reduce takes {len(run.steps)} steps, {1e6 * seconds:.0f} µs. "
            f"That is {seconds / ring:.2f} times the {1e6 * ring:.0f} µs of a ring; the bar is "
            f"{bar:.1f} times.",
        )
        measured.append(f"{seconds / ring:.2f} times a ring's time with {size}")
    return f"{' and '.join(measured)}. The bars are {SMALL_BAR} and {LARGE_BAR:.0f}."


@fast_all_reduce.accepts
def _(array, comm):
    if array.nbytes > 1e5:  # a ring, else each with a partner at twice the distance each time
        part = reduce_scatter.reference()(array, comm)
        return all_gather.reference()(part, comm)
    for distance in (1, 2, 4):
        comm.send(array, comm.rank ^ distance)
        array = array + comm.receive(comm.rank ^ distance)
    return array


@fast_all_reduce.rejects("With 1,024 bytes, your all-reduce takes 14 steps")
def _(array, comm):
    part = reduce_scatter.reference()(array, comm)
    return all_gather.reference()(part, comm)


@fast_all_reduce.rejects("With 4,194,304 bytes, your all-reduce takes 3 steps")
def _(array, comm):
    for distance in (1, 2, 4):
        comm.send(array, comm.rank ^ distance)
        array = array + comm.receive(comm.rank ^ distance)
    return array


@fast_all_reduce.rejects("With 1,024 bytes, rank 0 does not return the sum")
def _(array, comm):
    comm.send(array, comm.rank ^ 1)
    return array + comm.receive(comm.rank ^ 1)


@fast_all_reduce.rejects("Ranks wait for messages that are never sent")
def _(array, comm):
    return comm.receive(comm.rank ^ 1)
