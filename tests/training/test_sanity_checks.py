"""Checks of model, data and memory around a training; `test_fitting` covers the messages."""

import math
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from dltlab.errors import Invalid, Unavailable
from dltlab.training import sanity_checks
from dltlab.training.sanity_checks import (
    CheckedDataset,
    free_bytes,
    message_in,
    num_label_classes,
    require_memory,
    require_trainable,
)


def dataset(images: Any, labels: Any) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices((np.float32(images), np.asarray(labels))).batch(2)


def dense(units: int, loss: Any, optimizer: Any = "adam") -> keras.Model:
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(units)])
    model.compile(optimizer, loss)
    return model


def test_correct_batches_do_not_change() -> None:
    checked = CheckedDataset(dataset(np.eye(3), [0, 1, 2]), 3)
    images = np.concatenate([images for images, _ in checked.dataset.as_numpy_iterator()])
    np.testing.assert_array_equal(images, np.eye(3))
    checked.require_several_classes()


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        ([[math.nan]], [0], "some pixels are NaN or infinite"),
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


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (keras.losses.SparseCategoricalCrossentropy(from_logits=True), 4),
        ("sparse_categorical_crossentropy", 4),
        (keras.losses.sparse_categorical_crossentropy, 4),
        ("categorical_crossentropy", None),
        ("mse", None),
    ],
)
def test_number_of_classes_follows_from_the_loss(loss: Any, expected: int | None) -> None:
    assert num_label_classes(dense(4, loss)) == expected


def test_batch_of_a_model_with_several_inputs_is_accepted() -> None:
    inputs = [keras.Input((3,)) for _ in range(2)]
    model = keras.Model(inputs, keras.layers.Add()(inputs))
    model.compile("sgd", "mse")
    require_trainable(model, ([np.ones((2, 3))] * 2, np.ones((2, 3))))


@pytest.mark.parametrize(
    ("optimizer", "slots"),
    [(keras.optimizers.SGD(), 0), (keras.optimizers.SGD(momentum=0.9), 1), ("adam", 2)],
)
def test_memory_includes_the_slots_of_the_optimizer(
    optimizer: Any, slots: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = dense(1000, "mse", optimizer)
    params = 4 * 1000
    activations = 4 * (2 * 1000 + 3)
    needed = 4 * (1 + slots) * params + activations
    monkeypatch.setattr(sanity_checks, "free_bytes", lambda: needed)
    require_memory(model, 1)
    monkeypatch.setattr(sanity_checks, "free_bytes", lambda: needed - 1)
    with pytest.raises(Unavailable):
        require_memory(model, 1)


def test_memory_of_a_model_with_unknown_inputs_is_not_checked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    inputs = keras.Input((None,))
    model = keras.Model(inputs, keras.ops.sum(inputs, axis=1))
    monkeypatch.setattr(sanity_checks, "free_bytes", lambda: 0)
    require_memory(model, 1)


def test_free_memory_is_that_of_the_machine_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    monkeypatch.setattr(sanity_checks, "memory_info", lambda: SimpleNamespace(available=123))
    assert free_bytes() == 123


@pytest.mark.parametrize(("usable", "expected"), [([7e9, 5e9], 5e9), ([], math.inf)])
def test_free_memory_is_the_least_of_the_gpus(
    usable: list[float], expected: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus = [SimpleNamespace(usable_bytes=value) for value in usable]
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["a GPU"])
    monkeypatch.setattr(sanity_checks, "list_gpus", lambda: gpus)
    assert free_bytes() == expected


def test_labels_of_every_step_of_a_sequence_are_accepted() -> None:
    model = keras.Sequential([keras.Input((5,)), keras.layers.Embedding(9, 4)])
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    symbols = np.zeros((2, 5), np.int32)
    require_trainable(model, (symbols, symbols))
