"""Measure where an input pipeline spends its time, and whether the device waits for it."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from dltlab.data.pipeline import inputs_of
from dltlab.display import NEUTRAL, PALETTE, Result
from dltlab.errors import Invalid

if TYPE_CHECKING:
    import pandas as pd
    import tensorflow as tf
    from matplotlib.figure import Figure

_WARM_UP = 3  # elements
_HIDDEN_STAGES = {"options", "assert cardinality", "model", "max intra op parallelism"}


@dataclass(frozen=True, repr=False)
class Profile(Result):
    """The result of `profile_pipeline`.

    Attributes:
        stages: For each stage its name, and the images per second that the pipeline delivers up to
            and including this stage.
        step: Images per second of the step alone, on the same batch each time.
        combined: Images per second of the step, fed by the pipeline.
        waiting: The fraction of that time in which the step waited for its next batch, in [0, 1].
    """

    _formats: ClassVar[Mapping[str, Callable[[Any], str]]] = {"images/s": "{:,.0f}".format}

    stages: list[tuple[str, float]]
    step: float
    combined: float
    waiting: float

    @property
    def summary(self) -> str:
        """How long the device waited."""
        return f"The device waited {self.waiting:.1%} of the time."

    @property
    def table(self) -> "pd.DataFrame":
        """A row for each stage, for the step alone, and for both together."""
        import pandas as pd

        rows = [*self.stages, ("step alone", self.step), ("pipeline and step", self.combined)]
        return pd.DataFrame(rows, columns=["stage", "images/s"])

    @property
    def alt(self) -> str:
        """The description of the figure for people who do not see it."""
        rates = ", ".join(f"{name} {rate:,.0f}" for name, rate in self.table.to_numpy())
        return f"{self.summary} Images per second up to each stage of an input pipeline: {rates}."

    def figure(self) -> "Figure":
        """Draw the table as bars on a logarithmic axis."""
        from matplotlib.figure import Figure

        table = self.table
        figure = Figure(figsize=(9, 1.3 + 0.36 * len(table)), layout="constrained")
        axes = figure.subplots()
        colors = [*[NEUTRAL] * len(self.stages), *PALETTE[:2]]
        positions = range(len(table))  # two stages may have the same name
        bars = axes.barh(positions, table["images/s"], color=colors)
        axes.set_yticks(positions, table["stage"])
        axes.bar_label(bars, fmt="{:,.0f}", padding=4)
        axes.set_xscale("log")
        axes.set_xlim(table["images/s"].min() / 3, table["images/s"].max() * 4)
        axes.set_xlabel("images/s")
        axes.invert_yaxis()
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_title(f"Input pipeline: the device waits {self.waiting:.1%} of the time")
        return figure


def profile_pipeline(
    dataset: "tf.data.Dataset", step: Callable[[Any], Any], *, seconds: float = 1.0
) -> Profile:
    """Measure each stage of a pipeline alone, a training step alone, and both together.

    Where the step alone is faster than the last stage, the device waits, and the stage at which the
    rate falls is the one to improve.

    Args:
        dataset: Batches, as `load` returns them, also with further stages after it.
        step: Takes a batch and works on the device, such as
            `lambda batch: model.train_on_batch(*batch)`.
        seconds: The minimum duration of each measurement.

    Raises:
        Invalid: The data set is empty.
    """
    batch = next(iter(dataset), None)
    if batch is None:
        raise Invalid("The data set is empty: there is nothing to measure.")
    stages = [(name, _rate(_repeat(stage), _size, seconds)) for name, stage in _stages(dataset)]
    _wait(step(batch))  # some work is done only once, such as tracing
    step_rate = _rate(_repeat([batch]), lambda batch: _run(step, batch), seconds)
    seconds_waited, num_images, batches = 0.0, 0, _repeat(dataset)
    for _ in range(_WARM_UP):
        _run(step, next(batches))
    start = perf_counter()
    while (now := perf_counter()) < start + seconds or not num_images:
        batch = next(batches)
        seconds_waited += perf_counter() - now
        num_images += _run(step, batch)
    duration = perf_counter() - start
    return Profile(stages, step_rate, num_images / duration, seconds_waited / duration)


def _rate(batches: Iterator[Any], process: Callable[[Any], int], seconds: float) -> float:
    """Return images per second; `process` returns the number of images in a batch."""
    for _ in range(_WARM_UP):
        process(next(batches))
    num_images, start = 0, perf_counter()
    while perf_counter() < start + seconds or not num_images:
        num_images += process(next(batches))
    return num_images / (perf_counter() - start)


def _repeat(batches: Any) -> Iterator[Any]:
    while True:
        yield from batches


def _run(step: Callable[[Any], Any], batch: Any) -> int:
    """Run a step to its end; return the number of images in the batch."""
    _wait(step(batch))
    return _size(batch)


def _wait(result: Any) -> None:
    """Wait until the device has finished: until the values are in main memory."""
    import tensorflow as tf

    for tensor in tf.nest.flatten(result):
        np.asarray(tensor)


def _size(element: Any) -> int:
    """Return the number of images in a batch; 1 for an element without a batch dimension."""
    import tensorflow as tf

    tensor = tf.nest.flatten(element)[0]
    return 1 if len(tensor.shape) in (0, 3) else int(tensor.shape[0])


def _stages(dataset: "tf.data.Dataset") -> list[tuple[str, "tf.data.Dataset"]]:
    """Return the stages of a pipeline with their names, from the first that has shaped elements."""
    import tensorflow as tf

    stages: list[tuple[str, tf.data.Dataset]] = []
    while dataset is not None:
        name = re.sub("_|V2|Dataset$", "", type(dataset).__name__)
        name = re.sub("(?<=[a-z])(?=[A-Z])", " ", name).lower()
        function = getattr(getattr(dataset, "_map_func", None), "_func", None)
        if function is not None and function.__name__ != "<lambda>":
            name = function.__name__
        if tf.nest.flatten(dataset.element_spec)[0].shape.rank and name not in _HIDDEN_STAGES:
            stages.insert(0, (name, dataset))
        inputs = inputs_of(dataset)
        dataset = inputs[0] if len(inputs) == 1 else None
    return stages
