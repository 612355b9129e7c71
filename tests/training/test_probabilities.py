"""`probabilities` on models whose outputs are their inputs."""

import math

import keras
import numpy as np
import pytest
from keras import layers

from dltlab.errors import Damaged, Invalid
from dltlab.training.probabilities import ends_in_probabilities, fits, is_multi_label, probabilities
from tests.training.echo_models import echo, images, one_hot

IMAGES = images([[0, 1, 3], [2, 2, 0]])


def test_logits_are_converted_by_softmax() -> None:
    result = probabilities(echo(3), IMAGES)
    assert result.dtype == np.float32
    assert result[1] == pytest.approx(
        np.exp([2, 2, 0]) / np.exp([2, 2, 0]).sum(), rel=1e-6
    )  # fmt: skip


def test_several_labels_use_a_sigmoid_each() -> None:
    result = probabilities(echo(3), IMAGES, multi_label=True)
    assert result == pytest.approx(1 / (1 + np.exp(-IMAGES[:, 0, :, 0])), rel=1e-6)


@pytest.mark.parametrize(
    "end",
    [
        lambda: [layers.Dense(3, activation="softmax")],
        lambda: [layers.Dense(3), layers.Softmax()],
        lambda: [layers.Dense(3), layers.Activation("softmax", dtype="float32")],
        lambda: [layers.Dense(3, "softmax"), layers.Activation("linear", dtype="float32")],
        lambda: [layers.Dense(3, activation=layers.Softmax())],
        lambda: [keras.Sequential([layers.Dense(3, activation="softmax")])],
        lambda: [layers.Dense(3, activation="sigmoid")],
    ],
    ids=["dense", "layer", "activation", "cast", "instance", "nested", "sigmoid"],
)
def test_probabilities_are_used_as_they_are(end) -> None:
    model = echo(3, *end())
    result = probabilities(model, IMAGES)
    assert np.array_equal(result, model.predict_on_batch(IMAGES))
    assert ends_in_probabilities(model)


def test_softmax_of_keras_ops_is_recognized() -> None:
    inputs = keras.Input((1, 3, 1))
    model = keras.Model(inputs, keras.ops.softmax(layers.Flatten()(inputs)))
    assert probabilities(model, IMAGES) == pytest.approx(probabilities(echo(3), IMAGES))


def test_softmax_of_a_hidden_layer_is_ignored() -> None:
    model = echo(3, layers.Dense(3, activation="softmax"), layers.Dense(3))
    assert not ends_in_probabilities(model)


@pytest.mark.parametrize("multi_label", [False, True])
def test_single_output_means_two_classes(multi_label: bool) -> None:
    result = probabilities(echo(1), images([[2]]), multi_label=multi_label)
    yes = 1 / (1 + math.exp(-2))
    assert result[0] == pytest.approx([1 - yes, yes], rel=1e-6)


def test_mixed_precision_gives_float32() -> None:
    model = echo(3, layers.Dense(3, dtype="mixed_bfloat16"))
    result = probabilities(model, IMAGES)
    assert result.dtype == np.float32
    assert result.sum(axis=1) == pytest.approx([1, 1])


def test_result_does_not_depend_on_the_batches() -> None:
    many = np.random.default_rng(0).normal(size=(300, 1, 3, 1)).astype(np.float32)
    parts = [probabilities(echo(3), many[:7]), probabilities(echo(3), many[7:])]
    assert probabilities(echo(3), many) == pytest.approx(np.concatenate(parts), abs=1e-6)


def test_nan_outputs_are_reported() -> None:
    model = echo(3, layers.Dense(3, kernel_initializer=keras.initializers.Constant(np.nan)))
    with pytest.raises(Damaged, match="returns NaN for 2 of 2 images"):
        probabilities(model, images(one_hot([0, 1], 3)))


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (lambda x: [layers.Flatten()(x)] * 2, "has 2 outputs and must have one"),
        (lambda x: x, "output for an image is 1×3×1"),
        (lambda x: keras.ops.mean(x, axis=(1, 2, 3)), "output for an image is one number"),
    ],
)
def test_outputs_of_another_shape_are_refused(outputs, message: str) -> None:
    inputs = keras.Input((1, 3, 1))
    with pytest.raises(Invalid, match=message):
        probabilities(keras.Model(inputs, outputs(inputs)), IMAGES)


def test_images_of_another_shape_are_refused() -> None:
    with pytest.raises(Invalid, match="takes images of shape 1×3×1 and these are 1×4×1"):
        probabilities(echo(3), images(one_hot([0], 4)))


def test_model_with_several_inputs_is_refused() -> None:
    inputs = [keras.Input((1, 3, 1)) for _ in range(2)]
    model = keras.Model(inputs, layers.Flatten()(layers.Add()(inputs)))
    with pytest.raises(Invalid, match="has several inputs"):
        probabilities(model, IMAGES)


@pytest.mark.parametrize(
    ("num_outputs", "loss", "expected"),
    [
        (3, "binary_crossentropy", True),
        (3, keras.losses.BinaryFocalCrossentropy(), True),
        (3, "categorical_crossentropy", False),
        (1, "binary_crossentropy", False),
    ],
)
def test_binary_cross_entropy_of_several_outputs_means_several_labels(
    num_outputs: int, loss: object, expected: bool
) -> None:
    assert is_multi_label(echo(num_outputs, optimizer="sgd", loss=loss)) is expected


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((2, 8, 8), True), ((2, 8, 9), True), ((2, 7, 8), False), ((2, 8), False)],
)
def test_none_fits_any_size(shape: tuple[int, ...], expected: bool) -> None:
    assert fits(shape, (None, 8, None)) is expected
