"""A potential of molecules: symmetry functions of atoms, and networks for each element."""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations_with_replacement
from typing import TYPE_CHECKING, Any

import numpy as np

from dltlab.errors import Invalid

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

Compiled = Callable[[Any], tuple["tf.Tensor", "tf.Tensor"]]
Radial = Callable[["tf.Tensor", np.ndarray, float, float], "tf.Tensor"]

ELEMENTS: Mapping[int, str] = {1: "H", 6: "C", 7: "N", 8: "O"}  # atomic number: symbol
KCAL_PER_HARTREE = 627.5094740631  # from CODATA 2018's hartree and Avogadro constant
_NUM_KINDS = len(ELEMENTS) * (len(ELEMENTS) + 1) // 2  # of unordered pairs of elements

# As in ANI-1x (J. S. Smith et al., J. Chem. Phys. 148, 241733, 2018, doi:10.1063/1.5023802): 16
# radial functions for each element, 4 × 8 angular ones for each pair of elements, 384 in all. The
# cutoffs are those of ANI-1 (doi:10.1039/C6SC05720A).
RADIAL_CUTOFF, ANGULAR_CUTOFF = 4.6, 3.1  # angstroms
RADIAL_ETA, ANGULAR_ETA = 16.0, 8.0  # per square angstrom
RADIAL_CENTERS = np.linspace(0.5, RADIAL_CUTOFF, 16, endpoint=False)  # angstroms
ANGULAR_CENTERS = np.linspace(0.5, ANGULAR_CUTOFF, 4, endpoint=False)
ANGLES = (np.arange(8) + 0.5) * np.pi / 8  # radians
_LOG2_ZETA = 5  # zeta = 32, computed by squaring five times
NUM_FEATURES = len(ELEMENTS) * RADIAL_CENTERS.size + _NUM_KINDS * ANGULAR_CENTERS.size * ANGLES.size

_FAR = 100.0  # angstroms; the distance of what is not a pair of atoms
_COSINE_SCALE = 0.95  # keeps the derivative of the sine finite for atoms in a line, as in TorchANI
_ENERGY_SCALE = 10.0  # kcal/mol for an output of 1
_CLOSEST = 0.3  # angstroms; atoms that are closer are a mistake (H2's bond has 0.74)


def check_molecule(numbers: Any, positions: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the atomic numbers and positions of a molecule as arrays.

    Args:
        numbers: Atomic numbers `(atoms,)`.
        positions: `(atoms, 3)`, in angstroms.

    Returns:
        int64 `(atoms,)` and float64 `(atoms, 3)`.

    Raises:
        Invalid: The shapes do not fit, an element is not H, C, N or O, a position is not a finite
            number, or two atoms are closer than 0.3 angstroms.
    """
    numbers, positions = np.asarray(numbers), np.asarray(positions, np.float64)
    if numbers.ndim != 1 or not numbers.size or positions.shape != (numbers.size, 3):
        raise Invalid(
            f"A molecule has atomic numbers (atoms,) and positions (atoms, 3), not "
            f"{numbers.shape} and {positions.shape}."
        )
    unknown = sorted({int(number) for number in numbers} - ELEMENTS.keys())
    if unknown:
        raise Invalid(
            f"The potential knows the elements {', '.join(ELEMENTS.values())}, not the atomic "
            f"number {unknown[0]}. Leave this molecule out, or train on molecules with it."
        )
    if not np.isfinite(positions).all():
        atom = int(np.flatnonzero(~np.isfinite(positions).all(axis=1))[0])
        raise Invalid(f"The position of atom {atom} is {positions[atom]}; give finite numbers.")
    distances = np.linalg.norm(positions[:, None] - positions, axis=-1)
    distances[np.diag_indices(numbers.size)] = np.inf
    if distances.min() < _CLOSEST:
        first, second = map(int, np.unravel_index(distances.argmin(), distances.shape))
        raise Invalid(
            f"Atoms {first} and {second} are {distances.min():.2f} angstroms apart. Are the "
            "positions in angstroms?"
        )
    return numbers.astype(np.int64), positions


def element_indices(numbers: np.ndarray) -> np.ndarray:
    """Return the places of atomic numbers in `ELEMENTS`, int32 of the same shape; -1 for 0.

    Args:
        numbers: Atomic numbers of any shape; 0 pads molecules to one number of atoms.

    Raises:
        Invalid: An element is not H, C, N or O.
    """
    numbers = np.asarray(numbers)
    places = np.full(numbers.shape, -1, np.int32)
    for place, number in enumerate(ELEMENTS):
        places[numbers == number] = place
    if unknown := sorted({int(number) for number in numbers[(places < 0) & (numbers != 0)]}):
        raise Invalid(
            f"The potential knows the elements {', '.join(ELEMENTS.values())}, not the atomic "
            f"number {unknown[0]}."
        )
    return places


def radial_functions(
    distances: "tf.Tensor", centers: np.ndarray, eta: float, cutoff: float
) -> "tf.Tensor":
    """Return what each neighbor adds to the radial functions of an atom.

    It is exp(-eta (R - center)²) · (1 + cos(pi R / cutoff)) / 2 for R < cutoff, else 0 (J. Behler
    and M. Parrinello, Phys. Rev. Lett. 98, 146401, 2007, doi:10.1103/PhysRevLett.98.146401).

    Args:
        distances: R, of any shape, in angstroms.
        centers: `(centers,)`, in angstroms.
        eta: Per square angstrom.
        cutoff: In angstroms.

    Returns:
        The shape of `distances` with an axis of `centers` at its end.
    """
    import tensorflow as tf

    distances = tf.convert_to_tensor(distances)[..., None]
    smooth = _cutoff(distances, cutoff)
    return tf.exp(-eta * (distances - tf.cast(centers, distances.dtype)) ** 2) * smooth


def angular_functions(
    first: "tf.Tensor", second: "tf.Tensor", cosine: "tf.Tensor"
) -> tuple["tf.Tensor", "tf.Tensor"]:
    """Return the two factors of what each pair of neighbors adds to the angular functions.

    With the angle t between the neighbors, at distances R and S, they are ((1 + cos(t - angle)) /
    2)^zeta for each of 8 angles, and 2 · exp(-eta ((R + S) / 2 - center)²) · fc(R) · fc(S) for each
    of 4 centers. The 32 products are what the pair adds (J. S. Smith et al., Chem. Sci. 8, 3192,
    2017, doi:10.1039/C6SC05720A, equation 4).

    Args:
        first: R `(..., pairs)`, in angstroms.
        second: S, likewise.
        cosine: Of the angle t, likewise.

    Returns:
        `(..., pairs, 8)` and `(..., pairs, 4)`.
    """
    import tensorflow as tf

    first, second = tf.convert_to_tensor(first), tf.convert_to_tensor(second)
    cosine = _COSINE_SCALE * tf.convert_to_tensor(cosine)[..., None]
    sine = tf.sqrt(1 - cosine**2)
    dtype = cosine.dtype
    shifted = cosine * tf.cast(np.cos(ANGLES), dtype) + sine * tf.cast(np.sin(ANGLES), dtype)
    by_angle = (1 + shifted) / 2
    for _ in range(_LOG2_ZETA):
        by_angle = by_angle**2
    middle = (first + second)[..., None] / 2 - tf.cast(ANGULAR_CENTERS, dtype)
    smooth = 2 * _cutoff(first, ANGULAR_CUTOFF) * _cutoff(second, ANGULAR_CUTOFF)
    by_distance = tf.exp(-ANGULAR_ETA * middle**2) * smooth[..., None]
    return by_angle, by_distance


def symmetry_functions(
    species: Any,
    positions: Any,
    radial: Radial = radial_functions,
    present: Sequence[int] = range(len(ELEMENTS)),
) -> "tf.Tensor":
    """Compute the symmetry functions of each atom, 384 if all elements are present.

    Args:
        species: int32 `(batch, atoms)`, as `element_indices` returns them; -1 pads.
        positions: `(batch, atoms, 3)`, float32 or float64, in angstroms.
        radial: Replaces `radial_functions`.
        present: The places in `ELEMENTS`, in order, of the elements that occur. The functions of
            the others, which are zero, are left out.

    Returns:
        `(batch, atoms, functions)` in the dtype of the positions; zeros where `species` is -1. With
        E elements, there are 16 E radial functions and 32 for each of the E (E + 1) / 2 pairs.
    """
    import tensorflow as tf

    species, positions = tf.convert_to_tensor(species), tf.convert_to_tensor(positions)
    dtype = positions.dtype
    elements = tf.cast(species[..., None] == list(present), dtype)  # zeros for -1
    is_atom = tf.reduce_sum(elements, axis=-1)
    num_atoms = tf.shape(species)[1]
    is_pair = is_atom[:, :, None] * is_atom[:, None] * (1 - tf.eye(num_atoms, dtype=dtype))
    differences = positions[:, None] - positions[:, :, None]  # from atom i to atom j
    squares = tf.reduce_sum(differences**2, axis=-1)
    distances = tf.sqrt(tf.where(is_pair > 0, squares, tf.cast(_FAR**2, dtype)))

    contributions = radial(distances, RADIAL_CENTERS, RADIAL_ETA, RADIAL_CUTOFF)
    by_element = tf.einsum("bijr,bjs->bisr", contributions, elements)
    flat = tf.shape(is_atom)
    num_radial = len(present) * RADIAL_CENTERS.size
    of_elements = tf.reshape(by_element, tf.concat([flat, [num_radial]], 0))

    # Each unordered pair (j, k) of atoms once; a pair with atom i itself is beyond the cutoff.
    j, k = _pairs(species.shape[1]) if species.shape[1] else _unknown_pairs(num_atoms)
    directions = differences / distances[..., None]
    cosine = tf.reduce_sum(_neighbors(directions, j) * _neighbors(directions, k), axis=-1)
    by_angle, by_distance = angular_functions(
        _neighbors(distances, j), _neighbors(distances, k), cosine
    )
    kinds = tf.einsum(
        "bps,bpt,stk->bpk",
        tf.gather(elements, j, axis=1),
        tf.gather(elements, k, axis=1),
        tf.cast(_pair_kinds(len(present)), dtype),
    )
    # Products of matrices: the first changes nothing, but XLA does not compute the exponentials
    # again for each kind; the last adds up the pairs without their 32 products.
    by_distance = by_distance @ tf.eye(ANGULAR_CENTERS.size, dtype=dtype)
    weighted = by_distance[..., None, :] * kinds[:, None, :, :, None]
    by_kind = tf.einsum("bipa,bipkc->bikac", by_angle, weighted)
    num_angular = kinds.shape[-1] * ANGLES.size * ANGULAR_CENTERS.size
    of_pairs = tf.reshape(by_kind, tf.concat([flat, [num_angular]], 0))
    return tf.concat([of_elements, of_pairs], axis=-1) * is_atom[..., None]


def directional_features(
    species: Any, positions: Any, directions: Any, radial: Radial = radial_functions
) -> tuple["tf.Tensor", "tf.Tensor"]:
    """Compute symmetry functions and their derivatives along some directions.

    A direction moves all atoms of a molecule. The derivatives are products of the Jacobian of the
    symmetry functions with the directions, computed in forward mode, without the Jacobian.

    Args:
        species: int32 `(batch, atoms)`; -1 pads.
        positions: `(batch, atoms, 3)`, in angstroms.
        directions: `(batch, directions, atoms, 3)`, in the dtype of the positions.
        radial: Replaces `radial_functions`.

    Returns:
        The symmetry functions `(batch, atoms, 384)`, and their derivatives `(batch, directions,
        atoms, 384)`, per angstrom.
    """
    import tensorflow as tf

    positions, directions = tf.convert_to_tensor(positions), tf.convert_to_tensor(directions)
    derivatives = []
    for number in range(directions.shape[1]):
        with tf.autodiff.ForwardAccumulator(positions, directions[:, number]) as accumulator:
            features = symmetry_functions(species, positions, radial)
        derivatives.append(accumulator.jvp(features))
    return features, tf.stack(derivatives, axis=1)


class MolecularPotential:
    """An ensemble of networks for each element, whose outputs add up to the energy of a molecule.

    Energies are in kcal/mol, relative to the sum of one energy for each atom that depends on its
    element alone (`element_energies`), which a linear fit chooses. All members share a part that is
    linear in the symmetry functions. It is zero until `fit_linear` chooses it. A new network
    returns zero, too.

    Args:
        num_members: The size of the ensemble.
        units: Of the hidden layers. With 384 symmetry functions, (128, 128, 64) are 74,113
            parameters for each element.
        radial: Replaces `radial_functions`.
        dtype: "float32" or "float64".
        seed: Of the initial weights.

    Attributes:
        element_energies: float64 `(4,)`, in hartree.
        members: For each member, a network for each element.
    """

    def __init__(
        self,
        num_members: int = 1,
        units: Sequence[int] = (128, 128, 64),
        *,
        radial: Radial = radial_functions,
        dtype: str = "float32",
        seed: int = 1,
    ) -> None:
        import tensorflow as tf

        self.dtype = dtype
        self.radial = radial
        self.element_energies = np.zeros(len(ELEMENTS))
        self.members = [
            [
                _network(units, dtype, seed=seed + 1000 * member + element)
                for element in range(len(ELEMENTS))
            ]
            for member in range(num_members)
        ]
        shape = (len(ELEMENTS), NUM_FEATURES)
        self._scales = tf.Variable(tf.ones(shape, dtype), trainable=False, name="scales")
        self._linear = tf.Variable(tf.zeros(shape, dtype), trainable=False, name="linear")

    def fit_scales(self, species: np.ndarray, features: np.ndarray, energies: np.ndarray) -> None:
        """Choose the element energies, and divide symmetry functions by their deviations.

        Args:
            species: int32 `(n, atoms)`; -1 pads.
            features: `(n, atoms, 384)`.
            energies: float64 `(n,)`, in hartree.
        """
        self.fit_element_energies(species, energies)
        scales = np.ones(self._scales.shape, self.dtype)
        for element in range(len(ELEMENTS)):
            rows = features[species == element]
            if len(rows):
                scales[element] = np.maximum(rows.std(axis=0), 0.02)  # unused functions stay small
        self._scales.assign(scales)

    def fit_element_energies(self, species: np.ndarray, energies: np.ndarray) -> None:
        """Choose the element energies, for example those of another method; see `fit_scales`."""
        self.element_energies = np.linalg.lstsq(_counts(species), energies, rcond=None)[0]

    def fit_linear(
        self,
        species: np.ndarray,
        features: np.ndarray,
        energies: np.ndarray,
        derivatives: np.ndarray | None = None,
        slopes: np.ndarray | None = None,
        *,
        penalty: float = 1.0,
        slope_weight: float = 0.1,
    ) -> None:
        """Fit the linear part and the element energies, by least squares with a penalty.

        The penalty is for the change of each weight. So a fit to many approximate energies can be
        followed by one to a few accurate ones, which changes what it must.

        Args:
            species: int32 `(n, atoms)`; -1 pads.
            features: `(n, atoms, 384)`; call `fit_scales` before.
            energies: float64 `(n,)`, in hartree.
            derivatives: Of the symmetry functions along directions, `(n, directions, atoms, 384)`,
                per angstrom; without them, only energies are fitted.
            slopes: Of the energies along these directions, `(n, directions)`, in kcal/mol per
                angstrom.
            penalty: Times the square of a change of 1 kcal/mol for each deviation of a function.
            slope_weight: By which the errors of slopes are multiplied, in angstroms.
        """
        self.fit_element_energies(species, energies)
        scales, present = self._scales.numpy(), self._linear.numpy().ravel().astype(np.float64)
        counts, sums = _counts(species), _sums(species, features, scales)
        residual = KCAL_PER_HARTREE * (energies - counts @ self.element_energies) - sums @ present
        rows = np.hstack([sums, counts])
        matrix, right = rows.T @ rows, rows.T @ residual
        size = present.size
        if derivatives is not None and slopes is not None:
            for number in range(derivatives.shape[1]):
                sums = _sums(species, derivatives[:, number], scales)
                matrix[:size, :size] += slope_weight**2 * sums.T @ sums
                right[:size] += slope_weight**2 * sums.T @ (slopes[:, number] - sums @ present)
        diagonal = np.full(len(right), 1e-6)  # for elements that no molecule has
        diagonal[:size] += penalty
        change = np.linalg.solve(matrix + np.diag(diagonal), right)
        self.element_energies = self.element_energies + change[size:] / KCAL_PER_HARTREE
        self._linear.assign((present + change[:size]).reshape(scales.shape))

    def targets(self, species: np.ndarray, energies: np.ndarray) -> np.ndarray:
        """Return energies in kcal/mol without those of the elements.

        Args:
            species: int32 `(n, atoms)`; -1 pads.
            energies: float64 `(n,)`, in hartree.

        Returns:
            `(n,)` in the dtype of the potential.
        """
        residual = energies - _counts(species) @ self.element_energies
        return np.asarray(KCAL_PER_HARTREE * residual, self.dtype)

    def member_energies(self, member: int, species: Any, features: Any) -> "tf.Tensor":
        """Compute the energies of one member from symmetry functions, `(batch,)`, in kcal/mol."""
        import tensorflow as tf

        species = tf.convert_to_tensor(species)
        energies = tf.zeros(tf.shape(species)[:1], self.dtype)
        for element, network in enumerate(self.members[member]):
            places = tf.where(species == element)
            rows = tf.gather_nd(features, places) / self._scales[element]
            rows = tf.ensure_shape(rows, (None, NUM_FEATURES))  # for the networks in a tf.function
            of_atoms = _ENERGY_SCALE * network(rows)[:, 0] + tf.linalg.matvec(
                rows, self._linear[element]
            )
            energies += tf.math.unsorted_segment_sum(of_atoms, places[:, 0], tf.shape(species)[0])
        return energies

    def energies(self, species: Any, positions: Any) -> "tf.Tensor":
        """Compute the energies of every member, `(members, batch)`, in kcal/mol.

        Args:
            species: int32 `(batch, atoms)`; -1 pads.
            positions: `(batch, atoms, 3)` in the dtype of the potential, in angstroms.
        """
        import tensorflow as tf

        features = symmetry_functions(species, positions, self.radial)
        members = range(len(self.members))
        return tf.stack([self.member_energies(member, species, features) for member in members])

    def energies_and_forces(self, species: Any, positions: Any) -> tuple["tf.Tensor", "tf.Tensor"]:
        """Compute the energies of every member, and the forces of their mean.

        Args:
            species: int32 `(batch, atoms)`; -1 pads.
            positions: `(batch, atoms, 3)` in the dtype of the potential, in angstroms.

        Returns:
            Energies `(members, batch)` in kcal/mol; forces `(batch, atoms, 3)` in kcal/mol per
            angstrom, zeros where `species` is -1.
        """
        import tensorflow as tf

        positions = tf.convert_to_tensor(positions)
        with tf.GradientTape() as tape:
            tape.watch(positions)
            energies = self.energies(species, positions)
            mean = tf.reduce_mean(energies, axis=0)
        return energies, -tape.gradient(mean, positions)

    def compiled(self, species: np.ndarray, *, num_members: int | None = None) -> Compiled:
        """Compile `energies_and_forces` for molecules of certain elements.

        XLA compiles the result when it is called for the first time, which takes seconds. It keeps
        the weights that the potential has now.

        Args:
            species: int32 `(batch, atoms)`; -1 pads.
            num_members: Only so many members, for an ensemble's first ones; by default all.

        Returns:
            A function of positions `(batch, atoms, 3)`, in angstroms. It returns what
            `energies_and_forces` does, and raises `Invalid` for positions of another shape.
        """
        import tensorflow as tf

        species = np.asarray(species)
        present = [element for element in range(len(ELEMENTS)) if element in species]
        of_element = [np.flatnonzero(species == element) for element in present]
        order = np.concatenate(of_element)  # of the atoms, as one list, by element
        padding = np.flatnonzero(species < 0)
        back = np.argsort(np.concatenate([order, padding]))
        in_molecule = np.zeros((len(species), order.size), self.dtype)
        in_molecule[order // species.shape[1], np.arange(order.size)] = 1
        members = [
            [self._weights(member[element], element, present) for element in present]
            for member in self.members[:num_members]
        ]

        def energies_and_slopes(features: "tf.Tensor") -> tuple["tf.Tensor", "tf.Tensor"]:
            """Return the energies of every member, and the derivatives of their mean."""
            rows = tf.reshape(features, (-1, features.shape[-1]))
            rows = [tf.gather(rows, atoms) for atoms in of_element]
            energies, slopes = [], []
            for weights in members:
                results = [_forward(*w, part) for w, part in zip(weights, rows, strict=True)]
                of_atoms, by_features = zip(*results, strict=True)
                energies.append(tf.linalg.matvec(in_molecule, tf.concat(of_atoms, axis=0)))
                slopes.append(tf.concat(by_features, axis=0))
            mean = tf.add_n(slopes) / len(members)
            mean = tf.concat([mean, tf.zeros((padding.size, mean.shape[-1]), self.dtype)], axis=0)
            return tf.stack(energies), tf.reshape(tf.gather(mean, back), features.shape)

        def energies_and_forces(positions: "tf.Tensor") -> list["tf.Tensor"]:
            with tf.GradientTape() as tape:
                tape.watch(positions)
                features = symmetry_functions(species, positions, self.radial, present)
            energies, slopes = energies_and_slopes(features)
            return [energies, -tape.gradient(features, positions, output_gradients=slopes)]

        shape = (*species.shape, 3)
        concrete = tf.function(energies_and_forces, jit_compile=True).get_concrete_function(
            tf.TensorSpec(shape, self.dtype)
        )

        def run(positions: Any) -> tuple["tf.Tensor", "tf.Tensor"]:
            if np.shape(positions) != shape:
                raise Invalid(
                    f"The positions have the shape {np.shape(positions)}; this was compiled "
                    f"for {shape}."
                )
            # An AtomicFunction, called with flat tensors, looks up no signature, which takes a
            # quarter of the time of a small molecule.
            energies, forces = concrete.inference_fn.call_flat(tf.constant(positions, self.dtype))
            return energies, forces

        return run

    def _weights(
        self, network: "keras.Sequential", element: int, present: Sequence[int]
    ) -> tuple[list[tuple[np.ndarray, np.ndarray]], np.ndarray]:
        """Return the kernels and biases of a network, and the weights of the linear part.

        They take the functions of the elements that are present, without scaling, and give
        kcal/mol.
        """
        used = _places_of_functions(present)
        scales = self._scales.numpy()[element, used]
        arrays = [np.asarray(weight) for weight in network.weights]
        arrays[0] = arrays[0][used] / scales[:, np.newaxis]
        arrays[-2:] = [_ENERGY_SCALE * array for array in arrays[-2:]]
        layers = list(zip(arrays[::2], arrays[1::2], strict=True))
        return layers, self._linear.numpy()[element, used] / scales

    def trainable_variables(self, member: int) -> list[Any]:
        """Return the weights of one member."""
        return [weight for network in self.members[member] for weight in network.weights]

    def state(self) -> list[np.ndarray]:
        """Return all numbers of the potential as arrays, which `load_state` takes."""
        weights = [
            np.asarray(weight)
            for member in range(len(self.members))
            for weight in self.trainable_variables(member)
        ]
        return [self.element_energies, self._scales.numpy(), self._linear.numpy(), *weights]

    def load_state(self, state: Sequence[np.ndarray]) -> None:
        """Take the numbers of another potential, of any dtype.

        Raises:
            Invalid: They are those of a potential with other networks or another number of members.
        """
        energies, scales, linear, *weights = state
        members = range(len(self.members))
        variables = [weight for member in members for weight in self.trainable_variables(member)]
        shapes = [tuple(variable.shape) for variable in variables]
        if [np.shape(weight) for weight in weights] != shapes:
            raise Invalid("The state is that of a potential with other networks or members.")
        self.element_energies = np.array(energies)
        self._scales.assign(np.asarray(scales, self.dtype))
        self._linear.assign(np.asarray(linear, self.dtype))
        for variable, weight in zip(variables, weights, strict=True):
            variable.assign(np.asarray(weight, self.dtype))


def _cutoff(distances: "tf.Tensor", cutoff: float) -> "tf.Tensor":
    import tensorflow as tf

    inside = tf.minimum(distances, tf.cast(cutoff, distances.dtype))  # the cosine is -1 at cutoff
    return (1 + tf.cos(np.pi / cutoff * inside)) / 2


def _pairs(num_atoms: int) -> tuple[np.ndarray, np.ndarray]:
    """Return two places of atoms for every unordered pair, each `(pairs,)`."""
    first, second = np.triu_indices(num_atoms, 1)
    return first, second


def _unknown_pairs(num_atoms: "tf.Tensor") -> tuple["tf.Tensor", "tf.Tensor"]:
    """Return the same for a number that is known when a `tf.function` runs; not for XLA."""
    import tensorflow as tf

    upper = tf.linalg.band_part(tf.ones((num_atoms, num_atoms)), 0, -1) - tf.eye(num_atoms)
    pairs = tf.where(upper > 0)
    return pairs[:, 0], pairs[:, 1]


def _neighbors(values: "tf.Tensor", places: Any) -> "tf.Tensor":
    """Return `values` `(batch, atoms, neighbors, …)` of the neighbors at `places`.

    For places that are known now, this is a product with a matrix of zeros and ones, since XLA
    computes the derivative of `tf.gather` one place after the other.
    """
    import tensorflow as tf

    if not isinstance(places, np.ndarray):
        return tf.gather(values, places, axis=2)
    chosen = tf.one_hot(places, values.shape[2], dtype=values.dtype)
    return tf.einsum("bin...,pn->bip...", values, chosen)


def _pair_kinds(num_elements: int) -> np.ndarray:
    """Return 1 where two elements are the unordered pair of a number, `(E, E, E (E + 1) / 2)`."""
    pairs = list(combinations_with_replacement(range(num_elements), 2))
    kinds = np.zeros((num_elements, num_elements, len(pairs)))
    for number, (first, second) in enumerate(pairs):
        kinds[first, second, number] = kinds[second, first, number] = 1
    return kinds


def _places_of_functions(present: Sequence[int]) -> np.ndarray:
    """Return which of the 384 functions are those of the elements that are present."""
    of_element, of_pair = RADIAL_CENTERS.size, ANGULAR_CENTERS.size * ANGLES.size
    radial, pairs = range(len(ELEMENTS)), combinations_with_replacement(range(len(ELEMENTS)), 2)
    is_used = [np.repeat([element in present for element in radial], of_element)]
    is_used.append(np.repeat([{*pair} <= {*present} for pair in pairs], of_pair))
    return np.flatnonzero(np.concatenate(is_used))


def _counts(species: np.ndarray) -> np.ndarray:
    """Return the number of atoms of each element, float64 `(n, 4)`."""
    return np.stack([(species == element).sum(axis=1) for element in range(len(ELEMENTS))], 1) * 1.0


def _sums(species: np.ndarray, features: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """Return the sums of scaled features over the atoms of each element, float64 `(n, 4 · 384)`."""
    sums = [
        (features * (species == element)[..., np.newaxis]).sum(axis=1) / scale
        for element, scale in enumerate(scales)
    ]
    return np.concatenate(sums, axis=1).astype(np.float64)


def _forward(
    layers: Sequence[tuple[np.ndarray, np.ndarray]], linear: np.ndarray, rows: "tf.Tensor"
) -> tuple["tf.Tensor", "tf.Tensor"]:
    """Compute the energies of atoms, `(n,)`, and their derivatives by the rows, `(n, functions)`.

    The weights are constants, and the derivatives are written out: then the transposed kernels are
    constants, too. A `GradientTape` would transpose them in each call.
    """
    import tensorflow as tf

    *hidden, (last_kernel, last_bias) = layers
    values, slopes = rows, []
    for kernel, bias in hidden:
        before = values @ kernel + bias
        sigmoid = tf.sigmoid(before)
        values = before * sigmoid  # SiLU
        slopes.append(sigmoid + values * (1 - sigmoid))
    energies = (values @ last_kernel + last_bias)[:, 0] + tf.linalg.matvec(rows, linear)
    gradients = tf.ones_like(rows[:, :1]) @ last_kernel.T
    for (kernel, _), slope in zip(reversed(hidden), reversed(slopes), strict=True):
        gradients = (gradients * slope) @ kernel.T
    return energies, gradients + linear


def _network(units: Sequence[int], dtype: str, seed: int) -> "keras.Sequential":
    import keras

    hidden = [
        keras.layers.Dense(
            width,
            activation="silu",  # smooth, and so are the forces: dynamics conserves the energy
            kernel_initializer=keras.initializers.GlorotUniform(seed=10 * seed + place),
            dtype=dtype,
        )
        for place, width in enumerate(units)
    ]
    output = keras.layers.Dense(1, kernel_initializer="zeros", dtype=dtype)  # begins with 0
    return keras.Sequential([keras.Input((NUM_FEATURES,), dtype=dtype), *hidden, output])
