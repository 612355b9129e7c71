"""TensorRT on an NVIDIA GPU, through ONNX Runtime's execution provider."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dltlab.errors import LabError
from dltlab.inference import cache
from dltlab.inference.backends import Arrays, Operation, Precision, Settings
from dltlab.inference.backends.onnx_runtime import FILE, PACKAGES, OnnxSession, quantize
from dltlab.inference.export import exporting, to_onnx
from dltlab.models import in_precision

if TYPE_CHECKING:
    import keras

__all__ = ["PACKAGES", "build", "lacks", "open", "precisions"]

_PROVIDER = "TensorrtExecutionProvider"


def lacks() -> str:
    """The provider, where ONNX Runtime has none."""
    import onnxruntime as ort

    if _PROVIDER in ort.get_available_providers():
        return ""
    return (
        "ONNX Runtime has no TensorRT provider. On a machine with an NVIDIA GPU run: pip uninstall "
        "onnxruntime && pip install onnxruntime-gpu tensorrt"
    )


def precisions() -> tuple[Precision, ...]:
    """TensorRT takes every type from the graph."""
    return ("float32", "bfloat16", "float16", "int8")


def build(
    model: "keras.Model", precision: Precision, calibration: Sequence[Arrays], folder: Path
) -> None:
    """Write ONNX in the types asked for; for int8 with symmetric scales, as TensorRT wants them."""
    exact = model if precision == "int8" else in_precision(model, precision)
    (folder / FILE).write_bytes(to_onnx(exact))
    if precision == "int8":
        with exporting(model, "int8"):
            quantize(folder / FILE, calibration, activations="QInt8", ActivationSymmetric=True)


def open(folder: Path, precision: Precision, settings: Settings) -> OnnxSession:  # noqa: A001
    """Let TensorRT build its engine, which it keeps beside the graph.

    Raises:
        LabError: It does not run: ONNX Runtime would take another provider without a word.
    """
    kept = folder / cache.KEPT
    options = {"trt_engine_cache_enable": True, "trt_engine_cache_path": str(kept)}
    session = _Session(folder / FILE, settings, [(_PROVIDER, options), "CUDAExecutionProvider"])
    if _PROVIDER not in session.providers():
        raise LabError(
            "TensorRT does not start on this machine: look for the NVIDIA driver and the packages "
            "with dltlab doctor, or choose the backend onnxruntime."
        )
    return session


class _Session(OnnxSession):
    def operations(self, inputs: Arrays) -> list[Operation]:
        """ONNX Runtime sees TensorRT's engine as one piece, and cannot write it down."""
        return []
