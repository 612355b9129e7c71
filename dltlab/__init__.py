"""dltlab: the support package behind the labs. Its rooms are imported on first use."""

import lazy_loader

from dltlab.tensorflow_import import prepare_import

prepare_import()

__version__ = "1.0.0"

__getattr__, __dir__, _ROOMS = lazy_loader.attach(
    __name__,
    submodules=[
        *("authoring", "batch", "checks", "course", "data", "devices", "display"),
        *("exercises", "inference", "kernels", "models", "recording", "training", "widgets"),
    ],
    submod_attrs={"recording": ["record"]},
)
