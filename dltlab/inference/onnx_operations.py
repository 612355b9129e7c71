"""TensorFlow operations that tf2onnx does not know: importing this module teaches it some.

Keras computes GELU with `Erfc`, and CELU with `Expm1`.
"""

from typing import Any

import numpy as np
from tf2onnx import utils
from tf2onnx.handler import tf_op


@tf_op("Erfc")
class Erfc:
    """1 - erf(x)."""

    @classmethod
    def version_9(cls, graph: Any, node: Any, **_: Any) -> None:
        """Replace the node."""
        node.type = "Erf"
        _subtract(graph, node, [_one(graph, node), node.output[0]])


@tf_op("Expm1")
class Expm1:
    """exp(x) - 1."""

    @classmethod
    def version_9(cls, graph: Any, node: Any, **_: Any) -> None:
        """Replace the node."""
        node.type = "Exp"
        _subtract(graph, node, [node.output[0], _one(graph, node)])


def _one(graph: Any, node: Any) -> str:
    dtype = graph.get_dtype(node.output[0])
    one = graph.make_const(f"{node.name}_one", np.ones((), utils.map_onnx_to_numpy_type(dtype)))
    return str(one.output[0])


def _subtract(graph: Any, node: Any, inputs: list[str]) -> None:
    output = node.output[0]
    difference = graph.insert_new_node_on_output(
        "Sub", output, name=f"{node.name}_difference", inputs=inputs
    )
    graph.copy_dtype(output, difference.output[0])
    graph.copy_shape(output, difference.output[0])
