from .build import build, differences
from .lint import lint
from .new import new_lab

__all__ = [
    "build",
    "differences",
    "lint",
    "new_lab",
]
