"""How long whoever takes batches from a data set waits for them."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import tensorflow as tf


class Waiting:
    """Adds up the seconds that pass between asking `watch`'s data set for a batch and having it."""

    def __init__(self) -> None:
        import tensorflow as tf

        self._seconds = tf.Variable(0.0, dtype=tf.float64, trainable=False)

    @property
    def seconds(self) -> float:
        """So far."""
        return float(self._seconds.numpy())

    def watch(self, dataset: "tf.data.Dataset") -> "tf.data.Dataset":
        """The same batches, on the clock.

        `zip` asks its parts one after the other: a clock, the data set, and a clock again.
        """
        import tensorflow as tf

        clock = tf.data.Dataset.from_tensors(0).repeat().map(_now)

        def add(before: "tf.Tensor", batch: Any, after: "tf.Tensor") -> Any:
            with tf.control_dependencies([self._seconds.assign_add(after - before)]):
                return tf.nest.map_structure(tf.identity, batch)

        options = tf.data.Options()
        # A prefetch behind the clocks would ask for batches ahead of whoever takes them.
        options.experimental_optimization.inject_prefetch = False
        return tf.data.Dataset.zip((clock, dataset, clock)).map(add).with_options(options)


def _now(_: "tf.Tensor") -> "tf.Tensor":
    import tensorflow as tf

    return tf.timestamp()
