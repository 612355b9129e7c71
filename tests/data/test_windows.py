"""Windows of a text: their targets, how often each symbol is seen, what is refused."""

import numpy as np
import pytest
import tensorflow as tf

from dltlab import data
from dltlab.errors import Invalid

Batches = list[tuple[np.ndarray, np.ndarray]]


def as_arrays(dataset: tf.data.Dataset) -> Batches:
    return [(inputs.numpy(), targets.numpy()) for inputs, targets in dataset]


@pytest.mark.parametrize("shuffle", [True, False])
def test_targets_are_the_symbols_that_follow(shuffle: bool) -> None:
    for inputs, targets in as_arrays(data.windows(np.arange(1000), 10, 7, shuffle=shuffle)):
        assert inputs.dtype == targets.dtype == np.int32
        assert np.array_equal(inputs + 1, targets)
        assert (np.diff(inputs) == 1).all()


def test_without_shuffling_windows_are_adjacent_and_the_last_batch_is_smaller() -> None:
    batches = as_arrays(data.windows(np.arange(1000), 10, 7, shuffle=False))
    assert [len(inputs) for inputs, _ in batches] == [7] * 14 + [1]
    symbols = np.concatenate([inputs.ravel() for inputs, _ in batches])
    assert np.array_equal(symbols, np.arange(990))


def test_training_batches_are_full_and_counted() -> None:
    dataset = data.windows(np.arange(1000), 10, 7, shuffle=True)
    assert [inputs.shape for inputs, _ in as_arrays(dataset)] == [(7, 10)] * 14
    assert len(dataset) == 14
    assert dataset.element_spec == (tf.TensorSpec((7, 10), tf.int32),) * 2


def test_an_epoch_sees_each_symbol_about_once_and_ten_epochs_see_all() -> None:
    dataset = data.windows(np.arange(10_000), 50, 10, shuffle=True, seed=1)
    total_counts = np.zeros(10_000, int)
    for _ in range(10):
        epoch = np.concatenate([inputs.ravel() for inputs, _ in as_arrays(dataset)])
        assert len(epoch) > 0.94 * 10_000
        counts = np.bincount(epoch, minlength=10_000)
        assert counts.max() <= 2
        total_counts += counts
    assert total_counts[50:-51].min() > 0


def test_no_two_epochs_see_the_same_windows() -> None:
    dataset = data.windows(np.arange(10_000), 50, 10, shuffle=True, seed=1)
    first, second = (
        {int(row[0]) for inputs, _ in as_arrays(dataset) for row in inputs} for _ in range(2)
    )
    assert len(first & second) < 20


def test_equal_seeds_give_equal_batches_epoch_by_epoch() -> None:
    def windows(seed: int | None) -> tf.data.Dataset:
        return data.windows(np.arange(999), 10, 5, shuffle=True, seed=seed)

    first, second = windows(3), windows(3)
    for _ in range(2):
        assert np.array_equal(as_arrays(first), as_arrays(second))
    assert not np.array_equal(as_arrays(first), as_arrays(windows(None)))


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize(("size", "num_windows"), [(11, 1), (21, 2), (25, 2)])
def test_a_short_text_gives_one_batch_of_all_windows(
    shuffle: bool, size: int, num_windows: int
) -> None:
    (batch,) = as_arrays(data.windows(np.arange(size), 10, 64, shuffle=shuffle))
    assert batch[0].shape == (num_windows, 10)
    assert batch[1].max() < size


@pytest.mark.parametrize(
    ("size", "length", "batch_size", "message"),
    [
        (10, 10, 4, "has 10 characters, but a window of 10 and the one after it need 11"),
        (0, 1, 4, "has 0 characters"),
        (100, 0, 4, "length is 0"),
        (100, 10, 0, "batch_size is 0"),
    ],
)
@pytest.mark.parametrize("shuffle", [True, False])
def test_arguments_that_give_no_window_are_refused(
    size: int, length: int, batch_size: int, message: str, shuffle: bool
) -> None:
    with pytest.raises(Invalid, match=message):
        data.windows(np.zeros(size, np.int32), length, batch_size, shuffle=shuffle)
