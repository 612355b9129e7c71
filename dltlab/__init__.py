"""dltlab: the support package behind the labs; its rooms load on first use."""

import importlib
from types import ModuleType

__version__ = "0.1.0"

_ROOMS = (
    *("course", "data", "devices", "display", "exercises"),
    *("inference", "kernels", "models", "training", "widgets"),
)


def __getattr__(name: str) -> ModuleType:
    if name in _ROOMS:
        return importlib.import_module(f"dltlab.{name}")
    raise AttributeError(f"module 'dltlab' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *_ROOMS]
