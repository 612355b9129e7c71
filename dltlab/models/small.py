"""Small networks for images of 32×32 or 64×64 pixels, each with the idea of a classic one."""

import keras
from keras import layers

from dltlab.errors import LabError

_LARGEST = 32  # pixels a side of the maps that the first block works on
_SMALLEST = 8  # three halvings of it leave one place
_MOMENTUM = (
    0.9  # of the running statistics; Keras' 0.99 is slow for a training of some hundred steps
)


def small_resnet(
    num_classes: int = 10,
    input_shape: tuple[int, int, int] = (32, 32, 3),
    *,
    width: int = 16,
    batch_norm: bool = True,
    residual: bool = True,
) -> keras.Model:
    """A residual network of seven convolutions in a row, 0.3 million parameters.

    A convolution of `width` channels; three stages, each of which halves the maps and doubles the
    channels: normalize, ReLU, 3×3 convolution, twice, and to that the shortcut is added, a 1×1
    convolution; the mean over all places; logits. The order within a block is that of K. He and
    others, Identity mappings in deep residual networks, 2016, arXiv:1603.05027.

    Args:
        num_classes: How many logits it gives.
        input_shape: Height, width and channels of an image.
        width: Channels of the first convolution; parameters and work grow with its square.
        batch_norm: Normalize before each ReLU. Without it the convolutions have biases.
        residual: Add the shortcuts.

    Raises:
        LabError: An argument makes no sense, or the images are too small.
    """
    _check(num_classes, input_shape)
    inputs = keras.Input(input_shape)
    x = _shrunk(inputs, width, batch_norm)
    for channels in (2 * width, 4 * width, 8 * width):
        y = x
        for strides in (2, 1):
            y = _conv(_normal_relu(y, batch_norm), channels, 3, strides, bias=not batch_norm)
        x = layers.Add()([y, _conv(x, channels, 1, 2)]) if residual else y
    return _finished(inputs, _normal_relu(x, batch_norm), num_classes, "small_resnet")


def small_vgg(
    num_classes: int = 10, input_shape: tuple[int, int, int] = (32, 32, 3), *, width: int = 32
) -> keras.Model:
    """Pairs of 3×3 convolutions with pooling between them, as VGG has, and batch normalization.

    Args:
        num_classes: How many logits it gives.
        input_shape: Height, width and channels of an image.
        width: Channels of the first pair; the next ones have two and four times as many.

    Raises:
        LabError: An argument makes no sense, or the images are too small.
    """
    _check(num_classes, input_shape)
    inputs = keras.Input(input_shape)
    x = _normal_relu(_shrunk(inputs, width))
    for channels in (width, 2 * width, 4 * width):
        for _ in range(1 if channels == width else 2):
            x = _normal_relu(_conv(x, channels, 3))
        x = layers.MaxPooling2D()(x)
    x = layers.Dropout(0.3)(layers.Flatten()(x))
    return _finished(
        inputs, layers.Dense(8 * width, activation="relu")(x), num_classes, "small_vgg"
    )


def small_inception(
    num_classes: int = 10, input_shape: tuple[int, int, int] = (32, 32, 3), *, width: int = 16
) -> keras.Model:
    """Modules of four branches side by side, as GoogLeNet has, and batch normalization.

    The branches of a module are a 1×1 convolution, a 3×3 and a 5×5 one, each behind a 1×1 that
    leaves it few channels to work on, and pooling; what they give is concatenated.

    Args:
        num_classes: How many logits it gives.
        input_shape: Height, width and channels of an image.
        width: Of the branches: the first module gives `6 * width` channels, the last twice that.

    Raises:
        LabError: An argument makes no sense, or the images are too small.
    """
    _check(num_classes, input_shape)
    inputs = keras.Input(input_shape)
    x = layers.MaxPooling2D()(_normal_relu(_shrunk(inputs, 2 * width)))
    x = _module(_module(x, width), width)
    x = layers.MaxPooling2D()(x)
    x = _module(_module(x, 2 * width), 2 * width)
    return _finished(inputs, x, num_classes, "small_inception")


def _module(x: keras.KerasTensor, width: int) -> keras.KerasTensor:
    """An inception module of `6 * width` channels."""

    def conv(x: keras.KerasTensor, channels: int, size: int) -> keras.KerasTensor:
        return _normal_relu(_conv(x, channels, size))

    branches = [
        conv(x, 2 * width, 1),
        conv(conv(x, width, 1), 2 * width, 3),
        conv(conv(x, width // 2, 1), width, 5),
        conv(layers.MaxPooling2D(3, strides=1, padding="same")(x), width, 1),
    ]
    return layers.Concatenate()(branches)


def _shrunk(x: keras.KerasTensor, channels: int, batch_norm: bool = True) -> keras.KerasTensor:
    """A first convolution; in steps of a half, so often that the maps are no larger than 32×32."""
    x = _conv(x, channels, 3, 2 if max(x.shape[1:3]) > _LARGEST else 1, bias=not batch_norm)
    while max(x.shape[1:3]) > _LARGEST:
        x = _conv(_normal_relu(x, batch_norm), channels, 3, 2, bias=not batch_norm)
    return x


def _conv(
    x: keras.KerasTensor, channels: int, size: int, strides: int = 1, *, bias: bool = False
) -> keras.KerasTensor:
    return layers.Conv2D(
        channels, size, strides, padding="same", use_bias=bias, kernel_initializer="he_normal"
    )(x)


def _normal_relu(x: keras.KerasTensor, batch_norm: bool = True) -> keras.KerasTensor:
    return layers.ReLU()(layers.BatchNormalization(momentum=_MOMENTUM)(x) if batch_norm else x)


def _finished(
    inputs: keras.KerasTensor, x: keras.KerasTensor, num_classes: int, name: str
) -> keras.Model:
    """The mean over all places, where there are any, and logits in float32."""
    if len(x.shape) == 4:
        x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(num_classes, dtype="float32")(x), name=name)


def _check(num_classes: int, input_shape: tuple[int, int, int]) -> None:
    """Refuse what no network can be built for.

    Raises:
        LabError: Names the argument.
    """
    if num_classes < 1:
        raise LabError(f"num_classes is {num_classes}; it must be 1 or more.")
    shape = tuple(input_shape)
    if len(shape) != 3 or not all(isinstance(side, int) and side > 0 for side in shape):
        raise LabError(f"input_shape is {input_shape}; it must be (height, width, channels).")
    if min(shape[:2]) < _SMALLEST:
        raise LabError(
            f"Images of {shape[0]}×{shape[1]} pixels are too small for this network: it needs "
            f"{_SMALLEST}×{_SMALLEST} or more."
        )
