"""OpenVINO on the processor: fuses layers, and computes with AMX where the processor has it."""

import ctypes
import json
import statistics
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from dltlab.devices import cpu_info
from dltlab.inference.backends.base import (
    Arrays,
    Backend,
    Operation,
    Precision,
    Runner,
    Score,
    Session,
    Settings,
)
from dltlab.inference.export import exporting, to_onnx

if TYPE_CHECKING:
    import keras
    import openvino as ov

_FILE = "model.xml"
_CONSTANTS = "constants.json"  # names of constants, from before quantization replaces them
# INFERENCE_PRECISION_HINT for each precision. What int8 does not reach stays in float32: the
# default would silently be bfloat16 on a processor with AMX.
_HINTS = {"float32": "f32", "bfloat16": "bf16", "float16": "f16", "int8": "f32"}
_CAPABILITIES: dict[Precision, str] = {
    "float32": "FP32",
    "bfloat16": "BF16",
    "float16": "FP16",
    "int8": "INT8",
}
_DTYPES = {"f32": "float32", "bf16": "bfloat16", "f16": "float16", "i8": "int8", "u8": "int8"}
_RESHAPES = ("Convert", "Reshape", "Transpose", "Unsqueeze")
_PROFILED_RUNS = 9


_CORE_LOCK = threading.Lock()  # threads that ask at once get the same core


def core() -> "ov.Core":
    """Return the one `openvino.Core` of this process, which lives until its end.

    Releasing a core can break the handling of signals: see `_kept_signal_stack`.
    """
    with _CORE_LOCK, _kept_signal_stack():
        return _make_core()


@cache
def _make_core() -> "ov.Core":
    import openvino as ov

    return ov.Core()


class _SignalStack(ctypes.Structure):
    """`stack_t` of sigaltstack(2) on Linux."""

    _fields_ = (
        ("address", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("num_bytes", ctypes.c_size_t),
    )


_NO_STACK = _SignalStack(None, 2, 0)  # SS_DISABLE: signals use the stack of the thread


@contextmanager
def _kept_signal_stack() -> Iterator[None]:
    """Keep the stack on which this thread handles signals, whatever OpenVINO does in the block.

    On a processor with AMX, OpenVINO's CPU plugin sets a stack of its own, and frees it when its
    core is released. If another thread releases it, such as that of the garbage collector, the
    first thread is left with a stack that does not exist: the next signal there, such as Ctrl-C, is
    a segmentation fault (OpenVINO 2026.4, `SigAltStackSetup`). NNCF makes cores of its own.
    """
    if sys.platform != "linux":
        yield
        return
    library = ctypes.CDLL(None)
    before = _SignalStack()
    library.sigaltstack(None, ctypes.byref(before))
    try:
        yield
    finally:
        if library.sigaltstack(ctypes.byref(before), None):
            library.sigaltstack(ctypes.byref(_NO_STACK), None)  # it is too small for AMX


class OpenVino(Backend):
    """Runs OpenVINO's intermediate representation (IR) on the processor.

    Attributes:
        device: OpenVINO's name of the device.
    """

    name = "openvino"
    packages = ("openvino", "nncf", "onnx", "tf2onnx")
    mixes_precisions = True
    device: ClassVar[str] = "CPU"

    def auto_rank(self) -> int | None:
        """Return its place among those that "auto" tries."""
        return 2

    def precisions(self) -> tuple[Precision, ...]:
        """Return those that OpenVINO reports for the device."""
        capabilities = core().get_property(self.device, "OPTIMIZATION_CAPABILITIES")
        return tuple(name for name, flag in _CAPABILITIES.items() if flag in capabilities)

    def build(
        self,
        model: "keras.Model",
        precision: Precision,
        calibration: Sequence[Arrays],
        folder: Path,
    ) -> None:
        """Write OpenVINO's IR; for int8 after NNCF's post-training quantization."""
        import nncf

        graph = _exported(model, folder)
        if precision == "int8":
            with _quiet_nncf(model):
                graph = nncf.quantize(
                    graph,
                    nncf.Dataset(list(calibration), _as_input),
                    subset_size=len(calibration),
                    advanced_parameters=_quantization(),
                )
        _save(graph, folder)

    def build_mixed_precision(
        self,
        model: "keras.Model",
        calibration: Sequence[Arrays],
        examples: Arrays,
        score: Score,
        max_accuracy_drop: float,
        folder: Path,
    ) -> None:
        """Quantize with NNCF's accuracy control: layers that cost most return to float32 first."""
        import nncf
        import numpy as np

        def example(index: int) -> Any:
            return _as_input([array[index : index + 1] for array in examples])

        def validate(compiled: Any, indices: Any) -> tuple[float, None]:
            chosen = list(indices)
            outputs = [list(compiled(example(index)).values()) for index in chosen]
            batch = [np.concatenate(parts) for parts in zip(*outputs, strict=True)]
            return score(batch, chosen), None

        # NNCF passes the items of the second data set to `validate`, and the results of `example`
        # to the network.
        with _quiet_nncf(model):
            graph = nncf.quantize_with_accuracy_control(
                _exported(model, folder),
                nncf.Dataset(list(calibration), _as_input),
                nncf.Dataset(range(len(examples[0])), example),
                validate,
                max_drop=max_accuracy_drop,
                drop_type=nncf.DropType.RELATIVE,
                subset_size=len(calibration),
                advanced_quantization_parameters=_quantization(),
            )
        _save(graph, folder)

    def open(self, folder: Path, precision: Precision, settings: Settings) -> Session:
        """Compile the IR for batches of one size."""
        config = {"INFERENCE_NUM_THREADS": settings.threads}
        return OpenVinoSession(folder, self.device, precision, settings, config)


def _quantization() -> Any:
    """Return NNCF's parameters: half the range of weights where sums of their products saturate."""
    import nncf
    from nncf.quantization.advanced_parameters import OverflowFix

    is_exact = cpu_info().sums_int8_exactly
    return nncf.AdvancedQuantizationParameters(
        overflow_fix=None if is_exact else OverflowFix.ENABLE
    )


def _exported(model: "keras.Model", folder: Path) -> Any:
    graph = core().read_model(to_onnx(model))
    (folder / _CONSTANTS).write_text(json.dumps(_constants(graph)))
    return graph


def _save(graph: Any, folder: Path) -> None:
    import openvino as ov

    ov.save_model(graph, folder / _FILE, compress_to_fp16=False)


def _as_input(example: Arrays) -> Any:
    return example[0] if len(example) == 1 else tuple(example)


@contextmanager
def _quiet_nncf(model: "keras.Model") -> Iterator[None]:
    """Hide NNCF's progress bars, and turn its exceptions into errors that name the layer."""
    import rich

    console = rich.get_console()  # NNCF draws on it; in a notebook as a widget
    before = console.quiet, console.is_jupyter
    console.quiet, console.is_jupyter = True, False
    try:
        with exporting(model, "quantized"), _kept_signal_stack():
            yield
    finally:
        console.quiet, console.is_jupyter = before


class OpenVinoSession(Session):
    """A graph compiled by OpenVINO.

    Args:
        folder: What `OpenVino.build` wrote.
        device: OpenVINO's name of the device.
        precision: What all layers that are not quantized compute in.
        settings: How it uses the device.
        config: Additional OpenVINO properties.
    """

    def __init__(
        self,
        folder: Path,
        device: str,
        precision: Precision,
        settings: Settings,
        config: dict[str, Any],
    ) -> None:
        self._device = device
        self._graph = core().read_model(folder / _FILE)
        self._constants_path = folder / _CONSTANTS
        self._graph.reshape(
            {
                tensor: [settings.batch_size, *tensor.partial_shape[1:]]
                for tensor in self._graph.inputs
            }
        )
        self._config = {
            "INFERENCE_PRECISION_HINT": _HINTS[precision],
            "NUM_STREAMS": settings.streams,
            **config,
        }
        self._compiled = core().compile_model(self._graph, device, self._config)

    def runner(self) -> Runner:
        """Return a function with an inference request of its own."""
        import openvino as ov

        request = self._compiled.create_infer_request()
        output_indices = range(len(self._compiled.outputs))

        def run(inputs: Arrays) -> Arrays:
            # Passed to `infer`, the inputs would be checked for 40 µs. Only writable arrays can
            # share their memory.
            writable = [array if array.flags.writeable else array.copy() for array in inputs]
            for index, array in enumerate(writable):
                request.set_input_tensor(index, ov.Tensor(array, shared_memory=True))
            request.infer(share_outputs=True)
            return [request.get_output_tensor(index).data for index in output_indices]

        return run

    def operations(self, inputs: Arrays) -> list[Operation]:
        """Return the operations that OpenVINO's profiler reports as executed."""
        compiled = core().compile_model(
            self._graph, self._device, self._config | {"PERF_COUNT": True}
        )
        request = compiled.create_infer_request()
        seconds: dict[str, list[float]] = {}
        for _ in range(_PROFILED_RUNS):
            request.infer(inputs)
            for node in request.get_profiling_info():
                if node.status == node.Status.EXECUTED:
                    seconds.setdefault(node.node_name, []).append(node.real_time.total_seconds())
        constants = json.loads(self._constants_path.read_text())
        return [
            _operation(node, constants, statistics.median(seconds[node.get_friendly_name()]))
            for node in compiled.get_runtime_model().get_ordered_ops()
            if node.get_friendly_name() in seconds
        ]


def _operation(node: Any, constants: dict[str, list[str]], seconds: float) -> Operation:
    info = {key: value.astype(str) for key, value in node.get_rt_info().items()}
    originals = [name for name in info["originalLayersNames"].split(",") if name]
    folded = [constant for name in originals for constant in constants.get(name, ())]
    precision = info["runtimePrecision"]
    return Operation(
        name=node.get_friendly_name(),
        kind=info["layerType"],
        precision=_DTYPES.get(precision, precision),
        sources=(*originals, *folded),
        seconds=seconds,
    )


def _constants(graph: Any) -> dict[str, list[str]]:
    """Return the names of the constants that each operation reads, also through reshapes.

    An exporter may have folded a layer into the weights of its neighbor: the names of the weights
    still tell.
    """
    names: dict[str, list[str]] = {}
    constant: set[str] = set()
    for node in graph.get_ordered_ops():
        name, kind = node.get_friendly_name(), node.get_type_name()
        parents = [value.get_node().get_friendly_name() for value in node.input_values()]
        if kind == "Constant" or (kind in _RESHAPES and parents[0] in constant):
            constant.add(name)
        names[name] = [name] if kind == "Constant" else []
        for parent in parents:
            if parent in constant:
                names[name] += names[parent]
    return names
