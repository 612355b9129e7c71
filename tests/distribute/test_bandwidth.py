import math

import pytest

from dltlab.distribute import bandwidth
from dltlab.errors import Invalid


@pytest.mark.parametrize(
    ("collective", "factor"),
    [
        ("all_reduce", 1.5),
        ("all_gather", 0.75),
        ("reduce_scatter", 0.75),
        ("broadcast", 1),
        ("reduce", 1),
    ],
)
def test_the_bus_bandwidth_of_four_ranks_has_the_factors_of_nccl_tests(collective, factor):
    result = bandwidth(collective, 8e9, 2.0, 4)

    assert result.algbw == 4e9
    assert result.busbw == factor * 4e9


def test_one_rank_needs_no_bus_for_an_all_reduce():
    assert bandwidth("all_reduce", 100, 1.0, 1) == (100, 0)


def test_an_unknown_collective_is_refused_with_the_known_ones():
    with pytest.raises(Invalid, match="'allreduce'; it is one of all_reduce, all_gather"):
        bandwidth("allreduce", 100, 1.0, 2)


@pytest.mark.parametrize("numbers", [(-1, 1.0, 2), (math.nan, 1.0, 2), (1, 0.0, 2), (1, 1.0, 0)])
def test_numbers_out_of_their_range_are_refused(numbers):
    with pytest.raises(Invalid, match="num_bytes is"):
        bandwidth("reduce", *numbers)
