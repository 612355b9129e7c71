"""Make the data sets small_molecules and small_molecules_xtb.

    python -m venv SOMEWHERE && SOMEWHERE/bin/pip install numpy scipy rdkit tblite pyscf
    python datasets/make/small_molecules.py geometries WORK   # 5 minutes: molecules, conformations
    python datasets/make/small_molecules.py noise WORK        # 5 minutes: is a coarse grid enough?
    python datasets/make/small_molecules.py label WORK        # 80 minutes; can be stopped at will
    python datasets/make/small_molecules.py write WORK        # the two files and their cards

WORK is a folder for what is finished. `label` saves the results of each molecule when it has them;
started again, it continues with the next one. `label WORK 0/2` and `label WORK 1/2` share the work
between two processes.
"""

import hashlib
import json
import os
import platform
import sys
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"  # CPU seconds are recorded: one core for each process

import numpy as np  # noqa: E402

BOHR = 0.529177210903  # angstroms, CODATA 2018
BOLTZMANN = 3.166811563e-6  # hartree per kelvin
KCAL = 627.5094740631  # kcal/mol per hartree
MASSES = {1: 1.008, 6: 12.011, 7: 14.007, 8: 15.999}  # atomic mass units
PARTS = [
    "training molecules",
    "held-out conformations",
    "unseen molecules",
    "five heavy atoms",
    "six heavy atoms",
    "bond scan",
]
# How many conformations along normal modes, and from molecular dynamics, beside the minimum: of
# each training molecule by its heavy atoms, and of each molecule of the other parts.
FRAMES = {1: (11, 6), 2: (11, 6), 3: (11, 6), 4: (5, 3)}
UNSEEN, UNSEEN_FRAMES = 24, (2, 1)
FIVE, FIVE_FRAMES = 20, (2, 1)
SIX_FRAMES = (1, 1)
XTB_FRAMES = 60  # of each training molecule in small_molecules_xtb
SIX = ("c1ccccc1", "c1ccncc1", "C1CCCCC1", "CCCCCC", "CCOC(C)=O", "CC(=O)N(C)C", "CCN(CC)C",
       "CC(C)CC=O")  # fmt: skip
SCAN = np.linspace(-0.35, 0.8, 24)  # angstroms, added to the C–O bond of methanol
TEMPERATURES = (300, 600, 1000)  # kelvins
SECONDS = {1: 0.25, 2: 0.6, 3: 1.8, 4: 3.5, 5: 6.5, 6: 10.0}  # estimates, by heavy atoms

# What `noise` printed for methanol: errors of six conformations against exact integrals on grid 3.
NOISE = (
    "for methanol, energies relative to the same molecule have an error of 0.014 kcal/mol, forces "
    "of 0.51 kcal/mol per angstrom (root mean squares, against exact integrals on grid 3)"
)

# Strained, unstable or unusual groups. Numbers of elements match atoms of aromatic rings, too.
EXCLUDED = (
    "[#7,#8]~[#7,#8]~[#7,#8]", "[#8]~[#8]", "[#7X3]~[#8X2]", "[#7]=[#7]", "[#7X3]~[#7X3]", "*=C=*",
    "[r3]=,#,:*", "[r4]=,#,:*", "[R]#[R]", "[R2,R3]", "[OX2H]C=C", "[OX2H]C=N", "[OX2H]C#*",
    "[NX3]C#*", "[CX4]([O,N;!$(*=*)])[O,N;!$(*=*)]", "C(=O)(O)O", "[#6]#[#6][O,N]",
)  # fmt: skip


@dataclass(frozen=True)
class Molecule:
    """A molecule, and how its conformations are used."""

    smiles: str
    part: str

    @property
    def file(self) -> str:
        """The name of its files, which any file system can hold."""
        return f"{zlib.crc32(f'{self.part} {self.smiles}'.encode()):08x}.npz"

    @property
    def seed(self) -> int:
        """The seed of its conformations: the same on every machine, in any order."""
        return zlib.crc32(self.smiles.encode())


# Molecules


def enumerate_molecules(max_heavy: int) -> dict[int, list[str]]:
    """Return the closed-shell molecules of C, N, O and H, as SMILES, by number of heavy atoms.

    They grow by one atom or one bond at a time, where there is a hydrogen atom to replace. What
    `EXCLUDED` matches is left out at the end, since stable molecules may grow from it.
    """
    from rdkit import Chem, RDLogger

    RDLogger.DisableLog("rdApp.*")
    excluded = [Chem.MolFromSmarts(pattern) for pattern in EXCLUDED]
    if None in excluded:
        sys.exit(f"{EXCLUDED[excluded.index(None)]} is no pattern.")
    result, waiting = {}, {"C", "N", "O"}
    for heavy in range(1, max_heavy + 1):
        seen: set[str] = set()
        larger: set[str] = set()
        while waiting:
            smiles = waiting.pop()
            if smiles in seen:
                continue
            seen.add(smiles)
            for grown in _grown(Chem.MolFromSmiles(smiles), with_atom=heavy < max_heavy):
                same_size = Chem.MolFromSmiles(grown).GetNumAtoms() == heavy
                (waiting if same_size else larger).add(grown)
        kept = [
            smiles
            for smiles in sorted(seen)
            if not any(map(Chem.MolFromSmiles(smiles).HasSubstructMatch, excluded))
        ]
        print(f"{heavy} heavy atoms: {len(seen)} graphs, {len(kept)} kept", flush=True)
        result[heavy], waiting = kept, larger
    return result


def _grown(molecule: Any, with_atom: bool) -> Iterator[str]:
    """Yield the molecules with one more atom (single to triple bond), or one more ring bond."""
    from rdkit import Chem

    bonds = (Chem.BondType.SINGLE, Chem.BondType.DOUBLE, Chem.BondType.TRIPLE)
    free = [atom.GetTotalNumHs() for atom in molecule.GetAtoms()]
    changes = []
    for place, hydrogens in enumerate(free):
        for number, valence in ((6, 4), (7, 3), (8, 2)) if with_atom else ():
            for order in range(1, min(hydrogens, valence, 3) + 1):
                changes.append((place, number, bonds[order - 1]))
    for first in range(len(free)):
        for second in range(first):
            if free[first] and free[second] and not molecule.GetBondBetweenAtoms(first, second):
                changes.append((first, -second, bonds[0]))
    for place, other, bond in changes:
        new = Chem.RWMol(molecule)
        partner = new.AddAtom(Chem.Atom(other)) if other > 0 else -other
        new.AddBond(place, partner, bond)
        try:
            product = new.GetMol()
            Chem.SanitizeMol(product)
            yield Chem.MolToSmiles(product)
        except ValueError:  # the base class of RDKit's errors of valence
            continue


def choose() -> list[Molecule]:
    """Choose the molecules of each part."""
    by_size = enumerate_molecules(5)
    generator = np.random.RandomState(14)
    up_to_four = [smiles for heavy in range(1, 5) for smiles in by_size[heavy]]
    # Molecules of one and two heavy atoms are the base of all others: they are for training.
    candidates = [*by_size[3], *by_size[4]]
    unseen = set(generator.permutation(candidates)[:UNSEEN].tolist())
    five = generator.permutation(by_size[5])[:FIVE].tolist()
    return [
        *(Molecule(smiles, PARTS[0]) for smiles in up_to_four if smiles not in unseen),
        *(Molecule(smiles, PARTS[2]) for smiles in sorted(unseen)),
        *(Molecule(smiles, PARTS[3]) for smiles in five),
        *(Molecule(smiles, PARTS[4]) for smiles in SIX),
        Molecule("CO", PARTS[5]),
    ]


# Conformations, with GFN2-xTB


class Xtb:
    """Energies and gradients of one molecule by GFN2-xTB."""

    def __init__(self, numbers: np.ndarray, positions: np.ndarray) -> None:
        from tblite.interface import Calculator

        self._calculator = Calculator("GFN2-xTB", numbers, positions / BOHR)
        self._calculator.set("verbosity", 0)
        self._calculator.set("accuracy", 0.1)

    def __call__(self, positions: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the energy in hartree, and its gradient `(atoms, 3)` in hartree/angstrom."""
        self._calculator.update(positions=positions / BOHR)
        result = self._calculator.singlepoint()
        return float(result.get("energy")), np.asarray(result.get("gradient")) / BOHR


def embed(smiles: str) -> tuple[np.ndarray, np.ndarray]:
    """Return atomic numbers and rough positions; hydrogen atoms come after the heavy ones."""
    from rdkit import Chem
    from rdkit.Chem import AllChem

    molecule = Chem.AddHs(Chem.MolFromSmiles(smiles))
    if AllChem.EmbedMolecule(molecule, randomSeed=7):
        raise ValueError("no conformation")
    AllChem.MMFFOptimizeMolecule(molecule)
    numbers = np.array([atom.GetAtomicNum() for atom in molecule.GetAtoms()])
    return numbers, molecule.GetConformer().GetPositions()


def relax(xtb: Xtb, positions: np.ndarray) -> np.ndarray:
    """Return the positions of a minimum of the energy."""
    from scipy.optimize import minimize

    def value(flat: np.ndarray) -> tuple[float, np.ndarray]:
        energy, gradient = xtb(flat.reshape(-1, 3))
        return energy, gradient.ravel()

    options = {"maxiter": 300, "gtol": 1e-5}
    return minimize(
        value, positions.ravel(), jac=True, method="L-BFGS-B", options=options
    ).x.reshape(-1, 3)


def vibrations(xtb: Xtb, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the curvatures, hartree per square angstrom, and directions of all vibrations."""
    size, step = positions.size, 0.01
    hessian = np.zeros((size, size))
    for place in range(size):
        moved = np.zeros(size)
        moved[place] = step
        plus, minus = (xtb(positions + sign * moved.reshape(-1, 3))[1] for sign in (1, -1))
        hessian[place] = (plus - minus).ravel() / (2 * step)
    curvatures, directions = np.linalg.eigh((hessian + hessian.T) / 2)
    # The softest are rotations and translations. All others count as at least a soft vibration.
    centered = positions - positions.mean(axis=0)
    external = 5 if np.linalg.matrix_rank(centered, tol=1e-2) == 1 else 6
    return np.maximum(curvatures[external:], 0.01), directions[:, external:]


def normal_modes(
    generator: np.random.RandomState, minimum: np.ndarray, modes: Any, count: int
) -> Iterator[np.ndarray]:
    """Yield conformations with a thermal displacement along every vibration."""
    curvatures, directions = modes
    for _ in range(count):
        temperature = generator.choice(TEMPERATURES)
        lengths = generator.normal(size=curvatures.size)
        lengths *= np.sqrt(BOLTZMANN * temperature / curvatures)
        yield minimum + (directions @ lengths).reshape(-1, 3)


def dynamics(
    generator: np.random.RandomState,
    xtb: Xtb,
    numbers: np.ndarray,
    minimum: np.ndarray,
    count: int,
) -> Iterator[np.ndarray]:
    """Yield conformations of a molecular dynamics run at about 600 K, 100 fs apart."""
    step, temperature = 0.5, 600.0  # femtoseconds, kelvins
    masses = np.array([MASSES[number] for number in numbers])[:, None]
    # 1 hartree / angstrom / amu = 627.5094 kcal/mol · 4.184e-4 angstrom/fs² per kcal/mol.
    to_acceleration = KCAL * 4.184e-4 / masses
    # Starting at the minimum, half of the kinetic energy becomes potential energy.
    speeds = np.sqrt(2 * BOLTZMANN * temperature * to_acceleration)
    velocities = generator.normal(size=minimum.shape) * speeds
    velocities -= (masses * velocities).sum(axis=0) / masses.sum()
    positions, acceleration = minimum.copy(), -xtb(minimum)[1] * to_acceleration
    for _ in range(count):
        for _ in range(200):
            positions = positions + step * velocities + step**2 / 2 * acceleration
            new = -xtb(positions)[1] * to_acceleration
            velocities = velocities + step / 2 * (acceleration + new)
            acceleration = new
        yield positions


def conformations(molecule: Molecule) -> dict[str, np.ndarray]:
    """Return the conformations of a molecule that are labeled by DFT, and those by GFN2-xTB.

    Positions are rounded to float32 first, as they are stored, so that energies fit them exactly.
    """
    generator = np.random.RandomState(molecule.seed)
    numbers, positions = embed(molecule.smiles)
    xtb = Xtb(numbers, positions)
    minimum = relax(xtb, positions)
    if molecule.part == PARTS[5]:
        frames, cheap = _scan(minimum), []
    else:
        heavy = int((numbers > 1).sum())
        along_modes, snapshots = {
            PARTS[0]: FRAMES.get(heavy, (0, 0)),
            PARTS[2]: UNSEEN_FRAMES,
            PARTS[3]: FIVE_FRAMES,
            PARTS[4]: SIX_FRAMES,
        }[molecule.part]
        modes = vibrations(xtb, minimum)
        frames = [
            minimum,
            *normal_modes(generator, minimum, modes, along_modes),
            *dynamics(generator, xtb, numbers, minimum, snapshots),
        ]
        more = XTB_FRAMES if molecule.part == PARTS[0] else 30 if molecule.part == PARTS[2] else 0
        cheap = list(normal_modes(generator, minimum, modes, more))
    cheap = np.asarray(cheap, np.float32).reshape(-1, *minimum.shape)
    energies = [xtb(frame.astype(np.float64))[0] for frame in cheap]
    return {
        "numbers": numbers.astype(np.uint8),
        "positions": np.asarray(frames, np.float32),
        "xtb_positions": cheap,
        "xtb_energies": np.array(energies, np.float64),
    }


def _scan(minimum: np.ndarray) -> list[np.ndarray]:
    """Move O and its hydrogen atom, the last one, along the C–O bond of methanol."""
    direction = (minimum[1] - minimum[0]) / np.linalg.norm(minimum[1] - minimum[0])
    frames = []
    for length in SCAN:
        frame = minimum.copy()
        frame[[1, -1]] += length * direction
        frames.append(frame)
    return frames


# Energies, with PySCF


def dft(
    numbers: np.ndarray, positions: np.ndarray, *, fit: bool = True, grid: int = 1
) -> tuple[float, np.ndarray, float]:
    """Compute the energy and the forces by ωB97X/6-31G*.

    Returns:
        Energy in hartree, forces `(atoms, 3)` in hartree/angstrom, CPU seconds for both.

    Raises:
        ArithmeticError: The energy did not converge.
    """
    from pyscf import dft as pyscf_dft
    from pyscf import gto, lib

    lib.num_threads(1)
    start = time.process_time()
    atoms = [(int(z), tuple(map(float, x))) for z, x in zip(numbers, positions, strict=True)]
    molecule = gto.M(atom=atoms, unit="Angstrom", basis="6-31g*", verbose=0)
    method = pyscf_dft.RKS(molecule)
    method.xc = "wb97x"
    if fit:
        method = method.density_fit()
    method.grids.level = grid
    method.conv_tol = 1e-8
    energy = float(method.kernel())
    if not method.converged:
        raise ArithmeticError("the energy did not converge")
    gradient = np.asarray(method.nuc_grad_method().kernel())  # hartree/bohr
    return energy, -gradient / BOHR, time.process_time() - start


def noise(work: Path) -> None:
    """Compare cheap settings with the exact Coulomb and exchange integrals on a fine grid.

    Only energies relative to the same molecule's first conformation matter. A setting is good
    enough where the errors are a tenth of those that the lab's networks have, about 0.1 kcal/mol
    and 0.5 kcal/mol per angstrom. The last column turns the molecule: how much the energy changes,
    which it must not. `label` uses density fitting with grid 1 (`NOISE`): its energies are good
    enough, its forces barely, since PySCF's forces leave out how the grid moves with the atoms.
    Grid 2 has a seventh of that error (0.07), and takes twice as long.
    """
    from scipy.spatial.transform import Rotation

    turn = Rotation.from_rotvec([0.4, 0.9, -0.6]).as_matrix()
    settings = [(False, 3), (True, 3), (True, 2), (True, 1)]
    lines = []
    for molecule in [Molecule(smiles, PARTS[0]) for smiles in ("CO", "CCO", "CC(N)=O")]:
        path = work / "geometries" / molecule.file
        if not path.exists():
            print(f"{molecule.smiles} is not among the training molecules; skipped.")
            continue
        arrays = np.load(path)
        numbers, frames = arrays["numbers"], arrays["positions"][:6].astype(float)
        results = {}
        for fit, grid in settings:
            values = [dft(numbers, frame, fit=fit, grid=grid) for frame in frames]
            energies, forces, seconds = map(np.array, zip(*values, strict=True))
            turned = dft(numbers, frames[1] @ turn.T, fit=fit, grid=grid)[0] - energies[1]
            results[fit, grid] = (energies - energies[0], forces)
            exact = results[False, 3]
            lines.append(
                {
                    "molecule": molecule.smiles,
                    "density fitting": fit,
                    "grid": grid,
                    "relative energies, RMS error (kcal/mol)": _rms(
                        KCAL * (results[fit, grid][0] - exact[0])
                    ),
                    "forces, RMS error (kcal/mol/angstrom)": _rms(KCAL * (forces - exact[1])),
                    "change when turned (kcal/mol)": abs(KCAL * float(turned)),
                    "CPU seconds each": float(seconds.mean()),
                }
            )
            print(lines[-1], flush=True)
    _write(work / "noise.json", json.dumps(lines, indent=1).encode())


def geometries(work: Path) -> None:
    """Make the conformations of every molecule, and estimate what their energies will cost."""
    molecules, seconds = choose(), 0.0
    usable = []
    for molecule in molecules:
        path = work / "geometries" / molecule.file
        if not path.exists():
            try:
                arrays = conformations(molecule)
            except (ValueError, RuntimeError) as error:
                print(f"{molecule.smiles} is left out: {error}", flush=True)
                continue
            _save(path, arrays)
        with np.load(path) as arrays:
            numbers, count = arrays["numbers"], len(arrays["positions"])
        usable.append({"smiles": molecule.smiles, "part": molecule.part})
        seconds += count * SECONDS[int((numbers > 1).sum())]
    _write(work / "molecules.json", json.dumps(usable, indent=1).encode())
    print(f"{len(usable)} molecules; their energies will take about {seconds / 3600:.2f} hours.")


def label(work: Path, share: str = "0/1") -> None:
    """Compute energies and forces of all conformations; continue where it was stopped."""
    number, count = map(int, share.split("/"))
    molecules = _molecules(work)[number::count]
    # Large molecules last: if the time is up, what is missing is a part of the test.
    waiting = [m for m in molecules if not (work / "labels" / m.file).exists()]
    print(f"{len(molecules) - len(waiting)} of {len(molecules)} molecules are finished.")
    start = time.process_time()
    for place, molecule in enumerate(waiting, 1):
        with np.load(work / "geometries" / molecule.file) as arrays:
            numbers, frames = arrays["numbers"], arrays["positions"].astype(np.float64)
        energies, forces, seconds = [], [], []
        for frame in frames:
            try:
                energy, force, duration = dft(numbers, frame)
            except ArithmeticError:
                energy, force, duration = np.nan, np.full(frame.shape, np.nan), np.nan
            energies.append(energy)
            forces.append(force)
            seconds.append(duration)
        arrays = {
            "energies": np.array(energies),
            "forces": np.array(forces, np.float32),
            "cpu_seconds": np.array(seconds, np.float32),
        }
        _save(work / "labels" / molecule.file, arrays)
        spent = time.process_time() - start
        print(f"{place}/{len(waiting)} {molecule.smiles}: {spent:.0f} s so far", flush=True)


# The two files and their cards


def write(work: Path) -> None:
    """Write the two data sets beside the other cards; refuse if energies are missing."""
    molecules = _molecules(work)
    missing = [m.smiles for m in molecules if not (work / "labels" / m.file).exists()]
    if missing:
        sys.exit(f"{len(missing)} molecules have no energies yet, such as {missing[0]}.")
    names = sorted({molecule.smiles for molecule in molecules})
    rows: list[dict[str, Any]] = []
    cheap: list[dict[str, Any]] = []
    for molecule in molecules:
        geometry = np.load(work / "geometries" / molecule.file)
        labels = np.load(work / "labels" / molecule.file)
        common = {"numbers": geometry["numbers"], "molecule": names.index(molecule.smiles)}
        part = PARTS.index(molecule.part)
        for place, energy in enumerate(labels["energies"]):
            if np.isfinite(energy):
                rows.append(
                    {
                        **common,
                        "part": part,
                        "positions": geometry["positions"][place],
                        "energies": energy,
                        "forces": labels["forces"][place],
                        "cpu_seconds": labels["cpu_seconds"][place],
                    }
                )
        for positions, energy in zip(
            geometry["xtb_positions"], geometry["xtb_energies"], strict=True
        ):
            row = {"part": part, "positions": positions, "energies": energy}
            cheap.append({**common, **row, "cpu_seconds": np.nan})
    versions = ", ".join(f"{name} {version(name)}" for name in ("pyscf", "rdkit", "tblite"))
    machine = _processor()
    _write_set(
        "small_molecules",
        "conformations of small molecules of H, C, N and O: energies and forces by ωB97X/6-31G*.",
        f"ωB97X/6-31G*, density fitting, PySCF's grid 1; {NOISE}; conformations by GFN2-xTB; "
        f"{versions}; CPU seconds on one core of a machine with other work, {machine}",
        rows,
        names,
    )
    _write_set(
        "small_molecules_xtb",
        "conformations of small molecules of H, C, N and O: energies by GFN2-xTB.",
        f"GFN2-xTB, accuracy 0.1; {versions}",
        cheap,
        names,
    )


def _write_set(
    name: str, title: str, method: str, rows: Sequence[dict[str, Any]], names: list[str]
) -> None:
    """Divide the conformations into splits, and write one file with its card."""
    part = np.array([row["part"] for row in rows])
    known = np.flatnonzero(part == 0)
    order = np.random.RandomState(1).permutation(known)
    split = np.full(len(rows), 2, np.uint8)  # other molecules are for the test
    split[order] = 0
    split[order[: len(order) // 20]] = 1
    held_out = order[len(order) // 20 : len(order) * 3 // 20]
    split[held_out] = 2
    part[held_out] = 1
    arrays = {
        "num_atoms": np.array([len(row["numbers"]) for row in rows], np.uint8),
        "numbers": np.concatenate([row["numbers"] for row in rows]),
        "positions": np.concatenate([row["positions"] for row in rows]),
        "energies": np.array([row["energies"] for row in rows]),
        "molecule": np.array([row["molecule"] for row in rows], np.int16),
        "names": np.array(names),
        "part": part.astype(np.uint8),
        "split": split,
        "cpu_seconds": np.array([row["cpu_seconds"] for row in rows], np.float32),
    }
    if "forces" in rows[0]:
        arrays["forces"] = np.concatenate([row["forces"] for row in rows])
    folder = Path(__file__).parents[1]
    path = folder / f"{name}.npz"
    _save(path, arrays)
    content = path.read_bytes()
    sizes = {key: int((split == number).sum()) for number, key in enumerate(SPLITS)}
    card = [
        f'name = "{name}"',
        f'title = "{len(rows):,} {title}"',
        'format = "molecules"',
        'license = "CC0-1.0"',
        'citation = "The data were computed by datasets/make/small_molecules.py. Methods: '
        "J.-D. Chai and M. Head-Gordon, J. Chem. Phys. 128, 084106 (2008), doi:10.1063/1.2834918; "
        "C. Bannwarth et al., J. Chem. Theory Comput. 15, 1652 (2019), "
        "doi:10.1021/acs.jctc.8b01176; Q. Sun et al., J. Chem. Phys. 153, 024109 (2020), "
        'doi:10.1063/5.0006074."',
        'version = "1"',
        f'method = "{method}"',
        f"parts = {json.dumps(PARTS)}",
        *(f"\n[splits.{key}]\nsize = {size}" for key, size in sizes.items()),
        f'\n[[files]]\nname = "{path.name}"\nsize = {len(content)}',
        f'sha256 = "{hashlib.sha256(content).hexdigest()}"',
    ]
    _write(folder / f"{name}.toml", ("\n".join(card) + "\n").encode())
    print(f"{path.name}: {len(content) / 1e6:.2f} MB, {sizes}")


def _processor() -> str:
    """Return the name of the processor; on Linux, that of its first core."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


SPLITS = ("train", "validation", "test")


def _molecules(work: Path) -> list[Molecule]:
    path = work / "molecules.json"
    if not path.exists():
        sys.exit(f"{path} is missing: begin with `geometries`.")
    return [Molecule(**entry) for entry in json.loads(path.read_text())]


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt((np.asarray(values) ** 2).mean()))


def _save(path: Path, arrays: dict[str, np.ndarray]) -> None:
    import io

    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    _write(path, buffer.getvalue())


def _write(path: Path, content: bytes) -> None:
    """Write beside, then rename: a killed process leaves no half of a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_bytes(content)
    beside.replace(path)


COMMANDS = {"geometries": geometries, "noise": noise, "label": label, "write": write}

if __name__ == "__main__":
    if len(sys.argv) < 3 or sys.argv[1] not in COMMANDS:
        sys.exit(__doc__)
    COMMANDS[sys.argv[1]](Path(sys.argv[2]), *sys.argv[3:4])
