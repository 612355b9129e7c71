"""TensorRT on an NVIDIA GPU, through ONNX Runtime's execution provider."""

from pathlib import Path

from dltlab.inference.backends import Precision, Settings
from dltlab.inference.backends.onnx_runtime import FILE, PACKAGES, OnnxSession, build

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
    """TensorRT takes every type from the graph, so int8 is what its QuantizeLinear nodes say."""
    return ("float32", "int8")


def open(folder: Path, precision: Precision, settings: Settings) -> OnnxSession:  # noqa: A001
    """Let TensorRT build its engine, which it keeps beside the graph."""
    options = {"trt_engine_cache_enable": True, "trt_engine_cache_path": str(folder)}
    return OnnxSession(folder / FILE, settings, [(_PROVIDER, options), "CUDAExecutionProvider"])
