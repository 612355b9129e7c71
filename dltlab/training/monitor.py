"""Show the progress of a training: a live figure in a notebook, else lines: `Monitor`."""

from collections.abc import Callable
from time import perf_counter
from typing import Any
from uuid import uuid4

import keras

from dltlab.display import in_notebook, show
from dltlab.training.curves import Curves, EpochProgress, loss_name
from dltlab.training.input_wait import InputWait
from dltlab.training.interrupts import stop_on_interrupt

_REDRAW_SECONDS = 0.25
_LINE_SECONDS = 1.0
_STEP_LINE_SECONDS = 10.0  # within an epoch
_DRAWING_FRACTION = 0.02  # of the time


class Monitor(keras.callbacks.Callback):  # type: ignore[misc]
    """A callback for `fit` that shows loss and accuracy of each epoch during training.

    In a notebook it draws one figure: the loss, and beside it the accuracy or else the first
    metric, for training and validation. The figure is updated after an epoch, at most four times a
    second, and within an epoch at most once a second; drawing takes at most 2% of the time. The
    last figure stays in the saved notebook. Elsewhere it prints a line after an epoch, at most one
    a second, one every ten seconds within an epoch, and one at the end. During training both show
    the remaining time.

    One monitor may be used for several calls of `fit`; each gets its own figure. In a notebook, the
    stop button ends the training after the current step, and `fit` returns its history as after the
    last epoch; elsewhere Ctrl-C raises KeyboardInterrupt.

    Args:
        title: The beginning of the figure's title, or of each line.
        input_wait: Measures the time spent waiting for the training data, whose fraction is then
            shown; `dltlab.training.fit` passes it.

    Attributes:
        stops_training: Whether the stop button ends the training; `dltlab.training.fit`, which
            does that itself, sets it to False.
    """

    def __init__(
        self,
        title: str = "Training",
        input_wait: InputWait | None = None,
    ) -> None:
        super().__init__()
        self.title = title
        self.input_wait = input_wait
        self.stops_training = True
        self._epoch_start = perf_counter()

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Reset the curves and the clock."""
        self._curves = Curves(self.title, self.params["epochs"], _unit(self.model))
        live = in_notebook()
        self._output = _live_figure(self._curves) if live else _lines(self._curves)
        self._restore_interrupts: Callable[[], None] = lambda: None
        if live and self.stops_training:
            self._restore_interrupts = stop_on_interrupt(self.model)
            _at_end_of_cell(self._restore_interrupts)
        if live:
            _at_end_of_cell(self._finish)  # a failed `fit` does not call `on_train_end`
        self._step_pause = _LINE_SECONDS if live else _STEP_LINE_SECONDS
        self._train_start = perf_counter()
        self._first_epoch: int | None = None
        self._steady_start: float | None = None
        self._steps_done = self._step = 0  # of finished epochs, of this epoch
        self._train_seconds = 0.0  # of finished epochs, without validation

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Start the clock of the epoch."""
        self._first_epoch = epoch if self._first_epoch is None else self._first_epoch
        self._curves.epoch = epoch
        self._epoch_start = perf_counter()
        self._examples_per_second: float | None = None
        self._validation_start: float | None = None

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Show the progress within a long epoch."""
        now, self._step = perf_counter(), batch + 1
        if self._steady_start is None:
            self._steady_start = now  # the first step is slow: it compiles
        if now < max(self._output.due, self._steady_start) + self._step_pause:
            return
        if batch + 1 == self.params.get("steps"):
            return  # the epoch ends now
        curves = self._curves
        curves.seconds, curves.examples_per_second = now - self._train_start, self._rate()
        curves.wait_fraction = self._wait_fraction(now)
        num_steps = self.params.get("steps")
        loss = (logs or {}).get(loss_name(logs or {}))
        curves.progress = EpochProgress(batch + 1, num_steps, None if loss is None else float(loss))
        curves.seconds_left = self._seconds_left(now, num_steps)
        self._output.update()

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Compute the speed before validation, which resets the count of examples."""
        self._examples_per_second, self._validation_start = self._rate(), perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Show the epoch."""
        now = perf_counter()
        rate = self._examples_per_second or self._rate()
        self._curves.wait_fraction = self._wait_fraction(self._validation_start or now)
        self._train_seconds += (self._validation_start or now) - self._epoch_start
        self._curves.add(epoch + 1, now - self._train_start, rate, logs or {})
        self._steps_done, num_steps, self._step = self._steps_done + self._step, self._step, 0
        self._curves.seconds_left = self._seconds_left(now, num_steps)
        self._output.update()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Show the final state."""
        self._restore_interrupts()
        self._finish()

    def _finish(self) -> None:
        """Show what is not shown yet, and no remaining time, which an early end leaves."""
        if self._curves.seconds_left is not None:
            self._curves.seconds_left = None
            self._output.update()
        self._output.finish()

    def _wait_fraction(self, now: float) -> float | None:
        """Return the fraction of the training time so far that was spent waiting for data."""
        if self.input_wait is None:
            return None
        seconds = self._train_seconds + now - self._epoch_start
        return min(1.0, self.input_wait.seconds / seconds) if seconds else 0.0

    def _seconds_left(self, now: float, num_steps: int | None) -> float | None:
        """Estimate the time until the end from that of the steps so far, with their validation."""
        if not num_steps or self._steady_start is None:
            return None
        done = self._steps_done + self._step
        num_epochs = self._curves.num_epochs - (self._first_epoch or 0)
        left = num_epochs * num_steps - done
        return (now - self._steady_start) / (done - 1) * left if done > 1 and left > 0 else None

    def _rate(self) -> float | None:
        """Return the examples per second in this epoch; None if the model does not track its loss.

        Keras weights the mean loss of an epoch by the batch sizes, so its count is the number of
        examples.
        """
        for metric in self.model.metrics:
            if metric.name == "loss" and hasattr(metric, "count"):
                seconds = perf_counter() - self._epoch_start
                count = float(keras.ops.convert_to_numpy(metric.count))
                return count / seconds if count else None
        return None


def _unit(model: keras.Model) -> str:
    """Return "images" if the only input of a model is `(b, h, w, c)`, else "examples"."""
    shape = getattr(model, "input_shape", None)  # a list for several inputs
    return "images" if isinstance(shape, tuple) and len(shape) == 4 else "examples"


class _Throttle:
    """Calls `show` for the first update, then at most every `seconds`.

    The pause grows until `show` takes no more than `_DRAWING_FRACTION` of the time.
    """

    def __init__(self, show: Callable[[], None], seconds: float) -> None:
        self._show, self._seconds = show, seconds
        self.due, self._is_outdated = 0.0, False

    def update(self) -> None:
        """Note a change, and show it if it is time."""
        self._is_outdated = True
        if perf_counter() >= self.due:
            self.finish()

    def finish(self) -> None:
        """Show the last change if it is not shown yet."""
        if self._is_outdated:
            start = perf_counter()
            self._show()
            self._is_outdated = False
            end = perf_counter()
            self.due = end + max(self._seconds, (end - start) / _DRAWING_FRACTION)


def _lines(curves: Curves) -> _Throttle:
    return _Throttle(lambda: print(curves.line), _LINE_SECONDS)  # noqa: T201


def _live_figure(curves: Curves) -> _Throttle:
    """Show a line, then the figure in its place."""
    from IPython.display import display

    name = f"dltlab-monitor-{uuid4()}"
    display({"text/plain": curves.line}, raw=True, display_id=name)
    return _Throttle(
        lambda: show(curves.draw(), curves.alt, display_id=name, update=True), _REDRAW_SECONDS
    )


def _at_end_of_cell(act: Callable[[], None]) -> None:
    """Call `act` when the cell ends: a failed `fit` does not call `on_train_end`."""
    from IPython import get_ipython

    cell_events = get_ipython().events

    def act_once(result: Any) -> None:
        cell_events.unregister("post_run_cell", act_once)
        act()

    cell_events.register("post_run_cell", act_once)
