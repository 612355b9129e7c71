"""The time spent waiting for batches, by a clock that the test controls."""

from collections.abc import Iterator

import pytest
import tensorflow as tf

from dltlab.training.input_wait import InputWait


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> tf.Variable:
    """A clock in seconds, which replaces TensorFlow's."""
    now = tf.Variable(100.0, dtype=tf.float64)
    monkeypatch.setattr(
        tf, "timestamp", lambda: tf.py_function(lambda: now.read_value(), [], tf.float64)
    )
    return now


def test_time_for_data_counts_and_time_for_work_does_not(clock: tf.Variable) -> None:
    def slow_data() -> Iterator[int]:
        for number in range(3):
            clock.assign_add(2.0)
            yield number

    input_wait = InputWait()
    dataset = input_wait.measure(tf.data.Dataset.from_generator(slow_data, tf.int64))
    for _ in dataset:
        clock.assign_add(50.0)
    assert input_wait.seconds == 3 * 2.0


def test_batches_and_their_number_do_not_change() -> None:
    dataset = tf.data.Dataset.range(10).map(lambda x: (x, {"twice": 2 * x})).batch(3)
    measured = InputWait().measure(dataset)
    assert measured.element_spec == dataset.element_spec
    assert measured.cardinality() == dataset.cardinality()
    batches = [(a.numpy().tolist(), b["twice"].numpy().tolist()) for a, b in measured]
    assert batches == [(a.numpy().tolist(), b["twice"].numpy().tolist()) for a, b in dataset]


def test_without_a_replaced_clock_the_time_is_positive() -> None:
    input_wait = InputWait()
    list(input_wait.measure(tf.data.Dataset.range(100)))
    assert input_wait.seconds > 0
