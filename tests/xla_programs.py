"""Count the multiply-adds of the program that XLA compiles."""

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf


def xla_macs(run: Callable[..., Any], inputs: Sequence[Any], batch_size: int = 1) -> int:
    """Count the multiply-adds of the convolutions and products in the program that XLA gets.

    Args:
        run: A function of tensors.
        inputs: Tensors with the shape, without the batch, and the dtype of its arguments.
        batch_size: The first side of the arguments.
    """
    zeros = [tf.zeros((batch_size, *tensor.shape[1:]), tensor.dtype) for tensor in inputs]
    compiled = tf.function(run, jit_compile=True, autograph=False)
    program = compiled.experimental_get_compiler_ir(*zeros)(stage="hlo")
    shapes = {
        name: [int(side) for side in sides.split(",") if side]
        for name, sides in re.findall(r"(?m)^\s*(?:ROOT )?%?([\w.-]+) = \w+\[([\d,]*)\]", program)
    }
    total = 0
    for line in program.splitlines():
        match = re.search(r"%?([\w.-]+) = .*? (convolution|dot)\((.*?)\)", line)
        if match and ("ROOT" in line or _num_uses(program, match[1])):
            output = math.prod(shapes[match[1]])
            left, right = (text.split("%")[-1].split()[-1] for text in _arguments(match[3]))
            if match[2] == "dot":
                axes = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", line)
                assert axes is not None
                total += output * math.prod(shapes[left][int(axis)] for axis in axes[1].split(","))
            else:
                labels = re.search(r"dim_labels=\w+_(\w+)->", line)
                assert labels is not None
                features = shapes[right][labels[1].index("o")]
                total += output * math.prod(shapes[right]) // features
    assert total, program[:2000]
    return total


def _num_uses(program: str, name: str) -> int:
    """Return how often a result is used: TensorFlow's gradients contain some that never are."""
    return len(re.findall(rf"%?(?<![\w.-]){re.escape(name)}(?![\w.-])", program)) - 1


def _arguments(text: str) -> list[str]:
    return re.sub(r"\[[\d,]*\](\{[\d,]*\})?", "", text).split(", ")
