"""Networks that paint images from captions, and one that judges them."""

from collections.abc import Sequence

import keras
import numpy as np
from keras import layers, ops

from dltlab.errors import Invalid

_GROUPS = 8  # of group normalization
_MOMENTUM = 0.9  # of batch normalization; Keras' default is too slow for some hundred steps
_SLOPE = 0.2  # of the leaky ReLU
_NUM_WAVES = 6  # of the time's sines and cosines
_CONDITION = 128  # numbers of a time and a caption together
_PATCH_CHANNELS, _PATCH_NUMBERS = 32, 16  # inside a patch's layers, and of a patch in the blocks
_JUDGE_NOISE = 0.05  # in training, so that the judge tolerates what a painter leaves behind


def caption_judge(
    num_values: Sequence[int] = (2, 6, 4, 5), image_size: int = 32, *, width: int = 24
) -> keras.Model:
    """Build a network that names several attributes of an image.

    Args:
        num_values: The number of values of each attribute; those of captions are size, color,
            shape and place.
        image_size: The side of an image in pixels.
        width: Channels of the first of three convolutions.

    Returns:
        A network from images in [-1, 1], float32 `(n, image_size, image_size, 3)`, to a list of
        logits `(n, values)`, one array for each attribute.
    """
    images = keras.Input((image_size, image_size, 3))
    x = layers.GaussianNoise(_JUDGE_NOISE)(images)
    for channels in (width, 2 * width, 3 * width):
        x = layers.Conv2D(channels, 3, strides=2, padding="same", activation="relu")(x)
    x = layers.Dense(3 * width, activation="relu")(layers.Flatten()(x))
    logits = [layers.Dense(num, dtype="float32")(x) for num in num_values]
    return keras.Model(images, logits, name="caption_judge")


def caption_encoder(num_words: int = 17, *, size: int = 32) -> keras.Model:
    """Build StackGAN's text network: a Gaussian for each caption (arXiv:1612.03242).

    Returns:
        A network from captions, float32 `(n, num_words)`, to the mean and the logarithm of the
        variance of their conditions, each `(n, size)`.
    """
    captions = keras.Input((num_words,))
    x = layers.Dense(2 * size, activation="swish")(captions)
    outputs = [layers.Dense(size, dtype="float32")(x) for _ in range(2)]
    return keras.Model(captions, outputs, name="caption_encoder")


def stackgan_generator(
    noise_size: int = 32, condition_size: int = 32, *, width: int = 32
) -> keras.Model:
    """Build the generator of stage I: from a dense layer, twice enlarged and convolved.

    Returns:
        A network from noise `(n, noise_size)` and conditions `(n, condition_size)` to images in
        [-1, 1], float32 `(n, 16, 16, 3)`.
    """
    noise, condition = keras.Input((noise_size,)), keras.Input((condition_size,))
    x = layers.Dense(4 * 4 * 3 * width)(layers.Concatenate()([noise, condition]))
    x = layers.Reshape((4, 4, 3 * width))(x)
    for channels in (2 * width, width):
        x = layers.Conv2D(channels, 3, padding="same")(layers.UpSampling2D()(x))
        x = layers.Activation("relu")(layers.BatchNormalization(momentum=_MOMENTUM)(x))
    images = layers.Conv2D(3, 3, padding="same", activation="tanh", dtype="float32")(x)
    return keras.Model([noise, condition], images, name="stackgan_generator")


def stackgan_refiner(num_words: int = 17, *, width: int = 32) -> keras.Model:
    """Build the generator of stage II: it reads the caption again and doubles the resolution.

    Two residual blocks work on the small image; the last layer gives 2 × 2 pixels for each of its
    pixels.

    Args:
        num_words: The length of a caption's vector.
        width: Channels of the blocks, a multiple of 8.

    Returns:
        A network from images `(n, 16, 16, 3)` and captions `(n, num_words)` to images in [-1, 1],
        float32 `(n, 32, 32, 3)`.

    Raises:
        Invalid: The width is no multiple of 8.
    """
    if width < _GROUPS or width % _GROUPS:
        raise Invalid(f"width is {width}; it must be a multiple of {_GROUPS}.")
    images, captions = keras.Input((16, 16, 3)), keras.Input((num_words,))
    condition = layers.Dense(2 * width, activation="swish")(captions)
    x = layers.Conv2D(width, 3, padding="same")(images)
    for _ in range(2):
        x = _residual(x, condition, width)
    x = layers.Conv2D(12, 3, padding="same", activation="tanh", dtype="float32")(x)
    return keras.Model([images, captions], ops.depth_to_space(x, 2), name="stackgan_refiner")


def stackgan_discriminator(
    image_size: int = 16, num_words: int = 17, *, width: int = 32
) -> keras.Model:
    """Build a discriminator that sees an image together with a caption.

    The image becomes 4 × 4 positions, each of which gets the caption.

    Args:
        image_size: The side of an image, 16 or 32 pixels.
        num_words: The length of a caption's vector.
        width: Channels of the first convolution.

    Returns:
        A network from images `(n, image_size, image_size, 3)` and captions `(n, num_words)` to
        logits, float32 `(n, 1)`; positive for real.

    Raises:
        Invalid: The images have another size.
    """
    if image_size not in (16, 32):
        raise Invalid(f"image_size is {image_size}; it must be 16 or 32.")
    images, captions = keras.Input((image_size, image_size, 3)), keras.Input((num_words,))
    x = images if image_size == 16 else ops.space_to_depth(images, 2)
    for channels in (width, 2 * width):
        x = layers.LeakyReLU(_SLOPE)(layers.Conv2D(channels, 4, strides=2, padding="same")(x))
    text = layers.Dense(width)(layers.Dense(2 * width, activation="swish")(captions))
    text = layers.UpSampling2D(4)(layers.Reshape((1, 1, width))(text))
    x = layers.Conv2D(3 * width, 3, padding="same")(layers.Concatenate()([x, text]))
    logits = layers.Dense(1, dtype="float32")(layers.Flatten()(layers.LeakyReLU(_SLOPE)(x)))
    return keras.Model([images, captions], logits, name="stackgan_discriminator")


def flow_network(
    num_words: int = 17,
    image_size: int = 32,
    *,
    width: int = 512,
    num_blocks: int = 2,
    patch: int = 4,
) -> keras.Model:
    """Build a network that predicts a clean image from one that is partly noise.

    Each patch of `patch` × `patch` pixels becomes a few numbers, by layers that are the same for
    all patches. Residual blocks of dense layers work on the numbers of all patches together, so
    that a caption can decide at once what is painted where. Layers that are the same for all
    patches turn the result into pixels. Time and caption scale and shift what is between them
    (FiLM, E. Perez and others, 2017, arXiv:1709.07871).

    Args:
        num_words: The length of a caption's vector; all zeros stand for no caption.
        image_size: The side of an image in pixels, a multiple of `patch`.
        width: Units of the dense layers.
        num_blocks: The number of residual blocks, two dense layers each.
        patch: The side of a patch in pixels, 2 or more.

    Returns:
        A network from images `(n, image_size, image_size, 3)`, times in [0, 1] `(n, 1)`, 0 being
        pure noise, and captions `(n, num_words)` to clean images of the same shape, float32. Before
        training, they are 0.

    Raises:
        Invalid: An argument is out of its range.
    """
    if patch < 2 or image_size % patch or min(width, num_blocks) < 1:
        raise Invalid(
            f"width is {width}, num_blocks {num_blocks}, patch {patch}, image_size {image_size}: "
            "width and num_blocks must be positive, and patch must be 2 or more and divide "
            "image_size."
        )
    images, times = keras.Input((image_size, image_size, 3)), keras.Input((1,))
    captions = keras.Input((num_words,))
    condition = _time_and_caption(times, captions)
    side = image_size // patch
    patches = _conditioned(ops.space_to_depth(images, patch), condition, _PATCH_CHANNELS)
    x = layers.Flatten()(layers.Dense(_PATCH_NUMBERS)(patches))
    x = layers.Dense(width)(x)
    for _ in range(num_blocks):
        y = _film(_normalized(x), condition)
        y = layers.Dense(width, activation="swish")(y)
        x = x + layers.Dense(width, kernel_initializer="zeros")(y)
    x = layers.Dense(side * side * _PATCH_NUMBERS)(_film(_normalized(x), condition))
    x = layers.Concatenate()([layers.Reshape((side, side, _PATCH_NUMBERS))(x), patches])
    x = _conditioned(x, condition, _PATCH_CHANNELS)
    x = layers.Dense(3 * patch * patch, kernel_initializer="zeros", dtype="float32")(x)
    outputs = ops.depth_to_space(x, patch)
    return keras.Model([images, times, captions], outputs, name="flow_network")


def _time_and_caption(times: keras.KerasTensor, captions: keras.KerasTensor) -> keras.KerasTensor:
    """Return one vector for the time, as sines and cosines, and the caption."""
    waves = times * (np.pi * 2.0 ** np.arange(_NUM_WAVES, dtype="float32"))[np.newaxis]
    waves = layers.Concatenate()([ops.sin(waves), ops.cos(waves)])
    time = layers.Dense(_CONDITION, activation="swish")(waves)
    text = layers.Dense(2 * _CONDITION, activation="swish")(captions)
    return layers.Dense(_CONDITION, activation="swish")(layers.Concatenate()([time, text]))


def _film(x: keras.KerasTensor, condition: keras.KerasTensor) -> keras.KerasTensor:
    """Scale and shift the channels by what is computed from the condition."""
    channels = x.shape[-1]
    factors = layers.Dense(2 * channels)(condition)
    factors = layers.Reshape((1,) * (len(x.shape) - 2) + (2 * channels,))(factors)
    return x * (1 + factors[..., :channels]) + factors[..., channels:]


def _conditioned(
    x: keras.KerasTensor, condition: keras.KerasTensor, channels: int
) -> keras.KerasTensor:
    """Return a dense layer's channels, scaled and shifted by the condition, through swish."""
    return layers.Activation("swish")(_film(layers.Dense(channels)(x), condition))


def _normalized(x: keras.KerasTensor) -> keras.KerasTensor:
    return layers.LayerNormalization(center=False, scale=False)(x)


def _residual(x: keras.KerasTensor, condition: keras.KerasTensor, width: int) -> keras.KerasTensor:
    """Add normalization, swish and convolution, twice; the second convolution begins with zeros."""
    y = layers.Activation("swish")(layers.GroupNormalization(_GROUPS)(x))
    y = _film(layers.Conv2D(width, 3, padding="same")(y), condition)
    y = layers.Activation("swish")(y)
    return x + layers.Conv2D(width, 3, padding="same", kernel_initializer="zeros")(y)
