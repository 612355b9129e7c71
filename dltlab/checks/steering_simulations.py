"""Exercises of lab 16, Steering simulations."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from dltlab.exercises import (
    Array,
    Integer,
    Number,
    attempt,
    correct,
    exercise,
    question,
    require,
    wrong,
)


def _laplacian(x: np.ndarray, *, left: int = 1, diagonal: bool = False) -> np.ndarray:
    rows: np.ndarray = np.roll(x, 1, 0) + np.roll(x, -1, 0)
    total: np.ndarray = rows + left * np.roll(x, 1, 1) + np.roll(x, -1, 1)
    if diagonal:
        total = total + np.roll(rows, 1, 1) + np.roll(rows, -1, 1)
    return total


def _plane(rows: int, columns: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    return generator.uniform(0.3, 1, (rows, columns)), generator.uniform(0, 0.5, (rows, columns))


@exercise(
    "The four neighbors of all cells at once: `np.roll(x, 1, axis=0)`, `np.roll(x, -1, axis=0)`, "
    "and the same with `axis=1`. Their sum less `4 * x` is the Laplacian.",
    "Compute `u * v**2` once, from the old planes. It is subtracted from u and added to v.",
    "The last terms are `+ feed * (1 - u)` and `- (feed + kill) * v`.",
    returns=(Array("new u"), Array("new v")),
    otherwise={
        "new u": "Your new u is not u + D_u ∇²u - u v² + F (1 - u).",
        "new v": "Your new u is correct. Your new v is not v + D_v ∇²v + u v² - (F + k) v.",
    },
)
def step():
    yield *_plane(5, 7, 1), 0.04, 0.06, 0.16, 0.08
    yield *_plane(8, 6, 2), 0.03, 0.05, 0.2, 0.07


@step.mistakes
def _(u, v, feed, kill, spread_u, spread_v):
    reaction = u * v**2

    def result(lap_u, lap_v, reaction=reaction):
        return (
            u + spread_u * lap_u - reaction + feed * (1 - u),
            v + spread_v * lap_v + reaction - (feed + kill) * v,
        )

    lap_u, lap_v = _laplacian(u) - 4 * u, _laplacian(v) - 4 * v
    new_u, new_v = result(lap_u, lap_v)
    yield (
        "You add the four neighbors, but do not subtract four times the cell itself.",
        result(_laplacian(u), _laplacian(v)),
    )
    yield (
        "You subtract the cell once from the sum of its neighbors. Subtract it four times.",
        result(_laplacian(u) - u, _laplacian(v) - v),
    )
    yield (
        "Your Laplacian has the opposite sign: it is the neighbors less four times the cell.",
        result(-lap_u, -lap_v),
    )
    yield (
        "Your Laplacian is the mean of the neighbors less the cell, a quarter of what it should "
        "be: take their sum, less four times the cell.",
        result(lap_u / 4, lap_v / 4),
    )
    yield (
        "You count the diagonal neighbors, too. Only the four at the sides count.",
        result(_laplacian(u, diagonal=True) - 8 * u, _laplacian(v, diagonal=True) - 8 * v),
    )
    yield (
        "The sides of your plane do not touch: cells beyond the border count as 0. `np.roll` "
        "brings the opposite side.",
        result(*(_open_laplacian(x, "constant") for x in (u, v))),
    )
    yield (
        "The sides of your plane do not touch: the border is repeated. `np.roll` brings the "
        "opposite side.",
        result(*(_open_laplacian(x, "edge") for x in (u, v))),
    )
    yield (
        "You compute the reaction as u² v. It is u v².",
        result(lap_u, lap_v, u**2 * v),
    )
    yield "You compute the reaction as u v. It is u v².", result(lap_u, lap_v, u * v)
    yield (
        "Your new v uses the new u. Both reactions are computed from the old planes.",
        (new_u, v + spread_v * lap_v + new_u * v**2 - (feed + kill) * v),
    )
    yield (
        "You exchange the two diffusions.",
        (
            u + spread_v * lap_u - reaction + feed * (1 - u),
            v + spread_u * lap_v + reaction - (feed + kill) * v,
        ),
    )
    yield "You add the reaction to u. It uses u up.", (new_u + 2 * reaction, ...)
    yield "You subtract the reaction from v. It makes v.", (..., new_v - 2 * reaction)
    yield "In u, the feed is missing: + F (1 - u).", (new_u - feed * (1 - u), ...)
    yield "In u, you feed F. It is F (1 - u).", (new_u + feed * u, ...)
    yield "v is removed at the rate F + k. You leave out F.", (..., new_v + feed * v)
    yield "v is removed at the rate F + k. You leave out k.", (..., new_v + kill * v)
    yield "You return the changes. Add them to u and v.", (new_u - u, new_v - v)
    yield "You return v before u.", (new_v, new_u)


def _open_laplacian(x: np.ndarray, mode: Any) -> np.ndarray:
    wide = np.pad(x, 1, mode=mode)
    total: np.ndarray = wide[:-2, 1:-1] + wide[2:, 1:-1] + wide[1:-1, :-2] + wide[1:-1, 2:]
    laplacian: np.ndarray = total - 4 * x
    return laplacian


@step.accepts
def _(u, v, feed, kill, spread_u, spread_v):
    from scipy.ndimage import convolve

    kernel = np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]])
    growth = u * v * v
    du = spread_u * convolve(u, kernel, mode="wrap") - growth + feed * (1 - u)
    return [u + du, v + spread_v * convolve(v, kernel, mode="wrap") + growth - v * (feed + kill)]


@step.accepts
def _(u, v, feed, kill, spread_u, spread_v):
    u, v = np.asarray(u, "float32"), np.asarray(v, "float32")
    new_u = u * (1 - feed) + feed + spread_u * (_laplacian(u) - 4 * u) - u * v * v
    return new_u, v * (1 - feed - kill) + spread_v * (_laplacian(v) - 4 * v) + u * v * v


@step.rejects("Your function changes its argument `u`")
def _(u, v, feed, kill, spread_u, spread_v):
    u += spread_u * (_laplacian(u) - 4 * u) - u * v**2 + feed * (1 - u)
    return u, v


@exercise(
    "First `np.isfinite(v).all()`: comparisons with nan are always False, so it must come first.",
    "Then `v.std() > 0.02`, and last `v.mean() > 0.05`.",
    returns=Integer("outcome"),
    otherwise="Your outcome of a plane is {value}, which is not correct. Test in the order of the "
    "text: not finite, pattern, uniform, dead.",
)
def outcome():
    generator = np.random.default_rng(1)
    dead, uniform = np.full((6, 5), 1e-4), np.full((7, 7), 0.3)
    spots = np.where(generator.random((8, 9)) < 0.2, 0.4, 0.0)
    sparse = np.zeros((9, 10))
    sparse[4, 4:6] = 0.3  # a mean below 0.05, a deviation above 0.02
    broken = uniform[:5].copy()
    broken[1, 2] = np.nan
    endless = sparse.copy()
    endless[0, 0] = np.inf
    faint = 0.1 + 0.01 * generator.standard_normal((6, 6))  # varies by less than 0.02
    weak = np.where(generator.random((7, 6)) < 0.5, 0.25, 0.31)  # varies by 0.03
    lost, thin = np.full((3, 4), np.nan), np.full((4, 4), 0.03)
    for plane in (uniform, dead, spots, sparse, broken, endless, faint, weak, lost, thin):
        yield (plane,)


def _outcome(v: np.ndarray, mean: float = 0.05, deviation: float = 0.02) -> int:
    if v.std() > deviation:
        return 2
    return 1 if v.mean() > mean else 0


@outcome.mistake(
    "You do not notice values that are not finite, so a failed run counts as something else."
)
def _(v):
    return _outcome(v)


@outcome.mistake("You notice nan, but not infinite values. `np.isfinite` is False for both.")
def _(v):
    return 3 if np.isnan(v).any() else _outcome(v)


@outcome.mistake("One value that is not finite is enough for a failed run: use `.all()`, not any.")
def _(v):
    return _outcome(v) if np.isfinite(v).any() else 3


@outcome.mistake("You call a plane with a mean above 0.05 uniform, even if it has a pattern.")
def _(v):
    if not np.isfinite(v).all():
        return 3
    if v.mean() > 0.05:
        return 1
    return 2 if v.std() > 0.02 else 0


@outcome.mistake("You exchange the two thresholds: 0.02 is for the deviation, 0.05 for the mean.")
def _(v):
    return _outcome(v, mean=0.02, deviation=0.05) if np.isfinite(v).all() else 3


@outcome.mistake("You compare the variance with 0.02. Compare the standard deviation.")
def _(v):
    return _outcome(v, deviation=0.02**0.5) if np.isfinite(v).all() else 3


@outcome.mistake("You exchange dead (0) and uniform (1).")
def _(v):
    value = _outcome(v) if np.isfinite(v).all() else 3
    return {0: 1, 1: 0}.get(value, value)


@outcome.mistake("You compare the largest value with 0.05. Compare the mean.")
def _(v):
    if not np.isfinite(v).all():
        return 3
    if v.std() > 0.02:
        return 2
    return int(v.max() > 0.02)


@outcome.mistake(
    "You test the mean before the standard deviation. A pattern can have a small mean, if its "
    "spots are few."
)
def _(v):
    if not np.isfinite(v).all():
        return 3
    if v.mean() <= 0.05:
        return 0
    return 2 if v.std() > 0.02 else 1


@outcome.accepts
def _(v):
    v = np.asarray(v, "float64")
    if np.isnan(v).any() or np.isinf(v).any():
        return np.int64(3)
    return np.float64(2.0) if np.var(v) > 0.02**2 else int(np.mean(v) > 0.05)


@exercise(
    "`v.max()` is the largest v, `u.max()` the largest u. They need not be in the same cell: the "
    "product of both is more than any cell has.",
    "`max(1.0, u.max()) * v.max() < feed + kill`",
    returns=Number("answer"),
    otherwise="Your answer is {value}, which is not correct for one of the planes. Compare the "
    "largest v, times the larger of 1 and the largest u, with F + k.",
)
def is_dead():
    for number, (high_u, high_v, rest, place) in enumerate(
        (
            (0.9, 0.05, 0.02, (2, 3)),  # below 0.1, also without u
            (0.5, 0.12, 0.02, (2, 3)),  # above, but times the largest u it would be below
            (0.95, 0.3, 0.02, (2, 3)),  # far above, but where u is small
            (1.3, 0.09, 0.02, (2, 3)),  # u above 1 decides
            (0.4, 0.098, 0.05, (2, 3)),  # above F, and above k
            (0.9, 0.25, 0.0, (0, 1)),  # the mean is small; u and v are large in the same cell
            (0.9, 0.16, 0.15, (2, 3)),  # the mean is large; the product is small in all cells
            (0.99, 0.045, 0.01, (2, 3)),  # above F, below k
        )
    ):
        u, v = np.full((4 + number, 5), 0.3), np.full((4 + number, 5), rest)
        u[0, 1], v[place], v[1, 1] = high_u, high_v, -0.001
        yield u, v, 0.04, 0.06


@is_dead.mistake("Your answer is the opposite: return True for a dead run.")
def _(u, v, feed, kill):
    return max(1.0, u.max()) * v.max() >= feed + kill


@is_dead.mistake("You compare with F alone. v is removed at the rate F + k.")
def _(u, v, feed, kill):
    return max(1.0, u.max()) * v.max() < feed


@is_dead.mistake("You compare with k alone. v is removed at the rate F + k.")
def _(u, v, feed, kill):
    return max(1.0, u.max()) * v.max() < kill


@is_dead.mistake("You use the mean of v. A single cell with much v can start a pattern.")
def _(u, v, feed, kill):
    return max(1.0, u.max()) * v.mean() < feed + kill


@is_dead.mistake(
    "You compare the product in each cell. Diffusion can bring v to a cell with more u."
)
def _(u, v, feed, kill):
    return bool((np.maximum(u, 0) * v < feed + kill).all())


@is_dead.mistake("You take the smaller of 1 and the largest u. Take the larger.")
def _(u, v, feed, kill):
    return min(1.0, u.max()) * v.max() < feed + kill


@is_dead.mistake("You leave u out. With noise, it can be above 1 at the start.")
def _(u, v, feed, kill):
    return v.max() < feed + kill


@is_dead.mistake(
    "You multiply the largest v by the largest u, even if that is below 1. u is fed in, so it can "
    "rise to 1 before v has died."
)
def _(u, v, feed, kill):
    return u.max() * v.max() < feed + kill


@is_dead.accepts
def _(u, v, feed, kill):
    return bool(np.all(np.maximum(1, np.max(u)) * v < kill + feed))


@is_dead.rejects("expected True and False")
def _(u, v, feed, kill):
    return int(max(1.0, u.max()) * v.max() < feed + kill)


@question
def proof():
    """Your rule stops a run. Its largest v was still 0.09. Can a pattern form after all?"""
    return [
        wrong(
            "Yes, if another cell has more u.",
            "The rule takes the largest u of all cells, or 1 if that is more. No cell has more.",
        ),
        correct(
            "No: the largest v falls in each step, so the condition holds ever after.",
            "In the cell with the largest v, diffusion adds nothing, and the reaction adds less "
            "than is removed. This holds for the steps of the program, too, as long as four times "
            "the diffusion, with what is removed, is below 1.",
        ),
        wrong(
            "Yes, rarely: early stopping always costs some accuracy.",
            "Many rules do, as the one for settled planes might. This one is a proof.",
        ),
        wrong(
            "No, because v is below its threshold of 0.05 by then.",
            "It is not: 0.09 is above. The rule knows what will happen, not what is.",
        ),
    ]


def _scores(n: int, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    return generator.uniform(-1, 1, (n, classes)), generator.uniform(0.05, 0.9, n)


@exercise(
    "`np.sort(mean, axis=1)` has the largest mean of each point in its last column.",
    "The margin is `(ordered[:, -1] - ordered[:, -2]) / 2`, and the score `kappa * deviation` "
    "less the margin.",
    returns=Array("score"),
    otherwise="Your score has the correct shape, but other numbers. It is kappa times the "
    "deviation, less half of the difference of the two largest means.",
)
def straddle():
    yield *_scores(7, 3, 1), 1.96
    yield *_scores(12, 4, 2), 0.5


@straddle.mistakes
def _(mean, deviation, kappa):
    ordered = np.sort(mean, axis=1)
    gap = ordered[:, -1] - ordered[:, -2]
    right = kappa * deviation - gap / 2
    yield (
        "You subtract the whole difference of the two largest means. Half of it is enough for "
        "them to change places.",
        kappa * deviation - gap,
    )
    yield (
        "You add the difference of the means: such a score is high where the class is certain.",
        kappa * deviation + gap / 2,
    )
    yield "kappa makes no difference to your score.", deviation - gap / 2
    yield "The standard deviation makes no difference to your score.", -gap / 2
    yield "The means make no difference to your score.", kappa * deviation
    yield (
        "You subtract the largest mean less the smallest one. Take the second largest: these two "
        "classes are the candidates.",
        kappa * deviation - (ordered[:, -1] - ordered[:, 0]) / 2,
    )
    yield (
        "You take the first two columns of the means. Sort each row first.",
        kappa * deviation - np.abs(mean[:, 0] - mean[:, 1]) / 2,
    )
    yield (
        "You take the largest mean, not its difference from the second largest.",
        kappa * deviation - ordered[:, -1],
    )
    yield (
        "This is an upper confidence bound, for the search of a maximum. Here, a large mean means "
        "that the class is known.",
        kappa * deviation + ordered[:, -1],
    )
    yield "You use the variance. Use the standard deviation.", kappa * deviation**2 - gap / 2
    yield "Your score has the opposite sign.", -right
    columns = np.sort(mean, axis=0)
    yield (
        "You sort along the points. Sort along the classes: `axis=1`.",
        kappa * deviation - (columns[:, -1] - columns[:, -2]) / 2,
    )
    yield (
        "You return the place of the best point. Return the score of every point.",
        int(right.argmax()),
    )


@straddle.accepts
def _(mean, deviation, kappa):
    top = np.partition(mean, -2, axis=1)
    return kappa * deviation - 0.5 * (mean.max(axis=1) - top[:, -2])


@straddle.accepts
def _(mean, deviation, kappa):
    scores = []
    for row, sigma in zip(mean.tolist(), deviation, strict=True):
        second, first = sorted(row)[-2:]
        scores.append(kappa * sigma - (first - second) / 2)
    return scores


def _far(point: np.ndarray, others: Any, distance: float) -> bool:
    return all(np.linalg.norm(point - other) >= distance for other in others)


def _greedy(
    points: np.ndarray,
    order: np.ndarray,
    taken: Any,
    count: int,
    is_far: Callable[[np.ndarray, Any], bool],
) -> np.ndarray:
    chosen: list[int] = []
    for place in order:
        near = [*taken, *(points[other] for other in chosen)]
        if len(chosen) < count and is_far(points[place], near):
            chosen.append(int(place))
    return np.array(chosen, int)


@exercise(
    "Go through `np.argsort(-score)`, which begins with the best. Keep a list of points to stay "
    "away from; at first it is `list(taken)`.",
    "A place is chosen if `np.linalg.norm(points[place] - point) >= distance` for all points of "
    "the list. Then its point joins the list.",
    "Stop at `count` places, and return them in the order in which you chose them.",
    returns=Array("choice", dtype="integer"),
    otherwise="Your choice is not correct. Go through the points from the highest score down, and "
    "take each that keeps the distance from `taken` and from those you have.",
)
def choose_batch():
    for n, dimensions, m, count, distance, seed in ((30, 3, 4, 4, 0.4, 1), (60, 2, 0, 6, 0.25, 2)):
        generator = np.random.default_rng(seed)
        points = generator.random((n, dimensions))
        score = -np.linalg.norm(points - 0.4, axis=1) + 0.01 * generator.random(n)
        taken = np.full((m, dimensions), 0.4) + 0.15 * generator.standard_normal((m, dimensions))
        yield points, score, taken, count, distance


@choose_batch.mistakes
def _(points, score, taken, count, distance):
    order = np.argsort(-score)

    def is_far(point, others):
        return _far(point, others, distance)

    right = _greedy(points, order, taken, count, is_far)
    yield (
        "You take the highest scores, whatever their distance. They are neighbors, and tell the "
        "same.",
        order[:count],
    )
    alone = [place for place in order if is_far(points[place], taken)]
    yield (
        "Your points keep the distance from those that are running, but not from each other.",
        np.array(alone[:count]),
    )
    yield (
        "Your points keep the distance from each other, but not from those that are running.",
        _greedy(points, order, [], count, is_far),
    )
    yield (
        "You begin with the lowest score.",
        _greedy(points, order[::-1], taken, count, is_far),
    )
    first = points[right[0]]
    yield (
        "Your points keep the distance from the first of them only.",
        np.array(
            [
                place
                for place in order
                if is_far(points[place], [*taken, first]) or place == right[0]
            ]
        )[:count],
    )
    yield "You return the chosen points. Return their places.", points[right]
    yield "You return the scores of your choice. Return their places.", score[right]
    yield (
        "Your choice is correct, but sorted by place. Return the highest score first.",
        np.sort(right),
    )
    yield "Your choice has one place too many.", _greedy(points, order, taken, count + 1, is_far)


@choose_batch.accepts
def _(points, score, taken, count, distance):
    left, chosen = np.array(score, float), []
    for point in taken:
        left[np.linalg.norm(points - point, axis=1) < distance] = -np.inf
    for _ in range(count):
        chosen.append(int(left.argmax()))
        left[np.linalg.norm(points - points[chosen[-1]], axis=1) < distance] = -np.inf
    return chosen


@choose_batch.accepts
def _(points, score, taken, count, distance):
    from scipy.spatial.distance import cdist

    near = np.vstack([taken, np.empty((0, points.shape[1]))])
    chosen: list[int] = []
    for place in sorted(range(len(score)), key=lambda place: -score[place]):
        if len(chosen) < count and (cdist(points[[place]], near) >= distance).all():
            chosen.append(place)
            near = np.vstack([near, points[place]])
    return np.array(chosen, "int32")


@choose_batch.rejects("Your function changes its argument `score`")
def _(points, score, taken, count, distance):
    chosen = []
    for point in taken:
        score[np.linalg.norm(points - point, axis=1) < distance] = -np.inf
    for _ in range(count):
        chosen.append(int(score.argmax()))
        score[np.linalg.norm(points - points[chosen[-1]], axis=1) < distance] = -np.inf
    return chosen


@question
def waiting():
    """Another loop submits eight runs, waits for all of them, and only then chooses the next eight.

    Two workers, and runs that take between 3 and 150 ms. What is the difference?
    """
    return [
        wrong(
            "None: the same runs are made.",
            "Not the same: its model knows all results of earlier batches when it chooses, ours "
            "not those that are still running. And the time differs, too.",
        ),
        wrong(
            "It is worse in both ways: it takes longer, and chooses with fewer results.",
            "It chooses with more: nothing is running when it does.",
        ),
        correct(
            "Its workers wait for the last run of each batch, and for the model. In exchange, each "
            "choice is made with all results.",
            "A worker without a run waits while the other one finishes a long one, and both wait "
            "while the model is fitted. With more workers, or more different durations, this gets "
            "worse. Choices made with some results missing cost a little, too: that is the price.",
        ),
    ]


@question
def nothing_lost():
    """The worker was killed. Why was no run lost?"""
    return [
        correct(
            "The scheduler knows each call, and made those again whose results it had lost.",
            "A run is a function of its parameters and its seed. It changes nothing else, so it "
            "gives the same result when it is made again. Without the seed, or with a run that "
            "writes files, this would not be so simple. The scheduler must not be lost, though.",
        ),
        wrong(
            "The worker saved its state to disk, and went on from there.",
            "It saved nothing. A new process took its place, and knew none of the results.",
        ),
        wrong(
            "Each run is made by two workers at once.",
            "That would halve the speed. A run is made again only when it is needed.",
        ),
        wrong(
            "A killed process finishes its function first.",
            "SIGKILL ends a process at once, wherever it is.",
        ),
    ]


# The challenge.

BAR = 0.91  # agreement, averaged over the maps
_MAPS = (1, 2, 3, 4, 5)
_RUNS, _START, _BATCH, _POOL, _TRUTH = 124, 24, 20, 1200, 1500


def secret_map(points: np.ndarray, seed: int) -> np.ndarray:
    """Return the classes of points in the unit cube, by a map that depends on the seed.

    As in the Gray-Scott model, a thin curved layer (class 2) lies between two regions (0 and 1).

    Args:
        points: `(n, 3)`.
        seed: Of the map.

    Returns:
        0, 1 or 2 for each point, `(n,)`.
    """
    a = np.random.default_rng(seed).uniform(-1, 1, 6)
    x, y, z = np.asarray(points, float).T
    middle = 0.25 + 0.35 * x + 0.12 * np.sin(5 * x + 3 * a[0]) + 0.15 * a[1] * (z - 0.5)
    width = 0.05 + 0.09 * np.sin(np.pi * np.clip(x + 0.2 * a[2], 0, 1)) + 0.05 * z
    return np.where(y > middle + width, 0, np.where(y < middle - 0.4 * width, 1, 2))


def judged_agreement(
    points: np.ndarray, classes: np.ndarray, queries: np.ndarray, truth: np.ndarray
) -> float:
    """Return in which fraction of `queries` a Gaussian process with fixed lengths is right."""

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        values: np.ndarray = np.exp(-((a[:, None] - b) ** 2).sum(axis=-1) / (2 * 0.25**2))
        return values

    targets = np.where(classes[:, None] == np.arange(3), 1.0, -1.0)
    weights = np.linalg.solve(kernel(points, points) + 0.01 * np.eye(len(points)), targets)
    return float(np.mean((kernel(queries, points) @ weights).argmax(axis=1) == truth))


def campaign(choose: Callable[..., Any], seed: int) -> float:
    """Return the agreement after a campaign on a secret map.

    Args:
        choose: Called with the points, the classes, the candidates and a count; returns places.
        seed: Of the map, the first runs and the candidates.
    """
    generator = np.random.default_rng(100 + seed)
    queries, points = generator.random((_TRUTH, 3)), generator.random((_START, 3))
    candidates = generator.random((_POOL, 3))
    while len(points) < _RUNS:
        count = min(_BATCH, _RUNS - len(points))
        classes = secret_map(points, seed)
        with attempt("reading the places you return"):
            places = np.asarray(choose(points.copy(), classes, candidates.copy(), count))
        require(
            places.shape == (count,) and places.dtype.kind in "iu",
            f"Return {count} places as integers; you return an array of shape {places.shape} and "
            f"dtype {places.dtype}.",
        )
        require(
            len(set(places.tolist())) == count,
            "You return a place twice. Its second run would tell nothing new.",
        )
        require(
            places.min() >= 0 and places.max() < len(candidates),
            f"Places are between 0 and {len(candidates) - 1}: those of the candidates.",
        )
        points = np.concatenate([points, candidates[places]])
        candidates = np.delete(candidates, places, axis=0)
    return judged_agreement(points, secret_map(points, seed), queries, secret_map(queries, seed))


@exercise(
    "Begin with what you have: a Gaussian process of the classes as +1 and -1, and the straddle "
    "score. `GaussianProcessRegressor(RBF(0.25) + WhiteKernel(0.01), optimizer=None)` is fast.",
    "Runs of a batch that are close to each other waste some of them. Lower the score around each "
    "point that you choose.",
    "With so few runs, a kappa below 1 looks less at the corners of the cube.",
)
def strategy(answer):
    """Run a campaign on each secret map, and compare with random runs."""
    ours = [campaign(answer, seed) for seed in _MAPS]
    random = [campaign(lambda *arguments: np.arange(arguments[3]), seed) for seed in _MAPS]
    measured = (
        f"Your runs reach an agreement of {np.mean(ours):.3f}, from {min(ours):.3f} to "
        f"{max(ours):.3f}; random runs reach {np.mean(random):.3f}. The bar is {BAR}."
    )
    require(np.mean(ours) >= BAR, measured)
    return measured


def _processes(
    points: np.ndarray, classes: np.ndarray, queries: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean `(n, 3)` and the deviation `(n,)` of a Gaussian process."""
    from scipy.spatial.distance import cdist

    targets = np.where(classes[:, None] == np.arange(3), 1.0, -1.0)
    matrix = np.exp(-cdist(points, points, "sqeuclidean") / 0.125) + 0.01 * np.eye(len(points))
    cross = np.exp(-cdist(queries, points, "sqeuclidean") / 0.125)
    solved = np.linalg.solve(matrix, cross.T)
    variance = 1 - np.einsum("ij,ji->i", cross, solved)
    return solved.T @ targets, np.sqrt(np.maximum(variance, 0))


def _spread_out(score: np.ndarray, candidates: np.ndarray, count: int) -> Iterator[int]:
    for _ in range(count):
        place = int(score.argmax())
        yield place
        score[np.linalg.norm(candidates - candidates[place], axis=1) < 0.15] -= 1
        score[place] = -np.inf


@strategy.accepts
def _(points, classes, candidates, count):
    mean, deviation = _processes(points, classes, candidates)
    first, second = np.sort(mean, axis=1)[:, :-3:-1].T
    return list(_spread_out(0.3 * deviation - (first - second) / 2, candidates, count))


@strategy.rejects("The bar is 0.91")
def _(points, classes, candidates, count):
    return np.arange(count)


@strategy.rejects("The bar is 0.91")
def _(points, classes, candidates, count):
    _, deviation = _processes(points, classes, candidates)
    return list(_spread_out(deviation, candidates, count))


@strategy.rejects("twice")
def _(points, classes, candidates, count):
    return [0] * count


@strategy.rejects("Return 20 places as integers")
def _(points, classes, candidates, count):
    return candidates[:count]


@strategy.rejects("Places are between 0 and 1199")
def _(points, classes, candidates, count):
    return np.arange(1, count + 1) * -1
