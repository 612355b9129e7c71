from .backends import BACKENDS
from .benchmarking import benchmark
from .engine import Engine
from .load_testing import load_test, predict
from .manifest import engine_files
from .optimization import optimize
from .queue_testing import queue_test
from .reporting import report
from .samples import load_samples
from .serving import address_of, curl_command, listener, serve
from .stepping import step_engine
from .tuning import tune

__all__ = [
    "BACKENDS",
    "Engine",
    "address_of",
    "benchmark",
    "curl_command",
    "engine_files",
    "listener",
    "load_samples",
    "load_test",
    "optimize",
    "predict",
    "queue_test",
    "report",
    "serve",
    "step_engine",
    "tune",
]
