"""What the parts of a batch contribute to one training: losses, moving statistics, moments."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import keras

from dltlab.errors import Invalid

if TYPE_CHECKING:
    import tensorflow as tf

_MEANS = {"sum_over_batch_size", "mean"}


def require_unprepared(model: keras.Model) -> None:
    """Check that no step of a model is replaced yet: its batches would be divided twice.

    Raises:
        Invalid: They are.
    """
    if "train_step" in vars(model):
        raise Invalid("The model is prepared already: prepare a model once, after it is made.")


def kind_of_loss(model: keras.Model, y_pred: Any, part: str) -> Literal["mean", "masked", "sum"]:
    """Return how the loss of a model is made of those of the rows.

    Args:
        model: A compiled model.
        y_pred: Its outputs, of which some may have a mask.
        part: What computes a part of a batch, in the plural: "workers" or "replicas".

    Returns:
        "mean" over the rows, "masked" for the mean over those places that a mask does not hide, or
        "sum".

    Raises:
        Invalid: There are several losses, and not all are means; or a reduction is not known.
    """
    compiled = model._compile_loss
    losses = [] if compiled is None else keras.tree.flatten(compiled._user_loss)
    reductions = {
        getattr(loss, "reduction", "sum_over_batch_size") for loss in losses if loss is not None
    }
    outputs = keras.tree.flatten(y_pred)
    is_masked = any(getattr(output, "_keras_mask", None) is not None for output in outputs)
    if reductions <= _MEANS and not is_masked:
        return "mean"
    if len(losses) > 1 or not reductions <= _MEANS | {"sum"}:
        raise Invalid(
            "A model with several losses, of which one sums or has a mask, or with the reductions "
            f"{', '.join(map(str, sorted(reductions, key=str)))}, cannot be trained on several "
            f"{part}: use the reduction sum_over_batch_size and no masks."
        )
    return "sum" if "sum" in reductions else "masked"


def weigh_losses(model: keras.Model, weight: Callable[[], "tf.Tensor | None"]) -> None:
    """Let the mean of each of several losses count by its rows: Keras counts all parts the same.

    Args:
        model: A compiled model; nothing changes if this was called since it was compiled.
        weight: Returns the fraction of a batch's rows that a part has; None outside of a step.
    """
    compiled = model._compile_loss
    if compiled is None or "build" in vars(compiled):
        return
    build = compiled.build

    def build_and_weigh(*structures: Any) -> None:
        build(*structures)
        for metric in compiled.metrics:
            _weigh(metric, weight)

    object.__setattr__(compiled, "build", build_and_weigh)
    for metric in compiled.metrics:
        _weigh(metric, weight)


def _weigh(metric: keras.Metric, weight: Callable[[], "tf.Tensor | None"]) -> None:
    update = metric.update_state

    def weighted_update(value: Any, sample_weight: Any = None) -> Any:
        fraction = weight()
        if fraction is not None:
            sample_weight = fraction * (1 if sample_weight is None else sample_weight)
        return update(value, sample_weight=sample_weight)

    object.__setattr__(metric, "update_state", weighted_update)


def num_valid(y_pred: Any) -> "tf.Tensor":
    """Return the number of places that the mask of an output does not hide, float32."""
    import tensorflow as tf

    return tf.reduce_sum(tf.cast(keras.tree.flatten(y_pred)[0]._keras_mask, tf.float32))


def normalizations(model: keras.Model) -> list[keras.layers.BatchNormalization]:
    """Return the layers of batch normalization, also those of inner models."""
    return [
        layer
        for layer in model._flatten_layers()
        if isinstance(layer, keras.layers.BatchNormalization)
    ]


def moving_statistics(model: keras.Model) -> list[keras.Variable]:
    """Return the moving statistics of all layers of batch normalization."""
    names = ("moving_mean", "moving_variance", "renorm_mean", "renorm_stddev")
    return [
        variable
        for layer in normalizations(model)
        for name in names
        if (variable := getattr(layer, name, None)) is not None
    ]


def states_of_step(model: keras.Model, training: bool) -> list[keras.Variable]:
    """Return what a step of a part changes, except for what is averaged over the parts."""
    averaged = {id(variable) for variable in moving_statistics(model)} if training else set()
    return [
        variable
        for variable in model.non_trainable_variables + model.metrics_variables
        if id(variable) not in averaged
    ]


def global_moments(
    inputs: "tf.Tensor",
    axes: Sequence[int],
    is_real: "tf.Tensor",
    total: Callable[["list[tf.Tensor]"], "Sequence[tf.Tensor]"],
) -> "tuple[tf.Tensor, tf.Tensor]":
    """Return mean and variance of all parts of a batch.

    Args:
        inputs: This part, of any floating dtype; computed in float32.
        axes: Those to reduce.
        is_real: 0.0 if the part only stands in for no rows, else 1.0.
        total: Returns the sums of tensors over all parts.
    """
    import tensorflow as tf

    values = tf.cast(inputs, tf.float32)
    parts = (values, tf.square(values), tf.ones_like(values))
    sums, squares, counts = total([is_real * tf.reduce_sum(part, axes) for part in parts])
    mean = sums / counts
    variance = tf.maximum(squares / counts - tf.square(mean), 0.0)
    return tf.cast(mean, inputs.dtype), tf.cast(variance, inputs.dtype)
