"""What the checks of lab 14 compute themselves: the clusters of its challenge."""

import numpy as np
import pytest

from dltlab.checks import molecular_potential as lab


def test_two_atoms_rest_at_a_distance_of_one() -> None:
    energy, forces = lab.morse(np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]))
    assert energy == pytest.approx(-1)
    np.testing.assert_allclose(forces, 0, atol=1e-12)


def test_forces_are_differences_of_the_energy() -> None:
    positions, step = lab.cluster(5, seed=4), 1e-6
    direction = np.random.default_rng(1).normal(size=positions.shape)
    plus, minus = (lab.morse(positions + sign * step * direction)[0] for sign in (1, -1))
    expected = -(plus - minus) / (2 * step)
    assert np.sum(lab.morse(positions)[1] * direction) == pytest.approx(expected, rel=1e-5)


def test_atoms_of_a_cluster_keep_their_distance() -> None:
    positions = lab.cluster(13, seed=3)
    distances = np.linalg.norm(positions[:, None] - positions, axis=-1)
    assert positions.shape == (13, 3)
    assert distances[~np.eye(13, dtype=bool)].min() > 0.8
    assert np.array_equal(positions, lab.cluster(13, seed=3))
