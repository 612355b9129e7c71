"""Training made visible, and what came of it; its functions are listed in `__all__`.

Train (`fit`, `resume`, `Monitor`, `one_cycle`, `lr_range_test`), judge (`evaluate`, `inspect`,
`bits_per_character`, `check_cudnn`), and use (`classify`, `generate`).
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dltlab.training.text_metrics import bits_per_character
    from dltlab.training.classification import classify
    from dltlab.training.evaluation import Evaluation, evaluate
    from dltlab.training.fitting import fit, resume
    from dltlab.training.generation import generate
    from dltlab.training.inspection import inspect
    from dltlab.training.monitor import Monitor
    from dltlab.training.lr_finder import lr_range_test
    from dltlab.training.cudnn import CudnnCheck, check_cudnn
    from dltlab.training.schedules import one_cycle

__all__ = [
    "Evaluation",
    "CudnnCheck",
    "Monitor",
    "bits_per_character",
    "classify",
    "evaluate",
    "check_cudnn",
    "fit",
    "generate",
    "inspect",
    "one_cycle",
    "lr_range_test",
    "resume",
]

_MODULES = {
    "bits_per_character": "bits",
    "classify": "classifying",
    "Evaluation": "evaluation",
    "evaluate": "evaluation",
    "CudnnCheck": "rnn_kernel",
    "check_cudnn": "rnn_kernel",
    "fit": "fitting",
    "resume": "fitting",
    "generate": "generating",
    "inspect": "inside",
    "Monitor": "monitor",
    "lr_range_test": "rate_range",
    "one_cycle": "schedules",
}


def __getattr__(name: str) -> Any:
    # Keras takes seconds to import: only who asks for something of it waits.
    if name in _MODULES:
        return getattr(importlib.import_module(f"dltlab.training.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'dltlab.training' has no attribute {name!r}")
