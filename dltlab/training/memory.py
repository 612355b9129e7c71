"""Check before a training that it fits into the memory: `require_memory`."""

import math

import keras

from dltlab.devices import list_gpus, memory_info
from dltlab.errors import LabError, Unavailable
from dltlab.models import cost

_GB = 1e9


def require_memory(model: keras.Model, batch_size: int) -> None:
    """Check that a training fits into the free memory.

    Raises:
        Unavailable: It does not; the message names a batch size that fits.
    """
    try:
        model_cost = cost(model)
    except LabError:
        return  # the model's input shape is not known
    slots = _num_slots(model.optimizer)
    free = free_bytes()

    def needed(batch_size: int) -> float:  # the weights are in memory already
        step = model_cost.training(batch_size, slots)
        return step.memory_bytes - step.weight_bytes

    if needed(batch_size) <= free:
        return
    smaller = batch_size
    while smaller and needed(smaller) > free:
        smaller //= 2
    fix = f"use batches of {smaller}" if smaller else "use a smaller model, or smaller images"
    raise Unavailable(
        f"Training {model.name} in batches of {batch_size} needs at least "
        f"{needed(batch_size) / _GB:.1f} GB of memory, and {free / _GB:.1f} GB are free: {fix}."
    )


def free_bytes() -> float:
    """Return the memory that can still be allocated: on the GPU if there is one, else in RAM.

    Without NVML the free memory of a GPU is not known: the result is infinity.
    """
    import tensorflow as tf

    if not tf.config.list_physical_devices("GPU"):
        return float(memory_info().available)
    return float(min((gpu.usable_bytes for gpu in list_gpus()), default=math.inf))


def _num_slots(optimizer: keras.optimizers.Optimizer) -> int:
    """Return how many numbers an optimizer keeps per parameter: two, except for SGD."""
    if isinstance(optimizer, keras.optimizers.SGD):
        return int(optimizer.momentum > 0)
    return 2
