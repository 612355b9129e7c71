"""Find out where an input pipeline spends its time, and whether the device waits for it."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from dltlab.errors import LabError

if TYPE_CHECKING:
    import pandas as pd
    import tensorflow as tf
    from matplotlib.figure import Figure

_WARM_UP = 3  # elements


@dataclass(frozen=True)
class Profile:
    """What `profile_pipeline` has measured; a notebook shows it as a table.

    Attributes:
        stages: Name of each stage, and images a second up to and with it, with nothing else to do.
        step: Images a second of the step alone, on one batch again and again.
        together: Images a second of the step fed by the pipeline.
        waiting: The share of that time in which the step waited for its next batch, in [0, 1].
    """

    stages: list[tuple[str, float]]
    step: float
    together: float
    waiting: float

    def table(self) -> "pd.DataFrame":
        """A row for each stage, for the step alone, and for both together."""
        import pandas as pd

        rows = [
            *self.stages, ("the step alone", self.step), ("pipeline and step", self.together)
        ]  # fmt: skip
        return pd.DataFrame(
            {"images/s": [rate for _, rate in rows]}, index=[name for name, _ in rows]
        )

    def _repr_html_(self) -> str:
        table = self.table().to_html(float_format="{:,.0f}".format)
        return f"{table}<p>{self._sentence}</p>"

    def __str__(self) -> str:
        return f"{self.table().to_string(float_format='{:,.0f}'.format)}\n{self._sentence}"

    @property
    def _sentence(self) -> str:
        return f"The device waited {self.waiting:.1%} of the time."

    def figure(self) -> tuple["Figure", str]:
        """The same as an image, and its description in words."""
        from matplotlib.figure import Figure

        table = self.table()
        figure = Figure(figsize=(9, 1.3 + 0.36 * len(table)), layout="constrained")
        axes = figure.subplots()
        own = ["#9aa5b1"] * len(self.stages)
        bars = axes.barh(table.index, table["images/s"], color=[*own, "#4c78a8", "#b04a5a"])
        axes.bar_label(bars, fmt="{:,.0f}", padding=4)
        axes.set_xscale("log")
        axes.set_xlim(table["images/s"].min() / 3, table["images/s"].max() * 4)
        axes.set_xlabel("images/s")
        axes.invert_yaxis()
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_title(f"Input pipeline: the device waits {self.waiting:.1%} of the time")
        listed = ", ".join(f"{name} {rate:,.0f}" for name, rate in table["images/s"].items())
        return figure, f"Images a second up to each stage of an input pipeline: {listed}."

    def show(self) -> None:
        """Show the image."""
        from dltlab.display import show

        show(*self.figure())


def profile_pipeline(
    dataset: "tf.data.Dataset", step: Callable[[Any], Any], *, seconds: float = 1.0
) -> Profile:
    """Measure each stage of a pipeline alone, a training step alone, and both together.

    Where the step alone is faster than the last stage, the device waits, and the stage at which the
    rate falls is the one to mend.

    Args:
        dataset: Batches, as `load` makes them or with stages of your own after it.
        step: Takes a batch and works on the device, such as
            `lambda batch: model.train_on_batch(*batch)`.
        seconds: To spend on each measurement, at least.

    Raises:
        LabError: The data set is empty.
    """
    batch = next(iter(dataset), None)
    if batch is None:
        raise LabError("The data set is empty: there is nothing to measure.")
    stages = [(name, _rate(_again(stage), _count, seconds)) for name, stage in _stages(dataset)]
    _wait(step(batch))  # whatever happens only once
    alone = _rate(_same(batch), lambda each: _worked(step, each), seconds)
    waited, images, source = 0.0, 0, _again(dataset)
    for _ in range(_WARM_UP):
        _worked(step, next(source))
    begin = perf_counter()
    while (now := perf_counter()) < begin + seconds or not images:
        each = next(source)
        waited += perf_counter() - now
        images += _worked(step, each)
    taken = perf_counter() - begin
    return Profile(stages, alone, images / taken, waited / taken)


def _rate(source: Iterator[Any], count: Callable[[Any], int], seconds: float) -> float:
    """Images a second."""
    for _ in range(_WARM_UP):
        count(next(source))
    images, begin = 0, perf_counter()
    while perf_counter() < begin + seconds or not images:
        images += count(next(source))
    return images / (perf_counter() - begin)


def _again(dataset: "tf.data.Dataset") -> Iterator[Any]:
    while True:
        yield from dataset


def _same(batch: Any) -> Iterator[Any]:
    while True:
        yield batch


def _worked(step: Callable[[Any], Any], batch: Any) -> int:
    _wait(step(batch))
    return _count(batch)


def _wait(result: Any) -> None:
    """Let the device finish: its work is done when the values are here."""
    import tensorflow as tf

    for each in tf.nest.flatten(result):
        np.asarray(each)


def _count(element: Any) -> int:
    """The images in an element: the length of a batch, or one."""
    import tensorflow as tf

    first = tf.nest.flatten(element)[0]
    return 1 if len(first.shape) in (0, 3) else int(first.shape[0])


def _stages(dataset: "tf.data.Dataset") -> list[tuple[str, "tf.data.Dataset"]]:
    """The stages of a pipeline by name, the first one first, from where it holds many elements."""
    import tensorflow as tf

    found: list[tuple[str, tf.data.Dataset]] = []
    while dataset is not None:
        name = re.sub("_|V2|Dataset$", "", type(dataset).__name__)
        name = re.sub("(?<=[a-z])(?=[A-Z])", " ", name).lower()
        function = getattr(getattr(dataset, "_map_func", None), "_func", None)
        if function is not None and function.__name__ != "<lambda>":
            name = function.__name__
        if tf.nest.flatten(dataset.element_spec)[0].shape.rank and name not in _SILENT:
            found.insert(0, (name, dataset))
        inputs = dataset._inputs()
        dataset = inputs[0] if len(inputs) == 1 else None
    return found


_SILENT = {"options", "assert cardinality", "model", "max intra op parallelism"}
