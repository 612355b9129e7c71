"""How a Keras model takes its inputs and returns its outputs, and how to call it with flat lists.

A model may take and return a tensor, or a list or dict of them. Engines take and return lists, in
the order of `keras.tree.flatten`, which sorts the keys of a dict.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras
    import numpy as np


def input_names(model: "keras.Model") -> list[str]:
    """Return a name for each input: the key in a dict of inputs, else the name of the tensor."""
    return _keys(_inputs(model)) or [tensor.name for tensor in model.inputs]


def output_names(model: "keras.Model") -> list[str]:
    """Return the keys of a dict of outputs; [] where the model returns something else."""
    return _keys(getattr(model, "output", None))


def call(model: "keras.Model", inputs: Sequence[Any]) -> list[Any]:
    """Return the outputs of a model in inference mode.

    Layers that differ in training, such as those for augmentation, train by default: so `training`
    is always passed.
    """
    import keras

    packed = keras.tree.pack_sequence_as(_inputs(model), list(inputs))
    return list(keras.tree.flatten(model(packed, training=False)))


def predict(model: "keras.Model", inputs: Sequence["np.ndarray"]) -> "list[np.ndarray]":
    """Return the outputs of a model for one batch, compiled as in `keras.Model.predict`."""
    import keras
    import numpy as np

    packed = keras.tree.pack_sequence_as(_inputs(model), list(inputs))
    return [np.asarray(output) for output in keras.tree.flatten(model.predict_on_batch(packed))]


def _inputs(model: "keras.Model") -> Any:
    """Return the model's inputs, in the structure in which it takes them."""
    import keras

    return model.inputs[0] if isinstance(model, keras.Sequential) else model.input


def _keys(structure: Any) -> list[str]:
    """Return the keys of a dict of tensors, in the order of a flat list; [] of anything else."""
    import keras

    if not isinstance(structure, dict):
        return []
    return ["/".join(map(str, path)) for path, _ in keras.tree.flatten_with_path(structure)]
