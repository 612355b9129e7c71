"""Measure how long training waits for data: `InputWait`."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import tensorflow as tf


class InputWait:
    """Adds up the time between the request for a batch and its arrival."""

    def __init__(self) -> None:
        import tensorflow as tf

        self._seconds = tf.Variable(0.0, dtype=tf.float64, trainable=False)

    @property
    def seconds(self) -> float:
        """The total time so far."""
        return float(self._seconds.numpy())

    def measure(self, dataset: "tf.data.Dataset") -> "tf.data.Dataset":
        """Return the same batches, with their waiting time measured.

        `zip` reads its parts one after the other: a clock, the data set, and a clock again.
        """
        import tensorflow as tf

        clock = tf.data.Dataset.from_tensors(0).repeat().map(lambda _: tf.timestamp())

        def add(start: "tf.Tensor", batch: Any, end: "tf.Tensor") -> Any:
            with tf.control_dependencies([self._seconds.assign_add(end - start)]):
                return tf.nest.map_structure(tf.identity, batch)

        options = tf.data.Options()
        # A prefetch after the clocks would request batches before training does.
        options.experimental_optimization.inject_prefetch = False
        return tf.data.Dataset.zip((clock, dataset, clock)).map(add).with_options(options)
