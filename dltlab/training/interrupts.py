"""What an interrupt does to a training: `stop_on_interrupt`, `until_interrupted`."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import keras

from dltlab.display import in_notebook


def stop_on_interrupt(model: keras.Model) -> Callable[[], None]:
    """Let an interrupt end the training of a model after its current step.

    Keras' `fit` then returns its history as after the last epoch. A second interrupt raises
    KeyboardInterrupt at once. Outside of the main thread, which gets no signals, and where a caller
    handles interrupts, nothing changes.

    Returns:
        A function that undoes this.
    """
    if threading.current_thread() is not threading.main_thread() or is_handled_by_caller():
        return lambda: None
    previous = signal.getsignal(signal.SIGINT)

    def stop(number: int, frame: FrameType | None) -> None:
        restore()
        model.stop_training = True
        print(  # noqa: T201
            "Stopped after the current step. The model and its history can be used as they are; "
            "call fit again to train it further."
        )

    def restore() -> None:
        if signal.getsignal(signal.SIGINT) is stop:
            signal.signal(signal.SIGINT, previous)

    signal.signal(signal.SIGINT, stop)
    return restore


@contextmanager
def until_interrupted() -> Iterator[None]:
    """Let an interrupt end the block: put a training loop of your own into it.

    In a notebook, the stop button then prints one line, and the cell goes on after the block.
    Elsewhere, and in the check of an exercise, KeyboardInterrupt is raised as without the block.
    """
    try:
        yield
    except KeyboardInterrupt:
        if not in_notebook() or is_handled_by_caller():
            raise
        print("Stopped. What was computed until now can be used as it is.")  # noqa: T201


def is_handled_by_caller() -> bool:
    """Return whether a caller has set a handler of interrupts, as the check of an exercise does.

    An interrupt then ends all that the caller does, and not only the current training.
    """
    handler = signal.getsignal(signal.SIGINT)
    return callable(handler) and handler is not signal.default_int_handler
