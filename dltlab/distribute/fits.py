"""Fit models of communication and of scaling to measurements: `fit_alpha_beta`, `fit_scaling`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from dltlab.display import NEUTRAL, PALETTE, Result
from dltlab.errors import Invalid

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike

_CONFIDENCE = 0.95

Interval = tuple[float, float]


@dataclass(frozen=True, repr=False, eq=False)
class AlphaBetaFit(Result):
    """What `fit_alpha_beta` returns. Intervals have a confidence of 95 %.

    Attributes:
        alpha: The latency in seconds.
        beta: Seconds per byte.
        alpha_interval: The confidence interval of alpha; NaN with two measurements.
        beta_interval: The confidence interval of beta; NaN with two measurements.
        num_bytes: The sizes that were measured, `(n,)`.
        seconds: The times that were measured, `(n,)`.
    """

    alpha: float
    beta: float
    alpha_interval: Interval
    beta_interval: Interval
    num_bytes: np.ndarray
    seconds: np.ndarray

    _formats: ClassVar[Mapping[str, Callable[[Any], str]]] = {
        "bytes": "{:,.0f}".format,
        "measured (s)": "{:.4g}".format,
        "fit (s)": "{:.4g}".format,
    }

    @property
    def bandwidth(self) -> float:
        """Bytes per second of large messages, 1 / beta."""
        return 1 / self.beta if self.beta else float("inf")

    @property
    def half_bandwidth_bytes(self) -> float:
        """The size at which half of the bandwidth is reached, alpha / beta."""
        return self.alpha * self.bandwidth

    @property
    def table(self) -> "pd.DataFrame":
        """One row for each measurement."""
        import pandas as pd

        fit = self.alpha + self.beta * self.num_bytes
        columns = dict(zip(self._formats, (self.num_bytes, self.seconds, fit), strict=True))
        return pd.DataFrame(columns)

    @property
    def summary(self) -> str:
        """Latency and bandwidth in a sentence."""
        unit, scale = ("µs", 1e6) if self.alpha < 1e-3 else ("ms", 1e3)
        latency = f"{scale * self.alpha:.3g} {unit}{_stated(self.alpha_interval, scale)}"
        return (
            f"Latency {latency}, bandwidth {self.bandwidth / 1e9:.3g} GB/s; half of it is reached "
            f"with {self.half_bandwidth_bytes:,.0f} bytes."
        )

    @property
    def alt(self) -> str:
        """The description of the figure."""
        return f"The measured times and the fitted line over the size. {self.summary}"

    def figure(self) -> "Figure":
        """Draw the times over the sizes."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6.5, 3.4), layout="constrained")
        axes = figure.subplots()
        sizes = np.geomspace(max(1.0, self.num_bytes.min()), max(2.0, self.num_bytes.max()), 200)
        axes.plot(sizes, self.alpha + self.beta * sizes, color=PALETTE[0], label="fit")
        axes.plot(self.num_bytes, self.seconds, "o", color=PALETTE[1], label="measured")
        axes.axvline(self.half_bandwidth_bytes, color=NEUTRAL, linestyle=":", label="alpha / beta")
        axes.set(xscale="log", yscale="log", xlabel="size (bytes)", ylabel="time (s)")
        axes.set_title("Where latency ends and bandwidth begins")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=9)
        return figure


def fit_alpha_beta(num_bytes: "ArrayLike", seconds: "ArrayLike") -> AlphaBetaFit:
    """Fit the time of a message or a collective, alpha + beta · bytes.

    The squares of the relative errors are minimized, so that small sizes, which are fast, count as
    much as large ones; neither alpha nor beta becomes negative.

    Args:
        num_bytes: The sizes, `(n,)`; a size may be repeated.
        seconds: The measured times, `(n,)`.

    Raises:
        Invalid: There are fewer than two different sizes, or a number is out of its range.
    """
    from scipy.optimize import nnls

    sizes, times = _measurements(num_bytes, seconds, "num_bytes", lowest=0)
    design = np.column_stack([np.ones_like(sizes), sizes]) / times[:, None]
    scales = design.max(axis=0)  # the columns differ by many orders of magnitude
    solution, _ = nnls(design / scales, np.ones_like(times))
    alpha, beta = solution / scales
    # Errors of the scaled parameters, in which the matrix is well conditioned.
    errors = _standard_errors(design / scales, 1 - design @ (alpha, beta)) / scales
    return AlphaBetaFit(
        float(alpha),
        float(beta),
        _interval(alpha, errors[0], len(sizes) - 2),
        _interval(beta, errors[1], len(sizes) - 2),
        sizes,
        times,
    )


@dataclass(frozen=True)
class ScalingPoint:
    """What was measured with one number of workers. Intervals have a confidence of 95 %.

    Attributes:
        num_workers: The number of workers.
        repeats: How often it was measured.
        seconds: The geometric mean of the times.
        speedup: In strong scaling the time of one worker divided by this time; in weak scaling,
            where n workers do n times the work, n times that.
        efficiency: The speedup divided by the number of workers.
        interval: The confidence interval of the efficiency; NaN without repeats.
    """

    num_workers: int
    repeats: int
    seconds: float
    speedup: float
    efficiency: float
    interval: Interval


@dataclass(frozen=True, repr=False, eq=False)
class ScalingFit(Result):
    """What `fit_scaling` returns.

    Attributes:
        kind: "strong" or "weak".
        points: What was measured, by number of workers.
        serial_share: The serial share in Amdahl's law (strong) or Gustafson's law (weak).
        serial_interval: Its confidence interval, 95 %; NaN with two measurements.
    """

    kind: str
    points: tuple[ScalingPoint, ...]
    serial_share: float
    serial_interval: Interval

    _formats: ClassVar[Mapping[str, Callable[[Any], str]]] = {
        "time (s)": "{:.4g}".format,
        "speedup": "{:.2f}".format,
        "efficiency": "{:.3f}".format,
        "from": "{:.3f}".format,
        "to": "{:.3f}".format,
        "fit": "{:.3f}".format,
    }

    @property
    def law(self) -> str:
        """The name of the law that was fitted."""
        return "Amdahl" if self.kind == "strong" else "Gustafson"

    def efficiency(self, num_workers: "ArrayLike") -> np.ndarray:
        """Return the efficiency that the fitted law gives for numbers of workers."""
        return _LAWS[self.kind](np.asarray(num_workers, float), self.serial_share)

    @property
    def table(self) -> "pd.DataFrame":
        """One row for each number of workers; `from` and `to` bound the efficiency."""
        import pandas as pd

        rows = [
            (
                *(point.num_workers, point.repeats, point.seconds, point.speedup),
                *(point.efficiency, *point.interval, float(self.efficiency(point.num_workers))),
            )
            for point in self.points
        ]
        return pd.DataFrame(rows, columns=["workers", "repeats", *self._formats])

    @property
    def summary(self) -> str:
        """The efficiency of the most workers and the serial share in a sentence."""
        last = self.points[-1]
        return (
            f"{self.kind.capitalize()} scaling: an efficiency of {last.efficiency:.3f} with "
            f"{last.num_workers} workers. {self.law}'s law fits with a serial share of "
            f"{self.serial_share:.3g}{_stated(self.serial_interval)}."
        )

    @property
    def alt(self) -> str:
        """The description of the figure."""
        return f"The efficiency over the number of workers. {self.summary}"

    def figure(self) -> "Figure":
        """Draw the efficiency, with its confidence intervals, and the fitted law."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6.5, 3.4), layout="constrained")
        axes = figure.subplots()
        workers = np.array([point.num_workers for point in self.points])
        means = np.array([point.efficiency for point in self.points])
        bounds = np.array([point.interval for point in self.points])
        errors = np.nan_to_num(np.abs(bounds - means[:, None])).T
        curve = np.linspace(1, workers.max(), 200)
        axes.axhline(1, color=NEUTRAL, linestyle=":", label="ideal")
        axes.plot(curve, self.efficiency(curve), color=PALETTE[0], label=f"{self.law}'s law")
        axes.errorbar(
            workers, means, errors, fmt="o", color=PALETTE[1], capsize=3, label="measured"
        )
        axes.set(xlabel="workers", ylabel="efficiency", title=f"{self.kind.capitalize()} scaling")
        axes.set_xticks(workers)
        axes.set_ylim(0, 1.05 * max(1.0, *means, *np.nan_to_num(bounds[:, 1])))
        axes.grid(alpha=0.3)
        axes.legend(fontsize=9)
        return figure


def _amdahl(workers: np.ndarray, serial: float) -> np.ndarray:
    return 1 / (serial * workers + (1 - serial))


def _gustafson(workers: np.ndarray, serial: float) -> np.ndarray:
    return serial / workers + (1 - serial)


_LAWS = {"strong": _amdahl, "weak": _gustafson}


def fit_scaling(num_workers: "ArrayLike", seconds: "ArrayLike", kind: str) -> ScalingFit:
    """Compute the efficiency of scaling, and fit the law of Amdahl or Gustafson.

    In strong scaling all workers together do the same work: speedup 1 / (s + (1 − s) / n) with the
    serial share s of the time of one worker (G. M. Amdahl, Validity of the single processor
    approach, 1967). In weak scaling each worker does the same work: speedup s + (1 − s) n with the
    serial share s of the time of n workers (J. L. Gustafson, Reevaluating Amdahl's law, 1988). The
    squares of the relative errors of the times are minimized.

    Args:
        num_workers: The number of workers of each measurement, `(n,)`; repeat a number for each
            time it was measured.
        seconds: The time of each measurement, `(n,)`.
        kind: "strong" or "weak".

    Raises:
        Invalid: One worker or a second number of workers was not measured, a number is out of its
            range, or the kind is not known.
    """
    from scipy.optimize import least_squares

    if kind not in _LAWS:
        raise Invalid(f"The kind of scaling is {kind!r}; it must be 'strong' or 'weak'.")
    workers, times = _measurements(num_workers, seconds, "num_workers", lowest=1)
    if workers.min() != 1:
        raise Invalid("There is no time of one worker, which efficiency compares with.")

    def residuals(parameters: np.ndarray) -> np.ndarray:
        log_first, serial = parameters
        ideal = 1 / workers if kind == "strong" else 1.0
        return np.asarray(log_first + np.log(ideal / _LAWS[kind](workers, serial)) - np.log(times))

    first = np.log(times[workers == 1])
    limits, exact = ((-np.inf, 0), (np.inf, 1)), {"xtol": 1e-12, "ftol": 1e-12, "gtol": 1e-12}
    fit = least_squares(residuals, (first.mean(), 0.05), bounds=limits, **exact)
    error = _standard_errors(fit.jac, fit.fun)[1]
    low, high = _interval(fit.x[1], error, len(times) - 2)
    points = tuple(
        _point(int(count), np.log(times[workers == count]), first, kind)
        for count in np.unique(workers)
    )
    return ScalingFit(kind, points, float(fit.x[1]), (low, high))


def _point(num_workers: int, logs: np.ndarray, first: np.ndarray, kind: str) -> ScalingPoint:
    """Compare the times of a number of workers with those of one, by their logarithms."""
    ratio = float(np.exp(first.mean() - logs.mean()))
    speedup = ratio if kind == "strong" else num_workers * ratio
    efficiency = speedup / num_workers
    interval = (1.0, 1.0)  # by definition, of one worker
    if num_workers > 1:
        error, degrees = _error_of_difference(first, logs)
        low, high = _interval(0.0, error, degrees)
        interval = (efficiency * float(np.exp(low)), efficiency * float(np.exp(high)))
    seconds = float(np.exp(logs.mean()))
    return ScalingPoint(num_workers, len(logs), seconds, speedup, efficiency, interval)


def _error_of_difference(one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """Return the standard error and the degrees of freedom of a difference of means (Welch)."""
    if min(len(one), len(other)) < 2:
        return 0.0, 0.0
    parts = np.array([values.var(ddof=1) / len(values) for values in (one, other)])
    total = parts.sum()
    degrees = total**2 / sum(parts**2 / (len(one) - 1, len(other) - 1)) if total else np.inf
    return float(np.sqrt(total)), float(degrees)


def _measurements(
    numbers: "ArrayLike", seconds: "ArrayLike", name: str, *, lowest: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return numbers and times as arrays."""
    values, times = np.asarray(numbers, float), np.asarray(seconds, float)
    if values.ndim != 1 or values.shape != times.shape:
        raise Invalid(
            f"{name} has the shape {values.shape} and seconds {times.shape}; both must be lists "
            "of the same length."
        )
    if len(np.unique(values)) < 2:
        raise Invalid(f"A fit needs measurements with at least two different {name}.")
    if not (np.isfinite(values) & (values >= lowest)).all():
        raise Invalid(f"Every value of {name} must be a number of at least {lowest}.")
    if not (np.isfinite(times) & (times > 0)).all():
        raise Invalid("Every time must be a number of seconds greater than 0.")
    return values, times


def _standard_errors(jacobian: np.ndarray, residuals: np.ndarray) -> np.ndarray:
    """Return the standard errors of the parameters of a least-squares fit."""
    degrees = max(1, len(residuals) - jacobian.shape[1])
    covariance = np.linalg.pinv(jacobian.T @ jacobian) * (residuals @ residuals / degrees)
    return np.sqrt(np.diag(covariance))


def _interval(value: float, error: float, degrees: float) -> Interval:
    """Return a confidence interval; NaN without degrees of freedom."""
    from scipy.stats import t

    if degrees <= 0:
        return (np.nan, np.nan)
    half = float(t.ppf((1 + _CONFIDENCE) / 2, degrees)) * float(error)
    return (float(value) - half, float(value) + half)


def _stated(interval: Interval, scale: float = 1.0) -> str:
    """Return a confidence interval for a sentence; nothing if it is not known."""
    low, high = (scale * bound for bound in interval)
    return "" if np.isnan(low) else f" ({_CONFIDENCE:.0%} confidence: {low:.3g} to {high:.3g})"
