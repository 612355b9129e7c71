"""How fast a device computes layers, by kind and by pass: `measure_layer_rates`.

The time of a pass is modeled as its FLOPs, the bytes of its weights and those of its activations,
each times a constant. The constants are fitted to *probes*, layers that differ in what dominates.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dltlab.devices.timing import Clock, fastest_call

PASSES = FORWARD, WEIGHTS, INPUTS = "forward", "weight gradient", "input gradient"
ELEMENTWISE, OPTIMIZER = "elementwise", "optimizer"  # the kinds that are no class of Keras

_UPDATED_PARAMS = 8_000_000


@dataclass(frozen=True)
class Rate:
    """The constants of one kind of layer and one pass, in seconds.

    Attributes:
        per_flop: For each FLOP.
        per_weight_byte: For each byte of the weights.
        per_activation_byte: For each byte of inputs and outputs.
    """

    per_flop: float = 0.0
    per_weight_byte: float = 0.0
    per_activation_byte: float = 0.0


Rates = dict[str, dict[str, Rate]]  # by kind and pass


@dataclass(frozen=True)
class _Probe:
    """A layer to measure: a function of its inputs and weights, and their shapes."""

    call: Callable[[Any, Any], Any]
    inputs: tuple[int, ...]
    weights: tuple[int, ...]
    flops: float = 0.0


def measure_layer_rates(tf: Any, peak: float, seconds: float, clock: Clock) -> Rates:
    """Measure the constants of each kind of layer and each pass, in float32.

    Args:
        tf: The module of TensorFlow.
        peak: The FLOP/s that no layer exceeds.
        seconds: Spent on each of about 50 measurements.
        clock: Tells the time.

    Returns:
        The constants by kind and pass. Kinds are names of Keras' classes; `ELEMENTWISE` is for all
        others, and `OPTIMIZER`, whose bytes are those that it moves, has the pass `FORWARD` only.
    """
    rates: Rates = {}
    for kind, probes in _probes(tf).items():
        measured = [_measure(tf, probe, seconds, clock) for probe in probes]
        sizes = np.array([sizes for sizes, _ in measured])  # (probes, 3)
        times = np.array([times for _, times in measured])  # (probes, passes)
        rates[kind] = {
            name: fit_rate(sizes, column, peak)
            for name, column in zip(PASSES, times.T, strict=True)
        }
    rates[OPTIMIZER] = {FORWARD: Rate(per_weight_byte=_update_seconds(tf, seconds, clock))}
    return rates


def fit_rate(sizes: np.ndarray, times: np.ndarray, peak: float) -> Rate:
    """Fit three constants with the least relative errors; none is negative, or beyond the peak.

    Args:
        sizes: FLOPs, bytes of weights and bytes of activations of each measurement, `(n, 3)`.
        times: Seconds, `(n,)`; those of 0 or less, below what can be measured, do not count.
        peak: The FLOP/s that no layer exceeds.
    """
    from scipy.optimize import nnls

    is_measured = times > 0
    sizes, times = sizes[is_measured], times[is_measured]
    if not len(times):
        return Rate()
    matrix = sizes / times[:, np.newaxis]
    scales = np.where(matrix.max(axis=0) > 0, matrix.max(axis=0), 1)
    rest = np.maximum(1 - matrix[:, 0] / peak, 0)
    constants, _ = nnls(matrix / scales, rest)
    per_flop, *others = (constants / scales).tolist()
    return Rate(per_flop + 1 / peak, *others)


def _probes(tf: Any) -> dict[str, Sequence[_Probe]]:
    def conv(side: int, channels: int, kernel: int, filters: int) -> _Probe:
        return _Probe(
            lambda x, w: tf.nn.conv2d(x, w, 1, "SAME"),
            inputs=(8, side, side, channels),
            weights=(kernel, kernel, channels, filters),
            flops=2 * 8 * side**2 * kernel**2 * channels * filters,
        )

    def depthwise(side: int, channels: int) -> _Probe:
        return _Probe(
            lambda x, w: tf.nn.depthwise_conv2d(x, w, [1, 1, 1, 1], "SAME"),
            inputs=(8, side, side, channels),
            weights=(3, 3, channels, 1),
            flops=2 * 8 * side**2 * 9 * channels,
        )

    def dense(examples: int, inputs: int, units: int) -> _Probe:
        return _Probe(tf.matmul, (examples, inputs), (inputs, units), 2 * examples * inputs * units)

    def normalize(x: Any, w: Any) -> Any:
        return tf.compat.v1.nn.fused_batch_norm(x, w, w, epsilon=1e-3, is_training=True)[0]

    def maps(call: Callable[[Any, Any], Any]) -> list[_Probe]:
        return [_Probe(call, (8, 56, 56, 64), (64,))]

    return {
        "Conv2D": [
            *(conv(28, 64, 3, 64), conv(14, 128, 3, 128), conv(7, 512, 3, 512)),
            *(conv(56, 3, 3, 32), conv(56, 64, 1, 64), conv(28, 256, 1, 64)),
        ],
        "DepthwiseConv2D": [depthwise(28, 64), depthwise(56, 32)],
        "Dense": [dense(8, 2048, 4096), dense(64, 1024, 1024), dense(256, 512, 512)],
        "BatchNormalization": maps(normalize),
        "MaxPooling2D": maps(lambda x, w: tf.nn.max_pool2d(x, 3, 2, "SAME")),
        "LocalResponseNormalization": maps(lambda x, w: tf.nn.lrn(x)),
        ELEMENTWISE: maps(lambda x, w: tf.nn.relu(x)),
    }


def _measure(
    tf: Any, probe: _Probe, seconds: float, clock: Clock
) -> tuple[list[float], list[float]]:
    """Return the FLOPs, weight bytes and activation bytes of a probe, and its seconds by pass.

    One function computes the forward pass, a second one also the gradient of the weights, a third
    one also that of the inputs: the differences are the times of the passes.
    """
    x, w = tf.random.normal(probe.inputs), tf.random.normal(probe.weights)
    shape = probe.call(x, w).shape
    upstream = tf.random.normal(shape)

    def compute(sources: list[Any]) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(sources)
            output = probe.call(x, w)
        gradients = tape.gradient(output, sources, upstream) if sources else []
        parts = [part for part in (output, *gradients) if part is not None]
        return tf.stack([tf.reshape(part, [-1])[0] for part in parts])

    def seconds_of(sources: list[Any]) -> float:
        run = tf.function(lambda: compute(sources)).get_concrete_function()
        return fastest_call(lambda: run().numpy(), seconds, clock)

    totals = [0.0, seconds_of([]), seconds_of([w]), seconds_of([w, x])]
    weight_bytes = 4.0 * math.prod(w.shape) if probe.flops else 0.0
    sizes = [probe.flops, weight_bytes, 4.0 * (math.prod(x.shape) + math.prod(shape))]
    return sizes, np.diff(totals).tolist()


def _update_seconds(tf: Any, seconds: float, clock: Clock) -> float:
    """Return the seconds for each byte that SGD with momentum moves, as Keras writes it."""
    weights, velocity = (tf.Variable(tf.zeros(_UPDATED_PARAMS)) for _ in range(2))
    gradient = tf.ones(_UPDATED_PARAMS)

    def update() -> Any:
        velocity.assign(0.9 * velocity - 0.01 * gradient)
        weights.assign_add(velocity)
        return weights[0]

    run = tf.function(update)
    moved = 5 * 4 * _UPDATED_PARAMS  # the gradient, and weights and velocity in both directions
    return fastest_call(lambda: run().numpy(), seconds, clock) / moved
