"""The parts of a pipeline: tensors that share memory, and the inputs of a data set."""

import numpy as np
import pytest
import tensorflow as tf

from dltlab.data.pipeline import as_tensor, inputs_of


@pytest.mark.parametrize("offset", [0, 1, 2, 64])
def test_a_tensor_of_an_array_is_equal_and_copied_only_if_it_is_not_aligned(offset: int) -> None:
    buffer = np.zeros(64 * 5, np.uint8)
    start = -buffer.ctypes.data % 64 + offset
    array = buffer[start : start + 64].reshape(4, 16)
    array[:] = np.arange(64).reshape(4, 16)
    tensor = as_tensor(array)
    assert np.array_equal(tensor.numpy(), array)
    array[0, 0] = 99
    assert (tensor.numpy()[0, 0] == 99) == (offset % 64 == 0)


def test_a_tensor_of_a_read_only_array_is_equal() -> None:
    buffer = np.zeros(64 * 5, np.uint8)
    start = -buffer.ctypes.data % 64
    array = buffer[start : start + 64]  # aligned
    array[:] = np.arange(64)
    array.setflags(write=False)
    assert np.array_equal(as_tensor(array).numpy(), array)


def test_the_inputs_of_a_data_set_are_those_it_was_made_from() -> None:
    numbers, letters = tf.data.Dataset.range(3), tf.data.Dataset.from_tensor_slices(["a", "b"])
    assert inputs_of(numbers.map(lambda number: number + 1)) == [numbers]
    assert inputs_of(tf.data.Dataset.zip(numbers, letters)) == [numbers, letters]
    assert inputs_of(numbers) == []
