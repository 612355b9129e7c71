"""Convert the time of a collective to bandwidths that can be compared: `bandwidth`."""

from typing import NamedTuple

from dltlab.errors import Invalid

# (a, b): with n ranks, the bus bandwidth is (a·n − b) / n times the algorithm bandwidth.
_FACTORS = {
    "all_reduce": (2, 2),
    "all_gather": (1, 1),
    "reduce_scatter": (1, 1),
    "broadcast": (1, 0),
    "reduce": (1, 0),
}


class Bandwidth(NamedTuple):
    """What `bandwidth` returns, in bytes per second.

    Attributes:
        algbw: The algorithm bandwidth, the size of the array divided by the time.
        busbw: The bus bandwidth, which can be compared with the speed of a link for any number of
            ranks.
    """

    algbw: float
    busbw: float


def bandwidth(collective: str, num_bytes: float, seconds: float, num_ranks: int) -> Bandwidth:
    """Convert the time of a collective to its algorithm and bus bandwidth, as nccl-tests does.

    The bus bandwidth is the algorithm bandwidth times 2(n−1)/n for an all-reduce, (n−1)/n for an
    all-gather or a reduce-scatter, and 1 for a broadcast or a reduce, with n ranks
    (github.com/NVIDIA/nccl-tests, doc/PERFORMANCE.md).

    Args:
        collective: "all_reduce", "all_gather", "reduce_scatter", "broadcast" or "reduce".
        num_bytes: The size of the whole array: what each rank ends with in an all-gather, what each
            rank starts with in a reduce-scatter.
        seconds: The time that the collective took.
        num_ranks: The number of ranks.

    Raises:
        Invalid: The collective is not known, or a number is out of its range.
    """
    if collective not in _FACTORS:
        raise Invalid(f"There is no collective {collective!r}; it is one of {', '.join(_FACTORS)}.")
    if not num_bytes >= 0 or not seconds > 0 or num_ranks < 1:
        raise Invalid(
            f"num_bytes is {num_bytes}, seconds {seconds} and num_ranks {num_ranks}; they must be "
            "at least 0, more than 0, and at least 1."
        )
    algbw = num_bytes / seconds
    ranks_factor, constant = _FACTORS[collective]
    return Bandwidth(algbw, algbw * (ranks_factor * num_ranks - constant) / num_ranks)
