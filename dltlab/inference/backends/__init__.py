"""Compilers and runtimes for trained networks: one module for each backend.

To add a backend, add a module with a subclass of `Backend` to this folder.
"""

import importlib
import inspect
import pkgutil
from collections.abc import Iterator

from dltlab.errors import Invalid, Unavailable
from dltlab.inference.backends.base import Backend


def get_backend(name: str) -> Backend:
    """Return the backend with that name, if it can run here.

    Raises:
        Invalid: There is no backend with that name.
        Unavailable: It cannot run here; the message says why and how to fix that.
    """
    if name not in _REGISTRY:
        raise Invalid(f"backend is '{name}'; it must be auto or one of {', '.join(BACKENDS)}.")
    backend = _REGISTRY[name]
    if reason := backend.unavailable_reason():
        raise Unavailable(f"The backend {name} cannot run here: {reason}")
    return backend


def auto_backends() -> list[str]:
    """Return the names of the backends that "auto" tries on this machine, in order."""
    ranked = [
        (rank, name)
        for name, backend in _REGISTRY.items()
        if (rank := backend.auto_rank()) is not None
    ]
    return [name for _, name in sorted(ranked)]


def _find_backends() -> Iterator[Backend]:
    """Create one object of each backend class that a module of this folder defines."""
    for module_info in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{module_info.name}")
        for value in vars(module).values():
            if (
                inspect.isclass(value)
                and issubclass(value, Backend)
                and value.__module__ == module.__name__
                and not inspect.isabstract(value)
            ):
                yield value()


_REGISTRY = {backend.name: backend for backend in _find_backends()}
BACKENDS = tuple(sorted(_REGISTRY))  # the names of the backends
