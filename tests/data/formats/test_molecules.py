"""Molecules in an .npz file: padding, parts and splits, and what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dltlab import data
from dltlab.errors import Damaged, Invalid
from tests.course_cards import write_card

KEYS = """
method = "by hand"
parts = ["training molecules", "unseen molecules"]
[splits.train]
size = {train}
[splits.test]
size = 2
"""


def write_molecules(folder: Path, train: int = 2, **changes: Any) -> dict[str, Any]:
    """Write the data set `tiny`: water twice, then hydrogen and hydrogen cyanide for the test."""
    num_atoms = np.array([3, 3, 2, 3], np.uint8)
    arrays = {
        "num_atoms": num_atoms,
        "numbers": np.array([8, 1, 1, 8, 1, 1, 1, 1, 1, 6, 7], np.uint8),
        "positions": np.arange(33, dtype=np.float32).reshape(11, 3),
        "forces": -np.arange(33, dtype=np.float32).reshape(11, 3),
        "energies": np.array([-76.0, -75.9, -1.1, -93.0]),
        "molecule": np.array([2, 2, 1, 0], np.int16),
        "names": np.array(["C#N", "[HH]", "O"]),
        "part": np.array([0, 0, 1, 1], np.uint8),
        "split": np.array([0, 0, 2, 2], np.uint8),
        "cpu_seconds": np.array([0.5, 0.5, 0.1, np.nan], np.float32),
    } | changes
    file = folder / "tiny.npz"
    written: dict[str, Any] = {key: value for key, value in arrays.items() if value is not None}
    np.savez_compressed(file, **written)
    write_card("tiny", "molecules", file, KEYS.format(train=train))
    return arrays


def test_conformations_are_padded_with_zeros(own_cards: Path) -> None:
    arrays = write_molecules(own_cards)

    molecules = data.molecules("tiny")

    assert len(molecules) == 4
    assert molecules.numbers.tolist()[2] == [1, 1, 0]
    assert molecules.positions.shape == molecules.forces.shape == (4, 3, 3)
    assert np.array_equal(molecules.positions[3], arrays["positions"][8:])
    assert not molecules.positions[2, 2].any()
    assert molecules.num_atoms.tolist() == [3, 3, 2, 3]
    assert molecules.num_heavy.tolist() == [1, 1, 0, 2]


def test_splits_and_parts_select_conformations(own_cards: Path) -> None:
    write_molecules(own_cards)

    test = data.molecules("tiny", "test")

    assert test.energies.tolist() == [-1.1, -93.0]
    assert [test.names[number] for number in test.molecule] == ["[HH]", "C#N"]
    assert len(data.molecules("tiny", "train")) == 2
    assert len(test.of_part("unseen molecules")) == 2
    assert test.select(np.array([0])).numbers.tolist() == [[1, 1]]  # padded no further
    with pytest.raises(Invalid, match="the parts are: training molecules, unseen molecules"):
        test.of_part("large molecules")


def test_forces_may_be_missing(own_cards: Path) -> None:
    write_molecules(own_cards, forces=None)
    assert data.molecules("tiny").forces is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"energies": None}, "has no array 'energies'"),
        ({"energies": np.zeros(3)}, r"'energies' has the shape \(3,\), not \(4,\)"),
        ({"positions": np.zeros((10, 3), np.float32)}, r"'positions' has the shape \(10, 3\)"),
        ({"molecule": np.array([2, 2, 1, 3], np.int16)}, "a molecule without a name"),
        ({"part": np.array([0, 0, 1, 2], np.uint8)}, "more parts than the card"),
        ({"split": np.array([0, 2, 2, 2], np.uint8)}, "correct the card"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(
    own_cards: Path, changes: dict[str, Any], message: str
) -> None:
    write_molecules(own_cards, **changes)
    with pytest.raises(Invalid, match=message):
        data.molecules("tiny", "train")


def test_another_file_is_damaged(own_cards: Path) -> None:
    write_molecules(own_cards)
    (own_cards / "tiny.npz").write_bytes(b"PK\x03\x04 no archive")
    write_card("tiny", "molecules", own_cards / "tiny.npz", KEYS.format(train=2))
    with pytest.raises(Damaged, match=r"tiny\.npz is not an \.npz file of plain arrays"):
        data.molecules("tiny", "train")


def test_other_data_are_not_molecules() -> None:
    with pytest.raises(Invalid, match="holds series, not molecules"):
        data.molecules("mackey_glass")


def test_load_yields_numbers_positions_and_energies(own_cards: Path) -> None:
    arrays = write_molecules(own_cards)

    numbers, positions, energies = next(iter(data.load("tiny", "test", batch_size=2)))

    assert numbers.numpy().tolist() == [[1, 1, 0], [1, 6, 7]]
    assert np.array_equal(positions[1], arrays["positions"][8:])
    assert energies.dtype == "float64"


def test_a_card_is_described_with_its_method_and_parts(own_cards: Path) -> None:
    write_molecules(own_cards)
    described = dict(data.describe("tiny"))
    assert described["method"] == "by hand"
    assert described["parts"] == "training molecules, unseen molecules"
    assert data.info("tiny").contents == "4 conformations of molecules"
