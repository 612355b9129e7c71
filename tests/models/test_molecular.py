"""The molecular potential: what it must not depend on, its derivatives, and what it refuses."""

from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from dltlab.errors import Invalid
from dltlab.models import (
    MolecularPotential,
    check_molecule,
    directional_features,
    element_indices,
    symmetry_functions,
)

METHANOL = np.array([6, 8, 1, 1, 1, 1])
POSITIONS = np.array(
    [
        [0.0, 0.0, 0.0],
        [1.42, 0.0, 0.0],
        [-0.4, 1.0, 0.0],
        [-0.4, -0.5, 0.9],
        [-0.4, -0.5, -0.9],
        [1.75, 0.9, 0.0],
    ]
)
SPECIES = element_indices(METHANOL)


def functions(species: np.ndarray, positions: np.ndarray) -> np.ndarray:
    return symmetry_functions(species[None], positions[None])[0].numpy()


@pytest.fixture(scope="module")
def potential() -> MolecularPotential:
    """A potential with random weights, in which nothing is zero."""
    potential = MolecularPotential(2, units=(8, 4), dtype="float64", seed=3)
    generator = np.random.default_rng(3)
    energies, scales, *weights = potential.state()
    weights = [0.2 * generator.normal(size=weight.shape) for weight in weights]
    potential.load_state([energies, scales, *weights])
    return potential


def test_symmetry_functions_do_not_change_when_a_molecule_moves() -> None:
    turn = Rotation.from_rotvec([0.3, -1.2, 0.8]).as_matrix()

    values = functions(SPECIES, POSITIONS @ turn.T + np.array([3, -1, 2]))

    assert values.shape == (6, 384)
    np.testing.assert_allclose(values, functions(SPECIES, POSITIONS), atol=1e-12)


def test_symmetry_functions_follow_the_order_of_the_atoms() -> None:
    order = np.array([3, 5, 0, 1, 4, 2])
    expected = functions(SPECIES, POSITIONS)[order]
    np.testing.assert_allclose(functions(SPECIES[order], POSITIONS[order]), expected, atol=1e-12)


def test_padding_and_far_atoms_change_nothing() -> None:
    padded = np.concatenate([POSITIONS, [[0.1, 0.2, 0.3]]])
    values = functions(np.append(SPECIES, -1), padded)
    np.testing.assert_allclose(values[:6], functions(SPECIES, POSITIONS), atol=1e-12)
    assert not values[6].any()

    far = np.concatenate([POSITIONS, [[50.0, 0.0, 0.0]]])
    np.testing.assert_allclose(functions(np.append(SPECIES, 1), far)[:6], values[:6], atol=1e-12)


def test_an_atom_that_leaves_the_cutoff_changes_the_functions_smoothly() -> None:
    def pair(distance: float) -> np.ndarray:
        return functions(SPECIES[:2], np.array([[0.0, 0, 0], [distance, 0, 0]]))

    assert np.abs(pair(4.7)).max() < 1e-15
    assert pair(4.5).any()
    assert np.abs(pair(4.6 - 1e-4)).max() < 1e-8


def test_a_water_molecule_has_the_values_of_the_formula() -> None:
    r, angle = 0.96, np.radians(104.5)
    water = np.array([[0, 0, 0], [r, 0, 0], [r * np.cos(angle), r * np.sin(angle), 0]])
    values = functions(element_indices(np.array([8, 1, 1])), water)[0]  # of the oxygen atom

    centers = np.linspace(0.5, 4.6, 16, endpoint=False)
    radial = 2 * np.exp(-16 * (r - centers) ** 2) * (1 + np.cos(np.pi * r / 4.6)) / 2
    np.testing.assert_allclose(values[:16], radial, atol=1e-12)  # neighbors of hydrogen
    assert not values[16:64].any()

    clipped = np.arccos(0.95 * np.cos(angle))
    angles = (np.arange(8) + 0.5) * np.pi / 8
    shells = np.linspace(0.5, 3.1, 4, endpoint=False)
    smooth = ((1 + np.cos(np.pi * r / 3.1)) / 2) ** 2
    angular = (
        2 ** (1 - 32.0)
        * (1 + np.cos(clipped - angles[:, None])) ** 32
        * np.exp(-8 * (r - shells) ** 2)
        * smooth
    )
    np.testing.assert_allclose(values[64:96], angular.ravel(), rtol=1e-9)  # pairs H, H
    assert not values[96:].any()


def test_derivatives_along_directions_are_differences() -> None:
    directions = np.random.default_rng(1).normal(size=(1, 2, 6, 3))
    step = 1e-5

    features, derivatives = directional_features(SPECIES[None], POSITIONS[None], directions)

    np.testing.assert_allclose(features[0], functions(SPECIES, POSITIONS))
    for number in range(2):
        plus = functions(SPECIES, POSITIONS + step * directions[0, number])
        minus = functions(SPECIES, POSITIONS - step * directions[0, number])
        numeric = (plus - minus) / (2 * step)
        np.testing.assert_allclose(derivatives[0, number], numeric, atol=1e-6)


def test_forces_are_differences_of_the_mean_energy(potential: MolecularPotential) -> None:
    direction, step = np.random.default_rng(2).normal(size=(6, 3)), 1e-5

    energies, forces = potential.energies_and_forces(SPECIES[None], POSITIONS[None])
    plus, minus = (
        potential.energies(SPECIES[None], POSITIONS[None] + sign * step * direction).numpy().mean()
        for sign in (1, -1)
    )

    assert energies.shape == (2, 1)
    assert forces.shape == (1, 6, 3)
    assert -(plus - minus) / (2 * step) == pytest.approx(np.sum(forces * direction), rel=1e-4)
    np.testing.assert_allclose(forces.numpy().sum(axis=1), 0, atol=1e-9)  # no force on the whole


def test_a_compiled_potential_computes_the_same(potential: MolecularPotential) -> None:
    species = np.stack([SPECIES, np.append(element_indices(np.array([7, 1, 1, 1])), [-1, -1])])
    positions = np.stack([POSITIONS, POSITIONS * [1, 1.2, 1]])

    run, first = potential.compiled(species), potential.compiled(species, num_members=1)
    energies, forces = potential.energies_and_forces(species, positions)

    np.testing.assert_allclose(run(positions)[0], energies, atol=1e-9)
    np.testing.assert_allclose(run(positions)[1], forces, atol=1e-9)
    np.testing.assert_allclose(first(positions)[0], energies[:1], atol=1e-9)
    with pytest.raises(Invalid, match=r"shape \(2, 5, 3\); this was compiled for \(2, 6, 3\)"):
        run(positions[:, :5])


def test_functions_of_absent_elements_are_zero_and_can_be_left_out() -> None:
    present = sorted({*SPECIES.tolist()})

    every = symmetry_functions(SPECIES[None], POSITIONS[None]).numpy()[0]
    some = symmetry_functions(SPECIES[None], POSITIONS[None], present=present).numpy()[0]

    assert present == [0, 1, 3]  # H, C, O
    assert some.shape == (6, 3 * 16 + 6 * 32)
    np.testing.assert_allclose(np.sort(every[every != 0]), np.sort(some[some != 0]), atol=1e-12)


def test_the_energy_of_two_far_molecules_is_the_sum(potential: MolecularPotential) -> None:
    both = np.concatenate([POSITIONS, POSITIONS[::-1] + np.array([40, 0, 0])])
    species = np.concatenate([SPECIES, SPECIES[::-1]])

    one = potential.energies(SPECIES[None], POSITIONS[None]).numpy()
    two = potential.energies(species[None], both[None]).numpy()

    np.testing.assert_allclose(two, 2 * one, rtol=1e-9)


def test_element_energies_are_removed_from_targets(potential: MolecularPotential) -> None:
    numbers = np.array([[1, 1, 0], [8, 1, 1], [6, 8, 0], [7, 7, 0], [6, 1, 0]])
    species = element_indices(numbers)
    each = np.array([0, -0.5, 0, 0, 0, 0, -38.0, -54.5, -75.0])
    features = np.random.default_rng(1).normal(size=(5, 3, 384))

    potential.fit_scales(species, features, each[numbers].sum(axis=1))

    np.testing.assert_allclose(potential.element_energies, [-0.5, -38, -54.5, -75], rtol=1e-9)
    energies = each[numbers].sum(axis=1) + 1 / 627.5094740631
    np.testing.assert_allclose(potential.targets(species, energies), 1, rtol=1e-6)


def made_of_weights(count: int) -> tuple[np.ndarray, ...]:
    """Elements, features, their derivatives, and linear energies (kcal/mol) and slopes of these."""
    generator = np.random.default_rng(5)
    species = generator.integers(-1, 4, size=(count, 5)).astype("int32")
    weights = np.zeros((5, 384))  # the last one is of padding
    weights[:4, :6] = generator.normal(size=(4, 6))
    is_atom = (species >= 0)[..., None]
    features = is_atom * generator.normal(size=(count, 5, 384))
    derivatives = is_atom[:, None] * generator.normal(size=(count, 3, 5, 384))
    features[..., 6:] = derivatives[..., 6:] = 0
    energies = np.einsum("naf,naf->n", features, weights[species])
    slopes = np.einsum("ndaf,naf->nd", derivatives, weights[species])
    return species, features, derivatives, energies, slopes


@pytest.mark.parametrize("count", [60, 12])  # energies alone do not determine 28 weights
def test_a_linear_fit_finds_the_weights_behind_energies_and_slopes(count: int) -> None:
    species, features, derivatives, energies, slopes = made_of_weights(60)
    potential = MolecularPotential(1, units=(2,), dtype="float64")
    known, hartree = slice(count), energies / 627.5094740631

    potential.fit_linear(
        species[known],
        features[known],
        hartree[known],
        derivatives[known],
        slopes[known],
        penalty=1e-9,
        slope_weight=0.5,
    )

    errors = potential.member_energies(0, species, features) - potential.targets(species, hartree)
    assert np.abs(errors).max() < 1e-3


def test_a_penalty_keeps_the_weights_of_an_earlier_fit() -> None:
    species, features, _, energies, _ = made_of_weights(60)
    potential = MolecularPotential(1, units=(2,), dtype="float64")
    potential.fit_linear(species, features, energies / 627.5094740631, penalty=1e-9)
    before = potential.member_energies(0, species, features).numpy()

    potential.fit_linear(species, features, -energies / 627.5094740631, penalty=1e12)

    np.testing.assert_allclose(potential.member_energies(0, species, features), before, rtol=1e-6)
    potential.fit_linear(species, features, -energies / 627.5094740631, penalty=1e-9)
    assert np.abs(potential.member_energies(0, species, features) - before).max() > 1


def test_a_state_moves_between_precisions(potential: MolecularPotential) -> None:
    other = MolecularPotential(2, units=(8, 4), seed=9)
    other.load_state(potential.state())

    energies = other.energies(SPECIES[None], POSITIONS[None].astype("float32"))

    expected = potential.energies(SPECIES[None], POSITIONS[None])
    np.testing.assert_allclose(energies, expected, rtol=1e-3, atol=1e-3)
    with pytest.raises(Invalid, match="other networks or members"):
        MolecularPotential(1, units=(8, 4)).load_state(potential.state())


@pytest.mark.parametrize(
    ("numbers", "positions", "message"),
    [
        ([9, 1], [[0, 0, 0], [1, 0, 0]], "H, C, N, O, not the atomic number 9"),
        ([8, 1], [[0, 0, 0], [0.1, 0, 0]], "Atoms 0 and 1 are 0.10 angstroms apart"),
        ([8, 1], [[0, 0, 0], [np.nan, 0, 0]], "The position of atom 1"),
        ([8, 1], [[0, 0, 0]], r"not \(2,\) and \(1, 3\)"),
        ([], np.zeros((0, 3)), "atomic numbers"),
    ],
)
def test_a_molecule_that_cannot_be_computed_is_refused(
    numbers: Any, positions: Any, message: str
) -> None:
    with pytest.raises(Invalid, match=message):
        check_molecule(numbers, positions)


def test_a_molecule_in_lists_becomes_arrays() -> None:
    numbers, positions = check_molecule([8, 1], [[0, 0, 0], [0, 0, 1]])
    assert numbers.tolist() == [8, 1]
    assert positions.dtype == np.float64


def test_an_unknown_element_in_a_batch_is_refused() -> None:
    with pytest.raises(Invalid, match="not the atomic number 17"):
        element_indices(np.array([[6, 17], [1, 0]]))
