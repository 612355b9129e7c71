"""Several small networks that learn the same and are computed at once: `deep_ensemble`."""

from typing import Any

import keras
from keras import layers

from dltlab.errors import Invalid


def deep_ensemble(
    members: int, num_inputs: int, num_classes: int, *, width: int = 64
) -> keras.Model:
    """Build networks with two hidden layers of ReLUs that differ in their initial weights.

    Where they were trained they agree, and elsewhere they differ, which tells how much to trust
    them (B. Lakshminarayanan and others, 2017, arXiv:1612.01474). Their weights are stacked, so
    that a layer of all members is one operation. A loss that is a mean over the members trains each
    of them as if it were alone, apart from the scale of the gradient, which Adam removes.

    Args:
        members: The number of networks.
        num_inputs: The number of features.
        num_classes: The number of logits.
        width: Units of each hidden layer.

    Returns:
        A model from features `(batch, num_inputs)` to logits `(batch, members, num_classes)`, both
        float32.

    Raises:
        Invalid: A number is below 1.
    """
    for name, value in {
        "members": members,
        "num_inputs": num_inputs,
        "num_classes": num_classes,
        "width": width,
    }.items():
        if value < 1:
            raise Invalid(f"{name} must be at least 1, not {value}.")
    inputs = keras.Input((num_inputs,), dtype="float32")
    x = layers.RepeatVector(members)(inputs)
    x = _dense(members, num_inputs, width, gain=2.0, activation="relu")(x)
    x = _dense(members, width, width, gain=2.0, activation="relu")(x)
    logits = _dense(members, width, num_classes, gain=1.0)(x)
    return keras.Model(inputs, logits, name="deep_ensemble")


def _dense(
    members: int, num_inputs: int, num_outputs: int, *, gain: float, activation: str | None = None
) -> Any:
    """Return a dense layer for each member: `(batch, members, num_inputs)` to `num_outputs`.

    The initial weights have the variance gain / num_inputs. Keras' initializers would take the axis
    of the members for positions of a convolution.
    """
    deviation = (gain / num_inputs) ** 0.5
    return layers.EinsumDense(
        "bmi,mio->bmo",
        output_shape=(members, num_outputs),
        bias_axes="mo",
        activation=activation,
        kernel_initializer=keras.initializers.RandomNormal(stddev=deviation),
        dtype="float32",
    )
