"""What the challenge of lab 05 compares a plan with: the memory, and the best plan."""

from itertools import chain, combinations

import pytest

from dltlab.checks.arithmetic_of_training import PLANS, least_recomputed, memory_of


@pytest.mark.parametrize(
    ("kept", "megabytes"), [((), 16), ((1,), 12), ((0, 1, 2, 3), 16), ((3,), 16), ((1, 2), 12)]
)
def test_the_memory_is_that_of_the_kept_outputs_and_of_the_largest_segment(kept, megabytes) -> None:
    assert memory_of([4, 4, 4, 4], set(kept)) == megabytes


@pytest.mark.parametrize("name", [name for name, plan in PLANS.items() if len(plan[0]) <= 16])
def test_no_set_of_layers_beats_the_best_plan(name: str) -> None:
    sizes, flops, limit = PLANS[name]
    layers = range(len(sizes))
    every_set = chain.from_iterable(combinations(layers, n) for n in range(len(sizes) + 1))

    best = min(
        sum(flops) - sum(flops[layer] for layer in kept)
        for kept in every_set
        if memory_of(sizes, set(kept)) <= limit
    )

    assert least_recomputed(name) == best
