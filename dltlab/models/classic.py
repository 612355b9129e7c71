"""The classic ImageNet networks of 2012 to 2015, as published.

All of them output logits; apply a softmax for probabilities.
"""

import keras
from keras import layers, ops

from dltlab.models.normalization import LocalResponseNormalization

Shape = tuple[int, int, int]


def alexnet(num_classes: int = 1000, input_shape: Shape = (227, 227, 3)) -> keras.Model:
    """Build AlexNet: five convolutions, three of them in two groups, and three dense layers.

    60,965,224 parameters with 1,000 classes. A. Krizhevsky, I. Sutskever and G. Hinton, ImageNet
    classification with deep convolutional neural networks, NeurIPS 2012. The groups were placed on
    two GPUs. The images have 227 pixels per side, not the paper's 224: only then does the first
    layer have the published 55×55 outputs.

    Args:
        num_classes: The number of logits.
        input_shape: Height, width and channels of an image.
    """
    inputs = keras.Input(input_shape)
    x = layers.Conv2D(96, 11, strides=4, activation="relu", name="conv1")(inputs)
    x = layers.MaxPooling2D(3, 2, name="pool1")(LocalResponseNormalization(name="norm1")(x))
    x = _grouped_conv(x, 256, 5, "conv2")
    x = layers.MaxPooling2D(3, 2, name="pool2")(LocalResponseNormalization(name="norm2")(x))
    x = layers.Conv2D(384, 3, padding="same", activation="relu", name="conv3")(x)
    x = _grouped_conv(x, 384, 3, "conv4")
    x = _grouped_conv(x, 256, 3, "conv5")
    x = layers.Flatten(name="flatten")(layers.MaxPooling2D(3, 2, name="pool5")(x))
    for name in ("fc6", "fc7"):
        x = layers.Dense(4096, activation="relu", name=name)(x)
        x = layers.Dropout(0.5, name=f"drop{name[-1]}")(x)
    return keras.Model(inputs, _logits(x, num_classes, "fc8"), name="alexnet")


def googlenet(
    num_classes: int = 1000,
    input_shape: Shape = (224, 224, 3),
    *,
    auxiliary_heads: bool = False,
) -> keras.Model:
    """Build GoogLeNet: nine inception modules, and global average pooling instead of dense layers.

    6,998,552 parameters with 1,000 classes, 13,378,280 with the auxiliary heads, as in the authors'
    network in Caffe's model zoo. C. Szegedy and others, Going deeper with convolutions, CVPR 2015,
    arXiv:1409.4842.

    Args:
        num_classes: The number of logits.
        input_shape: Height, width and channels of an image.
        auxiliary_heads: Return three outputs: the logits, and those of two heads at intermediate
            layers, which bring gradients to the early layers. The paper weights the loss of each
            head by 0.3.
    """
    inputs = keras.Input(input_shape)
    x = _conv(inputs, 64, 7, "conv1", strides=2)
    x = LocalResponseNormalization(name="norm1")(_pool(x, "pool1"))
    x = _conv(_conv(x, 64, 1, "conv2_reduce"), 192, 3, "conv2")
    x = _pool(LocalResponseNormalization(name="norm2")(x), "pool2")
    heads = []
    for name, widths in _INCEPTION.items():
        if name in _POOLED_BEFORE:
            x = _pool(x, f"pool{int(name[0]) - 1}")
        x = _module(x, widths, f"inception_{name}")
        if auxiliary_heads and name in _HEADS:
            heads.append(_head(x, num_classes, f"head_{name}"))
    x = layers.GlobalAveragePooling2D(name="pool5")(x)
    logits = _logits(layers.Dropout(0.4, name="drop5")(x), num_classes, "logits")
    return keras.Model(inputs, [logits, *heads] if heads else logits, name="googlenet")


def vgg16(num_classes: int = 1000, input_shape: Shape = (224, 224, 3)) -> keras.Model:
    """Build VGG-16: thirteen 3×3 convolutions and three dense layers, from `keras.applications`.

    138,357,544 parameters with 1,000 classes. K. Simonyan and A. Zisserman, Very deep convolutional
    networks for large-scale image recognition, ICLR 2015, arXiv:1409.1556.

    Args:
        num_classes: The number of logits.
        input_shape: Height, width and channels of an image.
    """
    return _from_keras(keras.applications.VGG16, num_classes, input_shape)


def resnet50(num_classes: int = 1000, input_shape: Shape = (224, 224, 3)) -> keras.Model:
    """Build ResNet-50: sixteen residual blocks of three convolutions, from `keras.applications`.

    25,636,712 parameters with 1,000 classes, including the means and variances of batch
    normalization. K. He and others, Deep residual learning for image recognition, CVPR 2016,
    arXiv:1512.03385.

    Args:
        num_classes: The number of logits.
        input_shape: Height, width and channels of an image.
    """
    return _from_keras(keras.applications.ResNet50, num_classes, input_shape)


# Channels in the order of the paper's table 1: 1×1, 3×3 reduce, 3×3, 5×5 reduce, 5×5, pool proj.
_INCEPTION = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
_POOLED_BEFORE = ("4a", "5a")
_HEADS = ("4a", "4d")


def _module(x: keras.KerasTensor, widths: tuple[int, ...], name: str) -> keras.KerasTensor:
    """Apply an inception module: four branches, concatenated."""
    conv1, reduce3, conv3, reduce5, conv5, projection = widths
    pooled = layers.MaxPooling2D(3, 1, padding="same", name=f"{name}_pool")(x)
    branches = [
        _conv(x, conv1, 1, f"{name}_1x1"),
        _conv(_conv(x, reduce3, 1, f"{name}_3x3_reduce"), conv3, 3, f"{name}_3x3"),
        _conv(_conv(x, reduce5, 1, f"{name}_5x5_reduce"), conv5, 5, f"{name}_5x5"),
        _conv(pooled, projection, 1, f"{name}_pool_proj"),
    ]
    return layers.Concatenate(name=f"{name}_output")(branches)


def _head(x: keras.KerasTensor, num_classes: int, name: str) -> keras.KerasTensor:
    x = layers.AveragePooling2D(5, 3, name=f"{name}_pool")(x)
    x = layers.Flatten(name=f"{name}_flatten")(_conv(x, 128, 1, f"{name}_conv"))
    x = layers.Dense(1024, activation="relu", name=f"{name}_fc")(x)
    return _logits(layers.Dropout(0.7, name=f"{name}_drop")(x), num_classes, f"{name}_logits")


def _conv(
    x: keras.KerasTensor, channels: int, size: int, name: str, strides: int = 1
) -> keras.KerasTensor:
    return layers.Conv2D(channels, size, strides, padding="same", activation="relu", name=name)(x)


def _pool(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    return layers.MaxPooling2D(3, 2, padding="same", name=name)(x)


def _grouped_conv(x: keras.KerasTensor, channels: int, size: int, name: str) -> keras.KerasTensor:
    """Apply a convolution in two groups: each half of the output sees one half of the input.

    It is written as two layers, because TensorFlow's CPU kernels do not support `groups=2`, and
    Keras then compiles such a layer again in every call.
    """
    halves = [
        layers.Conv2D(channels // 2, size, padding="same", activation="relu", name=f"{name}_{part}")
        for part in "ab"
    ]
    parts = zip(halves, ops.split(x, 2, axis=-1), strict=True)
    return layers.Concatenate(name=name)([half(part) for half, part in parts])


def _logits(x: keras.KerasTensor, num_classes: int, name: str) -> keras.KerasTensor:
    return layers.Dense(num_classes, dtype="float32", name=name)(x)


def _from_keras(build: object, num_classes: int, input_shape: Shape) -> keras.Model:
    assert callable(build)
    return build(
        weights=None, input_shape=input_shape, classes=num_classes, classifier_activation=None
    )
