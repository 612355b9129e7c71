"""How the learning rate goes on: `one_cycle`."""

import math
from typing import Any

import keras

from dltlab.errors import LabError

_START = 1 / 25  # of the peak


def one_cycle(peak: float, num_steps: int, warmup: float = 0.3) -> "OneCycle":
    """A learning rate that rises along a line and falls along half a cosine.

    From peak / 25 at step 0 to the peak after the share `warmup` of the steps, then to 0 at step
    `num_steps`, where it stays (L. N. Smith and N. Topin, Super-convergence, 2017,
    arXiv:1708.07120; the cosine is fastai's).

    Args:
        peak: The largest rate.
        num_steps: Steps of the whole training.
        warmup: The share of steps in which the rate rises, in (0, 1).

    Returns:
        A schedule for a Keras optimizer; it is saved with a model and loaded again.

    Raises:
        LabError: An argument is out of its range.
    """
    if not (peak > 0 and math.isfinite(peak)):
        raise LabError(f"peak is {peak}; a learning rate must be above 0.")
    if num_steps < 1:
        raise LabError(f"num_steps is {num_steps}; it must be 1 or more.")
    if not 0 < warmup < 1:
        raise LabError(f"warmup is {warmup}; it must lie between 0 and 1.")
    return OneCycle(peak, num_steps, warmup)


@keras.saving.register_keras_serializable("dltlab")
class OneCycle(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """What `one_cycle` returns."""

    def __init__(self, peak: float, num_steps: int, warmup: float) -> None:
        self.peak, self.num_steps, self.warmup = peak, num_steps, warmup

    def __call__(self, step: Any) -> Any:
        """The rate at `step`, a float32 scalar."""
        # Keras asks anew for each weight, so each operation here costs hundreds in a training step.
        step, top = keras.ops.cast(step, "float32"), self.warmup * self.num_steps
        rise = self.peak * _START + step * (self.peak * (1 - _START) / top)
        angle = keras.ops.minimum((step - top) * (math.pi / (self.num_steps - top)), math.pi)
        fall = self.peak / 2 + self.peak / 2 * keras.ops.cos(angle)
        return keras.ops.where(step < top, rise, fall)

    def get_config(self) -> dict[str, Any]:
        """What the schedule is made from."""
        return {"peak": self.peak, "num_steps": self.num_steps, "warmup": self.warmup}
