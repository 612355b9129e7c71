"""The curves of one training, as a figure, an alternative text, and a line of text."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dltlab.display import PALETTE


@dataclass(frozen=True)
class EpochProgress:
    """The progress within an epoch.

    Attributes:
        step: The number of finished steps in this epoch.
        num_steps: The number of steps in an epoch; None in the first epoch of a data set of
            unknown length.
        loss: The mean loss of the epoch so far; None if none is logged.
    """

    step: int
    num_steps: int | None
    loss: float | None


class Curves:
    """The values logged after each epoch.

    Args:
        title: The beginning of the figure's title and of the line.
        num_epochs: The total number of epochs.
        unit: The name of the examples, in the plural.

    Attributes:
        epoch: The number of finished epochs.
        seconds: The training time so far.
        examples_per_second: The speed in the last epoch; None if it is not known.
        progress: The progress within the current epoch, while it runs.
        seconds_left: The estimated time until the end of training; None if it is not known.
        wait_fraction: The fraction of the training time spent waiting for data, in [0, 1]; None if
            it is not measured.
    """

    def __init__(self, title: str, num_epochs: int, unit: str = "examples") -> None:
        self.title = title
        self.num_epochs = num_epochs
        self.unit = unit
        self.epoch = 0
        self.seconds = 0.0
        self.examples_per_second: float | None = None
        self.progress: EpochProgress | None = None
        self.seconds_left: float | None = None
        self.wait_fraction: float | None = None
        self._values: dict[str, dict[int, float]] = {}

    def add(
        self,
        epoch: int,
        seconds: float,
        examples_per_second: float | None,
        logs: dict[str, float],
    ) -> None:
        """Add an epoch, counted from 1, that ended `seconds` after training began.

        Logged values that are not single numbers are ignored.
        """
        self.epoch, self.seconds, self.examples_per_second = epoch, seconds, examples_per_second
        self.progress = None
        for name, value in logs.items():
            if np.ndim(value) == 0:
                self._values.setdefault(name, {})[epoch] = float(value)

    @property
    def loss(self) -> str:
        """The name of the loss."""
        return loss_name(self._values)

    @property
    def metric(self) -> str | None:
        """The metric beside the loss: an accuracy, else the first one; None if there is none."""
        metrics = [
            name
            for name in self._values
            if not name.startswith("val_") and not name.endswith(("loss", "learning_rate"))
        ]
        return next((name for name in metrics if "accuracy" in name), next(iter(metrics), None))

    @property
    def warning(self) -> str | None:
        """A sentence if the loss has become NaN or infinite, else None."""
        for name in (self.loss, f"val_{self.loss}"):
            for epoch, value in self._values.get(name, {}).items():
                if not math.isfinite(value):
                    return (
                        f"{_words(name).capitalize()} is {value} at epoch {epoch}: "
                        "try a smaller learning rate."
                    )
        return None

    @property
    def line(self) -> str:
        """The current state in one line."""
        current = {"loss": self.progress.loss} if self.progress else self._last_values()
        values = [
            f"{_words(name)} {value:.4g}" for name, value in current.items() if value is not None
        ]
        return " ".join(filter(None, [f"{', '.join([self._heading, *values])}.", self.warning]))

    @property
    def alt(self) -> str:
        """The description of the figure."""
        metric = f" and {_words(self.metric)}" if self.metric else ""
        return f"Curves of loss{metric} over the epochs. {self.line}"

    @cached_property
    def figure(self) -> Figure:
        """The figure, which `draw` updates."""
        return Figure(figsize=(9, 3.4))

    def draw(self) -> Figure:
        """Draw the loss, and the metric if there is one, up to the last epoch."""
        self.figure.clear()
        self.figure.suptitle(self._heading)
        names = [self.loss, self.metric] if self.metric else [self.loss]
        panels = self.figure.subplots(1, len(names), squeeze=False)[0]
        self.figure.subplots_adjust(left=0.08, right=0.98, bottom=0.15, top=0.86, wspace=0.25)
        for axes, name in zip(panels, names, strict=True):
            self._draw_panel(axes, name)
        if self.warning:
            panels[0].text(
                0.5,
                0.5,
                self.warning.replace(": ", ":\n"),
                transform=panels[0].transAxes,
                ha="center",
                va="center",
                color="#b00020",
                weight="bold",
                bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.9},
            )
        return self.figure

    def _draw_panel(self, axes: Axes, name: str) -> None:
        curves = ((name, "training"), (f"val_{name}", "validation"))
        for (key, label), color in zip(curves, PALETTE, strict=False):
            values = self._values.get(key, {})
            if values:
                axes.plot(*zip(*values.items(), strict=True), marker=".", color=color, label=label)
        if name == self.loss and axes.lines:
            axes.legend()  # for both panels
        axes.set_xlabel("epoch")
        axes.set_ylabel(_words(name))
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
        axes.yaxis.set_major_locator(MaxNLocator(5))  # drawing labels takes most of the time
        axes.grid(alpha=0.3)

    @property
    def _heading(self) -> str:
        progress = self.progress
        parts = [f"{self.title}: epoch {self.epoch + bool(progress)} of {self.num_epochs}"]
        if progress:
            total = f" of {progress.num_steps}" if progress.num_steps else ""
            parts.append(f"step {progress.step}{total}")
        parts.append(f"{self.seconds:.1f} s")
        if self.seconds_left is not None:
            parts.append(f"about {_duration(self.seconds_left)} left")
        if self.examples_per_second is not None:
            parts.append(f"{self.examples_per_second:,.0f} {self.unit}/s")
        if self.wait_fraction is not None:
            parts.append(f"waiting {self.wait_fraction:.0%}")
        return ", ".join(parts)

    def _last_values(self) -> dict[str, float]:
        """Return the last loss and metric, for training and validation."""
        names = [f"{prefix}{name}" for name in (self.loss, self.metric) for prefix in ("", "val_")]
        return {name: [*self._values[name].values()][-1] for name in names if name in self._values}


def loss_name(names: Iterable[str]) -> str:
    """Return the name of the loss among logged values: "loss", else the first "…_loss"."""
    losses = [name for name in names if name.endswith("loss") and not name.startswith("val_")]
    return "loss" if "loss" in losses or not losses else losses[0]


def _duration(seconds: float) -> str:
    """Return a duration with two digits: 40 s, 12 min, 3.5 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 100 * 60 else f"{seconds / 3600:.1f} h"


def _words(name: str) -> str:
    return name.replace("val_", "validation ").replace("_", " ")
