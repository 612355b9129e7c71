"""The monitor, watched while a network of one weight trains."""

import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import pytest
from IPython.core.events import EventManager

from dltlab.training import Monitor, monitor

NUM_IMAGES = 8
X = np.ones((NUM_IMAGES, 1), np.float32)


class Clock(keras.callbacks.Callback):
    """A clock that goes on by `step` seconds an epoch, and one more in each validation."""

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
    found = Clock(2.0)
    monkeypatch.setattr(monitor, "perf_counter", found)
    return found


@dataclass
class Shown:
    alt: str
    display_id: str
    update: bool


class Notebook:
    """Collects what is shown; `end_cell` does what a kernel does after a cell."""

    def __init__(self) -> None:
        self.shown: list[Shown] = []
        self.events = EventManager(self, {"post_run_cell": lambda result: None})

    def show(self, figure: Any, alt: str, *, display_id: str, update: bool = False) -> None:
        self.shown.append(Shown(alt, display_id, update))

    def display(self, bundle: dict[str, str], raw: bool, display_id: str) -> None:
        self.shown.append(Shown(bundle["text/plain"], display_id, update=False))

    def end_cell(self) -> None:
        self.events.trigger("post_run_cell", None)


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> Notebook:
    found = Notebook()
    monkeypatch.setattr(monitor, "in_notebook", lambda: True)
    monkeypatch.setattr(monitor, "show", found.show)
    monkeypatch.setattr("IPython.get_ipython", lambda: found)
    monkeypatch.setattr("IPython.display.display", found.display)
    return found


@pytest.fixture(scope="module")
def model() -> keras.Model:
    made = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    made.compile("sgd", "mse", metrics=["mae"])
    return made


def fit(model: keras.Model, *callbacks: keras.callbacks.Callback, **options: Any) -> None:
    model.fit(X, X, batch_size=NUM_IMAGES, verbose=0, callbacks=list(callbacks), **options)


def test_the_room_imports_without_keras() -> None:
    code = "import sys, dltlab.training; sys.exit('keras' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_outside_a_notebook_there_is_a_line_a_second_at_most_and_a_last_one(
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


def test_within_a_long_epoch_a_line_in_ten_seconds_tells_the_step_and_the_time_left(
    model: keras.Model, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    clock.step = 4.0
    model.fit(X, X, batch_size=1, epochs=2, verbose=0, callbacks=[clock, Monitor("Run")])
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(", 0 examples/s")[0] for line in lines] == [
        "Run: epoch 1 of 2, step 4 of 8, 16.0 s, about 48 s left",
        "Run: epoch 1 of 2, step 7 of 8, 28.0 s, about 36 s left",
        "Run: epoch 1 of 2, 32.0 s",
        "Run: epoch 2 of 2, step 3 of 8, 44.0 s, about 20 s left",
        "Run: epoch 2 of 2, step 6 of 8, 56.0 s, about 8 s left",
        "Run: epoch 2 of 2, 64.0 s",
    ]


def test_a_network_that_takes_images_counts_images(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    model = keras.Sequential([keras.Input((2, 2, 1)), keras.layers.Conv2D(1, 2)])
    model.compile(loss="mse")
    images = np.zeros((4, 2, 2, 1), "float32")
    model.fit(images, images[:, :1, :1], verbose=0, callbacks=[clock, Monitor()])
    assert " images/s, loss" in capsys.readouterr().out


def test_validation_counts_neither_in_the_examples_nor_in_the_seconds_of_the_rate(
    model: keras.Model, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(model, clock, Monitor(), epochs=1, validation_data=(X[:3], X[:3]))
    line = capsys.readouterr().out
    assert "epoch 1 of 1, 3.0 s, 4 examples/s, loss" in line
    assert "validation loss" in line


def test_in_a_notebook_one_figure_is_brought_up_to_date(
    model: keras.Model, clock: Clock, notebook: Notebook
) -> None:
    fit(model, clock, Monitor(), epochs=3)
    assert [each.update for each in notebook.shown] == [False, True, True, True]
    assert len({each.display_id for each in notebook.shown}) == 1
    assert "epoch 3 of 3" in notebook.shown[-1].alt


def test_the_figure_is_drawn_at_most_four_times_a_second_and_after_the_last_epoch(
    model: keras.Model, clock: Clock, notebook: Notebook
) -> None:
    clock.step = 0.125
    fit(model, clock, Monitor(), epochs=6)
    epochs = [each.alt.split("epoch ")[1][0] for each in notebook.shown]
    assert epochs == ["0", "1", "3", "5", "6"]


def test_drawing_takes_two_percent_of_the_time_at_most(
    model: keras.Model, clock: Clock, notebook: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow_show(*args: Any, **options: Any) -> None:
        notebook.show(*args, **options)
        clock.now += 0.125

    monkeypatch.setattr(monitor, "show", slow_show)
    clock.step = 1.0
    fit(model, clock, Monitor(), epochs=9)
    epochs = [each.alt.split("epoch ")[1][0] for each in notebook.shown]
    assert epochs == ["0", "1", "8", "9"]


def test_an_interrupted_fit_leaves_all_finished_epochs(
    model: keras.Model, clock: Clock, notebook: Notebook
) -> None:
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            if epoch == 2:
                raise KeyboardInterrupt

    clock.step = 0.01
    with pytest.raises(KeyboardInterrupt):
        fit(model, clock, Monitor(), Stop(), epochs=9)
    assert "epoch 1 of 9" in notebook.shown[-1].alt
    notebook.end_cell()
    assert "epoch 3 of 9" in notebook.shown[-1].alt
    shown = len(notebook.shown)
    notebook.end_cell()
    assert len(notebook.shown) == shown


def test_each_fit_has_a_figure_of_its_own(
    model: keras.Model, clock: Clock, notebook: Notebook
) -> None:
    watch = Monitor()
    fit(model, clock, watch, epochs=1)
    fit(model, clock, watch, epochs=4, initial_epoch=3)
    first, _, second, last = notebook.shown
    assert first.display_id != second.display_id
    assert (first.update, second.update) == (False, False)
    assert "epoch 4 of 4, 2.0 s" in last.alt


def test_a_model_that_tracks_no_loss_is_shown_without_a_rate(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    class Silent(keras.Model):
        def train_step(self, data: Any) -> dict[str, Any]:
            return {"loss": keras.ops.mean(data[0])}

        @property
        def metrics(self) -> list[keras.metrics.Metric]:
            return []

    silent = Silent()
    silent.compile("sgd")
    fit(silent, clock, Monitor(), epochs=1)
    assert capsys.readouterr().out == "Training: epoch 1 of 1, 2.0 s, loss 1.\n"
