"""Create the variables of a training before its first step: `create_variables`."""

from typing import Any

import keras

from dltlab.training.sanity_checks import has_own_step


def create_variables(model: keras.Model, batch: Any) -> None:
    """Create the variables of optimizer, loss and metrics before the first step.

    TensorFlow traces a step that creates variables twice, which doubles the time to start.

    Args:
        model: A compiled model. Models are left as they are if their outputs are not known, as
            those of subclassed models, or of batches whose shape Keras has to change, or if they
            compute their loss in their own way; also those with replicas on several devices, whose
            variables Keras creates in the scope of their strategy.
        batch: A batch of training data: inputs, targets and weights, of which the last two may be
            missing.
    """
    inputs, targets, weights = keras.utils.unpack_x_y_sample_weight(batch)
    if not getattr(model, "inputs", None) or has_own_step(model):
        return
    if model.distribute_strategy.num_replicas_in_sync > 1:
        return
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    tensors = keras.tree.flatten(batch)
    is_ragged = any(None in tensor.shape for tensor in tensors)
    has_own_ranks = any(
        len(tensor.shape) != len(expected.shape)
        for tensor, expected in zip(tensors, model.inputs, strict=False)
    )
    if model.loss is None or targets is None or is_ragged or has_own_ranks:
        return
    specs = keras.tree.map_structure(
        lambda tensor: keras.KerasTensor(
            tensor.shape, keras.backend.standardize_dtype(tensor.dtype)
        ),
        inputs,
    )
    with keras.StatelessScope():  # without it, the model would keep symbolic losses of its layers
        output_specs = model.compute_output_spec(specs)
    outputs = keras.tree.map_structure(
        lambda spec: keras.ops.zeros(spec.shape, spec.dtype), output_specs
    )
    targets = keras.tree.map_structure(keras.ops.zeros_like, targets)
    model.compute_loss(inputs, targets, outputs, weights)
    model.compute_metrics(inputs, targets, outputs, weights)
    model.reset_metrics()
