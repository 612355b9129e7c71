"""Run a recurrent network or a Transformer one symbol at a time: `step_model`."""

from typing import Any

import keras
import numpy as np
from keras import layers

from dltlab.errors import Invalid
from dltlab.models.attention import CachedTransformerBlock, TransformerBlock

# Layers whose output at a position depends on their input at that position only.
_POINTWISE = (
    layers.Dense,
    layers.Dropout,
    layers.Activation,
    layers.Softmax,
    layers.BatchNormalization,
    layers.LayerNormalization,
    layers.RMSNormalization,
)
_FEATURE_AXIS = (-1, 2)  # of (b, t, features)

_NOT_A_CHAIN = (
    "The model {} is not a chain of layers with one input and one output, each called once, so it "
    "cannot run step by step: build it with keras.Sequential, models.char_rnn or "
    "models.char_transformer."
)


def step_model(model: keras.Model) -> keras.Model:
    """Build the network that reads one symbol, and keeps what it needs of those before.

    Args:
        model: An embedding of symbols, followed by recurrent layers, blocks of a Transformer and
            layers that act on each position separately, as `char_rnn` and `char_transformer` build
            it. Its weights are copied, in the same order: `step.set_weights(model.get_weights())`
            updates the copy after more training.

    Returns:
        A model with the inputs `symbol`, int32 `(b, 1)`, and each state: of a recurrent layer
        `(b, units)`; of a block the keys and the values of the last `context` symbols,
        `(b, context, width)`, and which of them exist, `(b, context)`. Its outputs are those of
        `model` at this position, `(b, num_symbols)`, and each new state, in the order of the
        inputs. The first step takes zeros as states.

    Raises:
        Invalid: The model cannot be computed step by step; the message names the layer.
    """
    symbol = x = keras.Input((1,), dtype="int32", name="symbol")
    states: list[keras.KerasTensor] = []
    new_states: list[keras.KerasTensor] = []
    for layer in _layers_in_order(model):
        if isinstance(layer, layers.RNN):
            # All cells of one kind have the same name; the layers of a model need different ones.
            cell = layer.cell.__class__.from_config({**layer.cell.get_config(), "name": layer.name})
            cell_states = _state_inputs(cell)
            output, new_cell_states = cell(x[:, 0], cell_states)
            cell.set_weights(layer.cell.get_weights())
            states += keras.tree.flatten(cell_states)
            new_states += keras.tree.flatten(new_cell_states)
            x = keras.ops.expand_dims(output, 1)
        elif isinstance(layer, TransformerBlock):
            block = CachedTransformerBlock.from_config(layer.get_config())
            cache = [
                keras.Input(shape, dtype=layer.compute_dtype)
                for shape in block.cache_shapes(x.shape[-1])
            ]
            x, *new_cache = block(x, *cache)
            block.set_weights(layer.get_weights())
            states += cache
            new_states += new_cache
        else:
            copy = layer.__class__.from_config(layer.get_config())
            x = copy(x)
            copy.set_weights(layer.get_weights())
    return keras.Model([symbol, *states], [x[:, 0], *new_states], name=model.name)


def _state_inputs(cell: keras.layers.Layer) -> Any:
    """Return an input for each state of a cell, nested as the cell nests its states."""
    return keras.tree.map_structure(
        lambda state: keras.Input(state.shape[1:], dtype=state.dtype),
        cell.get_initial_state(batch_size=1),
    )


def _layers_in_order(model: keras.Model) -> list[Any]:
    """Return the layers of a chain, first to last, and check that it reads symbols.

    Raises:
        Invalid: The model is not such a chain; the message names the layer.
    """
    chain = _chain(model)
    first = chain[0] if chain else model
    if not isinstance(first, layers.Embedding):
        raise Invalid(
            f"The model {model.name} begins with {first.name}, so it does not read symbols: begin "
            "it with an Embedding, as models.char_rnn does."
        )
    return chain


def _chain(model: keras.Model) -> list[Any]:
    """Return the layers of a model, including those of nested models, in the order they run.

    Raises:
        Invalid: The layers are not a chain or not built, or one of them needs several positions.
    """
    is_graph = isinstance(model, keras.Sequential) or hasattr(model, "operations")
    if is_graph and not model.built:
        raise Invalid(
            f"The model {model.name} has no weights yet: begin it with keras.Input, as in "
            'keras.Input((None,), dtype="int32"), and train it before you generate text.'
        )
    if not is_graph or len(model.inputs) != 1 or len(model.outputs) != 1:
        raise Invalid(_NOT_A_CHAIN.format(model.name))
    chain: list[Any] = []
    for layer in getattr(model, "operations", model.layers):
        if isinstance(layer, keras.Model):
            chain += _chain(layer)
        elif not isinstance(layer, layers.InputLayer):
            if reason := _obstacle(layer):
                raise Invalid(
                    f"The layer {layer.name} ({type(layer).__name__}) {reason}, so the model "
                    "cannot run step by step: leave it out, or use models.char_rnn."
                )
            chain.append(layer)
    if any(len(layer.get("inbound_nodes", [])) > 1 for layer in model.get_config()["layers"]):
        raise Invalid(_NOT_A_CHAIN.format(model.name))  # it calls a layer more than once
    return chain


def _obstacle(layer: Any) -> str:
    """Return why a layer cannot run on one position at a time; empty if it can."""
    if isinstance(layer, layers.Embedding):
        return "masks the symbol 0" if layer.mask_zero else ""
    if isinstance(layer, layers.RNN):
        return "reads backward" if layer.go_backwards else ""
    if isinstance(layer, TransformerBlock):
        return ""
    if not isinstance(layer, _POINTWISE):
        return "needs more than one symbol and its state"
    axes = np.atleast_1d(getattr(layer, "axis", -1))
    return "" if set(axes.tolist()) <= set(_FEATURE_AXIS) else "works across positions of the text"
