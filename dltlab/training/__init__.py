"""Training made visible, and what came of it; its functions are listed in `__all__`.

Train (`fit`, `resume`, `Monitor`, `one_cycle`, `range_test`), judge (`evaluate`, `look_inside`,
`bits_per_character`, `fast_rnn`), and use (`classify`, `generate`).
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dltlab.training.bits import bits_per_character
    from dltlab.training.classifying import classify
    from dltlab.training.evaluation import Evaluation, evaluate
    from dltlab.training.fitting import fit, resume
    from dltlab.training.generating import generate
    from dltlab.training.inside import look_inside
    from dltlab.training.monitor import Monitor
    from dltlab.training.rate_range import range_test
    from dltlab.training.rnn_kernel import FastRnn, fast_rnn
    from dltlab.training.schedules import one_cycle

__all__ = [
    "Evaluation",
    "FastRnn",
    "Monitor",
    "bits_per_character",
    "classify",
    "evaluate",
    "fast_rnn",
    "fit",
    "generate",
    "look_inside",
    "one_cycle",
    "range_test",
    "resume",
]

_MODULES = {
    "bits_per_character": "bits",
    "classify": "classifying",
    "Evaluation": "evaluation",
    "evaluate": "evaluation",
    "FastRnn": "rnn_kernel",
    "fast_rnn": "rnn_kernel",
    "fit": "fitting",
    "resume": "fitting",
    "generate": "generating",
    "look_inside": "inside",
    "Monitor": "monitor",
    "range_test": "rate_range",
    "one_cycle": "schedules",
}


def __getattr__(name: str) -> Any:
    # Keras takes seconds to import: only who asks for something of it waits.
    if name in _MODULES:
        return getattr(importlib.import_module(f"dltlab.training.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'dltlab.training' has no attribute {name!r}")
