"""Rules that count the multiply-adds of Keras layers, one for each class that has any."""

import math
from collections.abc import Callable
from typing import Any

import keras
from keras import layers

from dltlab.models.attention import CausalAttention
from dltlab.models.layer_calls import LayerCall

Rule = Callable[[LayerCall], float]
Shape = tuple[int, ...]

# TensorFlow operations that are contractions, or may contain one.
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
    """Return the shape of a tensor without the batch."""
    return tuple(int(side) for side in tensor.shape[1:])


def rule_for(layer: keras.layers.Layer) -> Rule | None:
    """Return the rule for a layer; None if there is none, or if its class overrides `call`."""
    classes: tuple[Any, ...] = type(layer).__mro__
    for cls in classes:
        if cls in _RULES:
            return _RULES[cls] if type(layer).call is cls.call else None
    return None


def counts_inner_layers(layer: keras.layers.Layer) -> bool:
    """Return whether the layer's rule includes the layers inside it."""
    return isinstance(layer, layers.RNN | layers.TimeDistributed)


def has_no_macs(call: LayerCall) -> bool:
    """Return whether a layer without a rule is known to do no multiply-adds itself."""
    cls = type(call.layer)
    if cls.call is layers.Lambda.call:
        return False
    if keras.config.backend() == "tensorflow":
        return CONTRACTIONS.isdisjoint(call.operations)
    return cls.__module__.startswith("keras.") and not cls.__name__.startswith(_WITHOUT_RULE)


# Keras layers that do multiply-adds and have no rule here.
_WITHOUT_RULE = ("ConvLSTM", "MelSpectrogram", "STFTSpectrogram")


def _dense(call: LayerCall) -> float:
    return math.prod(shape_of(call.output)) * int(call.inputs[0].shape[-1])


def _einsum_dense(call: LayerCall) -> float:
    layer = call.layer
    terms, output = layer.equation.replace("...", "").split("->")
    weights = terms.split(",")[1]
    kernel = layer.kernel.shape
    summed = [size for name, size in zip(weights, kernel, strict=True) if name not in output]
    return float(math.prod(shape_of(call.output)) * math.prod(summed))


def _num_positions(layer: Any, tensor: Any) -> int:
    """Return the number of positions of feature maps: rows times columns, and so on."""
    shape = shape_of(tensor)
    return math.prod(shape[1:] if layer.data_format == "channels_first" else shape[:-1])


def _conv(call: LayerCall) -> float:
    return float(_num_positions(call.layer, call.output) * math.prod(call.layer.kernel.shape))


def _transposed_conv(call: LayerCall) -> float:
    return float(_num_positions(call.layer, call.inputs[0]) * math.prod(call.layer.kernel.shape))


def _separable_conv(call: LayerCall) -> float:
    layer = call.layer
    kernels = math.prod(layer.depthwise_kernel.shape) + math.prod(layer.pointwise_kernel.shape)
    return float(_num_positions(layer, call.output) * kernels)


def _recurrent(call: LayerCall) -> float:
    """Steps times weights: each weight is used once per step."""
    cells = getattr(call.layer.cell, "cells", [call.layer.cell])
    known = (layers.SimpleRNNCell, layers.LSTMCell, layers.GRUCell)
    if not all(type(cell) in known for cell in cells):
        return math.nan
    weights = sum(math.prod(c.kernel.shape) + math.prod(c.recurrent_kernel.shape) for c in cells)
    return float(shape_of(call.inputs[0])[0] * weights)


def _time_distributed(call: LayerCall) -> float:
    """Steps times the multiply-adds of the inner layer for one step."""
    inner = call.layer.layer
    shape = shape_of(call.inputs[0])
    step = keras.KerasTensor((1, *shape[1:]))
    rule = rule_for(inner)
    output = keras.KerasTensor((1, *inner.compute_output_shape(step.shape)[1:]))
    if rule is None or counts_inner_layers(inner):
        return math.nan
    return shape[0] * rule(LayerCall(inner, (step,), output, 0, frozenset()))


def _attention(call: LayerCall) -> float:
    """Scores and weighted values; for AdditiveAttention, the scores' sum over the features."""
    query, value = map(shape_of, call.inputs[:2])
    return query[0] * value[0] * (query[1] + value[1])


def _multi_head_attention(call: LayerCall) -> float:
    """Scores and weighted values of all heads; the projections are inner layers."""
    layer = call.layer
    config = layer.get_config()
    heads = config.get("num_heads") or config["num_query_heads"]
    size = config.get("key_dim") or config["head_dim"]
    values = config.get("value_dim") or size
    query, value = map(shape_of, call.inputs[:2])
    return float(heads * query[0] * value[0] * (size + values))


def _causal_attention(call: LayerCall) -> float:
    """Scores and weighted values; a mask saves none of them."""
    query, key = map(shape_of, call.inputs[:2])
    return 2.0 * query[0] * key[0] * query[1]


def _dot(call: LayerCall) -> float:
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
    CausalAttention: _causal_attention,
    layers.Dot: _dot,
    layers.Embedding: lambda call: 0.0,  # a lookup, no product
}
