"""Libraries remember the home folder of the account that imported them; let them forget it."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from traitlets import HasTraits


class HomeVariables:
    """The variables of all modules, and the defaults of traits, that contain the folder `home`.

    Args:
        home: The home folder when the modules were imported; no other text contains it.
    """

    def __init__(self, home: str) -> None:
        self._home = home
        self._places = [
            (variables, name)
            for variables in [*_module_variables(), *_trait_defaults()]
            for name, value in list(variables.items())
            if any(home in text for text in _texts(value))
        ]
        self._caches = [*_matplotlib_caches()]

    def replace(self, home: str) -> None:
        """Put another home folder in its place."""
        for variables, name in self._places:
            variables[name] = _replaced(variables[name], self._home, home)
        for cache in self._caches:
            cache["called"].cell_contents = False


def _module_variables() -> Iterator[dict[str, Any]]:
    for module in list(sys.modules.values()):
        if isinstance(module, ModuleType) and module.__name__ != "__main__":
            yield vars(module)


def _trait_defaults() -> Iterator[dict[str, Any]]:
    """Yield where traitlets keeps the defaults of a class: with each trait, and all together."""
    classes: list[Any] = [HasTraits]
    for one in classes:
        classes += one.__subclasses__()  # the loop goes on with them
        yield from (vars(trait) for trait in one.class_own_traits().values())
        yield one._static_immutable_initial_values


def _texts(value: Any) -> Iterator[str]:
    """Yield the texts and paths in a value, as texts."""
    if isinstance(value, str | Path):
        yield str(value)
    elif type(value) in (list, tuple):
        yield from (str(item) for item in value if isinstance(item, str | Path))
    elif type(value) is dict:
        yield from (str(item) for item in value.values() if isinstance(item, str | Path))


def _replaced(value: Any, old: str, new: str) -> Any:
    """Return a value with one folder in the place of another; change lists and dicts in place."""
    if isinstance(value, str):
        return value.replace(old, new)
    if isinstance(value, Path):
        return type(value)(str(value).replace(old, new))
    if isinstance(value, tuple):
        return tuple(_replaced(item, old, new) for item in value)
    if isinstance(value, list):
        value[:] = [_replaced(item, old, new) for item in value]
    elif isinstance(value, dict):
        value.update({key: _replaced(item, old, new) for key, item in value.items()})
    return value


def _matplotlib_caches() -> Iterator[dict[str, Any]]:
    """Yield the variables of the functions that compute a folder once."""
    matplotlib = sys.modules.get("matplotlib")
    for name in ("get_configdir", "get_cachedir"):
        function = getattr(matplotlib, name, None)
        if isinstance(function, FunctionType) and function.__closure__:
            cells = dict(zip(function.__code__.co_freevars, function.__closure__, strict=True))
            if "called" in cells:
                yield cells
