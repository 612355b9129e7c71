"""Conformations as arrays: their sizes, and which of them are selected."""

import numpy as np
import pytest

from dltlab.data.padded_molecules import Molecules
from dltlab.errors import Invalid


@pytest.fixture
def molecules() -> Molecules:
    """Water, then hydrogen cyanide, then hydrogen."""
    return Molecules(
        numbers=np.array([[8, 1, 1], [1, 6, 7], [1, 1, 0]], np.uint8),
        positions=np.arange(27, dtype=np.float32).reshape(3, 3, 3),
        energies=np.array([-76.0, -93.0, -1.1]),
        forces=None,
        molecule=np.array([2, 0, 1]),
        names=["C#N", "[HH]", "O"],
        part=np.array([0, 1, 1]),
        parts=["training molecules", "unseen molecules"],
        cpu_seconds=np.array([0.5, np.nan, 0.1], np.float32),
    )


def test_atoms_are_counted_without_padding(molecules: Molecules) -> None:
    assert len(molecules) == 3
    assert molecules.num_atoms.tolist() == [3, 3, 2]
    assert molecules.num_heavy.tolist() == [1, 2, 0]


def test_a_selection_is_padded_no_further_than_it_needs(molecules: Molecules) -> None:
    hydrogen = molecules.select(np.array([2]))
    assert hydrogen.numbers.tolist() == [[1, 1]]
    assert hydrogen.positions.shape == (1, 2, 3)
    assert hydrogen.forces is None
    assert hydrogen.names[hydrogen.molecule[0]] == "[HH]"
    assert len(molecules.select(np.zeros(3, bool))) == 0


def test_a_part_has_its_conformations(molecules: Molecules) -> None:
    assert molecules.of_part("unseen molecules").energies.tolist() == [-93.0, -1.1]
    with pytest.raises(Invalid, match="the parts are: training molecules, unseen molecules"):
        molecules.of_part("large molecules")
