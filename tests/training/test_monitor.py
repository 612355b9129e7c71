"""`Monitor` while a network with one weight trains."""

import contextlib
import signal
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import pytest
from IPython.core.events import EventManager

from dltlab import training
from dltlab.training import Monitor, fitting, monitor

NUM_IMAGES = 8
X = np.ones((NUM_IMAGES, 1), np.float32)


class Clock(keras.callbacks.Callback):
    """A clock that advances by `step` seconds per training step, and one per validation step."""

    def __init__(self, step: float) -> None:
        super().__init__()
        self.step, self.now = step, 100.0

    def __call__(self) -> float:
        return self.now

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.now += self.step

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        self.now += 1


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock(2.0)
    monkeypatch.setattr(monitor, "perf_counter", clock)
    return clock


@dataclass
class Output:
    alt: str
    display_id: str
    update: bool


class Notebook:
    """Collects the outputs; `end_cell` does what a kernel does after a cell."""

    def __init__(self) -> None:
        self.outputs: list[Output] = []
        self.events = EventManager(self, {"post_run_cell": lambda result: None})

    def show(self, figure: Any, alt: str, *, display_id: str, update: bool = False) -> None:
        self.outputs.append(Output(alt, display_id, update))

    def display(self, bundle: dict[str, str], raw: bool, display_id: str) -> None:
        self.outputs.append(Output(bundle["text/plain"], display_id, update=False))

    def end_cell(self) -> None:
        self.events.trigger("post_run_cell", None)


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> Notebook:
    notebook = Notebook()
    monkeypatch.setattr(monitor, "in_notebook", lambda: True)
    monkeypatch.setattr(monitor, "show", notebook.show)
    monkeypatch.setattr("IPython.get_ipython", lambda: notebook)
    monkeypatch.setattr("IPython.display.display", notebook.display)
    return notebook


@pytest.fixture(scope="module")
def model() -> keras.Model:
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", metrics=["mae"])
    return model


def fit(model: keras.Model, *callbacks: keras.callbacks.Callback, **options: Any) -> None:
    model.fit(X, X, batch_size=NUM_IMAGES, verbose=0, callbacks=list(callbacks), **options)


def test_importing_training_does_not_import_keras() -> None:
    code = "import sys, dltlab.training; sys.exit('keras' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_elsewhere_it_prints_at_most_a_line_per_second_and_a_last_one(
    model: keras.Model, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    clock.step = 0.25
    fit(model, clock, Monitor("Run"), epochs=10)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in lines] == [
        f"Run: epoch {epoch} of 10" for epoch in (1, 5, 9, 10)
    ]
    assert "32 examples/s, loss" in lines[0]
    assert ", mae " in lines[0]


def test_long_epoch_has_a_line_every_ten_seconds_with_step_and_time_left(
    model: keras.Model, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    clock.step = 4.0
    model.fit(X, X, batch_size=1, epochs=2, verbose=0, callbacks=[clock, Monitor("Run")])
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(", 0 examples/s")[0] for line in lines] == [
        "Run: epoch 1 of 2, step 4 of 8, 16.0 s, about 48 s left",
        "Run: epoch 1 of 2, step 7 of 8, 28.0 s, about 36 s left",
        "Run: epoch 1 of 2, 32.0 s, about 32 s left",
        "Run: epoch 2 of 2, step 3 of 8, 44.0 s, about 20 s left",
        "Run: epoch 2 of 2, step 6 of 8, 56.0 s, about 8 s left",
        "Run: epoch 2 of 2, 64.0 s",
    ]


def test_time_left_is_shown_after_each_epoch_but_the_last_and_includes_validation(
    model: keras.Model, clock: Clock, notebook: Notebook
) -> None:
    fit(model, clock, Monitor(), epochs=4, validation_data=(X, X))
    times_left = [
        output.alt.partition(" left")[0].rpartition("about ")[2] for output in notebook.outputs
    ]
    assert times_left[2:4] == ["8 s", "4 s"]
    assert "left" not in notebook.outputs[-1].alt


@pytest.mark.parametrize("ends_with_the_cell", [False, True])
def test_a_training_that_ends_early_shows_no_time_left(
    model: keras.Model, clock: Clock, notebook: Notebook, ends_with_the_cell: bool
) -> None:
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            if epoch == 1 and ends_with_the_cell:
                raise KeyboardInterrupt
            self.model.stop_training = epoch == 1

    with contextlib.suppress(KeyboardInterrupt):
        fit(model, clock, Monitor(), Stop(), epochs=9)
    notebook.end_cell()
    assert "epoch 2 of 9, 4.0 s, 4 examples/s" in notebook.outputs[-1].alt


def test_examples_of_an_image_network_are_called_images(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    model = keras.Sequential([keras.Input((2, 2, 1)), keras.layers.Conv2D(1, 2)])
    model.compile(loss="mse")
    images = np.zeros((4, 2, 2, 1), "float32")
    model.fit(images, images[:, :1, :1], verbose=0, callbacks=[clock, Monitor()])
    assert " images/s, loss" in capsys.readouterr().out


def test_validation_does_not_count_in_the_speed(
    model: keras.Model, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(model, clock, Monitor(), epochs=1, validation_data=(X[:3], X[:3]))
    line = capsys.readouterr().out
    assert "epoch 1 of 1, 3.0 s, 4 examples/s, loss" in line
    assert "validation loss" in line


def test_notebook_has_one_figure_that_is_updated(
    model: keras.Model, clock: Clock, notebook: Notebook
) -> None:
    fit(model, clock, Monitor(), epochs=3)
    assert [output.update for output in notebook.outputs] == [False, True, True, True]
    assert len({output.display_id for output in notebook.outputs}) == 1
    assert "epoch 3 of 3" in notebook.outputs[-1].alt


def test_figure_is_drawn_at_most_four_times_a_second_and_at_the_end(
    model: keras.Model, clock: Clock, notebook: Notebook
) -> None:
    clock.step = 0.125
    fit(model, clock, Monitor(), epochs=6)
    epochs = [output.alt.split("epoch ")[1][0] for output in notebook.outputs]
    assert epochs == ["0", "1", "3", "5", "6"]


def test_drawing_takes_at_most_two_percent_of_the_time(
    model: keras.Model, clock: Clock, notebook: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow_show(*args: Any, **options: Any) -> None:
        notebook.show(*args, **options)
        clock.now += 0.125

    monkeypatch.setattr(monitor, "show", slow_show)
    clock.step = 1.0
    fit(model, clock, Monitor(), epochs=9)
    epochs = [output.alt.split("epoch ")[1][0] for output in notebook.outputs]
    assert epochs == ["0", "1", "8", "9"]


def test_interrupted_fit_leaves_all_finished_epochs(
    model: keras.Model, clock: Clock, notebook: Notebook
) -> None:
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            if epoch == 2:
                raise KeyboardInterrupt

    clock.step = 0.01
    with pytest.raises(KeyboardInterrupt):
        fit(model, clock, Monitor(), Stop(), epochs=9)
    assert "epoch 1 of 9" in notebook.outputs[-1].alt
    notebook.end_cell()
    assert "epoch 3 of 9" in notebook.outputs[-1].alt
    num_outputs = len(notebook.outputs)
    notebook.end_cell()
    assert len(notebook.outputs) == num_outputs


def test_each_fit_has_its_own_figure(model: keras.Model, clock: Clock, notebook: Notebook) -> None:
    callback = Monitor()
    fit(model, clock, callback, epochs=1)
    fit(model, clock, callback, epochs=4, initial_epoch=3)
    first, _, second, last = notebook.outputs
    assert first.display_id != second.display_id
    assert (first.update, second.update) == (False, False)
    assert "epoch 4 of 4, 2.0 s" in last.alt


def test_model_that_does_not_track_its_loss_is_shown_without_a_speed(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    class WithoutMetrics(keras.Model):
        def train_step(self, data: Any) -> dict[str, Any]:
            return {"loss": keras.ops.mean(data[0])}

        @property
        def metrics(self) -> list[keras.metrics.Metric]:
            return []

    model = WithoutMetrics()
    model.compile("sgd")
    fit(model, clock, Monitor(), epochs=1)
    assert capsys.readouterr().out == "Training: epoch 1 of 1, 2.0 s, loss 1.\n"


@pytest.mark.parametrize("in_training_fit", [False, True])
def test_stop_button_ends_plain_fit_of_keras_and_returns_its_history(
    model: keras.Model,
    notebook: Notebook,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    in_training_fit: bool,
) -> None:
    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if batch == 2:
                signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        if in_training_fit:
            monkeypatch.setattr(fitting, "in_notebook", lambda: True)
            options: dict[str, Any] = {"title": None, "callbacks": [Stop(), Monitor()]}
            history = training.fit(model, (X, X), batch_size=1, epochs=4, **options)
            assert history.history == {}
        else:
            options = {"verbose": 0, "callbacks": [Monitor(), Stop()]}
            history = model.fit(X, X, batch_size=1, epochs=4, **options)
            assert len(history.history["loss"]) == 1
            assert "epoch 1 of 4" in notebook.outputs[-1].alt
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("Stopped")


def test_interrupts_are_as_before_when_the_cell_ends(
    model: keras.Model, notebook: Notebook
) -> None:
    class Fail(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            raise ValueError

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(ValueError):  # noqa: PT011
        fit(model, Monitor(), Fail())
    notebook.end_cell()
    assert signal.getsignal(signal.SIGINT) is before
