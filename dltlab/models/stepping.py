"""A recurrent network that reads one symbol at a time: `step_model`."""

from typing import Any

import keras
import numpy as np
from keras import layers

from dltlab.errors import LabError

# Layers whose output at a place depends on their input at that place alone.
_POINTWISE = (
    layers.Dense,
    layers.Dropout,
    layers.Activation,
    layers.Softmax,
    layers.BatchNormalization,
    layers.LayerNormalization,
    layers.RMSNormalization,
)
_LAST_AXIS = (-1, 2)  # of (b, t, features)


def step_model(model: keras.Model) -> keras.Model:
    """One step of a recurrent network, with its state as inputs and outputs.

    Args:
        model: As `row_of` takes it. What it learns later is not in the result.

    Returns:
        It takes the symbol, int32 `(b, 1)`, and each state, `(b, units)`; it gives what the model
        gives at that place, `(b, num_symbols)`, and each state afterwards.

    Raises:
        LabError: The model cannot be run step by step.
    """
    symbol = x = keras.Input((1,), dtype="int32", name="symbol")
    before, after = [], []
    for layer in row_of(model):
        if isinstance(layer, layers.RNN):
            # Keras calls all cells alike, and a model's layers need different names.
            cell = layer.cell.__class__.from_config({**layer.cell.get_config(), "name": layer.name})
            empty = layer.cell.get_initial_state(batch_size=1)
            states = keras.tree.map_structure(
                lambda each: keras.Input(each.shape[1:], dtype=each.dtype), empty
            )
            output, new = cell(x[:, 0], states)
            cell.set_weights(layer.cell.get_weights())
            before += keras.tree.flatten(states)
            after += keras.tree.flatten(new)
            x = keras.ops.expand_dims(output, 1)
        else:
            copy = layer.__class__.from_config(layer.get_config())
            x = copy(x)
            copy.set_weights(layer.get_weights())
    return keras.Model([symbol, *before], [x[:, 0], *after], name=model.name)


def row_of(model: keras.Model) -> list[keras.layers.Layer]:
    """The layers of a model in the order in which they run, those of inner models among them.

    Raises:
        LabError: They are not in a row, or not built, or one needs more than a symbol at a time.
    """
    is_known = isinstance(model, keras.Sequential) or hasattr(model, "operations")
    if is_known and not model.built:
        raise LabError(
            f"The model {model.name} has no weights yet: begin it with keras.Input, as in "
            'keras.Input((None,), dtype="int32"), and train it before it writes.'
        )
    if not is_known or len(model.inputs) != 1 or len(model.outputs) != 1:
        raise LabError(
            f"The model {model.name} is no row of layers with one input and one output, so that "
            "it cannot be run step by step: build it with keras.Sequential or models.char_rnn."
        )
    row: list[Any] = []
    for layer in getattr(model, "operations", model.layers):
        if isinstance(layer, keras.Model):
            row += row_of(layer)
        elif not isinstance(layer, layers.InputLayer):
            if why := _obstacle(layer):
                raise LabError(
                    f"The layer {layer.name} ({type(layer).__name__}) {why}, so that the model "
                    "cannot write step by step: leave it out, or train models.char_rnn."
                )
            row.append(layer)
    return row


def _obstacle(layer: Any) -> str:
    """Why a layer cannot be run for one symbol at a time; empty where it can."""
    if isinstance(layer, layers.Embedding):
        return "masks the symbol 0" if layer.mask_zero else ""
    if isinstance(layer, layers.RNN):
        return "reads backward" if layer.go_backwards else ""
    if not isinstance(layer, _POINTWISE):
        return "needs more than one symbol and its state"
    axes = np.atleast_1d(getattr(layer, "axis", -1))
    return "" if set(axes.tolist()) <= set(_LAST_AXIS) else "works across places of the text"
