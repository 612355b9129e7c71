"""Start TensorFlow, let each device multiply two matrices, and print what came of it as JSON.

The doctor runs this in a process of its own: a broken installation can end its process.
"""

import json
from time import perf_counter
from typing import Any


def probe() -> dict[str, Any]:
    """The seconds that importing took, and an error or None for each device by its name."""
    start = perf_counter()
    import tensorflow as tf

    seconds = perf_counter() - start
    names = [each.name.removeprefix("/device:") for each in tf.config.list_logical_devices()]
    return {"import_seconds": seconds, "devices": {name: _compute(tf, name) for name in names}}


def _compute(tf: Any, name: str) -> str | None:
    try:
        with tf.device(name):
            product = tf.linalg.matmul(tf.eye(64) * 2, tf.ones((64, 64)))
        return None if float(tf.reduce_max(abs(product - 2))) == 0 else "the product is wrong"
    except tf.errors.OpError as error:
        return str(error.message)


if __name__ == "__main__":
    print(json.dumps(probe()))  # noqa: T201
