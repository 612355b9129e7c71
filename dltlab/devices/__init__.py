"""The one place that knows hardware; its functions are listed in `__all__`.

Find out (`inventory`, `gpu_processes`, `diagnose`), set up (`setup`), watch (`watch`), and
compare with what is possible (`specs`, `compare`, `green500`, `measure_peaks`, `roofline`).
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dltlab.devices.configure import setup
    from dltlab.devices.datasheets import compare, green500, specs
    from dltlab.devices.doctor import diagnose
    from dltlab.devices.processes import gpu_processes
    from dltlab.devices.machine import inventory
    from dltlab.devices.peaks import Point, measure_peaks, roofline
    from dltlab.devices.watcher import watch

__all__ = [
    "Point",
    "compare",
    "diagnose",
    "green500",
    "inventory",
    "measure_peaks",
    "roofline",
    "setup",
    "specs",
    "watch",
    "gpu_processes",
]

_MODULES = {
    "compare": "datasheets",
    "green500": "datasheets",
    "specs": "datasheets",
    "diagnose": "doctor",
    "inventory": "machine",
    "measure_peaks": "peaks",
    "Point": "peaks",
    "roofline": "peaks",
    "setup": "configure",
    "watch": "watcher",
    "gpu_processes": "holders",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(f"dltlab.devices.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'dltlab.devices' has no attribute {name!r}")
