"""Identify a model by its content: `model_hash`."""

import hashlib
import inspect
import json
from types import CodeType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras


def model_hash(model: "keras.Model") -> str:
    """Return the SHA-256 of a model's structure and weights, and of its own Python code.

    Models that compute the same from the same weights have the same hash: the optimizer and the
    loss do not count. Code of the author's own (layer classes, activation functions) counts as
    Python has compiled it, because code written in a notebook has no source file.
    """
    import keras
    import numpy as np

    config = keras.saving.serialize_keras_object(model) | {"compile_config": None}
    arrays: dict[str, Any] = {}
    digest = hashlib.sha256(json.dumps(config, default=repr).encode())
    for layer in model._flatten_layers():
        if not _is_from_keras(type(layer)):
            digest.update(_class_code(type(layer)).encode())
        for name, value in sorted(vars(layer).items()):  # such as the activation of a Dense
            if inspect.isfunction(value) and not _is_from_keras(value):
                digest.update(f"{name} {_instructions(value.__code__)}".encode())
            elif _is_array(value):  # such as a table of positions
                arrays[f"{layer.path} {name}"] = value
    arrays |= {weight.path: weight.value for weight in model.weights}
    for path, value in arrays.items():
        array = np.ascontiguousarray(keras.ops.convert_to_numpy(value))
        digest.update(f"{path} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _is_array(value: Any) -> bool:
    """Return whether it is an array or tensor with a value; a tensor of a graph has none."""
    import keras
    import numpy as np

    is_tensor = keras.ops.is_tensor(value) and hasattr(value, "numpy")
    return is_tensor or isinstance(value, np.ndarray)


def _is_from_keras(definition: Any) -> bool:
    package = str(definition.__module__).partition(".")[0]
    return package in ("keras", "builtins", "tensorflow")


def _class_code(layer_class: type) -> str:
    """Return the compiled methods of a class and of its base classes, without those of Keras."""
    methods = [
        (base.__qualname__, name, getattr(value, "fget", getattr(value, "__func__", value)))
        for base in layer_class.__mro__
        if not _is_from_keras(base)
        for name, value in sorted(vars(base).items())
    ]
    return " ".join(
        f"{owner}.{name} {_instructions(inspect.unwrap(method).__code__)}"
        for owner, name, method in methods
        if hasattr(inspect.unwrap(method), "__code__")
    )


def _instructions(code: CodeType) -> str:
    constants = (
        _instructions(constant) if isinstance(constant, CodeType) else _constant(constant)
        for constant in code.co_consts
    )
    return f"{code.co_code.hex()} {code.co_names} [{', '.join(constants)}]"


def _constant(value: object) -> str:
    # The order of a set differs between processes.
    return repr(sorted(map(repr, value)) if isinstance(value, frozenset) else value)
