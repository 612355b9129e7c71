import keras
import pytest

from dltlab.distribute.scaling_worker import network
from dltlab.errors import Invalid, NotFound


def two_outputs() -> keras.Model:
    inputs = keras.Input((4,))
    return keras.Model(inputs, [inputs, inputs])


def any_length() -> keras.Model:
    return keras.Sequential([keras.Input((None, 4)), keras.layers.LSTM(3)])


def not_built() -> keras.Model:
    return keras.Sequential([keras.layers.Dense(3)])


def sequential() -> keras.Model:
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])


def test_a_network_is_a_function_of_the_models_or_of_a_module():
    assert network("small_resnet").output_shape == (None, 10)
    assert network(f"{__name__}:sequential").output_shape == (None, 3)


@pytest.mark.parametrize("name", ["small_resnett", "no_such_module:tiny", "json:tiny", ":", ""])
def test_a_network_that_does_not_exist_is_named(name):
    with pytest.raises(NotFound, match=f"There is no network '{name}'"):
        network(name)


@pytest.mark.parametrize("function", ["two_outputs", "any_length", "not_built"])
def test_only_classifiers_with_one_input_of_fixed_shape_are_measured(function):
    with pytest.raises(Invalid, match=f"{function} must return a Keras model"):
        network(f"{__name__}:{function}")


def test_what_returns_no_model_is_refused():
    with pytest.raises(Invalid, match="builtins:dict"):
        network("builtins:dict")
