"""The Mackey–Glass series: accurate, chaotic, and the same on every machine."""

import hashlib

import numpy as np
import pytest

from dltlab.data.formats.mackey_glass import integrate, mackey_glass
from dltlab.errors import Invalid


def closest_return(series: np.ndarray, length: int = 500) -> float:
    """Return the smallest maximum difference of `length` later samples from the first ones."""
    windows = np.lib.stride_tricks.sliding_window_view(series, length)
    return float(np.abs(windows[20:] - windows[0]).max(axis=1).min())


def test_the_series_is_float32_and_has_the_given_length() -> None:
    assert mackey_glass(1234, 0).shape == (1234,)
    assert mackey_glass(10, 0).dtype == np.float32
    assert mackey_glass(0, 0).shape == (0,)


def test_a_seed_gives_the_same_series_on_every_machine() -> None:
    series = mackey_glass(12_000, 0).astype("<f4")
    assert hashlib.sha256(series.tobytes()).hexdigest() == (
        "c8518cf733b082fd9cf9f9ef2b75d7a5570c3f89cbc5d47ac00fb2f29c62a245"
    )


def test_another_seed_gives_another_series() -> None:
    difference = np.abs(mackey_glass(5000, 0) - mackey_glass(5000, 1))
    assert difference.max() > 0.5
    assert difference.mean() > 0.1


def test_a_longer_series_begins_with_the_shorter_one() -> None:
    assert np.array_equal(mackey_glass(300, 5)[:100], mackey_glass(100, 5))


def test_the_washout_is_the_beginning_that_is_left_out() -> None:
    series = mackey_glass(300, 5, washout=0)
    assert np.array_equal(series[200:], mackey_glass(100, 5, washout=200))
    start = 0.5 + 0.8 * np.random.RandomState(5).random_sample()
    assert np.array_equal(series[:1], np.array([start], "float32"))


def test_the_first_delay_follows_the_solution_in_closed_form() -> None:
    # Until t = tau the delayed value is constant, so x decays toward ten times its growth.
    start = 0.7
    limit = 2 * start / (1 + start**10)
    time = np.arange(171) / 10
    exact = limit + (start - limit) * np.exp(-0.1 * time)
    assert np.allclose(integrate(start, 170, 170, 0.1), exact, rtol=0, atol=1e-9)


def test_the_error_of_fifty_samples_is_of_fourth_order_in_the_step() -> None:
    coarse, fine, finest = (
        np.array(integrate(0.7, 170 * parts, 500 * parts, 0.1 / parts))[:: 10 * parts]
        for parts in (1, 2, 4)
    )
    assert np.abs(coarse - fine).max() < 1e-9
    assert np.abs(coarse - fine).max() / np.abs(fine - finest).max() == pytest.approx(16, rel=0.1)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_series_has_the_documented_range_mean_and_deviation(seed: int) -> None:
    series = mackey_glass(12_000, seed)
    assert 0.41 < series.min() < series.max() < 1.33
    assert series.mean() == pytest.approx(0.93, abs=0.005)
    assert series.std() == pytest.approx(0.226, abs=0.003)


def test_the_series_is_periodic_only_below_the_onset_of_chaos() -> None:
    assert closest_return(mackey_glass(12_000, 0)) > 0.01
    assert closest_return(mackey_glass(12_000, 0, tau=10)) < 1e-4


def test_a_small_difference_grows() -> None:
    series, other = (np.array(integrate(start, 170, 40_000, 0.1)) for start in (0.7, 0.7001))
    difference = np.abs(series - other)
    assert difference[:1000].max() < 0.01
    assert difference[-10_000:].max() > 0.1


@pytest.mark.parametrize("tau", [0, -3, 0.04, 17.05])
def test_an_invalid_delay_is_refused_with_the_allowed_values(tau: float) -> None:
    with pytest.raises(Invalid, match=r"tau is .*multiple of 0\.1 above 0"):
        mackey_glass(10, 0, tau=tau)
