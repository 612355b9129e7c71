"""OpenVINO on an Intel GPU."""

from pathlib import Path

from dltlab.inference.backends.base import Precision, Session, Settings
from dltlab.inference.backends.openvino_runtime import OpenVino, OpenVinoSession, core


class OpenVinoGpu(OpenVino):
    """Runs OpenVINO's intermediate representation on an Intel GPU."""

    name = "openvino-gpu"
    device = "GPU"

    def auto_rank(self) -> int | None:
        """Return None: "auto" never takes it."""
        return None

    def unavailable_reason(self) -> str:
        """Return what is missing: a package, or a GPU that OpenVINO can use."""
        if reason := super().unavailable_reason():
            return reason
        if any(device.startswith(self.device) for device in core().available_devices):
            return ""
        return (
            "OpenVINO sees no Intel GPU. If this machine has one, install Intel's compute runtime "
            "(the package intel-opencl-icd); else choose the backend openvino, which runs on the "
            "processor."
        )

    def open(self, folder: Path, precision: Precision, settings: Settings) -> Session:
        """Compile the IR for batches of one size."""
        return OpenVinoSession(folder, self.device, precision, settings, {})
