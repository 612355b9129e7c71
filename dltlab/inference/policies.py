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

    def changed(layer: "keras.Layer") -> "keras.Layer":
        config: dict[str, Any] = {**layer.get_config(), "dtype": policy}
        return layer.__class__.from_config(config)

    try:
        copy = keras.models.clone_model(model, clone_function=changed)
    except ValueError as error:
        raise LabError(
            f"{model.name} is a subclassed model, which cannot be changed to {precision}: write it "
            "with keras.Model(inputs, outputs), or ask for the precision that it was built in."
        ) from error
    copy.set_weights(model.get_weights())
    if precision == "float32":
        return copy
    outputs = keras.tree.map_structure(
        lambda each: keras.layers.Activation("linear", dtype="float32")(each), copy.output
    )
    return keras.Model(copy.input, outputs, name=model.name)


def _computes_in(model: "keras.Model") -> set[str]:
    """The floating-point types that the layers with weights compute in."""
    inner = [layer for layer in model._flatten_layers(include_self=False) if layer.weights]
    return {layer.compute_dtype for layer in inner}
