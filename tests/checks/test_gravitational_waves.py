"""The events of lab 13's challenge: waves and glitches with equal ratios after filtering."""

import numpy as np

from dltlab.checks.gravitational_waves import events, passing


def ratio(data: np.ndarray, template: np.ndarray) -> float:
    return abs(np.vdot(template, data))


def test_waves_and_glitches_have_equal_ratios_in_noise_of_one() -> None:
    waves, glitches = events(100, seed=3)
    for pairs in (waves, glitches):
        assert {data.shape for data, _ in pairs} == {(1024,)}
        quiet = np.concatenate([data[:300] for data, _ in pairs])
        assert 0.9 < quiet.std() < 1.2
    # The ratios of a wave and a glitch differ only by noise, whose standard deviation is 1 in each.
    differences = [
        ratio(*wave) - ratio(*glitch) for wave, glitch in zip(*events(100, 3), strict=True)
    ]
    assert np.std(differences) < 2
    assert max(ratio(*pair) for pair in waves) < 45


def test_by_the_ratio_alone_nearly_all_glitches_pass() -> None:
    assert passing(ratio, *events(100, seed=4)) > 0.9


def test_other_seeds_give_other_events() -> None:
    (first, *_), _ = events(2, seed=1)
    (other, *_), _ = events(2, seed=2)
    assert not np.allclose(first[0], other[0])
