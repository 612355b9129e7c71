"""Pause the measurement of coverage while TensorFlow is imported or adds operations to its graphs.

Before Python 3.14, coverage.py is called for each line that runs, also outside `dltlab`. An import
takes half as long again. Where tests train networks, a quarter of the time is spent on the lines of
one function.
"""

import functools
import importlib
import sys
from collections.abc import Callable
from typing import Any

import pytest

MODULE, FUNCTION = "tensorflow.python.framework.op_def_library", "_apply_op_helper"


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """Import Keras, and with it TensorFlow, in each worker."""
    if hasattr(session.config, "workerinput") and sys.gettrace():
        untraced(importlib.import_module)("keras")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Replace the function if TensorFlow has been imported since the last test."""
    module = sys.modules.get(MODULE)
    function = getattr(module, FUNCTION, None)
    if function and sys.gettrace() and not hasattr(function, "__wrapped__"):
        setattr(module, FUNCTION, untraced(function))


def untraced(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function, to be run without Python's trace function."""

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        trace = sys.gettrace()
        sys.settrace(None)
        try:
            return function(*args, **kwargs)
        finally:
            sys.settrace(trace)

    return run
