"""What each process of `measure_scaling` runs: it trains, and times steps and all-reduces."""

import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from dltlab.distribute.launching_plan import limit_to
from dltlab.errors import Invalid, NotFound
from dltlab.files import write_atomically

if TYPE_CHECKING:
    import keras

    from dltlab.distribute.group import Group

_WARMUP_STEPS = 5
_SUM_BYTES = tuple(4**power for power in range(5, 13))  # 1 KiB to 16 MiB
_SUM_CALLS = 20


class Options(TypedDict):
    """What the processes are told.

    Attributes:
        network: A function of `dltlab.models`, or `module:function`.
        batch_size: Images of a step on one worker.
        num_steps: Steps of each repeat.
        repeats: How often that many steps are timed.
        cores: The number of cores of a worker.
        gpus: The number of GPUs of a worker.
        result: The file for what worker 0 has measured.
    """

    network: str
    batch_size: int
    num_steps: int
    repeats: int
    cores: int
    gpus: int
    result: str


class Measured(TypedDict):
    """What worker 0 has measured; the times are medians.

    Attributes:
        weak: Seconds of a step in each repeat, with `batch_size` images on each worker.
        strong: The same, with `batch_size` images in all.
        sum_bytes: The sizes of the sums; empty with one worker.
        sum_seconds: Seconds of each of them.
        gradient_seconds: Seconds in which the gradients are summed while nothing else runs.
    """

    weak: list[float]
    strong: list[float]
    sum_bytes: list[int]
    sum_seconds: list[float]
    gradient_seconds: float


def main() -> None:
    """Measure, and let worker 0 write the result."""
    options: Options = json.loads(sys.argv[1])
    limit_to(options["cores"], options["gpus"])  # before TensorFlow is imported
    from dltlab.distribute.group import join

    group = join()
    measured = _measure(options, group)
    if group.rank == 0:
        write_atomically(Path(options["result"]), json.dumps(measured))


def _measure(options: Options, group: "Group") -> Measured:
    size = options["batch_size"]
    weak = _step_seconds(options, group, size * group.size)
    if group.size == 1:
        return Measured(weak=weak, strong=weak, sum_bytes=[], sum_seconds=[], gradient_seconds=0.0)
    shapes = [tuple(weight.shape) for weight in network(options["network"]).trainable_variables]
    return Measured(
        weak=weak,
        strong=_step_seconds(options, group, size),
        sum_bytes=list(_SUM_BYTES),
        sum_seconds=[_sum_seconds(group, [(num_bytes // 4,)]) for num_bytes in _SUM_BYTES],
        gradient_seconds=_sum_seconds(group, shapes),
    )


def network(name: str) -> "keras.Model":
    """Build the network of that name.

    Raises:
        NotFound: There is no such function.
        Invalid: It does not return a classifier with one input.
    """
    import keras

    module, _, function = name.rpartition(":")
    try:
        model = getattr(importlib.import_module(module or "dltlab.models"), function)()
    except (ImportError, AttributeError) as error:
        raise NotFound(
            f"There is no network {name!r}: name a function of dltlab.models, or module:function."
        ) from error
    inputs, outputs = (getattr(model, name, None) for name in ("input_shape", "output_shape"))
    if not (
        isinstance(model, keras.Model)
        and isinstance(inputs, tuple)
        and None not in inputs[1:]
        and isinstance(outputs, tuple)
        and len(outputs) == 2
    ):
        raise Invalid(
            f"{name} must return a Keras model with one input of fixed shape, and one logit for "
            "each class as its output."
        )
    return model


def _step_seconds(options: Options, group: "Group", batch_size: int) -> list[float]:
    """Train on random images; return the median time of a step in each repeat."""
    import keras
    import tensorflow as tf

    from dltlab.distribute.prepare import prepare

    model = network(options["network"])
    model.compile(
        keras.optimizers.SGD(0.01, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    prepare(model, group)
    rng = np.random.default_rng(0)
    images = rng.random((batch_size, *model.input_shape[1:]), "float32")
    labels = rng.integers(model.output_shape[1], size=batch_size)
    num_steps = options["num_steps"] * options["repeats"]
    ends: list[float] = []
    model.fit(
        tf.data.Dataset.from_tensors((images, labels)).repeat(_WARMUP_STEPS + num_steps),
        verbose=0,
        callbacks=[
            keras.callbacks.LambdaCallback(
                on_train_batch_end=lambda batch, logs: ends.append(perf_counter())
            )
        ],
    )
    seconds = np.diff(ends)[-num_steps:].reshape(options["repeats"], -1)
    return [float(median) for median in np.median(seconds, axis=1)]


def _sum_seconds(group: "Group", shapes: list[tuple[int, ...]]) -> float:
    """Return the median time of a sum of tensors of these shapes over the workers."""
    import tensorflow as tf

    tensors = [tf.zeros(shape) for shape in shapes]
    total: Callable[[], Any] = tf.function(lambda: [tf.reduce_sum(t) for t in group.sum(tensors)])
    total()
    seconds = []
    for _ in range(_SUM_CALLS):
        start = perf_counter()
        total()
        seconds.append(perf_counter() - start)
    return float(np.median(seconds))


if __name__ == "__main__":
    main()
