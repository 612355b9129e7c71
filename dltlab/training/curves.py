"""The curves of one training run: as a figure, as alternative text, and as a line of text."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator


@dataclass(frozen=True)
class UnderWay:
    """How far an epoch has come.

    Attributes:
        step: Of this epoch, counted from 1.
        num_steps: In an epoch; None in the first one of a data set of unknown length.
        seconds_left: Until the end of training, about; None where nothing tells.
        loss: The mean over the epoch so far.
    """

    step: int
    num_steps: int | None
    seconds_left: float | None
    loss: float


class Curves:
    """What was logged after each epoch.

    Args:
        title: Opens the figure's title and the line.
        num_epochs: How many epochs are asked for.
        examples: What an example is, in the plural.

    Attributes:
        under_way: The epoch after the last finished one, while it runs.
        waiting: The share of the training time in which the device waited for data, in [0, 1];
            None where it is not measured.
    """

    def __init__(self, title: str, num_epochs: int, examples: str = "examples") -> None:
        self.title = title
        self.num_epochs = num_epochs
        self.examples = examples
        self.epoch = 0
        self.seconds = 0.0
        self.examples_per_second: float | None = None
        self.under_way: UnderWay | None = None
        self.waiting: float | None = None
        self._points: dict[str, dict[int, float]] = {}

    def add(
        self,
        epoch: int,
        seconds: float,
        examples_per_second: float | None,
        logs: dict[str, float],
    ) -> None:
        """Take in an epoch, counted from 1, that ended `seconds` after training began.

        Logged values that are no single number are passed over.
        """
        self.epoch, self.seconds, self.examples_per_second = epoch, seconds, examples_per_second
        self.under_way = None
        for name, value in logs.items():
            if np.ndim(value) == 0:
                self._points.setdefault(name, {})[epoch] = float(value)

    @property
    def metric(self) -> str | None:
        """The metric to show beside the loss: an accuracy, else the first; None without any."""
        metrics = [
            name
            for name in self._points
            if not name.startswith("val_") and not name.endswith(("loss", "learning_rate"))
        ]
        return next((name for name in metrics if "accuracy" in name), next(iter(metrics), None))

    @property
    def warning(self) -> str | None:
        """A sentence when the loss is no finite number any more, else None."""
        for name in ("loss", "val_loss"):
            for epoch, value in self._points.get(name, {}).items():
                if not math.isfinite(value):
                    return (
                        f"{_words(name).capitalize()} is {value} at epoch {epoch}: "
                        "try a smaller learning rate."
                    )
        return None

    @property
    def line(self) -> str:
        """The state after the last epoch, in one line."""
        last = {"loss": self.under_way.loss} if self.under_way else self._last()
        values = [f"{_words(name)} {value:.4g}" for name, value in last.items()]
        return " ".join(filter(None, [f"{', '.join([self._heading, *values])}.", self.warning]))

    @property
    def alt(self) -> str:
        """The figure in words."""
        metric = f" and {_words(self.metric)}" if self.metric else ""
        return f"Curves of loss{metric} over the epochs. {self.line}"

    @cached_property
    def figure(self) -> Figure:
        """The figure; `draw` brings it up to date."""
        return Figure(figsize=(9, 3.4))

    def draw(self) -> Figure:
        """The figure as of the last epoch: the loss, and the metric where there is one."""
        self.figure.clear()
        self.figure.suptitle(self._heading)
        names = ["loss", self.metric] if self.metric else ["loss"]
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
        for key, label in ((name, "training"), (f"val_{name}", "validation")):
            points = self._points.get(key, {})
            if points:
                axes.plot(list(points), list(points.values()), marker=".", label=label)
        if name == "loss" and axes.lines:
            axes.legend()  # for both panels
        axes.set_xlabel("epoch")
        axes.set_ylabel(_words(name))
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
        axes.yaxis.set_major_locator(MaxNLocator(5))  # few labels: they are what drawing takes
        axes.grid(alpha=0.3)

    @property
    def _heading(self) -> str:
        now = self.under_way
        parts = [f"{self.title}: epoch {self.epoch + bool(now)} of {self.num_epochs}"]
        if now:
            parts.append(f"step {now.step}" + (f" of {now.num_steps}" if now.num_steps else ""))
        parts.append(f"{self.seconds:.1f} s")
        if now and now.seconds_left is not None:
            parts.append(f"about {_duration(now.seconds_left)} left")
        if self.examples_per_second is not None:
            parts.append(f"{self.examples_per_second:,.0f} {self.examples}/s")
        if self.waiting is not None:
            parts.append(f"waiting {self.waiting:.0%}")
        return ", ".join(parts)

    def _last(self) -> dict[str, float]:
        """The last value of the loss and the metric, for training and validation."""
        names = [f"{prefix}{name}" for name in ("loss", self.metric) for prefix in ("", "val_")]
        return {name: [*self._points[name].values()][-1] for name in names if name in self._points}


def _duration(seconds: float) -> str:
    """As it is spoken of: 40 s, 12 min, 3.5 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 100 * 60 else f"{seconds / 3600:.1f} h"


def _words(name: str) -> str:
    return name.replace("val_", "validation ").replace("_", " ")
