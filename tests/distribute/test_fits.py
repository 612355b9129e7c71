import json

import numpy as np
import pytest

from dltlab.distribute import fit_alpha_beta, fit_scaling
from dltlab.errors import Invalid

SIZES = np.repeat([8.0, 1e3, 1e5, 1e7, 1e9], 3)
WORKERS = np.repeat([1, 2, 4, 8], 5)


def noise(count, seed=0):
    return np.exp(np.random.default_rng(seed).normal(0, 0.03, count))


def test_latency_and_bandwidth_of_exact_times_are_found():
    fit = fit_alpha_beta(SIZES, 5e-6 + SIZES / 10e9)

    assert fit.alpha == pytest.approx(5e-6)
    assert fit.bandwidth == pytest.approx(10e9)
    assert fit.half_bandwidth_bytes == pytest.approx(50_000)
    assert fit.alpha_interval == pytest.approx((5e-6, 5e-6))


def test_intervals_of_noisy_times_contain_the_truth_in_most_cases():
    alphas = betas = 0
    for seed in range(40):
        fit = fit_alpha_beta(SIZES, (5e-6 + SIZES / 10e9) * noise(len(SIZES), seed))
        alphas += fit.alpha_interval[0] < 5e-6 < fit.alpha_interval[1]
        betas += fit.beta_interval[0] < 1e-10 < fit.beta_interval[1]

    assert 34 <= alphas <= 40
    assert 34 <= betas <= 40


def test_latency_and_seconds_per_byte_are_never_negative():
    assert fit_alpha_beta([10, 20, 30], [1e-6, 2.2e-6, 3.5e-6]).alpha == 0
    flat = fit_alpha_beta([10, 20, 30], [3e-6, 2e-6, 1e-6])
    assert flat.beta == 0
    assert flat.bandwidth == np.inf
    assert flat.as_dict()["beta"] == 0


def test_two_measurements_have_no_confidence_interval():
    fit = fit_alpha_beta([0, 1000], [1e-6, 2e-6])

    assert fit.alpha == pytest.approx(1e-6)
    assert np.isnan(fit.alpha_interval).all()
    assert fit.summary.startswith("Latency 1 µs, bandwidth 1 GB/s")


def test_a_long_latency_is_in_milliseconds():
    fit = fit_alpha_beta([100, 1_000_000], [0.0201, 0.021])

    assert fit.summary.startswith("Latency 20.1 ms, bandwidth")


def test_the_laws_of_amdahl_and_gustafson_are_found_in_exact_times():
    strong = fit_scaling(WORKERS, 3 * (0.2 + 0.8 / WORKERS), "strong")
    weak = fit_scaling(WORKERS, 3 / (0.2 / WORKERS + 0.8), "weak")

    assert strong.serial_share == pytest.approx(0.2, abs=1e-5)
    assert weak.serial_share == pytest.approx(0.2, abs=1e-5)
    assert (strong.law, weak.law) == ("Amdahl", "Gustafson")
    assert [point.speedup for point in strong.points] == pytest.approx(
        [1, 1 / 0.6, 1 / 0.4, 1 / 0.3]
    )
    assert [point.speedup for point in weak.points] == pytest.approx([1, 1.8, 3.4, 6.6])
    assert weak.efficiency(4) == pytest.approx(0.85, abs=1e-5)


@pytest.mark.parametrize("kind", ["strong", "weak"])
def test_intervals_of_noisy_scaling_contain_the_truth_in_most_cases(kind):
    serial_shares = efficiencies = 0
    for seed in range(40):
        exact = 0.1 + 0.9 / WORKERS if kind == "strong" else 1 / (0.1 / WORKERS + 0.9)
        fit = fit_scaling(WORKERS, exact * noise(len(WORKERS), seed), kind)
        truth = 1 / 1.7 if kind == "strong" else 0.1 / 8 + 0.9
        low, high = fit.points[-1].interval
        efficiencies += low < truth < high
        serial_shares += fit.serial_interval[0] < 0.1 < fit.serial_interval[1]

    assert 34 <= efficiencies <= 40
    assert 34 <= serial_shares <= 40


def test_ideal_scaling_has_no_serial_share():
    fit = fit_scaling([1, 2, 4], [4.0, 2.0, 1.0], "strong")

    assert fit.serial_share == pytest.approx(0, abs=1e-6)
    assert [point.efficiency for point in fit.points] == pytest.approx([1, 1, 1])


def test_one_measurement_each_has_no_confidence_interval():
    fit = fit_scaling([1, 2], [1.0, 0.6], "strong")

    assert np.isnan(fit.points[1].interval).all()
    assert "confidence" not in fit.summary
    assert fit.table["workers"].tolist() == [1, 2]
    assert json.loads(json.dumps(fit.as_dict()))["points"][1]["interval"] == [None, None]
    assert fit.figure() is not None


def test_the_figure_of_a_fit_shows_the_measurements_and_the_line():
    fit = fit_alpha_beta(SIZES, (5e-6 + SIZES / 10e9) * noise(len(SIZES)))
    (axes,) = fit.figure().axes

    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        *("fit", "measured", "alpha / beta")
    ]
    assert len(fit.table) == len(SIZES)


@pytest.mark.parametrize(
    ("numbers", "seconds", "message"),
    [
        ([1, 2], [1.0], r"num_workers has the shape \(2,\) and seconds \(1,\)"),
        ([1, 1], [1.0, 1.1], "at least two different num_workers"),
        ([0, 1], [1.0, 1.1], "num_workers must be a number of at least 1"),
        ([1, 2], [1.0, 0.0], "Every time must be a number of seconds greater than 0"),
        ([1, 2], [1.0, np.nan], "Every time must be a number of seconds greater than 0"),
        ([2, 4], [1.0, 0.6], "no time of one worker"),
    ],
)
def test_measurements_that_cannot_be_fitted_are_refused(numbers, seconds, message):
    with pytest.raises(Invalid, match=message):
        fit_scaling(numbers, seconds, "strong")


def test_an_unknown_kind_of_scaling_is_refused():
    with pytest.raises(Invalid, match="kind of scaling is 'super'; it must be 'strong' or 'weak'"):
        fit_scaling([1, 2], [1.0, 0.6], "super")
