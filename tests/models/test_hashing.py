"""`model_hash` depends on everything that a model computes with, and on nothing else."""

import keras
import numpy as np
import pytest
from keras import layers

from dltlab.models import model_hash

OWN_LAYER = """
class Base(keras.layers.Dense):
    def scaled(self, x):
        return [2 * row for row in [x]][0]

class Own(Base):
    def call(self, x):
        return super().call(self.scaled(x))
"""
OWN_ACTIVATION = """
def activation(x):
    return keras.ops.tanh(x)

def Own(units, name):
    return keras.layers.Dense(units, activation=activation, name=name)
"""


def small_model() -> keras.Model:
    stack = [keras.Input((3,), name="x"), layers.Dense(4, name="dense")]
    model = keras.Sequential(stack, name="small")
    model.set_weights([np.ones(weight.shape) for weight in model.weights])
    return model


def hash_with(code: str) -> str:
    """Return the hash of a model whose layer `Own` is defined by `code`, as in a notebook."""
    names = {"keras": keras, "__name__": "__main__"}
    exec(code, names)
    model = keras.Sequential([keras.Input((3,), name="x"), names["Own"](4, name="own")], name="m")
    model.set_weights([np.ones(weight.shape) for weight in model.weights])
    return model_hash(model)


def test_equal_models_have_equal_hashes_also_when_compiled():
    compiled = small_model()
    compiled.compile("sgd", "mse")

    assert model_hash(small_model()) == model_hash(compiled)


def test_one_changed_weight_changes_the_hash():
    changed = small_model()
    changed.get_layer("dense").bias.assign([1, 1, 1, 2])

    assert model_hash(changed) != model_hash(small_model())


@pytest.mark.parametrize(
    ("code", "old", "new"),
    [
        (OWN_LAYER, "2 *", "3 *"),
        (OWN_LAYER, "super().call(self.scaled(x))", "super().call(x)"),
        (OWN_ACTIVATION, "tanh", "relu"),
    ],
    ids=["inherited method", "own method", "activation function"],
)
def test_changed_code_of_a_custom_layer_changes_the_hash(code, old, new):
    assert hash_with(code) == hash_with(code)
    assert hash_with(code) != hash_with(code.replace(old, new))


def test_the_order_of_a_set_in_the_code_does_not_count():
    """It differs between processes; here 0 and 8 collide, so that it is the order in the source."""
    code = OWN_ACTIVATION.replace("tanh(x)", "tanh(x) if x.ndim in {0, 8} else x")

    assert hash_with(code) == hash_with(code.replace("{0, 8}", "{8, 0}"))


def test_a_tensor_that_a_layer_holds_counts_and_one_of_a_graph_does_not():
    def hash_of(table) -> str:
        model = small_model()
        model.get_layer("dense").table = table
        return model_hash(model)

    assert hash_of(np.ones(3)) == hash_of(keras.ops.ones(3, "float64"))
    assert hash_of(np.ones(3)) != hash_of(np.zeros(3))
    assert hash_of(keras.KerasTensor((None, 3))) == model_hash(small_model())
