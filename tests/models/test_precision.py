"""`in_precision` converts the layers of a model, and keeps its weights and its outputs."""

from collections import Counter

import keras
import numpy as np
import pytest
from keras import layers

from dltlab.errors import Invalid
from dltlab.models import in_precision


def layers_with_weights(model: keras.Model) -> list[keras.layers.Layer]:
    inner = [layer for layer in model.layers if isinstance(layer, keras.Model)]
    own = [layer for layer in model.layers if layer.weights and layer not in inner]
    return own + [layer for part in inner for layer in layers_with_weights(part)]


def compute_dtypes(model: keras.Model) -> set[str]:
    return {layer.compute_dtype for layer in layers_with_weights(model)}


@pytest.fixture
def dense() -> keras.Model:
    keras.utils.set_random_seed(1)
    return keras.Sequential([keras.Input((8,)), layers.Dense(16), layers.Dense(2)], name="dense")


def test_a_model_that_already_has_the_precision_is_returned_itself(dense):
    assert in_precision(dense, "float32") is dense


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_the_copy_computes_in_the_precision_and_returns_float32(dense, precision):
    x = np.random.default_rng(0).random((8, 8), dtype=np.float32)

    copy = in_precision(dense, precision)

    assert compute_dtypes(copy) == {precision}
    outputs = copy.predict(x, verbose=0)
    assert outputs.dtype == np.float32
    np.testing.assert_allclose(outputs, dense.predict(x, verbose=0), atol=0.05)


def test_a_mixed_precision_model_is_converted_to_float32():
    keras.utils.set_random_seed(1)
    policy = keras.DTypePolicy("mixed_bfloat16")
    model = keras.Sequential([keras.Input((8,)), layers.Dense(4, dtype=policy)], name="mixed")
    x = np.random.default_rng(0).random((8, 8), dtype=np.float32)

    copy = in_precision(model, "float32")

    assert compute_dtypes(copy) == {"float32"}
    kernel, bias = model.get_weights()
    np.testing.assert_allclose(copy.predict(x, verbose=0), x @ kernel + bias, atol=1e-5)


def test_operations_between_layers_are_kept():
    inputs = keras.Input((4, 8))
    x = layers.Dense(8)(inputs)
    outputs = layers.Dense(2)(keras.ops.relu(x[:, 0] + 2 * x[:, 1]))
    model = keras.Model(inputs, outputs, name="operations")
    x = np.random.default_rng(0).random((8, 4, 8), dtype=np.float32)

    copy = in_precision(model, "bfloat16")

    assert compute_dtypes(copy) == {"bfloat16"}
    np.testing.assert_allclose(copy.predict(x, verbose=0), model.predict(x, verbose=0), atol=0.05)


def test_layers_inside_layers_are_converted():
    bidirectional = layers.Bidirectional(layers.GRU(3), name="both")
    inner = keras.Sequential([keras.Input((6, 4)), bidirectional], name="inner")
    inputs = keras.Input((6, 4))
    model = keras.Model(inputs, layers.Dense(2)(inner(inputs)), name="nested")

    both = in_precision(model, "bfloat16").get_layer("inner").get_layer("both")

    recurrent = [both.forward_layer, both.backward_layer]
    assert Counter(layer.compute_dtype for layer in recurrent) == {"bfloat16": 2}


def test_several_inputs_and_outputs_keep_their_order():
    left, right = keras.Input((2,), name="left"), keras.Input((3,), name="right")
    outputs = [layers.Dense(1, name="one")(left), layers.Dense(5, name="five")(right)]
    model = keras.Model([left, right], outputs, name="two")

    copy = in_precision(model, "bfloat16")

    assert [tensor.shape[-1] for tensor in copy.inputs] == [2, 3]
    assert [tensor.shape[-1] for tensor in copy.outputs] == [1, 5]


def test_a_subclassed_model_is_refused_with_the_fix():
    class Subclassed(keras.Model):
        def __init__(self) -> None:
            super().__init__(name="own")
            self.dense = layers.Dense(2)

        def call(self, x):
            return self.dense(x)

    model = Subclassed()
    model(np.zeros((1, 3), np.float32))

    with pytest.raises(Invalid, match=r"own cannot be converted to bfloat16.*Build it with"):
        in_precision(model, "bfloat16")


def test_the_copy_keeps_what_a_normalization_has_adapted_to():
    x = np.random.default_rng(0).normal(5, 3, (32, 4)).astype(np.float32)
    normalization = layers.Normalization()
    normalization.adapt(x)
    model = keras.Sequential([keras.Input((4,)), normalization], name="scaled")
    outputs = in_precision(model, "bfloat16").predict(x, verbose=0)
    np.testing.assert_allclose(outputs, model.predict(x, verbose=0), atol=0.05)


def test_a_model_without_weights_is_returned_itself_in_the_precision_that_it_has():
    model = keras.Sequential([keras.Input((4,)), layers.Rescaling(2.0)])
    assert in_precision(model, "float32") is model
    assert in_precision(model, "bfloat16") is not model
