"""End a training on an interrupt instead of raising KeyboardInterrupt: `stop_on_interrupt`."""

import signal
import threading
from collections.abc import Callable
from types import FrameType

import keras


def stop_on_interrupt(model: keras.Model) -> Callable[[], None]:
    """Let an interrupt end the training of a model after its current step.

    Keras' `fit` then returns its history as after the last epoch. A second interrupt raises
    KeyboardInterrupt at once. Outside of the main thread, which gets no signals, nothing changes.

    Returns:
        A function that undoes this.
    """
    if threading.current_thread() is not threading.main_thread():
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
