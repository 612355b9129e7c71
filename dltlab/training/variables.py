"""Create the variables of a training before its first step: `create_variables`."""

from typing import Any

import keras


def create_variables(model: keras.Model, batch: Any) -> None:
    """Create the variables of optimizer, loss and metrics before the first step.

    TensorFlow traces a step that creates variables twice, which doubles the time to start.

    Args:
        model: A compiled model. Subclassed models are left as they are: their outputs are unknown.
        batch: A batch of training data, `(inputs, labels, …)`.
    """
    if not getattr(model, "inputs", None):
        return
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    images, labels = batch[:2]
    specs = keras.tree.map_structure(
        lambda tensor: keras.KerasTensor(
            tensor.shape, keras.backend.standardize_dtype(tensor.dtype)
        ),
        images,
    )
    outputs = keras.tree.map_structure(
        lambda spec: keras.ops.zeros(spec.shape, spec.dtype), model.compute_output_spec(specs)
    )
    labels = keras.tree.map_structure(keras.ops.zeros_like, labels)
    model.compute_loss(images, labels, outputs)
    model.compute_metrics(images, labels, outputs)
    model.reset_metrics()
