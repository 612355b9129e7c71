"""Interrupts while a network with one weight trains."""

import signal
import threading
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import pytest

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
