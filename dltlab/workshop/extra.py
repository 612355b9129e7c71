"""Whether the packages of the extra `workshop` are installed."""

import importlib.util
import os

from dltlab.errors import Unavailable

_MODULES = ("aiohttp", "cryptography", "jupyterhub", "jupyterhub_traefik_proxy", "segno")


def require_extra() -> None:
    """Raise unless a workshop can be run here.

    Raises:
        Unavailable: A package is missing, or the system is Windows.
    """
    if os.name != "posix":
        raise Unavailable("A workshop needs Linux or macOS; on Windows, run it in WSL.")
    for name in _MODULES:
        if importlib.util.find_spec(name) is None:
            raise Unavailable(f"{name} is not installed. Run: pip install 'dltlab[workshop]'")
