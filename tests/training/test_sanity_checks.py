"""The check that data fit a model; `test_fitting` covers the messages in a training."""

from typing import Any

import keras
import numpy as np
import pytest

from dltlab.errors import Invalid
from dltlab.training.sanity_checks import (
    ignored_label,
    num_label_classes,
    require_trainable,
    takes_probabilities,
)


def dense(units: int, loss: Any, optimizer: Any = "adam") -> keras.Model:
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(units)])
    model.compile(optimizer, loss)
    return model


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


def named_inputs(first: str, second: str) -> keras.Model:
    inputs = {name: keras.Input((3,), name=name) for name in (first, second)}
    model = keras.Model(inputs, keras.layers.Add()(list(inputs.values())))
    model.compile("sgd", "mse")
    return model


def test_dict_of_inputs_has_exactly_the_keys_of_the_model() -> None:
    rows = np.ones((2, 3))
    require_trainable(named_inputs("b", "a"), ({"a": rows, "b": rows}, rows))
    require_trainable(named_inputs("a", "b"), ((rows, rows), rows))
    with pytest.raises(Invalid, match="are 'a', 'b', 'id', and the model takes 'b', 'a'"):
        require_trainable(named_inputs("b", "a"), ({"a": rows, "b": rows, "id": rows}, rows))
    with pytest.raises(Invalid, match="are not named: make them a dict with the keys 'b', 'a'"):
        require_trainable(named_inputs("b", "a"), ((rows, rows), rows))


def test_dict_in_a_dict_of_inputs_is_accepted() -> None:
    inputs = {"a": keras.Input((3,), name="a"), "more": [keras.Input((3,)), keras.Input((2,))]}
    model = keras.Model(inputs, keras.layers.Concatenate()(keras.tree.flatten(inputs)))
    model.compile("sgd", "mse")
    rows = np.ones((2, 3))
    require_trainable(model, ({"more": [rows, rows[:, :2]], "a": rows}, np.ones((2, 8))))


def test_targets_of_the_only_output_are_no_dict() -> None:
    rows = np.ones((2, 3))
    with pytest.raises(Invalid, match="targets are a dict, and the model has one output"):
        require_trainable(dense(3, "mse"), (rows, {"out": rows}))


def test_labels_of_every_step_of_a_sequence_are_accepted() -> None:
    model = keras.Sequential([keras.Input((5,)), keras.layers.Embedding(9, 4)])
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    symbols = np.zeros((2, 5), np.int32)
    require_trainable(model, (symbols, symbols))


def image_model(channels: int) -> keras.Model:
    model = keras.Sequential([keras.Input((28, 28, channels)), keras.layers.Flatten()])
    model.compile("adam", "mse")
    return model


@pytest.mark.parametrize(
    ("channels", "shape", "message"),
    [
        (1, (28, 28, 1), "not in batches"),
        (3, (28, 28, 3), "not in batches"),
        (3, (5, 28, 28), "takes inputs of shape 28×28×3 and those of the training data are 28×28:"),
        (1, (5, 32, 32), "takes inputs of shape 28×28×1 and those of the training data are 32×32:"),
    ],
)
def test_images_that_do_not_fit_are_refused(
    channels: int, shape: tuple[int, ...], message: str
) -> None:
    with pytest.raises(Invalid, match=message):
        require_trainable(image_model(channels), (np.zeros(shape), np.zeros(shape[:1])))


@pytest.mark.parametrize("shape", [(5, 28, 28), (5, 28, 28, 1), (5, 28, 28, 1, 1)])
def test_last_axis_of_one_may_be_missing_as_in_keras(shape: tuple[int, ...]) -> None:
    require_trainable(image_model(1), (np.zeros(shape), np.zeros((5, 784))))


def test_targets_of_a_loss_that_keras_does_not_know_may_have_any_shape() -> None:
    model = dense(2, lambda targets, outputs: outputs)
    require_trainable(model, (np.ones((4, 3)), np.ones((4, 5))))
    with pytest.raises(Invalid, match="targets are of shape 5 and the outputs of the model are 2"):
        require_trainable(dense(2, "mse"), (np.ones((4, 3)), np.ones((4, 5))))


def test_targets_of_losses_for_sequences_and_embeddings_have_shapes_of_their_own() -> None:
    for loss, outputs, targets in (
        (keras.losses.CTC(), (5, 6, 3), (5, 2)),
        (keras.losses.Circle(), (5, 3), (5,)),
    ):
        model = keras.Sequential([keras.Input(outputs[1:]), keras.layers.Activation("linear")])
        model.compile("sgd", loss)
        require_trainable(model, (np.zeros(outputs), np.ones(targets, np.int64)))


def test_batch_with_more_than_three_parts_is_refused() -> None:
    with pytest.raises(Invalid, match="have 4 parts: they must be"):
        require_trainable(dense(2, "mse"), (np.ones((4, 3)),) * 4)


def test_number_of_classes_of_every_step_is_known() -> None:
    model = keras.Sequential([keras.Input((5,)), keras.layers.Embedding(9, 4)])
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(ignore_class=-1))
    assert num_label_classes(model) == 4
    assert ignored_label(model) == -1
    assert ignored_label(dense(2, "mse")) is None


def test_cross_entropies_of_keras_take_probabilities() -> None:
    assert takes_probabilities(dense(1, "binary_crossentropy"))
    assert takes_probabilities(dense(3, keras.losses.CategoricalCrossentropy()))
    for loss in ("mse", "sparse_categorical_crossentropy", lambda targets, outputs: outputs):
        assert not takes_probabilities(dense(3, loss))


@pytest.mark.parametrize(
    ("outputs", "loss", "labels", "message"),
    [
        (2, "binary_crossentropy", np.zeros(4), "are class numbers, and the loss takes a value"),
        (10, "mse", np.zeros(4), "targets are of shape 1 and the outputs of the model are 10"),
        (3, "sparse_categorical_crossentropy", np.zeros((4, 3)), "several values for each example"),
        (1, "binary_crossentropy", np.zeros(4), None),
        (1, "mse", np.zeros(4), None),
        (1, "mse", np.zeros((4, 1, 1)), None),
    ],
)
def test_targets_have_the_shape_that_the_loss_takes(
    outputs: int, loss: str, labels: np.ndarray, message: str | None
) -> None:
    model, batch = dense(outputs, loss), (np.ones((4, 3)), labels)
    if message is None:
        require_trainable(model, batch)
    else:
        with pytest.raises(Invalid, match=message):
            require_trainable(model, batch)
