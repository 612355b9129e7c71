"""Start TensorFlow, multiply two matrices on each device, and print the outcome as JSON.

`dltlab doctor --deep` runs this in a process of its own, which a broken installation may crash.
"""

import json
from time import perf_counter
from typing import Any


def probe() -> dict[str, Any]:
    """Return `import_seconds`, and `devices`: for each device an error message, or None."""
    start = perf_counter()
    import tensorflow as tf

    seconds = perf_counter() - start
    names = [device.name.removeprefix("/device:") for device in tf.config.list_logical_devices()]
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
