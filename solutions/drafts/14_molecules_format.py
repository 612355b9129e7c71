# A draft of dltlab/data/formats/molecules.py, with `Molecules` and `MoleculesCard` in it; it was
# never executed. Changes that it needs elsewhere:
# - dltlab/data/card.py: `Kind` gets "molecules", and the abstract `MoleculesCard` below moves there
#   (as `TableCard`), with `Molecules` in dltlab/data/molecules.py;
# - dltlab/data/load.py: the function `molecules` at the end of this file; `_columns` returns
#   `(m.numbers, m.positions, m.energies)` for a `MoleculesCard`, so that `load` yields them, and
#   `shuffle` is on for its training split;
# - dltlab/data/__init__.pyi exports `Molecules` and `molecules`;
# - catalog.py's `_describe_card`: lines "method" and "parts" for a `MoleculesCard`;
# - CONTRIBUTING.md: a line in the table of formats.
"""Conformations of molecules, with energies and forces, in the arrays of an `.npz` file."""

import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from dltlab.data.card import (
    ALL,
    SPLITS,
    DatasetCard,
    OneFile,
    Sentence,
    SizedSplit,
    SplitName,
)
from dltlab.data.formats.registry import register
from dltlab.data.verified_files import verified_path
from dltlab.errors import Damaged, Invalid


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


@register("molecules")
class MoleculesCard(DatasetCard):
    """Conformations of molecules in one `.npz` file.

    Its arrays are `num_atoms` (n,), `numbers` (all atoms,), `positions` (all atoms, 3), `energies`
    (n,), `molecule` (n,), `names` (molecules,), `part` (n,), `split` (n,; 0 train, 1 validation, 2
    test), `cpu_seconds` (n,), and possibly `forces` (all atoms, 3).

    Attributes:
        method: How the energies were computed, with versions.
        parts: The names of the parts; `part` is an index into this list.
    """

    kind = "molecules"

    files: OneFile
    splits: Mapping[SplitName, SizedSplit]
    method: Sentence
    parts: Annotated[list[Sentence], Field(min_length=1)]

    @property
    def contents(self) -> str:
        """The number of conformations."""
        return f"{self.total_size:,} conformations of molecules"

    def read(self, split: str) -> Molecules:
        """Return the conformations of a split, or of "all".

        Raises:
            LabError: The file is not available or damaged, or does not fit the card.
        """
        arrays = self._arrays()
        is_atom = np.arange(arrays["num_atoms"].max()) < arrays["num_atoms"][:, None]
        molecules = Molecules(
            _padded(arrays["numbers"], is_atom),
            _padded(arrays["positions"], is_atom),
            arrays["energies"],
            _padded(arrays["forces"], is_atom) if "forces" in arrays else None,
            arrays["molecule"].astype(np.int64),
            arrays["names"].tolist(),
            arrays["part"].astype(np.int64),
            self.parts,
            arrays["cpu_seconds"],
        )
        sizes = {name: int((arrays["split"] == SPLITS.index(name)).sum()) for name in self.splits}
        stated = {name: part.size for name, part in self.splits.items()}
        if sizes != stated or sum(sizes.values()) != len(molecules):
            raise Invalid(
                f"{self.files[0].name} has splits of {sizes}; the card of '{self.name}' says "
                f"{stated}: correct the card."
            )
        if split == ALL:
            return molecules
        return molecules.select(arrays["split"] == SPLITS.index(split))  # type: ignore[arg-type]

    def _arrays(self) -> dict[str, np.ndarray]:
        path = verified_path(self, self.files[0])
        try:
            with path.open("rb") as file, np.load(file) as arrays:
                content = {name: arrays[name] for name in arrays}
        except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise Damaged(f"{path} is not an .npz file of plain arrays: {error}.") from error
        missing = [name for name in _ARRAYS if name not in content]
        if missing:
            raise Invalid(f"{path} has no array '{missing[0]}'; it has: {', '.join(content)}.")
        n, total = len(content["num_atoms"]), int(content["num_atoms"].sum())
        for name, array in content.items():
            expected = {"positions": (total, 3), "forces": (total, 3), "numbers": (total,)}
            shape = array.shape if name == "names" else expected.get(name, (n,))
            if array.shape != shape:
                raise Invalid(f"{path}: '{name}' has the shape {array.shape}, not {shape}.")
        if not n or content["molecule"].max() >= len(content["names"]):
            raise Invalid(f"{path} has no conformations, or one of a molecule without a name.")
        if content["part"].max() >= len(self.parts):
            raise Invalid(f"{path} has more parts than the card of '{self.name}' names.")
        return content


_ARRAYS = ("num_atoms", "numbers", "positions", "energies", "molecule", "names", "part", "split",
           "cpu_seconds")  # fmt: skip


def _padded(flat: np.ndarray, is_atom: np.ndarray) -> np.ndarray:
    """Put the rows of all atoms where `is_atom` is true, and zeros elsewhere."""
    padded = np.zeros((*is_atom.shape, *flat.shape[1:]), flat.dtype)
    padded[is_atom] = flat
    return padded


# For dltlab/data/load.py, beside `series`:
#
# def molecules(name: str, split: str = ALL) -> Molecules:
#     """Load conformations of molecules with their energies.
#
#     Raises:
#         NotFound: There is no such data set or split.
#         Invalid: It does not hold molecules.
#         LabError: The files of the data set are not available or damaged.
#     """
#     dataset = _dataset(name, split)
#     if not isinstance(dataset, MoleculesCard):
#         raise _wrong_kind(dataset, "molecules")
#     return dataset.read(split)
