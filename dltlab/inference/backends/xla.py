"""XLA, the compiler within TensorFlow."""

from pathlib import Path

from dltlab.inference.backends import Precision, Settings
from dltlab.inference.backends.tf_function import (
    FOLDER,
    PACKAGES,
    GraphSession,
    build,
    lacks,
    precisions,
)

__all__ = ["PACKAGES", "build", "lacks", "open", "precisions"]


def open(folder: Path, precision: Precision, settings: Settings) -> GraphSession:  # noqa: A001
    """Load what `tf_function.build` wrote; it is compiled with the first batch."""
    return GraphSession(folder / FOLDER, settings, jit_compile=True)
