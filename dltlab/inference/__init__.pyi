from .backends import BACKENDS
from .benchmarking import Benchmark
from .engine import Engine
from .load_testing import LoadTest, load_test, predict
from .optimization import optimize
from .report import Report
from .serving import service
from .stepping import StepEngine, step_engine
from .tuning import tune

__all__ = [
    "BACKENDS",
    "Benchmark",
    "Engine",
    "LoadTest",
    "Report",
    "StepEngine",
    "load_test",
    "optimize",
    "predict",
    "service",
    "step_engine",
    "tune",
]
