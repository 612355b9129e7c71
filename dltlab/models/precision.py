"""Convert a model to another numerical precision: `in_precision`."""

from typing import TYPE_CHECKING, Any

from dltlab.errors import Invalid

if TYPE_CHECKING:
    import keras

_POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}


def in_precision(model: "keras.Model", precision: str) -> "keras.Model":
    """Return the model itself if it already computes in `precision`, else a copy that does.

    The copy keeps its weights in float32 and returns float32. For bfloat16 and float16 its layers
    have Keras' mixed-precision policies.

    Args:
        model: A model built from Keras layers.
        precision: "float32", "bfloat16" or "float16".

    Raises:
        Invalid: The model contains Python code of its own, which cannot be copied.
    """
    import keras

    if _compute_dtypes(model) == {precision}:
        return model
    policy = _POLICIES[precision]

    def converted(layer: "keras.Operation") -> "keras.Operation":
        if not isinstance(layer, keras.Layer):  # such as `x + y`, which has no policy
            return layer.__class__.from_config(layer.get_config())
        config = _with_policy(layer.get_config(), policy)
        return layer.__class__.from_config({**config, "dtype": policy})

    try:
        copy = keras.models.clone_model(model, clone_function=converted, recursive=True)
    except (ValueError, TypeError) as error:
        raise Invalid(
            f"{model.name} cannot be converted to {precision}, because it contains Python code of "
            "its own (a subclassed model or a Lambda layer). Build it with "
            "keras.Model(inputs, outputs) and Keras' layers, or choose the precision that it was "
            "built in."
        ) from error
    copy.set_weights(model.get_weights())
    for layer in copy._flatten_layers():
        if hasattr(
            layer, "finalize_state"
        ):  # as Normalization, which computes tensors from weights
            layer.finalize_state()
    if precision == "float32":
        return copy
    outputs = [
        keras.layers.Activation("linear", dtype="float32")(output) for output in copy.outputs
    ]
    return keras.Model(_unpacked(copy.inputs), _unpacked(outputs), name=model.name)


def _unpacked(tensors: list[Any]) -> Any:
    """Return the tensor of a list of one, else the list."""
    return tensors[0] if len(tensors) == 1 else tensors


def _with_policy(config: Any, policy: str) -> Any:
    """Return a layer's config with `policy` in all layers inside it, as in Bidirectional."""
    if isinstance(config, list | tuple):
        return [_with_policy(item, policy) for item in config]
    if not isinstance(config, dict):
        return config
    return {
        key: policy if key == "dtype" else _with_policy(value, policy)
        for key, value in config.items()
    }


def _compute_dtypes(model: "keras.Model") -> set[str]:
    """Return the dtypes that the layers with weights compute in; of all layers if none has any."""
    layers = list(model._flatten_layers(include_self=False))
    with_weights = [layer for layer in layers if layer.weights]
    return {layer.compute_dtype for layer in with_weights or layers}
