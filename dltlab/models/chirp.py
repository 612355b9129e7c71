"""Networks for gravitational waves in the data of a detector: `chirp_cnn`, `deep_chirp_cnn`."""

from collections.abc import Sequence

import keras
from keras import layers

from dltlab.errors import Invalid

_POOL = 4


def chirp_cnn(samples: int, num_outputs: int = 1) -> keras.Model:
    """Build the smaller network of D. George and E. A. Huerta (2017, arXiv:1701.00008).

    Three convolutions of 16, 32 and 64 filters, two of them dilated, and a dense layer of 64 units.
    With 8,192 samples and 2 outputs it has 508,466 parameters, as published; with 1,024 samples and
    1 output, 49,649.

    Args:
        samples: The length of a window. Windows are float32 `(b, samples)`, whitened, with a
            standard deviation of the noise of 1.
        num_outputs: The numbers for each window: `(b, num_outputs)`, without an activation.

    Raises:
        Invalid: The window is too short for the convolutions, or there is no output.
    """
    return _network(samples, (16, 32, 64), (16, 8, 8), (1, 4, 4), (64,), num_outputs, "chirp_cnn")


def deep_chirp_cnn(samples: int, num_outputs: int = 1) -> keras.Model:
    """Build the larger network of the same paper.

    Four convolutions of 64, 128, 256 and 512 filters and dense layers of 128 and 64 units. With
    8,192 samples and 2 outputs it has 5,777,666 parameters.

    Args:
        samples: The length of a window, as in `chirp_cnn`.
        num_outputs: The numbers for each window.

    Raises:
        Invalid: The window is too short for the convolutions, or there is no output.
    """
    filters, kernels, dilations = (64, 128, 256, 512), (16, 16, 16, 32), (1, 2, 2, 2)
    return _network(samples, filters, kernels, dilations, (128, 64), num_outputs, "deep_chirp_cnn")


def _network(
    samples: int,
    filters: Sequence[int],
    kernels: Sequence[int],
    dilations: Sequence[int],
    units: Sequence[int],
    num_outputs: int,
    name: str,
) -> keras.Model:
    """Build convolutions, each with max-pooling and then a ReLU, and dense layers."""
    if num_outputs < 1:
        raise Invalid(f"num_outputs is {num_outputs}; it must be 1 or more.")
    length = samples
    for kernel, dilation in zip(kernels, dilations, strict=True):
        length = (length - dilation * (kernel - 1)) // _POOL
    if length < 1:
        raise Invalid(
            f"A window of {samples} samples is too short for {name}: take a longer one, or "
            "a higher sampling rate."
        )
    inputs = keras.Input((samples,), dtype="float32")
    x = layers.Reshape((samples, 1))(inputs)
    for count, kernel, dilation in zip(filters, kernels, dilations, strict=True):
        x = layers.Conv1D(count, kernel, dilation_rate=dilation)(x)
        x = layers.MaxPooling1D(_POOL)(x)
        x = layers.ReLU()(x)
    x = layers.Flatten()(x)
    for width in units:
        x = layers.Dense(width, activation="relu")(x)
    return keras.Model(inputs, layers.Dense(num_outputs, dtype="float32")(x), name=name)
