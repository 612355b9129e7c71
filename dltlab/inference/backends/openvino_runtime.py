"""OpenVINO on the processor: fuses, picks kernels, and computes with AMX where there is AMX."""

import contextlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dltlab.inference.backends import Arrays, Lane, Operation, Precision, Settings
from dltlab.inference.export import write_onnx

if TYPE_CHECKING:
    import keras

PACKAGES = ("openvino", "nncf", "onnx", "tf2onnx")
_FILE = "model.xml"
# What computes, and what OpenVINO calls it. What int8 does not reach stays in float32: the default
# on a processor with AMX would be bfloat16, without a word.
_HINTS = {"float32": "f32", "bfloat16": "bf16", "float16": "f16", "int8": "f32"}
_CAPABILITIES: dict[Precision, str] = {
    "float32": "FP32",
    "bfloat16": "BF16",
    "float16": "FP16",
    "int8": "INT8",
}
_NAMES = {"f32": "float32", "bf16": "bfloat16", "f16": "float16", "i8": "int8", "u8": "int8"}
_REPEATS = 9  # of a timed run
_NO_WORK = ("Const", "Input", "Output")


def lacks() -> str:
    """Nothing but its packages."""
    return ""


def precisions() -> tuple[Precision, ...]:
    """What this processor computes in."""
    import openvino as ov

    here = ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return tuple(name for name, capability in _CAPABILITIES.items() if capability in here)


def build(
    model: "keras.Model", precision: Precision, calibration: Sequence[Arrays], folder: Path
) -> None:
    """Write OpenVINO's IR; for int8 after NNCF's post-training quantisation."""
    import openvino as ov

    onnx = folder / "model.onnx"
    write_onnx(model, onnx)
    graph = ov.Core().read_model(onnx)
    if precision == "int8":
        graph = _quantised(graph, calibration)
    ov.save_model(graph, folder / _FILE, compress_to_fp16=False)
    onnx.unlink()


def open(folder: Path, precision: Precision, settings: Settings) -> "_Session":  # noqa: A001
    """Compile the IR for batches of one size."""
    return _Session(folder / _FILE, precision, settings)


def _quantised(graph: Any, calibration: Sequence[Arrays]) -> Any:
    import nncf

    def as_input(example: Arrays) -> Any:
        return example[0] if len(example) == 1 else tuple(example)

    with contextlib.redirect_stdout(io.StringIO()):  # its progress bars
        return nncf.quantize(
            graph, nncf.Dataset(list(calibration), as_input), subset_size=len(calibration)
        )


class _Session:
    def __init__(self, path: Path, precision: Precision, settings: Settings) -> None:
        import openvino as ov

        core = ov.Core()
        self._core = core
        self._graph = core.read_model(path)
        self._graph.reshape(
            {each: [settings.batch, *each.partial_shape[1:]] for each in self._graph.inputs}
        )
        self._config = {
            "INFERENCE_PRECISION_HINT": _HINTS[precision],
            "NUM_STREAMS": settings.streams,
            "INFERENCE_NUM_THREADS": settings.threads,
        }
        self._compiled = core.compile_model(self._graph, "CPU", self._config)

    def lane(self) -> Lane:
        request = self._compiled.create_infer_request()
        places = range(len(self._compiled.outputs))

        def run(inputs: Arrays) -> Arrays:
            request.infer(inputs, share_inputs=True)
            return [request.get_output_tensor(place).data for place in places]

        return run

    def operations(self, inputs: Arrays) -> list[Operation]:
        compiled = self._core.compile_model(self._graph, "CPU", self._config | {"PERF_COUNT": True})
        request = compiled.create_infer_request()
        times: dict[str, list[float]] = {}
        for _ in range(_REPEATS):
            request.infer(inputs)
            for each in request.get_profiling_info():
                times.setdefault(each.node_name, []).append(each.real_time.total_seconds())
        found = []
        for node in compiled.get_runtime_model().get_ordered_ops():
            about = {key: value.astype(str) for key, value in node.get_rt_info().items()}
            if about["layerType"] in _NO_WORK:
                continue
            name = node.get_friendly_name()
            precision = about["runtimePrecision"]
            found.append(
                Operation(
                    name=name,
                    kind=about["layerType"],
                    precision=_NAMES.get(precision, precision),
                    sources=tuple(filter(None, about["originalLayersNames"].split(","))),
                    seconds=float(np.median(times[name])) if name in times else None,
                )
            )
        return found
