"""Which learning rates work: `lr_range_test`."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import keras
import numpy as np

from dltlab.display import show
from dltlab.errors import LabError
from dltlab.training.checks import require_trainable
from dltlab.training.snapshot import snapshot

if TYPE_CHECKING:
    import tensorflow as tf
    from matplotlib.figure import Figure

_SMOOTHING = 0.9  # of the running mean of the loss
_EXPLODED = 4.0  # times the lowest loss
_SAFETY = 10.0  # the suggestion's distance from the lowest loss


@dataclass(frozen=True, repr=False, eq=False)
class RangeTest:
    """What `lr_range_test` has found; a notebook shows it as a sentence.

    Attributes:
        rates: The learning rate of each step, float64 `(n,)`.
        losses: The loss of its batch, `(n,)`.
        smoothed: A running mean of the losses, `(n,)`.
        exploded: Whether the test ended because the loss did.
    """

    rates: np.ndarray
    losses: np.ndarray
    smoothed: np.ndarray
    exploded: bool

    @property
    def suggestion(self) -> float:
        """A tenth of the rate at which the smoothed loss was lowest.

        At the lowest point itself the loss is about to grow; a tenth of that rate is where it still
        falls fast. For a one-cycle schedule, take it as the least and the lowest point as the most
        that the peak should be.
        """
        return float(self.lowest / _SAFETY)

    @property
    def lowest(self) -> float:
        """The rate at which the smoothed loss was lowest."""
        return float(self.rates[np.argmin(self.smoothed)])

    def __repr__(self) -> str:
        end = "then it explodes" if self.exploded else "the largest rate tried does not explode it"
        return (
            f"The loss falls up to a learning rate of {self.lowest:.2g}, {end}. "
            f"Suggested: {self.suggestion:.2g}."
        )

    def figure(self) -> tuple["Figure", str]:
        """The loss over the learning rate, and it in words."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7.5, 3.4), layout="constrained")
        axes = figure.subplots()
        axes.plot(self.rates, self.losses, color="#9aa5b1", linewidth=1, label="each batch")
        axes.plot(self.rates, self.smoothed, color="#0072B2", linewidth=2, label="smoothed")
        for rate, name, style in (
            (self.suggestion, "suggested", "--"),
            (self.lowest, "lowest", ":"),
        ):
            axes.axvline(rate, color="#D55E00", linestyle=style, label=f"{name}: {rate:.2g}")
        begins = np.max(self.smoothed[: max(2, len(self.smoothed) // 2)])
        top = min(1.5 * begins, 1.1 * np.max(self.losses))
        axes.set_ylim(0.9 * min(np.min(self.losses), top), top)
        axes.set_xscale("log")
        axes.set(xlabel="learning rate", ylabel="loss", title="Learning-rate range test")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=9)
        return figure, f"The loss while the learning rate grows from step to step. {self!r}"

    def show(self) -> None:
        """Show the image."""
        show(*self.figure())


def lr_range_test(
    model: keras.Model,
    train: "tf.data.Dataset",
    *,
    lowest: float = 1e-5,
    highest: float = 10.0,
    num_steps: int = 100,
) -> RangeTest:
    """Train with a learning rate that grows from step to step, and watch the loss.

    L. N. Smith, Cyclical learning rates for training neural networks, 2015, arXiv:1506.01186. The
    test ends early where the loss explodes: where its running mean exceeds four times its lowest
    value, or a batch's is not finite. Afterwards the model is as it was before.

    Args:
        model: Compiled; a schedule of its optimizer is left aside during the test.
        train: Batches; gone through again where there are fewer than steps.
        lowest: The learning rate of the first step.
        highest: That of the last step.
        num_steps: How many, at the most.

    Raises:
        LabError: An argument makes no sense, the model is not compiled, or the data are empty, do
            not fit it, or give no finite loss from the first step on.
    """
    if not 0 < lowest < highest:
        raise LabError(
            f"lowest is {lowest} and highest {highest}; it must be 0 < lowest < highest."
        )
    if num_steps < 2:
        raise LabError(f"num_steps is {num_steps}; it must be 2 or more.")
    batches = iter(train.repeat())
    batch = next(batches, None)
    if batch is None:
        raise LabError("The training data are empty: there is nothing to learn from.")
    require_trainable(model, batch)
    restore, optimizer = snapshot(model), model.optimizer
    plain = getattr(optimizer, "inner_optimizer", optimizer)  # of a loss-scaling one
    trial = type(plain).from_config({**plain.get_config(), "learning_rate": lowest})
    rates = np.geomspace(lowest, highest, num_steps)
    losses: list[float] = []
    smoothed: list[float] = []
    try:
        model.optimizer = trial
        model.make_train_function(force=True)
        mean, exploded = 0.0, False
        for step, rate in enumerate(rates, 1):
            trial.learning_rate = rate
            model.reset_metrics()
            loss = float(model.train_on_batch(*batch, return_dict=True)["loss"])
            if not math.isfinite(loss):
                exploded = True
                break
            mean = _SMOOTHING * mean + (1 - _SMOOTHING) * loss
            losses.append(loss)
            smoothed.append(mean / (1 - _SMOOTHING**step))  # as if it had not begun at 0
            if smoothed[-1] > _EXPLODED * min(smoothed):
                exploded = True
                break
            batch = next(batches)
    finally:
        model.optimizer = optimizer
        model.make_train_function(force=True)
        restore()
        model.reset_metrics()
    if not losses:
        raise LabError(
            f"The loss is {loss} at the first step already: look at the data and at the loss."
        )
    return RangeTest(rates[: len(losses)], np.array(losses), np.array(smoothed), exploded)
