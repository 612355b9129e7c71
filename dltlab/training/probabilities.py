"""From a model's outputs to probabilities: one place for all that ask a model what it sees."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from dltlab.errors import LabError

_AT_A_TIME = 256  # images
SQUASHING = (keras.activations.softmax, keras.activations.sigmoid)
_BINARY = (keras.losses.BinaryCrossentropy, keras.losses.BinaryFocalCrossentropy)
_BINARY_NAMES = ("binary_crossentropy", "bce", "binary_focal_crossentropy")


def probabilities(
    model: keras.Model, images: np.ndarray, *, multi_label: bool = False
) -> np.ndarray:
    """The probability that a model gives to each class.

    Logits become probabilities by softmax, or each by itself by sigmoid where an image may have
    several labels. The outputs of a model whose last layer has a softmax or a sigmoid are
    probabilities already and are taken as they are; a softmax that a subclassed model computes in
    its own `call` is not seen. A single output, as a model that answers yes or no may have, stands
    for two classes: it becomes the probability of the second one, and what is left to 1 that of the
    first.

    Args:
        model: Gives `(b, classes)`, or `(b, 1)` for two classes.
        images: float32 `(n, height, width, channels)`, as the model was trained on.
        multi_label: Whether the classes do not exclude each other.

    Returns:
        float32 `(n, classes)`.

    Raises:
        LabError: The images do not fit the model, it gives something else than `(b, classes)`, or
            it gives NaN.
    """
    _require_fitting(model, images)
    parts = [
        _outputs(model.predict_on_batch(images[first : first + _AT_A_TIME]))
        for first in range(0, len(images), _AT_A_TIME)
    ]
    found = np.concatenate(parts)
    if not ends_in_probabilities(model):
        by_itself = multi_label or found.shape[1] == 1
        squash = keras.ops.sigmoid if by_itself else keras.ops.softmax
        found = keras.ops.convert_to_numpy(squash(found))
    if found.shape[1] == 1:
        found = np.concatenate([1 - found, found], axis=1)
    broken = np.flatnonzero(np.isnan(found).any(axis=1))
    if len(broken):
        raise LabError(
            f"The model gives NaN for {len(broken):,} of {len(found):,} images: its weights are "
            "damaged, as they are after a training whose loss became NaN. Train it anew with a "
            "smaller learning rate."
        )
    return found


def ends_in_probabilities(model: keras.Model) -> bool:
    """Whether the last layer of a model has a softmax or a sigmoid."""
    last = last_operation(model)
    last = getattr(last, "activation", last)
    # Softmax is the name of a layer and of an operation of keras.ops.
    return last in SQUASHING or type(last).__name__ in ("Softmax", "Sigmoid")


def last_operation(model: keras.Model) -> Any:
    """The layer, or the operation of `keras.ops`, that a model or an inner model of it ends in."""
    last = model
    while isinstance(last, keras.Model):
        steps = getattr(last, "operations", last.layers)
        last = next((step for step in reversed(steps) if not _is_linear(step)), None)
    return last


def _is_linear(step: Any) -> bool:
    """Whether it only casts, as what follows a softmax in mixed precision."""
    is_activation = isinstance(step, keras.layers.Activation)
    return is_activation and step.activation is keras.activations.linear


def is_multi_label(model: keras.Model) -> bool:
    """Whether a model was compiled with a binary cross-entropy of several outputs."""
    if getattr(model, "output_shape", ())[-1:] == (1,):
        return False
    loss = getattr(model, "loss", None)
    return isinstance(loss, _BINARY) or getattr(loss, "__name__", loss) in _BINARY_NAMES


def class_names(classes: Sequence[str] | None, num_classes: int) -> tuple[str, ...]:
    """The names of the classes; their numbers where there are no names.

    Raises:
        LabError: There are more or fewer names than classes.
    """
    if classes is None:
        return tuple(map(str, range(num_classes)))
    if len(classes) != num_classes:
        raise LabError(
            f"classes has {len(classes)} names, and the model tells {num_classes} classes apart: "
            "give one name for each, in the order of the labels."
        )
    return tuple(map(str, classes))


def _require_fitting(model: keras.Model, images: np.ndarray) -> None:
    """Refuse images of a shape that the model does not take, as far as it is known.

    Raises:
        LabError: Names both shapes.
    """
    takes = getattr(model, "input_shape", None)
    if takes is None:  # a subclassed model
        return
    if not isinstance(takes, tuple):
        raise LabError("The model has several inputs: name a model that takes images alone.")
    has = images.shape[1:]
    if len(takes) != images.ndim or any(
        one not in (None, other) for one, other in zip(takes[1:], has, strict=True)
    ):
        raise LabError(
            f"The model takes images of shape {shape_text(takes[1:])} and these are "
            f"{shape_text(has)}: use the data it was trained on, or images of that shape."
        )


def shape_text(shape: Sequence[int | None]) -> str:
    """A shape as it is spoken of: 32×32×3."""
    return "×".join("?" if side is None else str(side) for side in shape)


def _outputs(outputs: Any) -> np.ndarray:
    """What the model gives for a batch, float32 `(b, classes)`."""
    if isinstance(outputs, list | tuple | dict):
        raise LabError(
            f"The model has {len(outputs)} outputs, and one is needed: take the one that counts, "
            "as in keras.Model(model.input, model.outputs[0])."
        )
    if outputs.ndim != 2:
        raise LabError(
            f"The model gives {shape_text(outputs.shape[1:]) or 'a single number'} for an image, "
            "and one number for each class is needed: end it in a Dense layer with as many units "
            "as there are classes."
        )
    return np.asarray(outputs).astype(np.float32)  # mixed precision may end in bfloat16
