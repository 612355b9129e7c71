"""Networks and their cost: the classics, small ones to train here, `cost` for any model."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dltlab.models.classic import alexnet, googlenet, resnet50, vgg16
    from dltlab.models.costs import Cost, cost
    from dltlab.models.recurrent import char_rnn
    from dltlab.models.small import small_inception, small_resnet, small_vgg
    from dltlab.models.stepping import step_model

__all__ = [
    "Cost",
    "alexnet",
    "char_rnn",
    "cost",
    "googlenet",
    "resnet50",
    "small_inception",
    "small_resnet",
    "small_vgg",
    "step_model",
    "vgg16",
]

_MODULES = {
    **dict.fromkeys(("alexnet", "googlenet", "resnet50", "vgg16"), "classic"),
    **dict.fromkeys(("Cost", "cost"), "counting"),
    "char_rnn": "recurrent",
    "step_model": "stepping",
    **dict.fromkeys(("small_inception", "small_resnet", "small_vgg"), "small"),
}


def __getattr__(name: str) -> Any:
    # Keras takes seconds to import: only who asks for a network waits for it.
    if name in _MODULES:
        return getattr(importlib.import_module(f"dltlab.models.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'dltlab.models' has no attribute {name!r}")
