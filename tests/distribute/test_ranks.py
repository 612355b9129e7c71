import numpy as np
import pytest

from dltlab import distribute
from dltlab.errors import Invalid


def ring(array, comm):
    right, left = (comm.rank + 1) % comm.size, (comm.rank - 1) % comm.size
    pieces = np.array_split(array, comm.size)
    for step in range(comm.size - 1):
        comm.send(pieces[(comm.rank - 1 - step) % comm.size], right)
        pieces[(comm.rank - 2 - step) % comm.size] += comm.receive(left)
    for step in range(comm.size - 1):
        comm.send(pieces[(comm.rank - step) % comm.size], right)
        pieces[(comm.rank - 1 - step) % comm.size] = comm.receive(left)
    return np.concatenate(pieces)


def by_rank_0(array, comm):
    if comm.rank:
        comm.send(array, 0)
        return comm.receive(0)
    for source in range(1, comm.size):
        array = array + comm.receive(source)
    for target in range(1, comm.size):
        comm.send(array, target)
    return array


def arrays(num_ranks, length=12):
    return list(np.random.default_rng(1).normal(size=(num_ranks, length)))


@pytest.mark.parametrize("num_ranks", [1, 2, 3, 5])
@pytest.mark.parametrize("function", [ring, by_rank_0])
def test_a_function_of_one_rank_runs_on_all_ranks(function, num_ranks):
    given = arrays(num_ranks)
    run = distribute.all_reduce(given, algorithm=function)

    for output in run.outputs:
        np.testing.assert_allclose(np.asarray(output), np.sum(given, axis=0))


@pytest.mark.parametrize("num_ranks", [2, 3, 4])
def test_a_ring_of_ones_own_sends_what_the_ring_of_the_room_sends(num_ranks):
    own = distribute.all_reduce(arrays(num_ranks, 10), algorithm=ring)
    built_in = distribute.all_reduce(arrays(num_ranks, 10))

    assert own.piece_bytes == built_in.piece_bytes
    assert [{(m.source, m.target, m.pieces) for m in step} for step in own.steps] == [
        {(m.source, m.target, m.pieces) for m in step} for step in built_in.steps
    ]
    np.testing.assert_array_equal(own.contents, built_in.contents)


def test_a_rank_receives_one_message_in_a_step():
    run = distribute.all_reduce(arrays(4), algorithm=by_rank_0)

    ends = [[(message.source, message.target) for message in step] for step in run.steps]
    assert ends == [[(1, 0)], [(2, 0)], [(3, 0)], [(0, 1)], [(0, 2)], [(0, 3)]]
    np.testing.assert_array_equal(run.bytes_sent, [3 * 96, 96, 96, 96])


def test_a_function_may_send_means_and_print_once(capsys):
    def mean(array, comm):
        print(f"rank {comm.rank}")
        array = array / comm.size
        comm.send(array, 1 - comm.rank)
        return array + comm.receive(1 - comm.rank)

    given = arrays(2)
    run = distribute.all_reduce(given, algorithm=mean)

    np.testing.assert_allclose(np.asarray(run.outputs[1]), np.mean(given, axis=0))
    assert sorted(capsys.readouterr().out.split("\n")) == ["", "rank 0", "rank 1"]


def test_arrays_shorter_than_the_number_of_ranks_can_be_drawn():
    run = distribute.all_reduce(arrays(4, 2), algorithm=ring)

    assert run.figure() is not None
    np.testing.assert_array_equal(run.bytes_sent, [16, 24, 32, 24])


def test_a_function_leaves_no_choice_of_the_operation():
    with pytest.raises(Invalid, match="combines the arrays itself; leave 'mean' out"):
        distribute.all_reduce(arrays(2), "mean", algorithm=ring)


def test_a_rank_returns_an_array():
    with pytest.raises(Invalid, match="A rank returns something that is not an array"):
        distribute.all_reduce(arrays(2), algorithm=lambda array, comm: [array, array[1:]])


def test_a_function_gets_copies():
    given = arrays(3)
    copies = [array.copy() for array in given]
    distribute.reduce_scatter(given, algorithm=ring)

    np.testing.assert_array_equal(given, copies)


def test_ranks_that_wait_for_each_other_are_named():
    def receives_first(array, comm):
        return comm.receive((comm.rank + 1) % comm.size)

    with pytest.raises(Invalid, match=r"never sent: rank 0 for rank 1, rank 1 for rank 0\.$"):
        distribute.all_reduce(arrays(2), algorithm=receives_first)


def test_a_rank_that_waits_for_one_that_has_finished_is_named():
    def half(array, comm):
        return comm.receive(0) if comm.rank else array

    with pytest.raises(Invalid, match=r"never sent: rank 1 for rank 0\.$"):
        distribute.all_reduce(arrays(2), algorithm=half)


def test_a_message_that_is_not_received_is_an_error():
    def sends(array, comm):
        if comm.rank == 0:
            comm.send(array, 1)
        return array

    with pytest.raises(Invalid, match="Rank 0 sends an array to rank 1, which never receives it"):
        distribute.all_reduce(arrays(2), algorithm=sends)


def test_a_message_that_is_no_part_of_the_array_is_an_error():
    def sends_numbers(array, comm):
        comm.send([0.5, 7.0], 1 - comm.rank)
        return comm.receive(1 - comm.rank)

    with pytest.raises(Invalid, match="not a part of its array"):
        distribute.all_reduce(arrays(2), algorithm=sends_numbers)


@pytest.mark.parametrize("target", [0, 2, -1, 0.5])
def test_a_message_goes_to_another_rank(target):
    def sends(array, comm):
        comm.send(array, target if comm.rank == 0 else 0)
        return array

    with pytest.raises(Invalid, match="Rank 0 wants to send to"):
        distribute.all_reduce(arrays(2), algorithm=sends)


def test_an_error_of_one_rank_ends_all_ranks_and_is_raised():
    def fails(array, comm):
        if comm.rank == 1:
            raise ZeroDivisionError("by rank 1")
        return comm.receive(1)

    with pytest.raises(ZeroDivisionError, match="by rank 1"):
        distribute.all_reduce(arrays(3), algorithm=fails)
