"""The rules agree with counts by hand; a layer without a rule is named if it has a product."""

from typing import Any

import keras
import pytest
from keras import layers, ops

from dltlab import models
from dltlab.models.attention import TransformerBlock
from dltlab.models.flop_rules import counts_inner_layers, rule_for, shape_of


def test_a_shape_is_without_the_batch() -> None:
    assert shape_of(keras.KerasTensor((None, 6, 8, 2))) == (6, 8, 2)


def test_a_rule_is_found_for_a_class_and_its_subclasses_that_keep_its_call() -> None:
    assert rule_for(RenamedDense(4)) is rule_for(layers.Dense(4)) is not None
    assert rule_for(OverriddenDense(4)) is None
    assert rule_for(layers.ReLU()) is None


def test_the_rules_of_recurrent_and_distributed_layers_count_their_inner_layers() -> None:
    assert counts_inner_layers(layers.LSTM(4))
    assert counts_inner_layers(layers.TimeDistributed(layers.Dense(4)))
    assert not counts_inner_layers(layers.MultiHeadAttention(2, 4))


@pytest.mark.parametrize(
    ("layer", "shape", "macs"),
    [
        (layers.Dense(5), (7,), 35),
        (layers.Dense(5), (3, 7), 105),
        (layers.Conv2D(4, 3), (6, 8, 2), 4 * 6 * 3 * 3 * 2 * 4),
        (layers.Conv2D(4, 3, strides=2, padding="same", groups=2), (6, 8, 2), 3 * 4 * 9 * 1 * 4),
        (layers.Conv2D(4, 3, dilation_rate=2), (6, 8, 2), 2 * 4 * 9 * 2 * 4),
        (layers.Conv2DTranspose(4, 3, strides=2), (6, 8, 2), 6 * 8 * 9 * 2 * 4),
        (layers.DepthwiseConv2D(3, padding="same"), (6, 8, 2), 6 * 8 * 9 * 2),
        (layers.LSTM(5), (6, 4), 6 * (4 * 20 + 5 * 20)),
        (layers.GRU(5), (6, 4), 6 * (4 * 15 + 5 * 15)),
        (layers.RNN([layers.LSTMCell(5), layers.GRUCell(3)]), (6, 4), 6 * (180 + 5 * 9 + 3 * 9)),
        (layers.TimeDistributed(layers.Dense(5)), (6, 4), 6 * 4 * 5),
        (TransformerBlock(2, 4), (6, 8), 6 * 12 * 8 * 8 + 2 * 6 * 6 * 8),
        (layers.Embedding(100, 8), (6,), 0),
        (layers.MaxPooling2D(), (6, 8, 2), 0),
        (layers.BatchNormalization(), (6, 8, 2), 0),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, layers.Layer) else None,
)
def test_layer_equals_the_count_by_hand(layer: Any, shape: tuple[int, ...], macs: int) -> None:
    inputs = keras.Input(shape)
    counted = models.cost(keras.Model(inputs, layer(inputs)))
    assert counted.uncounted == ()
    assert counted.macs == macs
    assert counted.params == layer.count_params() == sum(row.params for row in counted.layers)


class CustomProduct(layers.Layer):
    """A custom layer with a matrix product."""

    def build(self, shape: Any) -> None:
        self.kernel = self.add_weight(shape=(shape[-1], 3))

    def call(self, inputs: Any) -> Any:
        return ops.matmul(inputs, self.kernel)


class OverriddenDense(layers.Dense):
    """A Keras layer with another `call`."""

    def call(self, inputs: Any) -> Any:
        return ops.matmul(inputs, ops.matmul(self.kernel, ops.transpose(self.kernel)))


class RenamedDense(layers.Dense):
    """A Keras layer with another name."""


class Scaled(layers.Layer):
    """A custom layer without matrix products."""

    def call(self, inputs: Any) -> Any:
        return 2 * inputs


@pytest.mark.parametrize(
    ("layer", "uncounted"),
    [
        (CustomProduct(name="custom"), ("custom",)),
        (OverriddenDense(4, name="overridden"), ("overridden",)),
        (layers.Lambda(lambda x: x, name="lambda"), ("lambda",)),
        (RenamedDense(4), ()),
        (Scaled(), ()),
    ],
    ids=lambda value: type(value).__name__,
)
def test_layer_without_a_rule_is_named_if_it_has_a_product(
    layer: Any, uncounted: tuple[str, ...]
) -> None:
    inputs = keras.Input((4,))
    counted = models.cost(keras.Model(inputs, layer(inputs)))
    assert counted.uncounted == uncounted
    assert ("–" in str(counted)) == bool(uncounted)
