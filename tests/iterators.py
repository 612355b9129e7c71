"""Create iterators of tf.data without autotuning.

To end an iterator, TensorFlow 2.21 may wait for its autotuning thread, which sleeps for up to a
minute. Python's garbage collector ends those that tests leave behind, one after the other, and no
time limit interrupts it. `dltlab.training.batches` has the same for the data of `training.fit`.
"""

import sys
from typing import Any

import pytest

MODULE, METHOD = "tensorflow.python.data.ops.dataset_ops", "_apply_debug_options"


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Replace what all iterators call, if TensorFlow has been imported since the last test."""
    module = sys.modules.get(MODULE)
    dataset = getattr(module, "DatasetV2", None)
    if dataset and getattr(dataset, METHOD) is not without_autotuning:
        setattr(dataset, METHOD, without_autotuning)


def without_autotuning(dataset: Any) -> Any:
    import tensorflow as tf

    if dataset.options().autotune.enabled is not None:
        return dataset
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)
