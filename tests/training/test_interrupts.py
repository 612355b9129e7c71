"""Interrupts while a network with one weight trains."""

import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import pytest

from dltlab import training
from dltlab.training import fitting, interrupts, lr_finder
from dltlab.training.interrupts import stop_on_interrupt

X = np.ones((8, 1), np.float32)


@pytest.fixture(autouse=True)
def handler() -> Iterator[None]:
    """The handler of Python, whatever the shell that runs the tests has set."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class InterruptAt(keras.callbacks.Callback):
    """Sends an interrupt in a step of the second epoch, as often as `times`."""

    def __init__(self, times: int = 1) -> None:
        super().__init__()
        self.times, self.epoch, self.steps = times, 0, 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.steps += 1
        if self.epoch == 1 and batch == 2:
            for _ in range(self.times):
                signal.raise_signal(signal.SIGINT)


@pytest.fixture
def model() -> keras.Model:
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


def test_training_stops_after_the_step_and_returns_its_history(
    model: keras.Model, capsys: pytest.CaptureFixture[str]
) -> None:
    restore = stop_on_interrupt(model)
    callback = InterruptAt()
    history = model.fit(X, X, batch_size=1, epochs=5, verbose=0, callbacks=[callback])
    assert callback.steps == 8 + 3
    assert len(history.history["loss"]) == 2
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("Stopped after the current step.")
    restore()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_second_interrupt_is_raised(model: keras.Model) -> None:
    stop_on_interrupt(model)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, X, batch_size=1, epochs=5, verbose=0, callbacks=[InterruptAt(times=2)])


def test_undone_it_changes_nothing(model: keras.Model) -> None:
    stop_on_interrupt(model)()
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, X, batch_size=1, epochs=5, verbose=0, callbacks=[InterruptAt()])


def test_other_threads_get_no_signals(model: keras.Model) -> None:
    thread = threading.Thread(target=lambda: stop_on_interrupt(model)())
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.fixture
def in_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (fitting, interrupts, lr_finder):
        monkeypatch.setattr(module, "in_notebook", lambda: True)


def test_loop_of_ones_own_ends_with_one_line(
    in_notebook: None, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = 0
    with training.until_interrupted():
        for steps in range(1, 10):
            if steps == 3:
                signal.raise_signal(signal.SIGINT)
    assert steps == 3
    assert capsys.readouterr().out == "Stopped. What was computed until now can be used as it is.\n"


def test_loop_outside_of_a_notebook_raises() -> None:
    with pytest.raises(KeyboardInterrupt), training.until_interrupted():
        signal.raise_signal(signal.SIGINT)


def _fit(model: keras.Model) -> None:
    training.fit(model, (X, X), batch_size=1, epochs=5, title=None, callbacks=InterruptAt())


def _fit_of_keras(model: keras.Model) -> None:
    stop_on_interrupt(model)
    model.fit(X, X, batch_size=1, epochs=5, verbose=0, callbacks=[InterruptAt()])


def _lr_range_test(model: keras.Model) -> None:
    losses = iter([1.0, 1.0])

    def train_on_batch(*batch: Any, **options: Any) -> Any:
        if (loss := next(losses, None)) is None:
            signal.raise_signal(signal.SIGINT)
        return {"loss": loss}

    model.train_on_batch = train_on_batch
    training.lr_range_test(model, (X, X), batch_size=1)


def _loop(model: keras.Model) -> None:
    with training.until_interrupted():
        signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("train", [_fit, _fit_of_keras, _lr_range_test, _loop])
def test_caller_that_handles_interrupts_is_ended_too(
    model: keras.Model,
    in_notebook: None,
    capsys: pytest.CaptureFixture[str],
    train: Callable[[keras.Model], None],
) -> None:
    def stop(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, stop)
    with pytest.raises(KeyboardInterrupt):
        train(model)
    assert capsys.readouterr().out == ""
