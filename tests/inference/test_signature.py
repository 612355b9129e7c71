"""Models that take and return tensors, lists and dicts are called with flat lists."""

import keras
import numpy as np
import pytest
from keras import layers

from dltlab.inference.signature import call, input_names, output_names, predict

Z, A = np.full((2, 2), 2, np.float32), np.full((2, 3), 3, np.float32)


def network(structure: type, outputs: type) -> keras.Model:
    z, a = keras.Input((2,), name="z"), keras.Input((3,), name="a")
    inputs = {"z": z, "a": a} if structure is dict else structure([z, a])
    twice = [layers.Rescaling(2)(z), layers.Rescaling(3)(a)]
    return keras.Model(
        inputs, dict(zip("zb", twice, strict=True)) if outputs is dict else outputs(twice)
    )


@pytest.mark.parametrize("function", [call, predict])
@pytest.mark.parametrize("outputs", [list, tuple, dict])
@pytest.mark.parametrize("structure", [list, tuple, dict])
def test_a_flat_list_has_the_order_of_the_names(structure, outputs, function):
    model = network(structure, outputs)
    names = input_names(model)
    assert names == (["a", "z"] if structure is dict else ["z", "a"])
    results = function(model, [{"z": Z, "a": A}[name] for name in names])
    keys = output_names(model)
    assert keys == (["b", "z"] if outputs is dict else [])
    expected = [3 * A, 2 * Z] if outputs is dict else [2 * Z, 3 * A]
    for result, array in zip(results, expected, strict=True):
        np.testing.assert_array_equal(result, array)


def test_a_sequence_has_one_input():
    model = keras.Sequential([keras.Input((2,), name="x"), layers.Rescaling(2)])
    assert (input_names(model), output_names(model)) == (["x"], [])
    np.testing.assert_array_equal(call(model, [Z])[0], 2 * Z)


def test_a_model_is_called_in_inference_mode_also_where_its_layers_train_by_default():
    model = keras.Sequential([keras.Input((4, 4, 3)), layers.RandomFlip(seed=1)])
    image = np.arange(48, dtype=np.float32).reshape(1, 4, 4, 3)
    for _ in range(4):
        np.testing.assert_array_equal(call(model, [image])[0], image)
