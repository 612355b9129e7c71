"""A trained model as a fast engine, which must stay right; its functions are listed in `__all__`.

Build (`optimize`), use and measure (`Engine`, `tune`), read step by step (`step_engine`), answer
over HTTP (`service`), and ask who does (`ask`, `load_test`).
"""

import importlib
from typing import TYPE_CHECKING, Any

from dltlab.inference.backends import BACKENDS

if TYPE_CHECKING:
    from dltlab.inference.engine import Engine
    from dltlab.inference.load_testing import LoadTest, ask, load_test
    from dltlab.inference.benchmarking import Benchmark
    from dltlab.inference.optimization import optimize
    from dltlab.inference.report import Report
    from dltlab.inference.serving import service
    from dltlab.inference.stepping import StepEngine, step_engine
    from dltlab.inference.tuning import tune

__all__ = [
    "BACKENDS",
    "Benchmark",
    "Engine",
    "LoadTest",
    "Report",
    "StepEngine",
    "ask",
    "load_test",
    "optimize",
    "service",
    "step_engine",
    "tune",
]

_MODULES = {
    "Benchmark": "measuring",
    "Engine": "engine",
    "LoadTest": "load_testing",
    "Report": "report",
    "StepEngine": "stepping",
    "ask": "load_testing",
    "load_test": "load_testing",
    "optimize": "optimizing",
    "service": "serving",
    "step_engine": "stepping",
    "tune": "tuning",
}


def __getattr__(name: str) -> Any:
    # Keras takes seconds to import: only who asks for something of it waits.
    if name in _MODULES:
        return getattr(importlib.import_module(f"dltlab.inference.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'dltlab.inference' has no attribute {name!r}")
