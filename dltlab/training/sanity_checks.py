"""Check before a training that the data fit the model: `require_trainable`."""

from collections.abc import Sequence
from typing import Any

import keras

from dltlab.errors import Invalid
from dltlab.models import shape_text
from dltlab.training.probabilities import fits

Shape = Sequence[int | None]

_OWN_SHAPES = ("ctc", "circle")  # losses whose targets have another shape than the outputs
_ONE_HOT = (
    "The labels have several values for each example, and the loss takes class numbers: use "
    "keras.losses.CategoricalCrossentropy for one-hot labels, or convert them with "
    "tf.argmax(labels, axis=-1)."
)
_CLASS_NUMBERS = (
    "The labels are class numbers, and the loss takes a value for each class: use "
    "keras.losses.SparseCategoricalCrossentropy."
)
_ERRORS_OF_KERAS = {  # of models whose outputs are not known before
    "No loss to compute": "The model has no loss: compile it with one, as in model.compile("
    '"adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True)).',
    "must have rank (ndim) `target.ndim - 1`": _ONE_HOT,
    "must have the same rank (ndim)": _CLASS_NUMBERS,
}


def has_own_step(model: keras.Model) -> bool:
    """Return whether a model computes its loss in its own way, with labels of any kind or none."""
    return any(
        getattr(type(model), name) is not getattr(keras.Model, name)
        for name in ("train_step", "compute_loss")
    )


def num_label_classes(model: keras.Model) -> int | None:
    """Return the number of classes if the model's loss takes class numbers as labels, else None."""
    shape = _output_shape(model)
    is_sparse = _loss_name(model).startswith("sparse_categorical")
    return shape[-1] if is_sparse and shape is not None and len(shape) > 1 else None


def takes_probabilities(model: keras.Model) -> bool:
    """Return whether the model's loss takes targets between 0 and 1, as a cross-entropy does."""
    is_cross_entropy = _loss_name(model).startswith(("binary_", "categorical_"))
    return is_cross_entropy and _is_built_in(model.loss)


def ignored_label(model: keras.Model) -> int | None:
    """Return the label that a model's loss ignores, if there is one."""
    return getattr(model.loss, "ignore_class", None)


def require_trainable(model: keras.Model, batch: Any, name: str = "training") -> None:
    """Check that a model is compiled and that a batch of data fits it.

    Args:
        model: Any model.
        batch: Inputs, targets and weights, of which the last two may be missing.
        name: What messages call the data.

    Raises:
        Invalid: It is not, or does not; the message says why.
    """
    if not getattr(model, "compiled", False):
        raise Invalid(
            "The model is not compiled: say how to train it, as in model.compile("
            '"adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True)).'
        )
    if isinstance(batch, tuple) and len(batch) > 3:
        raise Invalid(
            f"The elements of the {name} data have {len(batch)} parts: they must be (x, y) or "
            "(x, y, weights); several inputs are one tuple or dict, as in ((a, b), y)."
        )
    inputs, targets, _ = keras.utils.unpack_x_y_sample_weight(batch)
    pairs = _inputs_with_shapes(model, inputs, name)
    leaves = keras.tree.flatten(batch)
    if any(len(leaf.shape) == 0 for leaf in leaves) or any(
        fits((1, *tensor.shape), shape) for tensor, shape in pairs
    ):
        raise Invalid(f"The {name} data are not in batches: add .batch(64) to the data set.")
    for tensor, shape in pairs:
        if not _fits_as_in_keras(tensor.shape, shape):
            raise Invalid(
                f"The model takes inputs of shape {shape_text(shape[1:])} and those of the {name} "
                f"data are {shape_text(tensor.shape[1:])}: build the model for that shape, or load "
                "the data in another."
            )
    if not has_own_step(model):
        _require_targets(model, targets, name)


def _inputs_with_shapes(model: keras.Model, inputs: Any, name: str) -> list[tuple[Any, Shape]]:
    """Return each input with the shape that the model takes; [] if it is not known."""
    tensors = getattr(model, "inputs", None)
    if not tensors:
        return []  # shapes that only the model's author knows
    structure: Any = getattr(model, "input", None)  # a Sequential model may have none
    takes_dict = isinstance(structure, dict)
    values = keras.tree.flatten(inputs)
    if isinstance(inputs, dict):
        keys = list(structure) if takes_dict else [tensor.name for tensor in tensors]
        # Keras takes no further ones in a dict, and ignores them in a list.
        if not inputs.keys() >= {*keys} or (takes_dict and len(inputs) > len(keys)):
            raise Invalid(
                f"The inputs of the {name} data are {', '.join(map(repr, inputs))}, and the model "
                f"takes {', '.join(map(repr, keys))}: give the data exactly those."
            )
        if takes_dict:
            tensors = keras.tree.flatten(structure)
        else:
            values = [inputs[key] for key in keys]
    elif takes_dict and [*structure] != sorted(structure):  # else they are in this order
        raise Invalid(
            f"The model takes a dict of inputs, and those of the {name} data are not named: make "
            f"them a dict with the keys {', '.join(map(repr, structure))}."
        )
    if len(values) != len(tensors):
        raise Invalid(
            f"The model has {len(tensors)} inputs and the {name} data have {len(values)}: the data "
            "set's elements must be (x, y), where x is a tuple or dict of all inputs."
        )
    return [(value, tensor.shape) for value, tensor in zip(values, tensors, strict=True)]


def _fits_as_in_keras(shape: Shape, expected: Shape) -> bool:
    """Return whether a batch fits; Keras itself adds or removes a last axis of 1."""
    return (
        fits(shape, expected)
        or (expected[-1] == 1 and fits((*shape, 1), expected))
        or (shape[-1] == 1 and fits(shape[:-1], expected))
    )


def _require_targets(model: keras.Model, targets: Any, name: str) -> None:
    """Raise Invalid if the targets are not what the model's loss takes."""
    if targets is None:
        if model.loss is None:
            return  # the model adds its loss itself
        raise Invalid(
            f"The {name} data have no labels: the data set's elements must be (images, labels)."
        )
    if any("str" in str(leaf.dtype) for leaf in keras.tree.flatten(targets)):
        raise Invalid("The labels are text: give each class a number, starting at 0.")
    outputs = _output_shape(model)
    if outputs is not None and isinstance(targets, dict) and _is_built_in(model.loss):
        raise Invalid(
            f"The {name} targets are a dict, and the model has one output that is not named: pass "
            "the array itself."
        )
    if outputs is None or not hasattr(targets, "shape") or not _is_built_in(model.loss):
        return
    loss, shape = _loss_name(model), tuple(targets.shape)
    if loss in _OWN_SHAPES:
        return
    are_numbers = len(shape) < len(outputs) or shape[-1] == 1
    if loss.startswith("sparse_categorical"):
        if not are_numbers:
            raise Invalid(_ONE_HOT)
    elif outputs[-1] != 1 and are_numbers and loss.startswith(("categorical", "binary")):
        raise Invalid(_CLASS_NUMBERS)
    elif not _fits_as_in_keras(shape, outputs):
        raise Invalid(
            f"The {name} targets are of shape {shape_text(shape[1:]) or 1} and the outputs of the "
            f"model are {shape_text(outputs[1:])}: build the model with outputs of that shape."
        )


def explanation(error: Exception) -> str | None:
    """Return a sentence for an error of Keras that only a training step shows, else None."""
    return next((text for part, text in _ERRORS_OF_KERAS.items() if part in str(error)), None)


def _output_shape(model: keras.Model) -> Shape | None:
    """Return the shape of a model's output if it is known and there is only one."""
    shape = getattr(model, "output_shape", None)  # a subclassed model has none
    return shape if isinstance(shape, tuple) else None


def _loss_name(model: keras.Model) -> str:
    loss = model.loss
    name = getattr(loss, "name", None) or getattr(loss, "__name__", loss)
    return name if isinstance(name, str) else ""


def _is_built_in(loss: Any) -> bool:
    """Return whether a loss is one of Keras', whose targets have the shape of the outputs."""
    owner = loss if hasattr(loss, "__module__") and callable(loss) else None
    if isinstance(loss, keras.losses.Loss):
        owner = type(loss)
    return isinstance(loss, str) or getattr(owner, "__module__", "").startswith("keras.")
