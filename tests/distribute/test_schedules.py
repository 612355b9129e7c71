import math
from collections import Counter

import pytest

from dltlab.distribute.schedules import ALGORITHMS

NAMES = [(collective, name) for collective, known in ALGORITHMS.items() for name in known]


def schedule(collective, name, num_ranks):
    make_steps, count_pieces = ALGORITHMS[collective][name]
    root = (num_ranks - 1,) if collective in ("broadcast", "reduce") else ()
    return list(make_steps(num_ranks, *root)), count_pieces(num_ranks)


def start(collective, num_ranks, num_pieces):
    """Return the contributions that each rank has to each piece; each is from one rank."""
    memories = [
        {piece: Counter([rank]) for piece in range(num_pieces)} for rank in range(num_ranks)
    ]
    if collective == "all_gather":
        return [{rank: Counter([rank])} for rank in range(num_ranks)]
    if collective == "broadcast":
        return [memory if rank == num_ranks - 1 else {} for rank, memory in enumerate(memories)]
    return memories


@pytest.mark.parametrize(("collective", "name"), NAMES)
def test_ranks_send_what_they_have_and_end_with_each_contribution_once(collective, name):
    for num_ranks in range(1, 18):
        steps, num_pieces = schedule(collective, name, num_ranks)
        memories = start(collective, num_ranks, num_pieces)
        for step in steps:
            sent = [
                [memories[message.source][piece] for piece in message.pieces] for message in step
            ]
            for message, pieces in zip(step, sent, strict=True):
                memory = memories[message.target]
                for number, piece in zip(message.pieces, pieces, strict=True):
                    memory[number] = memory[number] + piece if message.reduces else piece

        everybody = Counter(range(num_ranks))
        for rank, memory in enumerate(memories):
            match collective:
                case "all_reduce":
                    assert list(memory.values()) == [everybody] * num_pieces
                case "reduce_scatter":
                    assert memory[rank] == everybody
                case "reduce":
                    assert rank < num_ranks - 1 or list(memory.values()) == [everybody] * num_pieces
                case "all_gather":
                    assert memory == {piece: Counter([piece]) for piece in range(num_ranks)}
                case "broadcast":
                    assert memory == {
                        piece: Counter([num_ranks - 1]) for piece in range(num_pieces)
                    }


@pytest.mark.parametrize(("collective", "name"), NAMES)
def test_in_a_step_a_rank_sends_one_message_and_receives_one_at_most(collective, name):
    for num_ranks in range(1, 18):
        for step in schedule(collective, name, num_ranks)[0]:
            assert step
            for end in ("source", "target"):
                assert max(Counter(getattr(message, end) for message in step).values()) == 1
            assert all(message.source != message.target for message in step)
            assert all(message.pieces for message in step)


@pytest.mark.parametrize(
    ("collective", "name", "count"),
    [
        ("all_reduce", "ring", lambda n: 2 * (n - 1)),
        ("all_reduce", "tree", lambda n: 2 * math.ceil(math.log2(n))),
        ("all_reduce", "recursive_doubling", lambda n: math.floor(math.log2(n)) + 2 * surplus(n)),
        ("all_reduce", "halving_doubling", lambda n: 2 * math.floor(math.log2(n)) + 2 * surplus(n)),
        ("all_gather", "ring", lambda n: n - 1),
        ("all_gather", "bruck", lambda n: math.ceil(math.log2(n))),
        ("reduce_scatter", "ring", lambda n: n - 1),
        ("reduce_scatter", "bruck", lambda n: math.ceil(math.log2(n))),
        ("reduce", "tree", lambda n: math.ceil(math.log2(n))),
        ("reduce", "reduce_scatter_gather", lambda n: n - 1 + math.ceil(math.log2(n))),
        ("reduce", "ring", lambda n: 2 * n - 2),
        ("broadcast", "tree", lambda n: math.ceil(math.log2(n))),
        ("broadcast", "scatter_all_gather", lambda n: n - 1 + math.ceil(math.log2(n))),
        ("broadcast", "ring", lambda n: 2 * n - 2),
    ],
)
def test_the_number_of_steps_is_that_of_the_literature(collective, name, count):
    for num_ranks in range(1, 18):
        assert len(schedule(collective, name, num_ranks)[0]) == count(num_ranks)


def surplus(num_ranks):
    """Return whether the number of ranks is no power of two."""
    return num_ranks & (num_ranks - 1) != 0
