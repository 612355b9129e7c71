"""TensorRT on an NVIDIA GPU, through ONNX Runtime's execution provider."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dltlab.devices import list_gpus
from dltlab.errors import Unavailable
from dltlab.inference.backends.base import (
    CACHE_FOLDER,
    Arrays,
    Operation,
    Precision,
    Session,
    Settings,
)
from dltlab.inference.backends.onnx_runtime import FILE, OnnxRuntime, OnnxSession, quantize
from dltlab.inference.export import exporting, to_onnx
from dltlab.models import in_precision

if TYPE_CHECKING:
    import keras

_PROVIDER = "TensorrtExecutionProvider"


class TensorRt(OnnxRuntime):
    """Runs an ONNX graph whose dtypes TensorRT follows."""

    name = "tensorrt"

    def auto_rank(self) -> int | None:
        """Return the first place on a machine with an NVIDIA GPU."""
        return 1 if list_gpus() else None

    def unavailable_reason(self) -> str:
        """Return what is missing: a package, or ONNX Runtime's provider."""
        if reason := super().unavailable_reason():
            return reason
        import onnxruntime as ort

        if _PROVIDER in ort.get_available_providers():
            return ""
        return (
            "ONNX Runtime has no TensorRT provider. On a machine with an NVIDIA GPU run: pip "
            "uninstall onnxruntime && pip install onnxruntime-gpu tensorrt"
        )

    def precisions(self) -> tuple[Precision, ...]:
        """Return all: TensorRT follows the dtypes of the graph."""
        return ("float32", "bfloat16", "float16", "int8")

    def build(
        self,
        model: "keras.Model",
        precision: Precision,
        calibration: Sequence[Arrays],
        folder: Path,
    ) -> None:
        """Write ONNX in `precision`; for int8 with symmetric scales, as TensorRT requires."""
        converted = model if precision == "int8" else in_precision(model, precision)
        (folder / FILE).write_bytes(to_onnx(converted))
        if precision == "int8":
            with exporting(model, "quantized"):
                quantize(folder / FILE, calibration, activations="QInt8", ActivationSymmetric=True)

    def open(self, folder: Path, precision: Precision, settings: Settings) -> Session:
        """Let TensorRT build its engine, which it caches beside the graph.

        Raises:
            Unavailable: TensorRT does not start: ONNX Runtime would use another provider instead.
        """
        options = {
            "trt_engine_cache_enable": True,
            "trt_engine_cache_path": str(folder / CACHE_FOLDER),
        }
        session = _TensorRtSession(
            folder / FILE, settings, [(_PROVIDER, options), "CUDAExecutionProvider"]
        )
        if _PROVIDER not in session.providers():
            raise Unavailable(
                "TensorRT does not start on this machine: check the NVIDIA driver and the packages "
                "with dltlab doctor, or choose the backend onnxruntime."
            )
        return session


class _TensorRtSession(OnnxSession):
    def operations(self, inputs: Arrays) -> list[Operation]:
        """Return nothing: to ONNX Runtime, TensorRT's engine is one node."""
        return []
