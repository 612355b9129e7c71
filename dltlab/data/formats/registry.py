"""The formats that a card may name."""

import importlib
import pkgutil
from collections.abc import Callable
from functools import cache
from typing import TypeVar

from dltlab.data.card import DatasetCard

_card_classes: dict[str, type[DatasetCard]] = {}
CardT = TypeVar("CardT", bound=DatasetCard)


def register(name: str) -> Callable[[type[CardT]], type[CardT]]:
    """Register a card class as the format `name`, the value of `format` in a card.

    The class declares the keys of the card, as fields of a pydantic model, and reads the data: it
    derives from a card class of `dltlab.data.card`, such as `ImageCard`, and implements its
    abstract methods.
    """

    def decorate(card_class: type[CardT]) -> type[CardT]:
        _card_classes[name] = card_class
        return card_class

    return decorate


def format_names() -> list[str]:
    """Return the names of all formats, in alphabetical order."""
    _import_formats()
    return sorted(_card_classes)


def card_class(name: str) -> type[DatasetCard]:
    """Return the card class of a format, one of `format_names()`."""
    _import_formats()
    return _card_classes[name]


@cache
def _import_formats() -> None:
    """Import every module of this package; each registers its format."""
    package = importlib.import_module(__name__.rpartition(".")[0])
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)
