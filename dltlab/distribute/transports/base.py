"""The interface of a transport: `Transport`."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from dltlab.distribute.cluster import Worker
from dltlab.distribute.socket_ring import SocketRing

if TYPE_CHECKING:
    import tensorflow as tf


class Transport(ABC):
    """Sums arrays and tensors over all workers of a job.

    The workers are connected by a `SocketRing` before: over it they agree on a transport, and it
    notices lost workers. All workers call the same methods in the same order, with values of the
    same length and dtype.

    Attributes:
        name: What users call it.
        priority: "auto" chooses the available transport with the smallest.
    """

    name: ClassVar[str]
    priority: ClassVar[int]

    def __init__(self, ring: SocketRing) -> None:
        self.ring = ring

    @classmethod
    def unavailable_reason(cls, place: Worker) -> str:
        """Return why it cannot work here and how to fix that, or "" if it can."""
        return ""

    @classmethod
    def is_automatic(cls) -> bool:
        """Return whether "auto" may choose it here."""
        return True

    @property
    def failure(self) -> str:
        """Which worker was lost; empty where none was."""
        return self.ring.failure

    @abstractmethod
    def all_reduce(self, array: np.ndarray) -> None:
        """Replace an array, one-dimensional and contiguous, by the sum of those of all workers.

        Raises:
            WorkerLost: A worker was lost; the message names it.
        """

    def sum(self, tensor: "tf.Tensor") -> "tf.Tensor":
        """Return the sum of the one-dimensional tensors of all workers, in a graph or eagerly."""
        import tensorflow as tf

        return tf.numpy_function(self._sum_array, [tensor], tensor.dtype)

    def _sum_array(self, array: np.ndarray) -> np.ndarray:
        summed = array.copy()  # TensorFlow's memory may not be written
        self.all_reduce(summed)
        return summed

    def summing(self, array: np.ndarray) -> "Callable[[], np.ndarray | tf.Tensor]":
        """Return a function that returns the sum of an array as fast as possible; it may change it.

        The function may be called many times.
        """

        def run() -> np.ndarray:
            self.all_reduce(array)
            return array

        return run
