"""Training made visible: `Monitor`."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dltlab.training.monitor import Monitor

__all__ = ["Monitor"]


def __getattr__(name: str) -> type:
    # A Keras callback cannot be defined without Keras, which takes seconds to import.
    if name == "Monitor":
        from dltlab.training.monitor import Monitor

        return Monitor
    raise AttributeError(f"module 'dltlab.training' has no attribute {name!r}")
