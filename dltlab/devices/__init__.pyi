from .configure import setup
from .datasheets import compare, green500, specs
from .machine import inventory
from .nvml import list_gpus
from .peaks import Point, measure_peaks, roofline
from .processes import gpu_processes
from .processor import cpu_info, memory_info
from .sampler import PowerMeter
from .watcher import watch

__all__ = [
    "Point",
    "PowerMeter",
    "compare",
    "cpu_info",
    "gpu_processes",
    "green500",
    "inventory",
    "list_gpus",
    "measure_peaks",
    "memory_info",
    "roofline",
    "setup",
    "specs",
    "watch",
]
