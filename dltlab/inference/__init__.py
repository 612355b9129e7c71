"""A trained model as a fast engine, which must stay right; its functions are listed in `__all__`.

Build (`optimize`), use and measure (`Engine`, `tune`), generate step by step (`step_engine`), and
answer over HTTP (`service`).
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dltlab.inference.engine import Engine
    from dltlab.inference.load_testing import LoadTest, load_test
    from dltlab.inference.measuring import Benchmark
    from dltlab.inference.optimizing import optimize
    from dltlab.inference.report import Report
    from dltlab.inference.serving import service

__all__ = ["Benchmark", "Engine", "LoadTest", "Report", "load_test", "optimize", "service"]

_MODULES = {
    "Benchmark": "measuring",
    "Engine": "engine",
    "LoadTest": "load_testing",
    "Report": "report",
    "load_test": "load_testing",
    "optimize": "optimizing",
    "service": "serving",
}


def __getattr__(name: str) -> Any:
    # Keras takes seconds to import: only who asks for something of it waits.
    if name in _MODULES:
        return getattr(importlib.import_module(f"dltlab.inference.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'dltlab.inference' has no attribute {name!r}")
