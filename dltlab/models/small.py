"""Small networks for images of 32×32 or 64×64 pixels, each built like a classic network."""

import keras
from keras import layers

from dltlab.errors import Invalid

_MAX_SIDE = 32  # pixels per side of the feature maps that the first block works on
_MIN_SIDE = 8  # three stages halve it to one position
# Of batch normalization; Keras' default of 0.99 is too slow for a training of some hundred steps.
_MOMENTUM = 0.9


def small_resnet(
    num_classes: int = 10,
    input_shape: tuple[int, int, int] = (32, 32, 3),
    *,
    width: int = 16,
    batch_norm: bool = True,
    residual: bool = True,
) -> keras.Model:
    """Build a residual network with seven convolutions in a row and 0.3 million parameters.

    A convolution with `width` channels; three stages, each of which halves the feature maps and
    doubles the channels: twice batch normalization, ReLU and a 3×3 convolution, plus a shortcut
    through a 1×1 convolution; global average pooling; logits. The order within a block is that of
    K. He and others, Identity mappings in deep residual networks, 2016, arXiv:1603.05027.

    Args:
        num_classes: The number of logits.
        input_shape: Height, width and channels of an image.
        width: Channels of the first convolution; parameters and multiply-adds grow with its
            square.
        batch_norm: Normalize before each ReLU. Without it the convolutions have biases.
        residual: Add the shortcuts.

    Raises:
        Invalid: An argument is out of its range, or the images are too small.
    """
    _check(num_classes, input_shape)
    inputs = keras.Input(input_shape)
    x = _stem(inputs, width, batch_norm)
    for channels in (2 * width, 4 * width, 8 * width):
        y = x
        for strides in (2, 1):
            y = _conv(_norm_relu(y, batch_norm), channels, 3, strides, bias=not batch_norm)
        x = layers.Add()([y, _conv(x, channels, 1, 2)]) if residual else y
    return _with_logits(inputs, _norm_relu(x, batch_norm), num_classes, "small_resnet")


def small_vgg(
    num_classes: int = 10, input_shape: tuple[int, int, int] = (32, 32, 3), *, width: int = 32
) -> keras.Model:
    """Build a network like VGG: pairs of 3×3 convolutions with batch normalization, and pooling.

    Args:
        num_classes: The number of logits.
        input_shape: Height, width and channels of an image.
        width: Channels of the first pair; the next ones have two and four times as many.

    Raises:
        Invalid: An argument is out of its range, or the images are too small.
    """
    _check(num_classes, input_shape)
    inputs = keras.Input(input_shape)
    x = _norm_relu(_stem(inputs, width))
    for channels in (width, 2 * width, 4 * width):
        for _ in range(1 if channels == width else 2):
            x = _norm_relu(_conv(x, channels, 3))
        x = layers.MaxPooling2D()(x)
    x = layers.Dropout(0.3)(layers.Flatten()(x))
    return _with_logits(
        inputs, layers.Dense(8 * width, activation="relu")(x), num_classes, "small_vgg"
    )


def small_inception(
    num_classes: int = 10,
    input_shape: tuple[int, int, int] = (32, 32, 3),
    *,
    width: int = 16,
    modules_per_stage: int = 2,
) -> keras.Model:
    """Build a network like GoogLeNet: inception modules, with batch normalization.

    A module has four branches whose outputs are concatenated: a 1×1 convolution; a 3×3 and a 5×5
    convolution, each after a 1×1 convolution that reduces the channels; and pooling.

    Args:
        num_classes: The number of logits.
        input_shape: Height, width and channels of an image.
        width: The unit of the branches' channels: the first module has `6 * width` output channels,
            the last one twice as many.
        modules_per_stage: The number of modules before, and after, the second pooling.

    Raises:
        Invalid: An argument is out of its range, or the images are too small.
    """
    _check(num_classes, input_shape)
    inputs = keras.Input(input_shape)
    x = layers.MaxPooling2D()(_norm_relu(_stem(inputs, 2 * width)))
    for _ in range(modules_per_stage):
        x = _module(x, width)
    x = layers.MaxPooling2D()(x)
    for _ in range(modules_per_stage):
        x = _module(x, 2 * width)
    return _with_logits(inputs, x, num_classes, "small_inception")


def _module(x: keras.KerasTensor, width: int) -> keras.KerasTensor:
    """Apply an inception module with `6 * width` output channels."""

    def conv(x: keras.KerasTensor, channels: int, size: int) -> keras.KerasTensor:
        return _norm_relu(_conv(x, channels, size))

    branches = [
        conv(x, 2 * width, 1),
        conv(conv(x, width, 1), 2 * width, 3),
        conv(conv(x, width // 2, 1), width, 5),
        conv(layers.MaxPooling2D(3, strides=1, padding="same")(x), width, 1),
    ]
    return layers.Concatenate()(branches)


def _stem(x: keras.KerasTensor, channels: int, batch_norm: bool = True) -> keras.KerasTensor:
    """Apply the first convolution, and halve the feature maps until they are 32×32 or smaller."""
    x = _conv(x, channels, 3, 2 if max(x.shape[1:3]) > _MAX_SIDE else 1, bias=not batch_norm)
    while max(x.shape[1:3]) > _MAX_SIDE:
        x = _conv(_norm_relu(x, batch_norm), channels, 3, 2, bias=not batch_norm)
    return x


def _conv(
    x: keras.KerasTensor, channels: int, size: int, strides: int = 1, *, bias: bool = False
) -> keras.KerasTensor:
    return layers.Conv2D(
        channels, size, strides, padding="same", use_bias=bias, kernel_initializer="he_normal"
    )(x)


def _norm_relu(x: keras.KerasTensor, batch_norm: bool = True) -> keras.KerasTensor:
    return layers.ReLU()(layers.BatchNormalization(momentum=_MOMENTUM)(x) if batch_norm else x)


def _with_logits(
    inputs: keras.KerasTensor, x: keras.KerasTensor, num_classes: int, name: str
) -> keras.Model:
    """Apply global average pooling to feature maps, and return the model with float32 logits."""
    if len(x.shape) == 4:
        x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(num_classes, dtype="float32")(x), name=name)


def _check(num_classes: int, input_shape: tuple[int, int, int]) -> None:
    """Raise Invalid for the first argument that is out of its range."""
    if num_classes < 1:
        raise Invalid(f"num_classes is {num_classes}; it must be 1 or more.")
    shape = tuple(input_shape)
    if len(shape) != 3 or not all(isinstance(side, int) and side > 0 for side in shape):
        raise Invalid(f"input_shape is {input_shape}; it must be (height, width, channels).")
    if min(shape[:2]) < _MIN_SIDE:
        raise Invalid(
            f"Images of {shape[0]}×{shape[1]} pixels are too small for this network: it needs "
            f"{_MIN_SIDE}×{_MIN_SIDE} or more."
        )
