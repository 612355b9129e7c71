"""Exercises of lab 14, A molecular potential."""

from collections.abc import Callable
from typing import Any

import numpy as np

from dltlab.exercises import (
    Array,
    Number,
    attempt,
    correct,
    exercise,
    question,
    require,
    wrong,
)


@question
def unchanged():
    """A molecule turns in space as a whole. Which of these changes?"""
    return [
        wrong(
            "The angle between two of its bonds.",
            "An angle is made of distances, and these stay.",
        ),
        wrong(
            "Its energy.",
            "No experiment in empty space can tell how a molecule is oriented. Its energy must not "
            "depend on it.",
        ),
        correct(
            "The force on each of its atoms.",
            "The forces turn with the molecule: each is a vector with three coordinates. Their "
            "lengths stay. A potential whose energy does not change gets this for free, since the "
            "forces are derivatives of the energy.",
        ),
        wrong(
            "The distance between any two of its atoms.",
            "All atoms move together, as in a rigid body.",
        ),
    ]


def _rotation(seed: int) -> np.ndarray:
    """Return a random rotation, `(3, 3)`, of determinant 1."""
    orthogonal, upper = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    orthogonal = orthogonal * np.sign(np.diag(upper))
    rotation: np.ndarray = orthogonal * np.sign(np.linalg.det(orthogonal))
    return rotation


@exercise(
    "A row of `positions` is one atom. The rotated row is `rotation @ row`; for all rows at once, "
    "`positions @ rotation.T`.",
    "Rotate first, then add `shift`, which has one number for each coordinate.",
    "`order[0]` is the atom that comes first: `numbers[order]`, and the same for the positions.",
    returns=(Array("array of atomic numbers", dtype="integer"), Array("array of positions")),
    otherwise={
        "array of atomic numbers": "Your atomic numbers are not `numbers` in the order of `order`.",
        "array of positions": "Your positions have the correct shape, but other numbers. "
        "Rotate each row, add the shift, then put the rows into the new order.",
    },
)
def moved():
    for number, order in ((1, [2, 0, 1]), (2, [3, 0, 4, 2, 1])):
        generator = np.random.default_rng(number)
        n = len(order)
        yield (
            np.array([8, 1, 6, 7, 1])[:n],
            generator.normal(size=(n, 3)),
            _rotation(number),
            generator.normal(size=3),
            np.array(order),
        )


@moved.mistakes
def _(numbers, positions, rotation, shift, order):
    right = positions @ rotation.T
    back = np.argsort(order)
    yield (
        "You rotate the other way round: for atoms in rows, `rotation @ row` for each is "
        "`positions @ rotation.T`.",
        (..., (positions @ rotation + shift)[order]),
    )
    yield (
        "You shift before you rotate, so the shift is rotated, too.",
        (..., ((positions + shift) @ rotation.T)[order]),
    )
    yield (
        "You bring the positions into the new order, but not the atomic numbers: atoms change "
        "their element.",
        (numbers, (right + shift)[order]),
    )
    yield (
        "You bring the atomic numbers into the new order, but not the positions: atoms change "
        "their element.",
        (numbers[order], right + shift),
    )
    yield (
        "You leave the order as it was. `order[0]` is the atom that comes first.",
        (numbers, right + shift),
    )
    yield (
        "You use `order` the other way round. `order[0]` is the atom that comes first, so index "
        "with it.",
        (numbers[back], (right + shift)[back]),
    )
    yield "The shift is missing.", (..., right[order])
    yield "The rotation is missing.", (..., (positions + shift)[order])
    yield "You subtract the shift. Add it.", (..., (right - shift)[order])


@moved.accepts
def _(numbers, positions, rotation, shift, order):
    return numbers[order].tolist(), [rotation @ positions[atom] + shift for atom in order]


@moved.accepts
def _(numbers, positions, rotation, shift, order):
    return np.take(numbers, order), np.einsum("ij,nj->ni", rotation, positions[order]) + shift


@moved.rejects("Your array of positions has the shape (3, 5); expected (5, 3)")
def _(numbers, positions, rotation, shift, order):
    return numbers[order], (rotation @ positions.T + shift[:, None])[:, order]


def _gaussians(distances: np.ndarray, centers: np.ndarray, eta: float) -> np.ndarray:
    values: np.ndarray = np.exp(-eta * (distances[..., None] - centers) ** 2)
    return values


def _smooth(distances: np.ndarray, cutoff: float) -> np.ndarray:
    inside = (1 + np.cos(np.pi * distances / cutoff)) / 2
    values: np.ndarray = np.where(distances < cutoff, inside, 0)[..., None]
    return values


@exercise(
    "`distances[..., None]` has one more axis, so that `distances[..., None] - centers` has the "
    "centers at its end.",
    "The cutoff function is `(1 + tf.cos(np.pi * distances / cutoff)) / 2` below the cutoff, and 0 "
    "beyond: `tf.where(distances < cutoff, …, tf.zeros_like(distances))`.",
    "Multiply the Gaussian by the cutoff function, also with `[..., None]`.",
    returns=Array("array of functions"),
    otherwise="Your functions have the correct shape, but other numbers: they are "
    "exp(-eta (R - center)²) times the cutoff function.",
)
def radial():
    first = np.random.default_rng(1).uniform(0.6, 6, (2, 5))
    second = np.array([0.7, 1.1, 2.9, 3.0, 3.1, 8.0])
    yield first, np.linspace(0.5, 4, 6), 4.0, 4.6
    yield second, np.array([0.5, 1.0, 2.5]), 2.0, 3.1


@radial.behavior
def _(answer):
    """Differentiate the functions: the forces need it."""
    import tensorflow as tf

    distances = tf.constant([[1.0, 1.5], [2.0, 9.0]])
    centers = np.array([1.0, 2.0])

    with attempt("differentiating your functions with TensorFlow"):
        with tf.GradientTape() as tape:
            tape.watch(distances)
            total = tf.reduce_sum(answer(distances, centers, 4.0, 4.6))
        gradient = tape.gradient(total, distances)
    require(
        gradient is not None,
        "Your numbers are correct, but TensorFlow cannot differentiate them. Use `tf.exp`, "
        "`tf.cos` and `tf.where` instead of NumPy's functions.",
    )
    require(
        np.isfinite(gradient).all(),
        "Your numbers are correct, but the derivative is not finite for distances of "
        "1, 1.5, 2 and 9.",
    )


@radial.mistakes
def _(distances, centers, eta, cutoff):
    gaussians, smooth = _gaussians(distances, centers, eta), _smooth(distances, cutoff)
    cosine = np.cos(np.pi * distances / cutoff)[..., None]
    inside = (distances < cutoff)[..., None]
    yield (
        "The cutoff function is missing, so an atom that leaves the sphere changes the energy "
        "suddenly.",
        gaussians,
    )
    yield (
        "Your functions end abruptly at the cutoff. Multiply by the cutoff function, too.",
        gaussians * inside,
    )
    yield (
        "Your functions come back beyond the cutoff: the cosine rises again there. Use 0.",
        gaussians * (1 + cosine) / 2,
    )
    yield (
        "Your cutoff function lacks the 1: it is (1 + cos(pi R / cutoff)) / 2.",
        gaussians * inside * cosine / 2,
    )
    yield (
        "Your cutoff function is twice as large: divide by 2, so that it begins at 1.",
        gaussians * 2 * smooth,
    )
    whole = (1 + np.cos(2 * np.pi * distances / cutoff))[..., None] / 2 * inside
    yield (
        "Your cutoff function goes to 0 at half the cutoff. It is (1 + cos(pi R / cutoff)) / 2.",
        gaussians * whole,
    )
    yield (
        "The distance from the center must be squared.",
        np.exp(-eta * (distances[..., None] - centers)) * smooth,
    )
    yield (
        "Your Gaussian grows with the distance from the center. The exponent is negative.",
        np.exp(eta * (distances[..., None] - centers) ** 2) * smooth,
    )
    yield (
        "You divide by eta. Multiply by it: a large eta makes a narrow Gaussian.",
        np.exp(-((distances[..., None] - centers) ** 2) / eta) * smooth,
    )
    yield (
        "You square eta, too.",
        np.exp(-((eta * (distances[..., None] - centers)) ** 2)) * smooth,
    )
    yield (
        "You sum over the neighbors. Return what each of them adds; the sum comes later.",
        (gaussians * smooth).sum(axis=-2),
    )
    yield (
        "The centers are the last axis, after those of `distances`.",
        np.moveaxis(gaussians * smooth, -1, 0),
    )


@radial.accepts
def _(distances, centers, eta, cutoff):
    import tensorflow as tf

    distances = tf.convert_to_tensor(distances)
    centers = tf.cast(centers, distances.dtype)
    parts = [tf.exp(-eta * (distances - center) ** 2) for center in tf.unstack(centers)]
    smooth = tf.cos(np.pi / 2 * tf.minimum(distances / cutoff, 1)) ** 2
    return tf.stack([part * smooth for part in parts], axis=-1)


@radial.accepts
def _(distances, centers, eta, cutoff):
    import tensorflow as tf

    away = distances[..., None] - centers
    smooth = tf.where(distances < cutoff, 0.5 + 0.5 * tf.cos(np.pi * distances / cutoff), 0.0)
    return smooth[..., None] * tf.exp(-eta * away * away)


@radial.rejects("Use `tf.exp`")
def _(distances, centers, eta, cutoff):
    return _gaussians(np.asarray(distances), centers, eta) * _smooth(np.asarray(distances), cutoff)


@question
def forces():
    """One network gives the energy. Why do we not train a second one that gives the forces?"""
    return [
        wrong(
            "A network has one output.",
            "It has as many as you like: three for each atom would work.",
        ),
        correct(
            "Only forces that are the derivative of an energy conserve it.",
            "Along a closed path, the work of such forces is zero. The forces of a second network "
            "would be close to the derivative, but a molecule that vibrates could gain energy in "
            "each period.",
        ),
        wrong(
            "A derivative is more accurate than what was trained.",
            "Taking a derivative amplifies errors. With forces in the loss, both are trained.",
        ),
        wrong(
            "It would take twice as long.",
            "It would be faster than back-propagation to the positions. Some potentials do this "
            "for that reason.",
        ),
    ]


@exercise(
    "The error is `predicted - reference`; `np.sqrt(np.mean(error**2))` is its root mean square.",
    "For the second number, subtract from each error the mean error of its molecule.",
    "`for number in np.unique(molecule)`: with `rows = molecule == number`, subtract "
    "`error[rows].mean()` from a copy of the error.",
    returns=(Number("absolute error"), Number("relative error")),
    otherwise={
        "absolute error": "Your absolute error is {value}. It is the root mean square of all "
        "`predicted - reference`.",
        "relative error": "Your relative error is {value}. It is the root mean square after the "
        "mean error of each molecule is subtracted.",
    },
)
def energy_errors():
    generator = np.random.default_rng(3)
    for places in ([0, 0, 0, 1, 1, 2], [5, 2, 5, 2, 5, 2, 2, 9, 9, 9]):
        molecule = np.array(places)
        offset = np.array([3.0, -7.0, 12.0, 0.0, 0.0, 5.0, 0.0, 0.0, 0.0, -2.0])[molecule]
        reference = generator.normal(size=molecule.size) * 20
        yield reference + offset + generator.normal(size=molecule.size), reference, molecule


@energy_errors.mistakes
def _(predicted, reference, molecule):
    error = predicted - reference
    means = np.array([error[molecule == number].mean() for number in molecule])
    medians = np.array([np.median(error[molecule == number]) for number in molecule])
    per_molecule = [
        np.sqrt(np.mean((error - means)[molecule == number] ** 2)) for number in np.unique(molecule)
    ]

    def root(values):
        return np.sqrt(np.mean(values**2))

    yield (
        "You subtract the mean error of all conformations. Each molecule has its own.",
        (..., root(error - error.mean())),
    )
    yield (
        "You return the root mean square of the molecules' mean errors. Subtract them instead.",
        (..., root(means)),
    )
    yield (
        "You subtract each molecule's median error. Subtract its mean.",
        (
            ...,
            root(error - medians),
        ),
    )
    yield (
        "You average the errors of the molecules. Molecules with more conformations count more: "
        "take one mean over all conformations.",
        (..., np.mean(per_molecule)),
    )
    firsts = np.array([error[molecule == number][0] for number in molecule])
    yield (
        "You take energies relative to each molecule's first conformation. Its own error is then "
        "in all others. Subtract the mean.",
        (..., root(error - firsts)),
    )
    yield (
        "Your absolute error is a mean of absolute values. Take the root of the mean square.",
        (np.mean(np.abs(error)), ...),
    )
    yield (
        "Your relative error is a mean of absolute values. Take the root of the mean square.",
        (..., np.mean(np.abs(error - means))),
    )
    yield "The square root is missing.", (np.mean(error**2), np.mean((error - means) ** 2))
    yield (
        "You return the relative error before the absolute one.",
        (
            root(error - means),
            root(error),
        ),
    )


@energy_errors.accepts
def _(predicted, reference, molecule):
    import pandas as pd

    error = pd.Series(predicted - reference)
    relative = error - error.groupby(molecule).transform("mean")
    return (error**2).mean() ** 0.5, (relative**2).mean() ** 0.5


@energy_errors.accepts
def _(predicted, reference, molecule):
    error = np.array(predicted) - reference
    absolute = np.linalg.norm(error) / np.sqrt(error.size)
    _, places = np.unique(molecule, return_inverse=True)
    relative = error - (np.bincount(places, error) / np.bincount(places))[places]
    return [absolute, np.linalg.norm(relative) / np.sqrt(error.size)]


@exercise(
    "`energies.std(axis=0)` is the disagreement of the members about each conformation.",
    "Divide it by `np.sqrt(num_atoms)`: the errors of n atoms add up to one that grows like √n.",
    "`np.argsort(-score)[:count]` are the places of the largest, in this order.",
    returns=Array("choice", dtype="integer"),
    otherwise="You do not return the places of the largest disagreements for each √atom, the "
    "largest first.",
)
def choose():
    generator = np.random.default_rng(5)
    for members, n, count in ((3, 12, 4), (5, 30, 7)):
        spread = generator.uniform(0.1, 3, n)
        num_atoms = generator.integers(3, 25, n)
        energies = generator.normal(size=(members, n)) * spread + generator.normal(size=n) * 30
        yield energies, num_atoms, count


@choose.mistakes
def _(energies, num_atoms, count):
    spread = energies.std(axis=0)
    score = spread / np.sqrt(num_atoms)
    order = np.argsort(-score)
    yield (
        "You leave the number of atoms out, so large molecules are chosen for their size.",
        np.argsort(-spread)[:count],
    )
    yield (
        "You divide by the number of atoms. Divide by its square root.",
        np.argsort(-spread / num_atoms)[:count],
    )
    yield (
        "You multiply by the square root of the number of atoms. Divide by it.",
        np.argsort(-spread * np.sqrt(num_atoms))[:count],
    )
    yield (
        "You choose where the members agree most: nothing new is learned there.",
        np.argsort(score)[:count],
    )
    yield (
        "You choose the highest energies. What counts is how far the members disagree.",
        np.argsort(-energies.mean(axis=0))[:count],
    )
    yield (
        "You return the smallest of your choice first. Put the largest first.",
        order[:count][::-1],
    )
    yield "You return the scores. Return their places.", score[order[:count]]
    yield "You return all conformations. Return `count` of them.", order
    yield (
        "Your choice is correct, but sorted by place. Put the largest score first.",
        np.sort(order[:count]),
    )


@choose.accepts
def _(energies, num_atoms, count):
    variance = np.var(energies, axis=0, ddof=1) / num_atoms
    return sorted(range(len(variance)), key=lambda place: -variance[place])[:count]


@choose.accepts
def _(energies, num_atoms, count):
    score = np.std(np.asarray(energies, "float32"), axis=0) / num_atoms**0.5
    return np.flip(np.argsort(score))[:count]


@choose.rejects("dtype float64")
def _(energies, num_atoms, count):
    return choose.reference()(energies, num_atoms, count).astype(float) + 0.5


class _Springs:
    """An acceleration that counts how often it is computed: of springs of some stiffness."""

    def __init__(self, stiffness: np.ndarray) -> None:
        self.stiffness = stiffness
        self.calls = 0

    def __call__(self, positions: Any) -> np.ndarray:
        self.calls += 1
        acceleration: np.ndarray = -self.stiffness * np.asarray(positions) ** 3
        return acceleration


@exercise(
    "First the positions: `positions + step * velocities + step**2 / 2 * acceleration`.",
    "Then the acceleration at the new positions, `acceleration_of(new_positions)`.",
    "The velocities change by `step` times the mean of the old and the new acceleration.",
    returns=(
        Array("array of positions"),
        Array("array of velocities"),
        Array("array of accelerations"),
    ),
    otherwise={
        "array of positions": "Your new positions are not x + t·v + t²/2·a.",
        "array of accelerations": "Your positions are correct. Your acceleration is not the one "
        "at the new positions.",
        "array of velocities": "Your positions are correct. Your new velocities are not "
        "v + t·(a + a')/2, with the acceleration before and after the step.",
    },
)
def verlet():
    for n, step, seed in ((3, 0.5, 1), (5, 0.2, 2)):
        generator = np.random.default_rng(seed)
        springs = _Springs(generator.uniform(0.5, 2, (n, 3)))
        positions, velocities = generator.normal(size=(2, n, 3))
        yield positions, velocities, springs(positions), step, springs


@verlet.behavior
def _(answer):
    """Count the computations of the acceleration."""
    springs = _Springs(np.ones((2, 3)))
    positions, velocities = np.random.default_rng(3).normal(size=(2, 2, 3))
    acceleration = springs(positions)
    springs.calls = 0
    answer(positions, velocities, acceleration, 0.1, springs)
    require(
        springs.calls == 1,
        f"Your step is correct, but computes the acceleration {springs.calls} times. The one at "
        "the old positions is an argument: once is enough.",
    )


@verlet.mistakes
def _(positions, velocities, acceleration, step, acceleration_of):
    half = velocities + step / 2 * acceleration
    new = positions + step * half
    later = acceleration_of(new)
    right = half + step / 2 * later

    def euler():
        plain = positions + step * velocities
        return plain, velocities + step * acceleration, acceleration_of(plain)

    yield (
        "This is Euler's method: its energy grows from step to step. Add the acceleration to the "
        "positions, and take the mean of both accelerations for the velocities.",
        euler(),
    )
    plain = positions + step * velocities
    at_plain = acceleration_of(plain)
    yield (
        "Your positions lack the term with the acceleration.",
        (plain, velocities + step / 2 * (acceleration + at_plain), at_plain),
    )
    far = positions + step * velocities + step**2 * acceleration
    at_far = acceleration_of(far)
    yield (
        "The acceleration moves the positions by half of step² times itself.",
        (far, velocities + step / 2 * (acceleration + at_far), at_far),
    )
    yield (
        "Your velocities use the old acceleration only. Take the mean of the old and the new one.",
        (new, velocities + step * acceleration, later),
    )
    yield (
        "Your velocities use the new acceleration only. Take the mean of the old and the new one.",
        (new, velocities + step * later, later),
    )
    yield "You return the velocities of half a step. Add the second half.", (new, half, later)
    yield (
        "Your velocities change by the sum of both accelerations. Take their mean.",
        (new, velocities + step * (acceleration + later), later),
    )
    yield (
        "You return the old acceleration. The next step needs the new one.",
        (
            new,
            right,
            acceleration,
        ),
    )
    yield "You return the velocities before the positions.", (right, new, later)
    yield (
        "You return the changes. Add them to the old values.",
        (
            new - positions,
            right - velocities,
            later,
        ),
    )


@verlet.accepts
def _(positions, velocities, acceleration, step, acceleration_of):
    velocities = velocities + acceleration * step / 2
    positions = positions + velocities * step
    acceleration = acceleration_of(positions)
    return [positions, velocities + acceleration * step / 2, acceleration]


@verlet.rejects("computes the acceleration 2 times")
def _(positions, velocities, acceleration, step, acceleration_of):
    return verlet.reference()(
        positions, velocities, acceleration_of(positions), step, acceleration_of
    )


@verlet.rejects("Your function changes its argument `positions`")
def _(positions, velocities, acceleration, step, acceleration_of):
    positions += step * velocities + step**2 / 2 * acceleration
    new = acceleration_of(positions)
    return positions, velocities + step / 2 * (acceleration + new), new


@question
def three_claims():
    """A potential has an error of 1 kcal/mol for the conformations that were held out.

    A chemist wants to compute a molecule that is not in the training data. What does she know?
    """
    return [
        wrong(
            "Its error is about 1 kcal/mol, since the test data were not used for training.",
            "The conformations were not, but their molecules were. That test answers another "
            "question.",
        ),
        correct(
            "Little: she needs an error that was measured on molecules that are not in the "
            "training data, and are like hers.",
            "The networks know each atom's neighborhood. Another molecule can have one that they "
            "have not seen. An ensemble that disagrees tells some of these cases.",
        ),
        wrong(
            "Its error is larger than 1 kcal/mol by a factor that depends on its size.",
            "Larger molecules have larger errors of their total energy, often. But a small "
            "molecule with a new group can be worse than a large one without.",
        ),
    ]


# The challenge.

BAR = 200  # energies with forces, for all three clusters together
TOLERANCE = 0.01  # of the largest force that may remain
_RANGE = 4.0  # of the Morse potential


def morse(positions: np.ndarray) -> tuple[float, np.ndarray]:
    """Compute the energy and the forces of atoms with a Morse potential between every two.

    A pair has the energy e·(e - 2) with e = exp(-4 (R - 1)): -1 at its distance of rest, 1 (P. M.
    Morse, Phys. Rev. 34, 57, 1929, doi:10.1103/PhysRev.34.57).

    Args:
        positions: `(atoms, 3)`.

    Returns:
        The energy, and the forces `(atoms, 3)`.
    """
    positions = np.asarray(positions, np.float64)
    differences = positions[:, None] - positions
    distances = np.sqrt((differences**2).sum(axis=-1) + np.eye(len(positions)))
    exponentials = np.exp(-_RANGE * (distances - 1))
    energies = exponentials * (exponentials - 2)
    slopes = 2 * _RANGE * exponentials * (1 - exponentials)
    np.fill_diagonal(energies, 0)
    np.fill_diagonal(slopes, 0)
    forces = -((slopes / distances)[..., None] * differences).sum(axis=1)
    return float(energies.sum() / 2), forces


def cluster(num_atoms: int, seed: int) -> np.ndarray:
    """Return random positions in a ball, `(atoms, 3)`, no two closer than 0.8."""
    generator = np.random.default_rng(seed)
    radius = 0.75 * num_atoms ** (1 / 3)
    atoms: list[np.ndarray] = []
    while len(atoms) < num_atoms:
        place = generator.uniform(-radius, radius, 3)
        is_free = all(np.linalg.norm(place - atom) > 0.8 for atom in atoms)
        if np.linalg.norm(place) < radius and is_free:
            atoms.append(place)
    return np.array(atoms)


@exercise(
    "Moving along the forces reaches a minimum, but slowly. Methods that remember earlier forces, "
    "such as BFGS and conjugate gradients, need far fewer energies.",
    "`scipy.optimize.minimize(function, start.ravel(), jac=True, method=…)` takes a function that "
    "returns the energy and its gradient, which is minus the forces, both for a flat array. Its "
    "option `gtol` limits what remains of the gradient.",
)
def relax(answer):
    """Relax three clusters that the answer does not see before, and count the energies."""
    total = 0
    for num_atoms, seed in ((4, 1), (7, 2), (13, 3)):
        counted = _Counted(morse)
        start = cluster(num_atoms, seed)
        result = Array("positions").read(answer(start, counted), (num_atoms, 3))
        total += counted.calls
        force = float(np.abs(morse(result)[1]).max())
        require(
            force <= TOLERANCE,
            f"In your cluster of {num_atoms} atoms, a force of {force:.3g} remains after "
            f"{counted.calls} energies. At most {TOLERANCE} may remain.",
        )
        require(
            morse(result)[0] < morse(start)[0],
            f"Your cluster of {num_atoms} atoms has a higher energy than at the start.",
        )
    require(
        total <= BAR,
        f"Your clusters are relaxed, with {total} energies. The bar is {BAR}.",
    )
    return f"All three clusters are relaxed, with {total} energies. The bar is {BAR}."


class _Counted:
    """A function that counts its calls, and refuses to go on for too long."""

    def __init__(self, function: Callable[[np.ndarray], tuple[float, np.ndarray]]) -> None:
        self._function = function
        self.calls = 0

    def __call__(self, positions: Any) -> tuple[float, np.ndarray]:
        self.calls += 1
        require(self.calls <= 5000, "After 5,000 energies, your cluster is still not relaxed.")
        return self._function(np.asarray(positions, np.float64))


@relax.accepts
def _(positions, energy_and_forces):
    from scipy.optimize import minimize

    def value(flat):
        energy, forces = energy_and_forces(flat.reshape(-1, 3))
        return energy, -forces.ravel()

    start = np.ravel(positions)
    options = {"gtol": 0.009}
    return minimize(value, start, jac=True, method="BFGS", options=options).x.reshape(-1, 3)


@relax.rejects("The bar is 200")
def _(positions, energy_and_forces):
    while True:
        _, forces = energy_and_forces(positions)
        if np.abs(forces).max() < 0.009:
            return positions
        positions = positions + np.clip(0.005 * forces, -0.05, 0.05)


@relax.rejects("a force of")
def _(positions, energy_and_forces):
    return positions


@relax.rejects("is still not relaxed")
def _(positions, energy_and_forces):
    while True:
        energy_and_forces(positions)
