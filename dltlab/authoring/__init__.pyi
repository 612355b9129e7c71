from .build import build, differences
from .lint import lint
from .new import new_lab
from .verify import summary, verify_labs

__all__ = [
    "build",
    "differences",
    "lint",
    "new_lab",
    "summary",
    "verify_labs",
]
