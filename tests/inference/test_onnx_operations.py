"""Operations that tf2onnx is taught: the graph has standard ones, with the same results."""

import keras
import numpy as np
import onnx
import pytest
from keras import layers

from dltlab.inference import optimize
from dltlab.inference.export import to_onnx


@pytest.fixture(scope="module")
def smooth() -> keras.Model:
    stack = [layers.Dense(8, activation=activation) for activation in ("gelu", "celu")]
    return keras.Sequential([keras.Input((4,)), *stack], name="smooth")


def test_the_graph_has_operations_of_onnx_only(smooth):
    graph = onnx.load_from_string(to_onnx(smooth)).graph
    assert {"Erf", "Exp"} <= {node.op_type for node in graph.node}
    assert all(onnx.defs.has(node.op_type) for node in graph.node)


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_gelu_and_celu_return_what_keras_returns(smooth, name):
    x = np.random.default_rng(0).normal(0, 4, (16, 4)).astype(np.float32)
    engine = optimize(smooth, backend=name, precision="float32", validation=x)
    np.testing.assert_allclose(engine(x), smooth.predict(x, verbose=0), atol=1e-5)
