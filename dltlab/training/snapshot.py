"""Save and restore the state of a model in memory: `snapshot`."""

from collections.abc import Callable

import keras


def snapshot(model: keras.Model) -> Callable[[], None]:
    """Copy everything that training changes: weights, statistics, seeds, the optimizers' state.

    Returns:
        A function that restores all of it. Variables that an optimizer has created since are set
        to 0, their initial value.
    """
    copies = {id(variable): keras.ops.copy(variable.value) for variable in _variables(model)}

    def restore() -> None:
        for variable in _variables(model):
            copy = copies.get(id(variable))
            variable.assign(keras.ops.zeros_like(variable.value) if copy is None else copy)

    return restore


def _variables(model: keras.Model) -> list[keras.Variable]:
    optimizers = (value for value in vars(model).values() if isinstance(value, keras.Optimizer))
    return [*model.variables, *(variable for value in optimizers for variable in value.variables)]
