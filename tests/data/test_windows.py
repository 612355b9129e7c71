"""Windows of a text: what follows what, how often each symbol is seen, what is refused."""

import numpy as np
import pytest
import tensorflow as tf

from dltlab import data
from dltlab.errors import LabError


def taken(dataset: tf.data.Dataset) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(inputs.numpy(), targets.numpy()) for inputs, targets in dataset]


@pytest.mark.parametrize("shuffle", [True, False])
def test_targets_are_the_symbols_that_follow(shuffle: bool) -> None:
    ids = np.arange(1000)
    batches = taken(data.windows(ids, 10, 7, shuffle=shuffle))
    for inputs, targets in batches:
        assert inputs.dtype == targets.dtype == np.int32
        assert np.array_equal(inputs + 1, targets)
        assert (np.diff(inputs) == 1).all()


def test_in_order_windows_stand_side_by_side_and_the_last_batch_has_what_is_left() -> None:
    batches = taken(data.windows(np.arange(1000), 10, 7, shuffle=False))
    assert [len(inputs) for inputs, _ in batches] == [7] * 14 + [1]
    read = np.concatenate([inputs.ravel() for inputs, _ in batches])
    assert np.array_equal(read, np.arange(990))


def test_training_batches_are_all_full_and_counted() -> None:
    dataset = data.windows(np.arange(1000), 10, 7, shuffle=True)
    assert [inputs.shape for inputs, _ in taken(dataset)] == [(7, 10)] * 14
    assert len(dataset) == 14
    assert dataset.element_spec == (tf.TensorSpec((7, 10), tf.int32),) * 2


def test_an_epoch_sees_each_symbol_about_once_and_ten_all_of_them() -> None:
    dataset = data.windows(np.arange(10_000), 50, 10, shuffle=True, seed=1)
    seen = np.zeros(10_000, int)
    for _ in range(10):
        epoch = np.concatenate([inputs.ravel() for inputs, _ in taken(dataset)])
        assert len(epoch) > 0.94 * 10_000
        counts = np.bincount(epoch, minlength=10_000)
        assert counts.max() <= 2
        seen += counts
    assert seen[50:-51].min() > 0


def test_no_two_epochs_see_the_same_windows() -> None:
    dataset = data.windows(np.arange(10_000), 50, 10, shuffle=True, seed=1)
    first, second = ({int(row[0]) for inputs, _ in taken(dataset) for row in inputs} for _ in "ab")
    assert len(first & second) < 20


def test_equal_seeds_give_equal_batches_epoch_by_epoch() -> None:
    one, other = (data.windows(np.arange(999), 10, 5, shuffle=True, seed=3) for _ in "ab")
    for _ in range(2):
        assert np.array_equal(taken(one), taken(other))
    assert not np.array_equal(taken(one), taken(data.windows(np.arange(999), 10, 5, shuffle=True)))


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize(("size", "num"), [(11, 1), (21, 2), (25, 2)])
def test_of_a_short_text_one_batch_has_all_windows(shuffle: bool, size: int, num: int) -> None:
    (batch,) = taken(data.windows(np.arange(size), 10, 64, shuffle=shuffle))
    assert batch[0].shape == (num, 10)
    assert batch[1].max() < size


@pytest.mark.parametrize(
    ("size", "length", "batch_size", "sentence"),
    [
        (10, 10, 4, "has 10 characters, and a window of 10 with the one after it needs 11"),
        (0, 1, 4, "has 0 characters"),
        (100, 0, 4, "length is 0"),
        (100, 10, 0, "batch_size is 0"),
    ],
)
@pytest.mark.parametrize("shuffle", [True, False])
def test_what_makes_no_window_is_refused(
    size: int, length: int, batch_size: int, sentence: str, shuffle: bool
) -> None:
    with pytest.raises(LabError, match=sentence):
        data.windows(np.zeros(size, np.int32), length, batch_size, shuffle=shuffle)
