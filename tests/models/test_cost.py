"""`cost` agrees with the program that XLA compiles, and names what it cannot count."""

import math
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

from dltlab import models
from dltlab.errors import Invalid
from tests.xla_programs import xla_macs


def separable() -> keras.Model:
    inputs = keras.Input((12, 14, 3))
    x = layers.DepthwiseConv2D(3, strides=2, padding="same", depth_multiplier=2)(inputs)
    x = layers.SeparableConv2D(5, 3)(layers.BatchNormalization()(x))
    x = layers.Conv2D(6, (1, 3), padding="same")(layers.ReLU()(x))
    return keras.Model(inputs, layers.Dense(4)(layers.GlobalAveragePooling2D()(x)))


def attentive() -> keras.Model:
    inputs = keras.Input((7, 12))
    x = layers.EinsumDense("abc,cde->abde", output_shape=(None, 3, 4))(inputs)
    x = layers.Reshape((7, 12))(x)
    x = layers.MultiHeadAttention(3, 5)(x, x) + x
    x = layers.Attention()([x, x])
    return keras.Model(inputs, layers.Dense(2)(x))


def recurrent() -> keras.Model:
    inputs = keras.Input((6, 4))
    x = layers.Bidirectional(layers.LSTM(5, return_sequences=True, unroll=True))(inputs)
    x = layers.GRU(3, return_sequences=True, unroll=True)(x)
    return keras.Model(inputs, layers.SimpleRNN(2, unroll=True)(x))


def nested() -> keras.Model:
    shared = keras.Sequential([keras.Input((8, 8, 2)), layers.Conv2D(2, 3, padding="same")])
    inputs = keras.Input((8, 8, 2))
    return keras.Model(inputs, layers.Flatten()(shared(shared(inputs))))


def volumes() -> keras.Model:
    inputs = keras.Input((6, 7, 8, 2))
    x = layers.Conv3D(3, 2, padding="same")(inputs)
    x = layers.Reshape((42, 24))(x)
    return keras.Model(inputs, layers.Conv1D(4, 3, groups=2, strides=2)(x))


@pytest.mark.parametrize(
    "build",
    [
        *(models.small_resnet, models.small_vgg, models.small_inception),
        *(separable, attentive, recurrent, nested, volumes),
        lambda: models.googlenet(10, (64, 64, 3)),
        lambda: models.resnet50(10, (64, 64, 3)),
    ],
    ids=lambda build: getattr(build, "__name__", "network"),
)
def test_total_equals_that_of_the_program_that_xla_compiles(build: Any) -> None:
    model = build()
    counted = models.cost(model)
    assert counted.uncounted == ()
    assert counted.macs == xla_macs(
        lambda *x: model(x[0] if len(x) == 1 else list(x), training=False), model.inputs
    )


def test_shared_layer_has_a_row_per_call_and_its_parameters_once() -> None:
    counted = models.cost(nested())
    convs = [row for row in counted.layers if row.kind == "Conv2D"]
    assert [row.params for row in convs] == [38, 0]
    assert convs[0].macs == convs[1].macs == 64 * 36


def test_row_has_shape_bytes_and_intensity() -> None:
    row, *_ = models.cost(models.small_resnet()).layers
    assert (row.kind, row.output_shape, row.params) == ("Conv2D", (32, 32, 16), 432)
    assert row.activation_bytes == 32 * 32 * 16 * 4
    assert row.flops_per_input_byte == 2 * 32 * 32 * 432 / (32 * 32 * 3 * 4)


class Subclassed(keras.Model):
    """Calls a layer twice; with `product`, multiplies outside of any layer, too."""

    def __init__(self, product: bool) -> None:
        super().__init__(name="subclassed")
        self.dense, self.product = layers.Dense(4, name="dense"), product

    def call(self, inputs: Any) -> Any:
        x = ops.relu(self.dense(inputs))
        x = self.dense(x) + x
        return ops.matmul(x, ops.transpose(x)) if self.product else x


def test_subclassed_model_is_counted_as_it_runs() -> None:
    counted = models.cost(Subclassed(product=False), (4,))
    assert counted.uncounted == ()
    assert counted.macs == 2 * 16
    assert [row.name for row in counted.layers] == ["dense", "dense"]


def test_product_outside_of_layers_is_named_and_not_guessed() -> None:
    counted = models.cost(Subclassed(product=True), (4,))
    assert counted.uncounted == ("subclassed",)
    assert counted.macs == 2 * 16
    assert "Not counted: subclassed." in str(counted)
    assert "at least 32" in str(counted)
    assert math.isnan(counted.table["multiply-adds"][2])


def test_counting_does_not_change_the_weights() -> None:
    model = models.small_resnet()
    before = model.get_weights()
    models.cost(model)
    assert all(map(np.array_equal, before, model.get_weights()))


@pytest.mark.parametrize("build", [models.small_resnet, models.resnet50, nested])
def test_figure_has_three_labeled_panels_and_a_description(build: Any) -> None:
    cost = models.cost(build())
    figure = cost.figure()
    assert [axes.get_ylabel() for axes in figure.axes] == [
        "multiply-adds",
        "parameters",
        "activations (bytes)",
    ]
    assert figure.axes[-1].get_xlabel()
    assert "% of the multiply-adds" in cost.alt


def test_unknown_input_shape_is_refused() -> None:
    with pytest.raises(Invalid, match="subclassed does not know the shape of its input"):
        models.cost(Subclassed(product=False))
    inputs = keras.Input((None, None, 3))
    flexible = keras.Model(inputs, layers.Conv2D(2, 3)(inputs), name="flexible")
    with pytest.raises(
        Invalid, match=r"flexible accepts inputs of any size, .×.×3: pass the input_shape"
    ):
        models.cost(flexible)
    assert models.cost(flexible, (10, 10, 3)).macs == 64 * 54
    with pytest.raises(Invalid, match="does not run on an input of shape 2×2×3"):
        models.cost(flexible, (2, 2, 3))


def test_model_keeps_no_losses_of_the_graph_that_is_counted() -> None:
    inputs = keras.Input((3,))
    model = keras.Model(inputs, keras.layers.Dense(2, activity_regularizer="l2")(inputs))
    models.cost(model)
    assert not any(tf.is_symbolic_tensor(loss) for loss in model.losses)
