"""The same model in another precision."""

from typing import TYPE_CHECKING, Any

from dltlab.errors import LabError

if TYPE_CHECKING:
    import keras

_POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}


def in_precision(model: "keras.Model", precision: str) -> "keras.Model":
    """The model itself where it computes in `precision` already, else a copy that does.

    The copy keeps its weights in float32, and gives float32: bfloat16 and float16 are Keras' mixed
    policies.

    Raises:
        LabError: The model is written in Python code of its own, which cannot be copied.
    """
    import keras

    if _computes_in(model) == {precision}:
        return model
    policy = _POLICIES[precision]

    def changed(layer: "keras.Operation") -> "keras.Operation":
        if not isinstance(layer, keras.Layer):  # as `x + y`, which has no policy
            return layer.__class__.from_config(layer.get_config())
        config = _with_policy(layer.get_config(), policy)
        return layer.__class__.from_config({**config, "dtype": policy})

    try:
        copy = keras.models.clone_model(model, clone_function=changed, recursive=True)
    except (ValueError, TypeError) as error:
        raise LabError(
            f"{model.name} cannot be changed to {precision}, since it has Python code of its own "
            "(a subclassed model, a Lambda): write it with keras.Model(inputs, outputs) and Keras' "
            "layers, or ask for the precision that it was built in."
        ) from error
    copy.set_weights(model.get_weights())
    if precision == "float32":
        return copy
    outputs = [keras.layers.Activation("linear", dtype="float32")(each) for each in copy.outputs]
    return keras.Model(_alone(copy.inputs), _alone(outputs), name=model.name)


def _alone(some: list[Any]) -> Any:
    return some[0] if len(some) == 1 else some


def _with_policy(config: Any, policy: str) -> Any:
    """A layer's config with another dtype policy in the layers within it, as in Bidirectional."""
    if isinstance(config, list | tuple):
        return [_with_policy(each, policy) for each in config]
    if not isinstance(config, dict):
        return config
    return {
        name: policy if name == "dtype" else _with_policy(value, policy)
        for name, value in config.items()
    }


def _computes_in(model: "keras.Model") -> set[str]:
    """The floating-point types that the layers with weights compute in."""
    inner = [layer for layer in model._flatten_layers(include_self=False) if layer.weights]
    return {layer.compute_dtype for layer in inner}
