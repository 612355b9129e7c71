"""The steps of collective algorithms: which rank sends which pieces to which rank.

A schedule is a sequence of steps. The messages of a step are sent at the same time, each rank sends
at most one and receives at most one. A schedule run backwards, with every message reversed and
combined instead of copied, is a schedule of the opposite collective: a broadcast becomes a reduce,
an all-gather becomes a reduce-scatter (E. Chan, M. Heimlich, A. Purkayastha, R. van de Geijn,
Collective communication: theory, practice, and experience, 2007).

Thakur and others 2005 is R. Thakur, R. Rabenseifner, W. Gropp, Optimization of collective
communication operations in MPICH, International Journal of High Performance Computing
Applications 19(1), 2005.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Message:
    """What one rank sends to another in a step.

    Attributes:
        source: The rank that sends.
        target: The rank that receives.
        pieces: The numbers of the pieces that are sent.
        reduces: Whether the target combines them with its own pieces instead of replacing these.
    """

    source: int
    target: int
    pieces: tuple[int, ...]
    reduces: bool = False


Step = tuple[Message, ...]
Steps = Iterator[Step]


def opposite(steps: Steps, *, reduces: bool = True) -> Steps:
    """Yield the steps of the opposite collective."""
    for step in reversed(list(steps)):
        yield tuple(
            Message(message.target, message.source, message.pieces, reduces) for message in step
        )


def ring_all_gather(num_ranks: int, direction: int = 1) -> Steps:
    """Pass the pieces around a ring: n−1 steps, in each of which a rank sends one piece."""
    for step in range(num_ranks - 1):
        yield tuple(
            Message(rank, (rank + direction) % num_ranks, ((rank - direction * step) % num_ranks,))
            for rank in range(num_ranks)
        )


def bruck_all_gather(num_ranks: int) -> Steps:
    """Double the number of pieces of each rank in each of ⌈log2 n⌉ steps, for any number of ranks.

    J. Bruck and others, Efficient algorithms for all-to-all communications in multiport
    message-passing systems, 1997; Thakur and others 2005, section 4.1. In the last step, only the
    pieces that are still missing are sent.
    """
    distance = 1
    while distance < num_ranks:
        count = min(distance, num_ranks - distance)
        yield tuple(
            Message(
                rank,
                (rank - distance) % num_ranks,
                tuple((rank + offset) % num_ranks for offset in range(count)),
            )
            for rank in range(num_ranks)
        )
        distance *= 2


def tree_broadcast(num_ranks: int, root: int) -> Steps:
    """Send the whole array along a binomial tree: ⌈log2 n⌉ steps."""
    yield from _binomial_tree(num_ranks, root, scatters=False)


def scatter_all_gather_broadcast(num_ranks: int, root: int) -> Steps:
    """Scatter n pieces along a binomial tree, then gather them in a ring.

    The algorithm of van de Geijn for long arrays (Thakur and others 2005, section 4.2).
    """
    yield from _binomial_tree(num_ranks, root, scatters=True)
    yield from _renumbered(ring_all_gather(num_ranks), num_ranks, root)


def ring_broadcast(num_ranks: int, root: int) -> Steps:
    """Pass n pieces along the ring in a pipeline, as NCCL does: 2n−2 steps."""
    for step in range(2 * num_ranks - 2):
        first = max(0, step - num_ranks + 1)
        yield tuple(
            Message((root + hop) % num_ranks, (root + hop + 1) % num_ranks, (step - hop,))
            for hop in range(first, min(step, num_ranks - 2) + 1)
        )


def ring_reduce_scatter(num_ranks: int) -> Steps:
    """Reduce the pieces on their way around a ring: n−1 steps. Rank i ends with piece i."""
    yield from opposite(ring_all_gather(num_ranks, direction=-1))


def bruck_reduce_scatter(num_ranks: int) -> Steps:
    """Halve the number of pieces of each rank in each of ⌈log2 n⌉ steps."""
    yield from opposite(bruck_all_gather(num_ranks))


def tree_reduce(num_ranks: int, root: int) -> Steps:
    """Reduce the whole array along a binomial tree: ⌈log2 n⌉ steps."""
    yield from opposite(tree_broadcast(num_ranks, root))


def reduce_scatter_gather_reduce(num_ranks: int, root: int) -> Steps:
    """Reduce-scatter n pieces in a ring, then gather them along a binomial tree.

    As Rabenseifner's algorithm for long arrays (Thakur and others 2005, section 4.5), with a ring
    in the place of recursive halving, so that any number of ranks takes part.
    """
    yield from _renumbered(opposite(ring_all_gather(num_ranks)), num_ranks, root)
    yield from opposite(_binomial_tree(num_ranks, root, scatters=True), reduces=False)


def ring_reduce(num_ranks: int, root: int) -> Steps:
    """Reduce n pieces along the ring in a pipeline, as NCCL does: 2n−2 steps."""
    yield from opposite(ring_broadcast(num_ranks, root))


def ring_all_reduce(num_ranks: int) -> Steps:
    """Reduce-scatter and all-gather n pieces in a ring: 2(n−1) steps.

    P. Patarasu, X. Yuan, Bandwidth optimal all-reduce algorithms for clusters of workstations,
    2009.
    """
    yield from ring_reduce_scatter(num_ranks)
    yield from ring_all_gather(num_ranks)


def tree_all_reduce(num_ranks: int) -> Steps:
    """Reduce the whole array to rank 0 along a binomial tree and broadcast it: 2⌈log2 n⌉ steps."""
    yield from tree_reduce(num_ranks, 0)
    yield from tree_broadcast(num_ranks, 0)


def recursive_doubling_all_reduce(num_ranks: int) -> Steps:
    """Exchange the whole array with a rank at twice the distance in each of log2 n steps."""
    core, before, after = _power_of_two(num_ranks, pieces=(0,))
    yield from before
    distance = 1
    while distance < len(core):
        yield tuple(
            Message(core[i], core[i ^ distance], (0,), reduces=True) for i in range(len(core))
        )
        distance *= 2
    yield from after


def halving_doubling_all_reduce(num_ranks: int) -> Steps:
    """Reduce-scatter by recursive halving and all-gather by recursive doubling: 2 log2 n steps.

    R. Rabenseifner's algorithm (Thakur and others 2005, section 4.5).
    """
    num_pieces = _largest_power_of_two(num_ranks)
    core, before, after = _power_of_two(num_ranks, tuple(range(num_pieces)))
    yield from before
    yield from opposite(_recursive_doubling(core))
    yield from _recursive_doubling(core)
    yield from after


def _recursive_doubling(core: list[int]) -> Steps:
    """Yield an all-gather: ranks exchange all that they have, at twice the distance each time."""
    distance = 1
    while distance < len(core):
        yield tuple(
            Message(rank, core[i ^ distance], tuple(range(first, first + distance)))
            for i, rank in enumerate(core)
            for first in [i & -distance]
        )
        distance *= 2


def _power_of_two(
    num_ranks: int, pieces: tuple[int, ...]
) -> tuple[list[int], list[Step], list[Step]]:
    """Return 2^k ranks that take part, and the steps before and after for the others.

    As in MPICH, of the first 2(n − 2^k) ranks those with even numbers send their array to the next
    rank, which reduces it, and receive the result at the end: two more steps.
    """
    num_others = num_ranks - _largest_power_of_two(num_ranks)
    others = range(0, 2 * num_others, 2)
    core = [rank for rank in range(num_ranks) if rank not in others]
    if not others:
        return core, [], []
    before = tuple(Message(rank, rank + 1, pieces, reduces=True) for rank in others)
    after = tuple(Message(rank + 1, rank, pieces) for rank in others)
    return core, [before], [after]


def _largest_power_of_two(num_ranks: int) -> int:
    return 1 << (num_ranks.bit_length() - 1)


def _binomial_tree(num_ranks: int, root: int, *, scatters: bool) -> Steps:
    """Yield the steps from the root to all ranks, of one piece for all or one for each rank."""
    distance = 1 << (num_ranks - 1).bit_length()
    while distance > 1:
        parent_distance, distance = distance, distance // 2
        step = tuple(
            Message(rank, child, tuple(range(child, end)) if scatters else (0,))
            for rank in range(0, num_ranks - distance, parent_distance)
            for child in [rank + distance]
            for end in [min(child + distance, num_ranks)]
        )
        yield from _renumbered([step], num_ranks, root)


def _renumbered(steps: Iterator[Step] | list[Step], num_ranks: int, root: int) -> Steps:
    """Yield steps with the rank `root` in the place of rank 0."""
    for step in steps:
        yield tuple(
            replace(
                message,
                source=(message.source + root) % num_ranks,
                target=(message.target + root) % num_ranks,
            )
            for message in step
        )


def _one(num_ranks: int) -> int:
    return 1


def _all(num_ranks: int) -> int:
    return num_ranks


# For each collective, the algorithms: their steps, and the number of pieces of the array.
Algorithm = tuple[Callable[..., Steps], Callable[[int], int]]
ALGORITHMS: Mapping[str, Mapping[str, Algorithm]] = {
    "all_reduce": {
        "ring": (ring_all_reduce, _all),
        "tree": (tree_all_reduce, _one),
        "recursive_doubling": (recursive_doubling_all_reduce, _one),
        "halving_doubling": (halving_doubling_all_reduce, _largest_power_of_two),
    },
    "all_gather": {"ring": (ring_all_gather, _all), "bruck": (bruck_all_gather, _all)},
    "reduce_scatter": {
        "ring": (ring_reduce_scatter, _all),
        "bruck": (bruck_reduce_scatter, _all),
    },
    "reduce": {
        "tree": (tree_reduce, _one),
        "reduce_scatter_gather": (reduce_scatter_gather_reduce, _all),
        "ring": (ring_reduce, _all),
    },
    "broadcast": {
        "tree": (tree_broadcast, _one),
        "scatter_all_gather": (scatter_all_gather_broadcast, _all),
        "ring": (ring_broadcast, _all),
    },
}
