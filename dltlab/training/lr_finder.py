"""Find a learning rate with a range test: `lr_range_test`."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import keras
import numpy as np

from dltlab.display import NEUTRAL, PALETTE, Result, in_notebook
from dltlab.errors import Invalid
from dltlab.training.batches import Batches, Data
from dltlab.training.interrupts import is_handled_by_caller
from dltlab.training.sanity_checks import require_trainable
from dltlab.training.snapshot import snapshot
from dltlab.training.variables import create_variables

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_SMOOTHING = 0.9  # of the running mean of the loss
_DIVERGED = 4.0  # times the lowest loss
_SAFETY = 10.0  # the suggestion is this factor below the rate of the lowest loss


@dataclass(frozen=True, repr=False, eq=False)
class LrRangeTest(Result):
    """What `lr_range_test` returns.

    Attributes:
        rates: The learning rate of each step, float64 `(n,)`.
        losses: The loss of each step's batch, `(n,)`.
        smoothed: A running mean of the losses, `(n,)`.
        diverged: Whether the test ended because the loss diverged.
    """

    rates: np.ndarray
    losses: np.ndarray
    smoothed: np.ndarray
    diverged: bool

    _formats: ClassVar[Mapping[str, Callable[[Any], str]]] = {
        "learning rate": "{:.2g}".format,
        "loss": "{:.4g}".format,
        "smoothed loss": "{:.4g}".format,
    }

    @property
    def suggestion(self) -> float:
        """A tenth of the rate with the lowest smoothed loss.

        At the lowest point the loss is about to grow; at a tenth of that rate it still falls fast.
        The peak of a one-cycle schedule should be between the two.
        """
        return float(self.lowest / _SAFETY)

    @property
    def lowest(self) -> float:
        """The rate with the lowest smoothed loss."""
        return float(self.rates[np.argmin(self.smoothed)])

    @property
    def table(self) -> "pd.DataFrame":
        """One row per step."""
        import pandas as pd

        columns = dict(zip(self._formats, (self.rates, self.losses, self.smoothed), strict=True))
        return pd.DataFrame(columns)

    @property
    def summary(self) -> str:
        """The lowest point and the suggestion in a sentence."""
        end = "then it diverges" if self.diverged else "and does not diverge at the largest rate"
        return (
            f"The loss falls up to a learning rate of {self.lowest:.2g}, {end}. "
            f"Suggested: {self.suggestion:.2g}."
        )

    @property
    def alt(self) -> str:
        """The description of the figure."""
        return f"The loss while the learning rate grows from step to step. {self.summary}"

    def figure(self) -> "Figure":
        """Draw the loss over the learning rate."""
        from matplotlib.figure import Figure

        blue, orange = PALETTE[:2]
        figure = Figure(figsize=(7.5, 3.4), layout="constrained")
        axes = figure.subplots()
        axes.plot(self.rates, self.losses, color=NEUTRAL, alpha=0.6, linewidth=1, label="batch")
        axes.plot(self.rates, self.smoothed, color=blue, linewidth=2, label="smoothed")
        for rate, name, style in (
            (self.suggestion, "suggested", "--"),
            (self.lowest, "lowest", ":"),
        ):
            axes.axvline(rate, color=orange, linestyle=style, label=f"{name}: {rate:.2g}")
        first_losses = self.smoothed[: max(2, len(self.smoothed) // 2)]
        top = min(1.5 * np.max(first_losses), 1.1 * np.max(self.losses))
        axes.set_ylim(0.9 * min(np.min(self.losses), top), top)
        axes.set_xscale("log")
        axes.set(xlabel="learning rate", ylabel="loss", title="Learning-rate range test")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=9)
        return figure


def lr_range_test(
    model: keras.Model,
    train: Data,
    *,
    lowest: float = 1e-5,
    highest: float = 10.0,
    num_steps: int = 100,
    batch_size: int | None = None,
) -> LrRangeTest:
    """Train with a learning rate that grows from step to step, and record the loss.

    L. N. Smith, Cyclical learning rates for training neural networks, 2015, arXiv:1506.01186. The
    test ends early if the loss diverges: if its running mean exceeds four times its lowest value,
    or the loss of a batch is not finite; in a notebook also if it is interrupted. Afterwards the
    state of the model is restored.

    Args:
        model: A compiled model; a schedule of its optimizer is not used during the test.
        train: Data as for `fit`; they are repeated if there are fewer batches than steps.
        lowest: The learning rate of the first step.
        highest: The learning rate of the last step.
        num_steps: The maximum number of steps.
        batch_size: The number of examples in a batch of arrays, 32 by default.

    Raises:
        Invalid: An argument is out of its range, the model is not compiled, or the data are empty,
            do not fit it, or give no finite loss in the first step.
    """
    if not 0 < lowest < highest:
        raise Invalid(f"lowest is {lowest} and highest {highest}; it must be 0 < lowest < highest.")
    if num_steps < 2:
        raise Invalid(f"num_steps is {num_steps}; it must be 2 or more.")
    batches = Batches.of(train, "training", batch_size=batch_size, shuffle=True)
    batch = batches.first()
    require_trainable(model, batch)
    restore, optimizer = snapshot(model), model.optimizer
    inner = getattr(optimizer, "inner_optimizer", optimizer)  # of a LossScaleOptimizer
    test_optimizer = type(inner).from_config({**inner.get_config(), "learning_rate": lowest})
    rates = np.geomspace(lowest, highest, num_steps)
    try:
        model.optimizer = test_optimizer
        create_variables(model, batch)
        model.make_train_function(force=True)
        losses, smoothed, diverged = _losses(model, batches.endless(), rates)
    finally:
        model.optimizer = optimizer
        model.make_train_function(force=True)
        restore()
        model.reset_metrics()
    if not losses:
        raise Invalid("The loss is not finite in the first step: check the data and the loss.")
    return LrRangeTest(rates[: len(losses)], np.array(losses), np.array(smoothed), diverged)


def _losses(
    model: keras.Model, batches: Iterable[Any], rates: np.ndarray
) -> tuple[list[float], list[float], bool]:
    """Train one step per rate; return losses, smoothed losses, and whether the loss diverged.

    In a notebook an interrupt ends the test.
    """
    losses: list[float] = []
    smoothed: list[float] = []
    mean = 0.0
    try:
        for step, (batch, rate) in enumerate(zip(batches, rates, strict=False), 1):
            model.optimizer.learning_rate = rate
            loss = _step(model, batch)
            if not math.isfinite(loss):
                return losses, smoothed, True
            mean = _SMOOTHING * mean + (1 - _SMOOTHING) * loss
            smoothed.append(mean / (1 - _SMOOTHING**step))  # corrects for the start at 0
            losses.append(loss)
            if smoothed[-1] > _DIVERGED * min(smoothed):
                return losses, smoothed, True
    except KeyboardInterrupt:
        if not losses or not in_notebook() or is_handled_by_caller():
            raise
        smoothed = smoothed[: len(losses)]
        print(f"Stopped after {len(losses)} of {len(rates)} steps.")  # noqa: T201
    return losses, smoothed, False


def _step(model: keras.Model, batch: Any) -> float:
    """Train one step and return its loss."""
    inputs, targets, weights = keras.utils.unpack_x_y_sample_weight(batch)
    model.reset_metrics()
    logs = model.train_on_batch(inputs, targets, weights, return_dict=True)
    if "loss" not in logs:
        raise Invalid(f"The train_step of the model returns no loss, but {', '.join(logs)}.")
    return float(logs["loss"])
