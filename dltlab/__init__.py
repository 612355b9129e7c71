"""dltlab: the support package behind the labs. Its rooms are imported on first use."""

import os
import sys

import lazy_loader

if "tensorflow" not in sys.modules:  # it reads this when it is imported
    # Without a GPU, TensorFlow reports its search for one as an error ("failed call to cuInit").
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

__version__ = "0.1.0"

__getattr__, __dir__, _ROOMS = lazy_loader.attach(
    __name__,
    submodules=[
        *("authoring", "checks", "course", "data", "devices", "display"),
        *("exercises", "inference", "kernels", "models", "training", "widgets"),
    ],
)
