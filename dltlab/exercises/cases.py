"""The cases of a declared exercise: arguments for one call of an answer."""

import inspect
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np

_LONGEST = 8  # elements of an array or list, and
_LONGEST_TEXT = 40  # characters, that a call shows; longer ones are shown by name


def random_arrays(*shapes: tuple[int, ...], seed: int = 1) -> tuple[np.ndarray, ...]:
    """Return an array of each shape, float64, drawn from the standard normal distribution.

    Args:
        shapes: One for each array.
        seed: Equal seeds give equal numbers.
    """
    generator = np.random.default_rng(seed)
    return tuple(generator.normal(size=shape) for shape in shapes)


@dataclass(frozen=True)
class Case:
    """The arguments of one call."""

    arguments: tuple[Any, ...]
    names: tuple[str, ...]

    def fresh(self) -> tuple[Any, ...]:
        """Return the arguments in copies that the answer may not change, but could."""
        return tuple(map(_copied, self.arguments))

    def changed(self, arguments: tuple[Any, ...]) -> str | None:
        """Return the name of the first argument that differs from what it was."""
        pairs = zip(self.names, self.arguments, arguments, strict=True)
        return next((name for name, old, new in pairs if not _same(old, new)), None)

    def call(self, function: str) -> str:
        """Return the call in Python, with long arguments by their names."""
        values = (
            name if (text := _short(value)) is None else text
            for name, value in zip(self.names, self.arguments, strict=True)
        )
        return f"{function}({', '.join(values)})"

    @property
    def is_short(self) -> bool:
        """Whether a call shows all of its arguments."""
        return all(_short(value) is not None for value in self.arguments)

    @property
    def sizes(self) -> tuple[Any, ...]:
        """The shape or length of each argument; None for a number."""
        return tuple(map(_size, self.arguments))

    def describe_sizes(self) -> str:
        """Return the shapes and lengths of the arguments that a call shows by name."""
        named = [
            (name, _size(value))
            for name, value in zip(self.names, self.arguments, strict=True)
            if _short(value) is None
        ]
        return ", ".join(f"{name}: {size[0]} {size[1]}" for name, size in named if size)


def parameter_names(function: Callable[..., Any], number: int) -> tuple[str, ...]:
    """Return the names of the first `number` parameters of a function."""
    names = [
        parameter.name
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind is not parameter.VAR_POSITIONAL
    ]
    return (*names, *(f"argument {place}" for place in range(len(names), number)))[:number]


def _copied(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, list):
        return [_copied(item) for item in value]
    if type(value) is tuple:
        return tuple(map(_copied, value))
    if isinstance(value, dict):
        twin = copy(value)  # keeps a Counter a Counter
        for key, item in value.items():
            twin[key] = _copied(item)
        return twin
    if isinstance(value, set):
        return set(value)
    return value


def _same(old: Any, new: Any) -> bool:
    if isinstance(old, np.ndarray):
        return old.shape == np.shape(new) and bool(np.array_equal(old, new, _is_float(old)))
    if isinstance(old, list | tuple):
        return len(old) == len(new) and all(map(_same, old, new))
    if isinstance(old, dict):
        return old.keys() == new.keys() and all(_same(old[key], new[key]) for key in old)
    if isinstance(old, set | int | float | str | bytes | None):
        return bool(old == new) or old != old  # nan
    return True


def _is_float(array: np.ndarray) -> bool:
    return array.dtype.kind in "fc"


def _short(value: Any) -> str | None:
    """Return a short value in Python; None for one that is better named than shown."""
    if isinstance(value, np.ndarray | np.generic):
        return _short(value.tolist()) if value.size <= _LONGEST and value.ndim < 2 else None
    if isinstance(value, bool | int | type(None)):
        return repr(value)
    if isinstance(value, float):
        text = f"{value:.6g}"
        return text if set(text) & set(".en") else f"{text}.0"
    if isinstance(value, str):
        return repr(value) if len(value) <= _LONGEST_TEXT else None
    if isinstance(value, list | tuple):
        items = list(map(_short, value))
        texts = [text for text in items if text is not None]
        if len(texts) == len(items) <= _LONGEST and sum(map(len, texts)) <= _LONGEST_TEXT:
            left, right = "[]" if isinstance(value, list) else "()"
            comma = "," if isinstance(value, tuple) and len(items) == 1 else ""
            return f"{left}{', '.join(texts)}{comma}{right}"
    return None


def _size(value: Any) -> tuple[str, Any] | None:
    if isinstance(value, np.ndarray):
        return ("shape", value.shape)
    if isinstance(value, list | tuple) and any(isinstance(item, np.ndarray) for item in value):
        return ("shapes", [np.shape(item) for item in value])
    if isinstance(value, list | tuple | Mapping | set):
        return ("length", len(value))
    return None
