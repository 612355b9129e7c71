"""`record_layer_calls` records nested calls and restores Keras."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from dltlab.models import record_layer_calls

IMAGES = np.ones((1, 4, 4, 1), np.float32)


def nested() -> keras.Model:
    inner = keras.Sequential(
        [layers.Conv2D(2, 3, name="conv"), layers.ReLU(name="relu")], name="inner"
    )
    return keras.Sequential(
        [keras.Input((4, 4, 1)), inner, layers.Flatten(name="flat")], name="outer"
    )


def test_calls_are_in_the_order_in_which_they_end() -> None:
    model = nested()
    with record_layer_calls() as calls:
        output = model(IMAGES)
    names = [call.layer.name for call in calls]
    assert [name for name in names if name in ("conv", "relu", "inner", "flat", "outer")] == [
        *("conv", "relu", "inner", "flat", "outer")
    ]
    assert calls[-1].output is output
    assert calls[-1].inputs[0].shape == (1, 4, 4, 1)


def test_begin_tells_which_calls_are_inside() -> None:
    with record_layer_calls() as calls:
        nested()(IMAGES)
    names = [call.layer.name for call in calls]
    inner = calls[names.index("inner")]
    inside = names[inner.begin : names.index("inner")]
    assert {"conv", "relu"} <= set(inside)
    conv = names.index("conv")
    assert calls[conv].begin == conv


def test_in_a_graph_the_operations_of_each_layer_are_its_own() -> None:
    model = nested()
    with record_layer_calls() as calls:
        tf.function(model).get_concrete_function(tf.TensorSpec((1, 4, 4, 1)))
    by_name = {call.layer.name: call.operations for call in calls}
    assert "Conv2D" in by_name["conv"]
    assert "Relu" in by_name["relu"]
    assert "Conv2D" not in by_name["inner"] | by_name["outer"]


def test_eager_calls_have_no_operations() -> None:
    with record_layer_calls() as calls:
        nested()(IMAGES)
    assert not any(call.operations for call in calls)


def test_keras_is_restored_even_after_an_error() -> None:
    original = layers.Layer.__call__
    with pytest.raises(ZeroDivisionError), record_layer_calls():
        raise ZeroDivisionError
    assert layers.Layer.__call__ is original
