# Part of the draft of lab 15: becomes dltlab/models/text_to_image.py; dltlab/models/__init__.pyi
# exports its six functions. Each network was built once and called on random arrays: the shapes
# are right, and the flow network of width 64 has 327,792 parameters. Nothing was trained.
# The sizes are those of the first tries, but for two things that were never tried: the flow network
# works on whole images in patches of 4 × 4 (the tries had two networks, 16 and 32 pixels), and
# captions are vectors of words instead of sequences.
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
    _check_width(width)
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
    width: int = 64,
    num_blocks: int = 3,
    patch: int = 4,
) -> keras.Model:
    """Build a network that predicts a clean image from one that is partly noise.

    Each patch of `patch` × `patch` pixels becomes one position with many channels. Residual blocks
    work on these positions; time and caption scale and shift the channels of each block (FiLM, E.
    Perez and others, 2017, arXiv:1709.07871). Coordinates are channels, too, since a convolution
    does not know where it is; an average over all positions tells each of them about the whole.

    Args:
        num_words: The length of a caption's vector; all zeros stand for no caption.
        image_size: The side of an image in pixels, a multiple of `patch`.
        width: Channels of the blocks, a multiple of 8.
        num_blocks: The number of residual blocks, two convolutions each.
        patch: The side of a patch in pixels, 2 or more.

    Returns:
        A network from images `(n, image_size, image_size, 3)`, times in [0, 1] `(n, 1)`, 0 being
        pure noise, and captions `(n, num_words)` to clean images of the same shape, float32. Before
        training, they are 0.

    Raises:
        Invalid: An argument is out of its range.
    """
    _check_width(width)
    if patch < 2 or image_size % patch or num_blocks < 1:
        raise Invalid(
            f"patch is {patch}, image_size {image_size}, num_blocks {num_blocks}: patch must be 2 "
            "or more and divide image_size, and there must be a block."
        )
    images, times = keras.Input((image_size, image_size, 3)), keras.Input((1,))
    captions = keras.Input((num_words,))
    condition = _time_and_caption(times, captions, width)
    x = ops.space_to_depth(images, patch)
    places = ops.ones_like(x[..., :1]) * _coordinates(image_size // patch)
    shift = layers.Conv2D(width, 1)(places)
    x = layers.Conv2D(width, 3, padding="same")(layers.Concatenate()([x, places]))
    x = x + _film(shift, condition, width)
    for number in range(num_blocks):
        if number == num_blocks - 1:
            whole = layers.Concatenate()([layers.GlobalAveragePooling2D()(x), condition])
            x = x + layers.Reshape((1, 1, width))(layers.Dense(width)(whole))
        x = _residual(x, condition, width)
    x = layers.Activation("swish")(layers.GroupNormalization(_GROUPS)(x))
    channels, start = 3 * patch * patch, "zeros"
    x = layers.Conv2D(channels, 3, padding="same", kernel_initializer=start, dtype="float32")(x)
    outputs = ops.depth_to_space(x, patch)
    return keras.Model([images, times, captions], outputs, name="flow_network")


def _time_and_caption(
    times: keras.KerasTensor, captions: keras.KerasTensor, width: int
) -> keras.KerasTensor:
    """Return one vector for the time, as sines and cosines, and the caption."""
    waves = times * (np.pi * 2.0 ** np.arange(_NUM_WAVES, dtype="float32"))[np.newaxis]
    waves = layers.Concatenate()([ops.sin(waves), ops.cos(waves)])
    time = layers.Dense(width, activation="swish")(waves)
    text = layers.Dense(width, activation="swish")(captions)
    return layers.Dense(width, activation="swish")(time + text)


def _coordinates(size: int) -> np.ndarray:
    """Return x, y and their squares for each position, float32 `(1, size, size, 4)`, in [-1, 1]."""
    axis = (np.arange(size, dtype=np.float32) + 0.5) * 2 / size - 1
    y, x = np.meshgrid(axis, axis, indexing="ij")
    return np.stack([x, y, x * x, y * y], axis=-1)[np.newaxis]


def _film(x: keras.KerasTensor, condition: keras.KerasTensor, width: int) -> keras.KerasTensor:
    """Scale and shift the channels by what is computed from the condition."""
    factors = layers.Reshape((1, 1, 2 * width))(layers.Dense(2 * width)(condition))
    return x * (1 + factors[..., :width]) + factors[..., width:]


def _residual(x: keras.KerasTensor, condition: keras.KerasTensor, width: int) -> keras.KerasTensor:
    """Add normalization, swish and convolution, twice; the second convolution begins with zeros."""
    y = layers.Activation("swish")(layers.GroupNormalization(_GROUPS)(x))
    y = _film(layers.Conv2D(width, 3, padding="same")(y), condition, width)
    y = layers.Activation("swish")(y)
    return x + layers.Conv2D(width, 3, padding="same", kernel_initializer="zeros")(y)


def _check_width(width: int) -> None:
    if width < _GROUPS or width % _GROUPS:
        raise Invalid(f"width is {width}; it must be a multiple of {_GROUPS}.")
