from .configure import setup
from .datasheets import compare, green500, specs
from .machine import inventory
from .peaks import Point, measure_peaks, roofline
from .processes import gpu_processes
from .watcher import watch

__all__ = [
    "Point",
    "compare",
    "gpu_processes",
    "green500",
    "inventory",
    "measure_peaks",
    "roofline",
    "setup",
    "specs",
    "watch",
]
