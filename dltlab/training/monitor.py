"""Watch a network train: a live figure in a notebook, progress lines elsewhere."""

import math
from collections.abc import Callable
from time import perf_counter
from typing import Any
from uuid import uuid4

import keras

from dltlab.display import in_notebook, show
from dltlab.training.curves import Curves, UnderWay
from dltlab.training.input_wait import Waiting

_REDRAW_SECONDS = 0.25
_LINE_SECONDS = 1.0
_STEP_LINE_SECONDS = 10.0  # within an epoch
_SHARE = 0.02


class Monitor(keras.callbacks.Callback):  # type: ignore[misc]
    """A callback for `fit` that shows loss and accuracy of each epoch while training goes on.

    In a notebook it draws one figure: the loss, and beside it the accuracy or else the first
    metric, for training and validation. The figure is drawn anew after an epoch, at most four
    times a second, and within an epoch at most once a second, but always so seldom that drawing
    takes 2% of the time. What it shows last stays in the saved notebook. Outside a notebook it
    prints a line after an epoch, at most one a second, one every ten seconds within an epoch, and
    one after the last. While training runs they tell the time that is left.

    Every `fit` starts anew, with a figure of its own, so one monitor may serve several. A `fit`
    that is interrupted leaves the figure of all epochs that were finished.

    Args:
        title: Opens the figure's title, and each line.
        waiting: Watches the training data, so that the share of time in which the device waited for
            them can be shown; `fit` of this room passes it.
    """

    def __init__(
        self,
        title: str = "Training",
        waiting: Waiting | None = None,
    ) -> None:
        super().__init__()
        self.title = title
        self.waiting = waiting
        self._epoch_began = perf_counter()

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Start anew."""
        self._curves = Curves(self.title, self.params["epochs"], _examples(self.model))
        live = in_notebook()
        self._seen = _live_figure(self._curves) if live else _lines(self._curves)
        self._pause = _LINE_SECONDS if live else _STEP_LINE_SECONDS
        self._began = perf_counter()
        self._first: int | None = None
        self._steady: float | None = None
        self._worked = 0.0  # seconds of finished epochs, without validation

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Note the time."""
        self._first = epoch if self._first is None else self._first
        self._curves.epoch = epoch
        self._epoch_began = perf_counter()
        self._examples_per_second: float | None = None
        self._ended: float | None = None

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Show how far an epoch has come that takes long."""
        now = perf_counter()
        if self._steady is None:
            self._steady = now  # the first step takes long: it compiles
        if now < max(self._seen.due, self._steady) + self._pause:
            return
        if batch + 1 == self.params.get("steps"):
            return  # the epoch ends at once
        curves = self._curves
        curves.seconds, curves.examples_per_second = now - self._began, self._rate()
        curves.waiting = self._waiting(now)
        curves.under_way = self._under_way(batch + 1, now, logs or {})
        self._seen.update()

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Take the rate before validation, which neither counts nor may reset the count."""
        self._examples_per_second, self._ended = self._rate(), perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Show the epoch."""
        now = perf_counter()
        rate = self._examples_per_second or self._rate()
        self._curves.waiting = self._waiting(self._ended or now)
        self._worked += (self._ended or now) - self._epoch_began
        self._curves.add(epoch + 1, now - self._began, rate, logs or {})
        self._seen.update()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Show the last state."""
        self._seen.finish()

    def _waiting(self, now: float) -> float | None:
        """The share of the training time so far in which the device waited for data."""
        if self.waiting is None:
            return None
        worked = self._worked + now - self._epoch_began
        return min(1.0, self.waiting.seconds / worked) if worked else 0.0

    def _under_way(self, step: int, now: float, logs: dict[str, Any]) -> UnderWay:
        num_steps = self.params.get("steps")
        seconds_left = None
        if num_steps and self._steady:
            done = (self._curves.epoch - (self._first or 0)) * num_steps + step
            every = (self._curves.num_epochs - (self._first or 0)) * num_steps
            seconds_left = (now - self._steady) / (done - 1) * (every - done) if done > 1 else None
        return UnderWay(step, num_steps, seconds_left, float(logs.get("loss", math.nan)))

    def _rate(self) -> float | None:
        """Examples a second in this epoch; None where the model does not track its loss.

        Keras weights the mean loss of an epoch by the examples in each batch, so the count of that
        mean is their number.
        """
        for metric in self.model.metrics:
            if metric.name == "loss":
                seconds = perf_counter() - self._epoch_began
                return float(keras.ops.convert_to_numpy(metric.count)) / seconds
        return None


def _examples(model: keras.Model) -> str:
    """What a model learns from: images where its only input is `(b, h, w, c)`."""
    return "images" if len(getattr(model, "input_shape", None) or ()) == 4 else "examples"


class _Throttle:
    """Calls `show` for the first of several updates at once, then at most every `seconds`.

    The time between two calls is stretched until `show` takes no more than `_SHARE` of it.
    """

    def __init__(self, show: Callable[[], None], seconds: float) -> None:
        self._show, self._seconds = show, seconds
        self.due, self._behind = 0.0, False

    def update(self) -> None:
        """There is something new to show."""
        self._behind = True
        if perf_counter() >= self.due:
            self.finish()

    def finish(self) -> None:
        """Show what is not yet shown."""
        if self._behind:
            start = perf_counter()
            self._show()
            self._behind = False
            end = perf_counter()
            self.due = end + max(self._seconds, (end - start) / _SHARE)


def _lines(curves: Curves) -> _Throttle:
    return _Throttle(lambda: print(curves.line), _LINE_SECONDS)  # noqa: T201


def _live_figure(curves: Curves) -> _Throttle:
    """Show a line, then the figure in its place, up to date at the latest when its cell ends."""
    from IPython import get_ipython
    from IPython.display import display

    name = f"dltlab-monitor-{uuid4()}"
    display({"text/plain": curves.line}, raw=True, display_id=name)
    throttle = _Throttle(
        lambda: show(curves.draw(), curves.alt, display_id=name, update=True), _REDRAW_SECONDS
    )
    cell_events = get_ipython().events

    def finish_with_cell(result: Any) -> None:
        cell_events.unregister("post_run_cell", finish_with_cell)
        throttle.finish()

    # An interrupted or failed `fit` does not call `on_train_end`; its cell ends all the same.
    cell_events.register("post_run_cell", finish_with_cell)
    return throttle
