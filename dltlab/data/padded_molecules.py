"""Conformations of molecules with their energies, as arrays."""

from dataclasses import dataclass

import numpy as np

from dltlab.errors import Invalid


@dataclass(frozen=True, eq=False)
class Molecules:
    """Conformations of molecules, padded to one number of atoms.

    Attributes:
        numbers: Atomic numbers, uint8 `(n, atoms)`; 0 pads.
        positions: float32 `(n, atoms, 3)`, in angstroms.
        energies: float64 `(n,)`, in hartree.
        forces: float32 `(n, atoms, 3)`, in hartree per angstrom; None where they were not computed.
        molecule: For each conformation, the place of its molecule in `names`, int64 `(n,)`.
        names: The molecules, as SMILES.
        part: For each conformation, the place of its part in `parts`, int64 `(n,)`.
        parts: What the test split consists of, such as "unseen molecules".
        cpu_seconds: What the reference took for each conformation, float32 `(n,)`; nan if unknown.
    """

    numbers: np.ndarray
    positions: np.ndarray
    energies: np.ndarray
    forces: np.ndarray | None
    molecule: np.ndarray
    names: list[str]
    part: np.ndarray
    parts: list[str]
    cpu_seconds: np.ndarray

    def __len__(self) -> int:
        return len(self.energies)

    @property
    def num_atoms(self) -> np.ndarray:
        """The number of atoms of each conformation, int64 `(n,)`."""
        return np.asarray((self.numbers > 0).sum(axis=1))

    @property
    def num_heavy(self) -> np.ndarray:
        """The number of atoms other than hydrogen, int64 `(n,)`."""
        return np.asarray((self.numbers > 1).sum(axis=1))

    def select(self, rows: np.ndarray) -> "Molecules":
        """Return some conformations, by a mask or by their places, with all names and parts.

        They are padded only as far as the largest of them needs.
        """
        numbers = self.numbers[rows]
        size = int((numbers > 0).sum(axis=1).max(initial=0))
        return Molecules(
            numbers[:, :size],
            self.positions[rows][:, :size],
            self.energies[rows],
            None if self.forces is None else self.forces[rows][:, :size],
            self.molecule[rows],
            self.names,
            self.part[rows],
            self.parts,
            self.cpu_seconds[rows],
        )

    def of_part(self, part: str) -> "Molecules":
        """Return the conformations of one part.

        Raises:
            Invalid: There is no such part.
        """
        if part not in self.parts:
            raise Invalid(f"There is no part '{part}'; the parts are: {', '.join(self.parts)}.")
        return self.select(self.part == self.parts.index(part))
