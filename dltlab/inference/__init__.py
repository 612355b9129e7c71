"""A trained model as a fast engine, which must stay right; its functions are listed in `__all__`.

Build (`optimize`), use and measure (`Engine`, `tune`), read step by step (`step_engine`).
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dltlab.inference.engine import Engine
    from dltlab.inference.measuring import Benchmark
    from dltlab.inference.optimizing import optimize
    from dltlab.inference.report import Report
    from dltlab.inference.stepping import StepEngine, step_engine
    from dltlab.inference.tuning import tune

__all__ = ["Benchmark", "Engine", "Report", "StepEngine", "optimize", "step_engine", "tune"]

_MODULES = {
    "Benchmark": "measuring",
    "Engine": "engine",
    "Report": "report",
    "StepEngine": "stepping",
    "optimize": "optimizing",
    "step_engine": "stepping",
    "tune": "tuning",
}


def __getattr__(name: str) -> Any:
    # Keras takes seconds to import: only who asks for something of it waits.
    if name in _MODULES:
        return getattr(importlib.import_module(f"dltlab.inference.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'dltlab.inference' has no attribute {name!r}")
