"""The checks of batches while they are read; `test_fitting` covers them in a training."""

import math
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from dltlab.errors import Invalid
from dltlab.training.checked_dataset import CheckedDataset, message_in


def dataset(images: Any, labels: Any) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices((np.float32(images), np.asarray(labels))).batch(2)


def test_correct_batches_do_not_change() -> None:
    checked = CheckedDataset(dataset(np.eye(3), [0, 1, 2]), 3)
    images = np.concatenate([images for images, _ in checked.dataset.as_numpy_iterator()])
    np.testing.assert_array_equal(images, np.eye(3))
    checked.require_several_classes()


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        ([[math.nan]], [0], "some inputs are NaN or infinite"),
        ([[1.0]], [7], "the label 7 is not one of the model's 3 classes"),
        ([[1.0]], [-1], "the label -1 is not one of the model's 3 classes"),
    ],
)
def test_wrong_batch_raises_an_error_with_a_sentence(
    images: Any, labels: Any, message: str
) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        list(CheckedDataset(dataset(images, labels), 3).dataset)
    sentence = message_in(caught.value)
    assert sentence is not None
    assert sentence.startswith(message)


def test_other_errors_have_no_sentence() -> None:
    assert message_in(ValueError("some other error")) is None


def test_equal_labels_are_refused() -> None:
    checked = CheckedDataset(dataset(np.eye(2), [1, 1]), 3)
    list(checked.dataset)
    with pytest.raises(Invalid, match="Every label of the training data is 1"):
        checked.require_several_classes()


def test_labels_that_are_not_class_numbers_are_not_checked() -> None:
    checked = CheckedDataset(dataset(np.eye(2), [9.5, 9.5]), None)
    assert len(list(checked.dataset)) == 1
    checked.require_several_classes()


def test_missing_values_in_targets_are_named() -> None:
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        list(CheckedDataset(dataset([[1.0]], [math.nan]), None).dataset)
    assert str(message_in(caught.value)).startswith("some targets are NaN or infinite")


def test_ignored_label_is_accepted() -> None:
    checked = CheckedDataset(dataset(np.eye(3), [0, 255, 2]), 3, ignored=255)
    assert len(list(checked.dataset)) == 2
    checked.require_several_classes()


def test_batches_of_every_structure_do_not_change() -> None:
    ragged = tf.ragged.constant([[1.0], [2.0, 3.0]])
    for batch in (ragged, {"a": ragged}, ({"a": ragged}, {"b": [1.0, 2.0]}, [1.0, 1.0])):
        unchecked = tf.data.Dataset.from_tensors(batch)
        checked = CheckedDataset(unchecked, None).dataset
        assert checked.element_spec == unchecked.element_spec
    wrong = tf.data.Dataset.from_tensors(tf.ragged.constant([[1.0], [math.inf]]))
    with pytest.raises(tf.errors.InvalidArgumentError, match="some inputs are NaN"):
        list(CheckedDataset(wrong, None).dataset)


def test_label_that_only_the_loss_of_tensorflow_refuses_is_named() -> None:
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        tf.nn.sparse_softmax_cross_entropy_with_logits([5], tf.zeros((1, 3)))
    message = "the label 5 is not one of the model's 3 classes, which are numbered from 0 to 2:"
    assert str(message_in(caught.value)).startswith(message)


def test_labels_of_a_cross_entropy_are_between_0_and_1() -> None:
    for labels in ([0, 1], [0.0, 0.3]):
        correct = CheckedDataset(dataset(np.eye(2), labels), None, are_probabilities=True)
        assert len(list(correct.dataset)) == 1
    for labels in ([-1, 1], [1.0, 2.0]):
        wrong = CheckedDataset(dataset(np.eye(2), labels), None, are_probabilities=True)
        with pytest.raises(tf.errors.InvalidArgumentError) as caught:
            list(wrong.dataset)
        assert str(message_in(caught.value)).startswith("some labels are not between 0 and 1")


def test_labels_of_several_outputs_are_between_0_and_1() -> None:
    for first in ([True, False], [0, 1], [0.0, 2.0]):
        batch = ([1.0, 2.0], {"a": first, "b": [0.5, 0.5]})
        dataset = CheckedDataset(
            tf.data.Dataset.from_tensors(batch), None, are_probabilities=True
        ).dataset
        if max(first) <= 1:
            assert len(list(dataset)) == 1
            continue
        with pytest.raises(tf.errors.InvalidArgumentError, match="not between 0 and 1"):
            list(dataset)
