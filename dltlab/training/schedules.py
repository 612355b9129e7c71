"""Learning-rate schedules: `one_cycle`."""

import math
from typing import Any

import keras

from dltlab.errors import Invalid

_INITIAL = 1 / 25  # of the peak
_NAME = "one_cycle"


def one_cycle(
    peak: float, num_steps: int, warmup: float = 0.3
) -> keras.optimizers.schedules.CosineDecay:
    """Build a schedule that rises linearly to a peak and falls along half a cosine.

    The rate is peak / 25 at step 0, the peak after the fraction `warmup` of the steps, and 0 from
    step `num_steps` on (L. N. Smith and N. Topin, Super-convergence, 2017, arXiv:1708.07120; the
    cosine is fastai's).

    Args:
        peak: The largest learning rate.
        num_steps: The number of steps of the whole training.
        warmup: The fraction of the steps in which the rate rises, in (0, 1).

    Returns:
        A schedule for a Keras optimizer. A model file contains it as Keras' own `CosineDecay`, so
        the file can be loaded without dltlab.

    Raises:
        Invalid: An argument is out of its range.
    """
    if not (peak > 0 and math.isfinite(peak)):
        raise Invalid(f"peak is {peak}; a learning rate must be positive.")
    if num_steps < 1:
        raise Invalid(f"num_steps is {num_steps}; it must be 1 or more.")
    if not 0 < warmup < 1:
        raise Invalid(f"warmup is {warmup}; it must be between 0 and 1.")
    rise = warmup * num_steps
    return _OneCycle(
        peak * _INITIAL, num_steps - rise, name=_NAME, warmup_target=peak, warmup_steps=rise
    )


def restore_one_cycle(optimizer: keras.optimizers.Optimizer) -> None:
    """Replace the `CosineDecay` in a loaded optimizer if it was saved by `one_cycle`.

    The two differ by rounding errors, and a resumed training must not.
    """
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)  # of a LossScaleOptimizer
    schedule = optimizer.get_config()["learning_rate"]
    if isinstance(schedule, dict) and schedule["config"].get("name") == _NAME:
        optimizer.learning_rate = _OneCycle(**schedule["config"])


class _OneCycle(keras.optimizers.schedules.CosineDecay):  # type: ignore[misc]
    """Computes the same as `CosineDecay` with fewer operations.

    An optimizer with weight decay computes the rate again for each weight, and the branches of
    `CosineDecay` make the first training step of a network with 77 weights 5 s longer.
    """

    def __call__(self, step: Any) -> Any:
        """Return the rate at `step`, a float32 scalar."""
        step = keras.ops.cast(step, "float32")
        initial, peak = self.initial_learning_rate, self.warmup_target
        rising = initial + step * ((peak - initial) / self.warmup_steps)
        angle = (step - self.warmup_steps) * (math.pi / self.decay_steps)
        falling = peak / 2 + peak / 2 * keras.ops.cos(keras.ops.minimum(angle, math.pi))
        return keras.ops.where(step < self.warmup_steps, rising, falling)


# Keras saves a class by its module and name: a loaded schedule is Keras' own.
_OneCycle.__module__ = "keras.optimizers.schedules"
_OneCycle.__name__ = _OneCycle.__qualname__ = "CosineDecay"
