"""Conformations of molecules, with energies and forces, in the arrays of an `.npz` file."""

import zipfile
import zlib
from typing import cast

import numpy as np

from dltlab.data.card import ALL, SPLITS, MoleculesCard, OneFile, SplitName
from dltlab.data.formats.registry import register
from dltlab.data.padded_molecules import Molecules
from dltlab.data.verified_files import verified_path
from dltlab.errors import Damaged, Invalid


@register("molecules")
class NpzMoleculesCard(MoleculesCard):
    """Conformations of molecules in one `.npz` file.

    Its arrays are `num_atoms` (n,), `numbers` (all atoms,), `positions` (all atoms, 3), `energies`
    (n,), `molecule` (n,), `names` (molecules,), `part` (n,), `split` (n,; 0 train, 1 validation, 2
    test), `cpu_seconds` (n,), and possibly `forces` (all atoms, 3). `Molecules` says what they are.
    """

    files: OneFile

    def read(self, split: str) -> Molecules:
        """Return the conformations of a split, or of "all"."""
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
        return molecules.select(arrays["split"] == SPLITS.index(cast(SplitName, split)))

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
        if not n:
            raise Invalid(f"{path} has no conformations.")
        if not np.isin(content["molecule"], np.arange(len(content["names"]))).all():
            raise Invalid(f"{path} has a conformation of a molecule without a name.")
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
