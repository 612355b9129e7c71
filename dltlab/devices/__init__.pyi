from .configure import setup
from .datasheets import compare, cpu_spec, gpu_spec, green500, specs
from .gpu_support import tensorflow_build, unused_gpu_reasons, visible_gpus
from .machine import inventory
from .nvml import list_gpus, nvidia_info
from .peak_memory import peak_memory
from .peaks import Peaks, Point, measure_peaks, roofline, specified_peaks
from .processes import gpu_processes
from .processor import cpu_info, memory_info
from .sampler import PowerMeter, Sampler
from .step_time import StepTime, predict_step_time
from .watcher import watch

__all__ = [
    "Peaks",
    "Point",
    "PowerMeter",
    "Sampler",
    "StepTime",
    "compare",
    "cpu_info",
    "cpu_spec",
    "gpu_processes",
    "gpu_spec",
    "green500",
    "inventory",
    "list_gpus",
    "measure_peaks",
    "memory_info",
    "nvidia_info",
    "peak_memory",
    "predict_step_time",
    "roofline",
    "setup",
    "specified_peaks",
    "specs",
    "tensorflow_build",
    "unused_gpu_reasons",
    "visible_gpus",
    "watch",
]
