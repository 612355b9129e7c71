"""The Mackey–Glass series: accurate, chaotic, and the same everywhere."""

import hashlib

import numpy as np
import pytest

from dltlab.data.mackey_glass import _path, mackey_glass
from dltlab.errors import LabError


def closest_return(series: np.ndarray, length: int = 500) -> float:
    """How near, at worst within `length` samples, the series ever comes to its own beginning."""
    windows = np.lib.stride_tricks.sliding_window_view(series, length)
    return float(np.abs(windows[20:] - windows[0]).max(axis=1).min())


def test_the_series_has_the_length_asked_for_and_is_float32() -> None:
    assert mackey_glass(1234, 0).shape == (1234,)
    assert mackey_glass(10, 0).dtype == np.float32
    assert mackey_glass(0, 0).shape == (0,)


def test_a_seed_gives_the_same_series_on_every_machine() -> None:
    series = mackey_glass(12_000, 0).astype("<f4")
    assert hashlib.sha256(series.tobytes()).hexdigest() == (
        "c8518cf733b082fd9cf9f9ef2b75d7a5570c3f89cbc5d47ac00fb2f29c62a245"
    )


def test_another_seed_gives_another_series() -> None:
    one, other = mackey_glass(5000, 0), mackey_glass(5000, 1)
    assert np.abs(one - other).max() > 0.5
    assert np.abs(one - other).mean() > 0.1


def test_a_longer_series_begins_as_a_shorter_one() -> None:
    assert np.array_equal(mackey_glass(300, 5)[:100], mackey_glass(100, 5))


def test_the_washout_is_what_comes_first() -> None:
    whole = mackey_glass(300, 5, washout=0)
    assert np.array_equal(whole[200:], mackey_glass(100, 5, washout=200))
    assert np.array_equal(
        whole[:1], np.float32([0.5 + 0.8 * np.random.RandomState(5).random_sample()])
    )


def test_the_first_delay_follows_the_solution_known_in_closed_form() -> None:
    # Until t = tau the delayed value is constant, so x decays toward twice its growth term.
    start = 0.7
    rest = 2 * start / (1 + start**10)
    time = np.arange(171) / 10
    exact = rest + (start - rest) * np.exp(-0.1 * time)
    assert np.allclose(_path(start, 170, 170, 0.1), exact, rtol=0, atol=1e-9)


def test_halving_the_step_changes_fifty_samples_by_a_fourth_order_error() -> None:
    coarse, fine, finest = (
        np.array(_path(0.7, 170 * halves, 500 * halves, 0.1 / halves))[:: 10 * halves]
        for halves in (1, 2, 4)
    )
    assert np.abs(coarse - fine).max() < 1e-9
    assert np.abs(coarse - fine).max() / np.abs(fine - finest).max() == pytest.approx(16, rel=0.1)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_series_has_the_range_mean_and_spread_that_are_stated(seed: int) -> None:
    series = mackey_glass(12_000, seed)
    assert 0.41 < series.min() < series.max() < 1.33
    assert series.mean() == pytest.approx(0.93, abs=0.005)
    assert series.std() == pytest.approx(0.226, abs=0.003)


def test_the_series_never_repeats_but_below_the_onset_of_chaos_it_does() -> None:
    assert closest_return(mackey_glass(12_000, 0)) > 0.01
    assert closest_return(mackey_glass(12_000, 0, tau=10)) < 1e-4


def test_a_small_difference_grows_until_the_series_part() -> None:
    one, other = np.array(_path(0.7, 170, 40_000, 0.1)), np.array(_path(0.7001, 170, 40_000, 0.1))
    apart = np.abs(one - other)
    assert apart[:1000].max() < 0.01
    assert apart[-10_000:].max() > 0.1


@pytest.mark.parametrize("tau", [0, -3, 0.04, 17.05])
def test_a_delay_off_the_grid_is_answered_with_what_is_allowed(tau: float) -> None:
    with pytest.raises(LabError, match=r"tau is .*multiple of 0\.1 above 0"):
        mackey_glass(10, 0, tau=tau)
