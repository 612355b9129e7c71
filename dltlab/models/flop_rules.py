"""How many multiply-adds a Keras layer does: a rule for each class that does any."""

import math
from collections.abc import Callable
from typing import Any

import keras
from keras import layers

from dltlab.models.tracing import Call

Rule = Callable[[Call], float]
Shape = tuple[int, ...]

# Operations of TensorFlow that are contractions, or may hold one out of sight.
CONTRACTIONS = frozenset(
    {
        *("MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3", "Einsum", "XlaDotV2"),
        *("Conv2D", "Conv2DBackpropInput", "Conv3D", "Conv3DBackpropInputV2", "Conv"),
        *("DepthwiseConv2dNative", "DepthwiseConv2dNativeBackpropInput", "XlaConvV2"),
        *("While", "StatelessWhile", "PartitionedCall", "StatefulPartitionedCall"),
        *("SparseTensorDenseMatMul", "RFFT", "RFFT2D", "FFT", "FFT2D"),
    }
)


def shape_of(tensor: Any) -> Shape:
    """The shape of a tensor of a batch of one, without the batch."""
    return tuple(int(side) for side in tensor.shape[1:])


def rule_of(layer: keras.layers.Layer) -> Rule | None:
    """The rule for a layer's class, or that class's nearest parent whose `call` it has."""
    kinds: tuple[Any, ...] = type(layer).__mro__
    for kind in kinds:
        if kind in _RULES:
            return _RULES[kind] if type(layer).call is kind.call else None
    return None


def is_whole(layer: keras.layers.Layer) -> bool:
    """Whether the layer's rule counts the layers within it, too."""
    return isinstance(layer, layers.RNN | layers.TimeDistributed)


def does_nothing(call: Call) -> bool:
    """Whether it is known that a layer without a rule does no multiply-adds of its own."""
    kind = type(call.layer)
    if kind.call is layers.Lambda.call:
        return False
    if keras.config.backend() == "tensorflow":
        return CONTRACTIONS.isdisjoint(call.operations)
    return kind.__module__.startswith("keras.") and not kind.__name__.startswith(_UNKNOWN)


_UNKNOWN = ("ConvLSTM", "MelSpectrogram", "STFTSpectrogram")  # Keras layers without a rule here


def _dense(call: Call) -> float:
    return math.prod(shape_of(call.output)) * int(call.inputs[0].shape[-1])


def _einsum_dense(call: Call) -> float:
    layer = call.layer
    terms, output = layer.equation.replace("...", "").split("->")
    weights = terms.split(",")[1]
    kernel = layer.kernel.shape
    summed = [size for name, size in zip(weights, kernel, strict=True) if name not in output]
    return float(math.prod(shape_of(call.output)) * math.prod(summed))


def _places(layer: Any, tensor: Any) -> int:
    """Rows times columns, and so on, of maps."""
    shape = shape_of(tensor)
    return math.prod(shape[1:] if layer.data_format == "channels_first" else shape[:-1])


def _conv(call: Call) -> float:
    return float(_places(call.layer, call.output) * math.prod(call.layer.kernel.shape))


def _transposed_conv(call: Call) -> float:
    return float(_places(call.layer, call.inputs[0]) * math.prod(call.layer.kernel.shape))


def _separable_conv(call: Call) -> float:
    layer = call.layer
    kernels = math.prod(layer.depthwise_kernel.shape) + math.prod(layer.pointwise_kernel.shape)
    return float(_places(layer, call.output) * kernels)


def _recurrent(call: Call) -> float:
    """Steps times weights: each is used once a step."""
    cells = getattr(call.layer.cell, "cells", [call.layer.cell])
    known = (layers.SimpleRNNCell, layers.LSTMCell, layers.GRUCell)
    if not all(type(cell) in known for cell in cells):
        return math.nan
    weights = sum(math.prod(c.kernel.shape) + math.prod(c.recurrent_kernel.shape) for c in cells)
    return float(shape_of(call.inputs[0])[0] * weights)


def _time_distributed(call: Call) -> float:
    """Steps times what the inner layer does for one."""
    inner = call.layer.layer
    shape = shape_of(call.inputs[0])
    step = keras.KerasTensor((1, *shape[1:]))
    rule = rule_of(inner)
    output = keras.KerasTensor((1, *inner.compute_output_shape(step.shape)[1:]))
    if rule is None or is_whole(inner):
        return math.nan
    return shape[0] * rule(Call(inner, (step,), output, 0, frozenset()))


def _attention(call: Call) -> float:
    """Scores, and the values that they weigh; of AdditiveAttention the sum over the features."""
    query, value = (shape_of(each) for each in call.inputs[:2])
    return query[0] * value[0] * (query[1] + value[1])


def _multi_head_attention(call: Call) -> float:
    """The same for every head; the projections before and after are layers within."""
    layer = call.layer
    config = layer.get_config()
    heads = config.get("num_heads") or config["num_query_heads"]
    size = config.get("key_dim") or config["head_dim"]
    values = config.get("value_dim") or size
    query, value = (shape_of(each) for each in call.inputs[:2])
    return float(heads * query[0] * value[0] * (size + values))


def _dot(call: Call) -> float:
    axes = call.layer.axes
    axis = axes if isinstance(axes, int) else axes[0]
    return math.prod(shape_of(call.output)) * int(call.inputs[0].shape[axis])


_RULES: dict[type, Rule] = {
    layers.Dense: _dense,
    layers.EinsumDense: _einsum_dense,
    **dict.fromkeys((layers.Conv1D, layers.Conv2D, layers.Conv3D), _conv),
    **dict.fromkeys((layers.DepthwiseConv1D, layers.DepthwiseConv2D), _conv),
    layers.Conv1DTranspose: _transposed_conv,
    layers.Conv2DTranspose: _transposed_conv,
    layers.Conv3DTranspose: _transposed_conv,
    **dict.fromkeys((layers.SeparableConv1D, layers.SeparableConv2D), _separable_conv),
    **dict.fromkeys((layers.RNN, layers.SimpleRNN, layers.LSTM, layers.GRU), _recurrent),
    layers.TimeDistributed: _time_distributed,
    **dict.fromkeys((layers.Attention, layers.AdditiveAttention), _attention),
    layers.MultiHeadAttention: _multi_head_attention,
    layers.GroupQueryAttention: _multi_head_attention,
    layers.Dot: _dot,
    layers.Embedding: lambda call: 0.0,  # a row is looked up, nothing is multiplied
}
