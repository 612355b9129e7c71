"""Put a model back as it was."""

from collections.abc import Callable

import keras


def snapshot(model: keras.Model) -> Callable[[], None]:
    """Copy everything that training changes: weights, statistics, seeds, and the optimizer's state.

    Returns:
        A function that puts all of it back. What the optimizer has made since then is set to 0, as
        it is when it is made.
    """
    variables = _variables(model)
    copies = {id(each): keras.ops.copy(each.value) for each in variables}

    def restore() -> None:
        for each in _variables(model):
            kept = copies.get(id(each))
            each.assign(keras.ops.zeros_like(each.value) if kept is None else kept)

    return restore


def _variables(model: keras.Model) -> list[keras.Variable]:
    return [*model.variables, *(model.optimizer.variables if model.optimizer else [])]
