"""OpenVINO on an Intel GPU."""

from pathlib import Path

from dltlab.inference.backends import Precision, Settings
from dltlab.inference.backends.openvino_runtime import (
    PACKAGES,
    OpenVinoSession,
    build,
    build_mixed,
    precisions_of,
)

__all__ = ["PACKAGES", "build", "build_mixed", "lacks", "open", "precisions"]

_DEVICE = "GPU"


def lacks() -> str:
    """The GPU, where OpenVINO sees none."""
    import openvino as ov

    if any(each.startswith(_DEVICE) for each in ov.Core().available_devices):
        return ""
    return (
        "OpenVINO sees no Intel GPU. Where there is one, install Intel's compute runtime (the "
        "package intel-opencl-icd), or choose the backend openvino, which runs on the processor."
    )


def precisions() -> tuple[Precision, ...]:
    """What the GPU computes in."""
    return precisions_of(_DEVICE)


def open(folder: Path, precision: Precision, settings: Settings) -> OpenVinoSession:  # noqa: A001
    """Compile the IR for batches of one size."""
    return OpenVinoSession(folder, _DEVICE, precision, settings, {})
