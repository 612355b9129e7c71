"""Turn a model's outputs into class probabilities: `probabilities`."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from dltlab.errors import Damaged, Invalid
from dltlab.models import shape_text

_IMAGES_PER_CALL = 256
OUTPUT_ACTIVATIONS = (keras.activations.softmax, keras.activations.sigmoid)
_BINARY_LOSSES = (keras.losses.BinaryCrossentropy, keras.losses.BinaryFocalCrossentropy)
_BINARY_LOSS_NAMES = ("binary_crossentropy", "bce", "binary_focal_crossentropy")


def probabilities(
    model: keras.Model, images: np.ndarray, *, multi_label: bool = False
) -> np.ndarray:
    """Compute the probability of each class for each image.

    Logits are converted by softmax, or each one separately by sigmoid if an image may have several
    labels. The outputs of a model whose last layer is or has a softmax or a sigmoid are used as
    they are; a softmax inside the `call` of a subclassed model is not recognized. A single output
    means two classes: it is the probability of the second one.

    Args:
        model: A model with outputs `(b, classes)`, or `(b, 1)` for two classes.
        images: float32 `(n, height, width, channels)`, as the model was trained on.
        multi_label: Whether an image may have several labels.

    Returns:
        float32 `(n, classes)`.

    Raises:
        Invalid: The images do not fit the model, or its outputs are not `(b, classes)`.
        Damaged: An output is NaN.
    """
    _require_fitting(model, images)
    batches = [
        _checked_outputs(model.predict_on_batch(images[first : first + _IMAGES_PER_CALL]))
        for first in range(0, len(images), _IMAGES_PER_CALL)
    ]
    outputs = np.concatenate(batches)
    if not ends_in_probabilities(model):
        use_sigmoid = multi_label or outputs.shape[1] == 1
        activation = keras.ops.sigmoid if use_sigmoid else keras.ops.softmax
        outputs = keras.ops.convert_to_numpy(activation(outputs))
    if outputs.shape[1] == 1:
        outputs = np.concatenate([1 - outputs, outputs], axis=1)
    num_nan = int(np.isnan(outputs).any(axis=1).sum())
    if num_nan:
        raise Damaged(
            f"The model returns NaN for {num_nan:,} of {len(outputs):,} images: its weights are "
            "damaged, as they are after a training whose loss became NaN. Train it again with a "
            "smaller learning rate."
        )
    return outputs


def ends_in_probabilities(model: keras.Model) -> bool:
    """Return whether the last layer of a model is or has a softmax or a sigmoid."""
    last = last_operation(model)
    last = getattr(last, "activation", last)
    # keras.layers and keras.ops both have a class called Softmax.
    return last in OUTPUT_ACTIVATIONS or type(last).__name__ in ("Softmax", "Sigmoid")


def last_operation(model: keras.Model) -> Any:
    """Return the last layer or `keras.ops` operation of a model, or of a model nested in it."""
    last = model
    while isinstance(last, keras.Model):
        operations = getattr(last, "operations", last.layers)
        last = next((op for op in reversed(operations) if not _is_identity(op)), None)
    return last


def _is_identity(operation: Any) -> bool:
    """Return whether a layer only casts, like the one after a softmax in mixed precision."""
    is_activation = isinstance(operation, keras.layers.Activation)
    return is_activation and operation.activation is keras.activations.linear


def is_multi_label(model: keras.Model) -> bool:
    """Return whether a model with several outputs was compiled with a binary cross-entropy."""
    if getattr(model, "output_shape", ())[-1:] == (1,):
        return False
    loss = getattr(model, "loss", None)
    return isinstance(loss, _BINARY_LOSSES) or getattr(loss, "__name__", loss) in _BINARY_LOSS_NAMES


def checked_class_names(class_names: Sequence[str] | None, num_classes: int) -> tuple[str, ...]:
    """Return the class names, or the class numbers if there are no names.

    Raises:
        Invalid: There are more or fewer names than classes.
    """
    if class_names is None:
        return tuple(map(str, range(num_classes)))
    if len(class_names) != num_classes:
        raise Invalid(
            f"class_names has {len(class_names)} names and the model has {num_classes} classes: "
            "pass one name for each class, in the order of the labels."
        )
    return tuple(map(str, class_names))


def _require_fitting(model: keras.Model, images: np.ndarray) -> None:
    """Raise Invalid if the images do not have the model's input shape."""
    input_shape = getattr(model, "input_shape", None)
    if input_shape is None:  # a subclassed model
        return
    if not isinstance(input_shape, tuple):
        raise Invalid("The model has several inputs: use a model whose only input is an image.")
    if not fits(images.shape, input_shape):
        raise Invalid(
            f"The model takes images of shape {shape_text(input_shape[1:])} and these are "
            f"{shape_text(images.shape[1:])}: use the data it was trained on, or images of that "
            "shape."
        )


def fits(shape: Sequence[int | None], input_shape: Sequence[int | None]) -> bool:
    """Return whether a batch of this shape fits an input shape, in which None is any size."""
    return len(shape) == len(input_shape) and all(
        expected in (None, side) for side, expected in zip(shape[1:], input_shape[1:], strict=True)
    )


def _checked_outputs(outputs: Any) -> np.ndarray:
    """Return the outputs for a batch as float32 `(b, classes)`.

    Raises:
        Invalid: They have another shape.
    """
    if isinstance(outputs, list | tuple | dict):
        raise Invalid(
            f"The model has {len(outputs)} outputs and must have one: select it, as in "
            "keras.Model(model.input, model.outputs[0])."
        )
    if outputs.ndim != 2:
        raise Invalid(
            f"The model's output for an image is {shape_text(outputs.shape[1:]) or 'one number'}; "
            "it must be one number per class: end the model in a Dense layer with as many units "
            "as there are classes."
        )
    return np.asarray(outputs).astype(np.float32)  # mixed precision may output bfloat16
