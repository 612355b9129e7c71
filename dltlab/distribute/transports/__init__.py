"""How tensors are summed over workers: one module for each transport.

To add a transport, add a module with a subclass of `Transport` to this folder.
"""

import importlib
import inspect
import pkgutil
from collections.abc import Iterator

from dltlab.distribute.cluster import Worker
from dltlab.distribute.socket_ring import SocketRing
from dltlab.distribute.transports.base import Transport
from dltlab.distribute.transports.ring import RingTransport
from dltlab.errors import Invalid, Unavailable


def start_transport(name: str, ring: SocketRing, place: Worker) -> Transport:
    """Start the transport with that name, or with "auto" the best for all workers.

    Raises:
        Invalid: There is no such transport, or another worker asks for another one.
        Unavailable: A worker cannot use it; the message says why and how to fix that.
    """
    if name != "auto" and name not in TRANSPORTS:
        raise Invalid(f"transport is '{name}'; it must be auto or one of {', '.join(TRANSPORTS)}.")
    if ring.size == 1:
        return RingTransport(ring)
    kinds = [kind for kind in TRANSPORTS.values() if name in ("auto", kind.name)]
    if name == "auto":
        kinds = [kind for kind in kinds if kind.is_automatic()]
    answers = ring.exchange(
        {
            "transport": name,
            "reasons": {kind.name: kind.unavailable_reason(place) for kind in kinds},
        }
    )
    _check_same([answer["transport"] for answer in answers])
    reasons = [answer["reasons"] for answer in answers]
    for kind in kinds:
        if all(of_worker.get(kind.name, "not automatic") == "" for of_worker in reasons):
            try:
                return kind(ring)
            except Unavailable:  # on all workers
                if name != "auto":
                    raise
    rank, reason = next((rank, of[name]) for rank, of in enumerate(reasons) if of[name])
    raise Unavailable(f"Worker {rank} cannot use the transport {name}: {reason}.")


def _check_same(names: list[str]) -> None:
    for rank, name in enumerate(names):
        if name != names[0]:
            raise Invalid(
                f"Worker 0 asks for the transport {names[0]} and worker {rank} for {name}: name "
                "the same in all workers."
            )


def _find_transports() -> Iterator[type[Transport]]:
    """Yield the classes of transports that the modules of this folder define."""
    for module_info in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{module_info.name}")
        for value in vars(module).values():
            if (
                inspect.isclass(value)
                and issubclass(value, Transport)
                and value.__module__ == module.__name__
                and not inspect.isabstract(value)
            ):
                yield value


TRANSPORTS = {
    kind.name: kind for kind in sorted(_find_transports(), key=lambda kind: kind.priority)
}
