"""What the checks of lab 15 compute themselves: the exact predictions of the challenge."""

import numpy as np
import pytest

from dltlab.checks import text_to_image as lab

CENTERS = np.array([[1.0, 0.0], [-1.0, 2.0], [0.0, -2.0]])
POINTS = np.random.default_rng(1).normal(size=(50, 2))


def test_pure_noise_tells_nothing() -> None:
    prediction = lab.exact_prediction(CENTERS, 0.3, POINTS, 0.0)
    np.testing.assert_allclose(prediction, np.tile(CENTERS.mean(axis=0), (50, 1)))


def test_at_the_end_a_point_is_its_own_prediction() -> None:
    np.testing.assert_allclose(lab.exact_prediction(CENTERS, 0.3, POINTS, 1.0), POINTS)


@pytest.mark.parametrize("time", [0.2, 0.7])
def test_a_prediction_is_the_mean_of_clean_points(time: float) -> None:
    random = np.random.default_rng(2)
    clean = CENTERS[random.integers(3, size=400_000)] + random.normal(0, 0.3, (400_000, 2))
    points = time * clean + (1 - time) * random.normal(size=clean.shape)
    near = np.linalg.norm(points - [0.1, 0.2], axis=1) < 0.05
    expected = clean[near].mean(axis=0)
    (prediction,) = lab.exact_prediction(CENTERS, 0.3, np.array([[0.1, 0.2]]), time)
    np.testing.assert_allclose(prediction, expected, atol=0.15)
