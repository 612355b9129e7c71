"""Arrays for a network: what is accepted, how batches are padded, and the examples."""

import numpy as np
import pytest

from dltlab.errors import Invalid
from dltlab.inference.arrays import check_arrays, example_inputs, pad_batch
from dltlab.inference.manifest import TensorSpec

IMAGE = TensorSpec(shape=(8, 8, 3), dtype="float32")
TEXT = TensorSpec(shape=(None,), dtype="int32")


def test_fitting_arrays_are_returned_contiguous():
    image = np.zeros((3, 8, 8, 2), np.float32).transpose(1, 2, 0, 3)
    spec = TensorSpec(shape=(8, 3, 2), dtype="float32")
    (array,) = check_arrays([image], [spec], "The input")
    assert array.flags.c_contiguous
    np.testing.assert_array_equal(array, image)


def test_an_axis_of_any_length_takes_any_length():
    for length in (1, 50):
        text = np.zeros((2, length), np.int32)
        assert check_arrays([text], [TEXT], "The input")[0].shape == (2, length)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ([], "The input has 0 arrays, and the network takes 2: pass one array for each input"),
        ([np.zeros((2, 9, 8, 3), np.float32)], r"has the shape \(2, 9, 8, 3\), .* \(n, 8, 8, 3\)"),
        ([np.zeros((8, 8, 3), np.float32)], r"has the shape \(8, 8, 3\)"),
        ([np.zeros((2, 8, 8, 3))], r"is float64, and the network takes float32: .*\.astype"),
        ([np.zeros((0, 8, 8, 3), np.float32)], "holds no example"),
        ([np.zeros((3, 8, 8, 3), np.float32)], "different numbers of examples"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_with_the_difference(arrays, message):
    inputs = [*arrays, np.zeros((2, 5), np.int32)] if arrays else []
    with pytest.raises(Invalid, match=message):
        check_arrays(inputs, [IMAGE, TEXT], "The input")


def test_an_axis_of_any_length_is_written_as_any():
    with pytest.raises(Invalid, match=r"the network takes \(n, any\)"):
        check_arrays([np.zeros((2, 3, 4), np.int32)], [TEXT], "validation")


def test_a_batch_is_padded_with_its_last_example():
    batch = np.arange(6).reshape(3, 2)
    np.testing.assert_array_equal(pad_batch(batch, 5)[3:], [[4, 5], [4, 5]])
    assert pad_batch(batch, 3) is batch


def test_example_inputs_fit_the_network():
    images, texts = check_arrays(example_inputs([IMAGE, TEXT], 4), [IMAGE, TEXT], "The input")
    assert (images.min() >= 0, images.max() < 1) == (True, True)
    assert len(np.unique(images)) > 100
    assert not texts.any()
