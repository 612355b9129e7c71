"""How long whoever takes batches waits, by a clock that the test moves."""

from collections.abc import Iterator

import pytest
import tensorflow as tf

from dltlab.training import input_wait
from dltlab.training.input_wait import Waiting


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> tf.Variable:
    """Seconds; `waiting` reads them instead of the machine's."""
    now = tf.Variable(100.0, dtype=tf.float64)

    def read(_: tf.Tensor) -> tf.Tensor:
        return tf.py_function(lambda: now.read_value(), [], tf.float64)

    monkeypatch.setattr(input_wait, "_now", read)
    return now


def test_what_the_data_take_counts_and_what_the_work_takes_does_not(clock: tf.Variable) -> None:
    def produced() -> Iterator[int]:
        for number in range(3):
            clock.assign_add(2.0)
            yield number

    watched = Waiting()
    dataset = watched.watch(tf.data.Dataset.from_generator(produced, tf.int64))
    for _ in dataset:
        clock.assign_add(50.0)
    assert watched.seconds == 3 * 2.0


def test_the_batches_and_their_number_are_the_same() -> None:
    dataset = tf.data.Dataset.range(10).map(lambda x: (x, {"twice": 2 * x})).batch(3)
    watched = Waiting().watch(dataset)
    assert watched.element_spec == dataset.element_spec
    assert watched.cardinality() == dataset.cardinality()
    found = [(a.numpy().tolist(), b["twice"].numpy().tolist()) for a, b in watched]
    assert found == [(a.numpy().tolist(), b["twice"].numpy().tolist()) for a, b in dataset]


def test_the_machines_clock_runs_forward() -> None:
    watched = Waiting()
    list(watched.watch(tf.data.Dataset.range(100)))
    assert 0 < watched.seconds < 60
