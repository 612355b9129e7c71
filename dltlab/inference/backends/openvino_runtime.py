"""OpenVINO on the processor: fuses, picks kernels, and computes with AMX where there is AMX."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import rich

from dltlab.inference.backends import Arrays, Lane, Operation, Precision, Score, Settings
from dltlab.inference.export import exporting, to_onnx

if TYPE_CHECKING:
    import keras

PACKAGES = ("openvino", "nncf", "onnx", "tf2onnx")
FILE = "model.xml"
_CONSTANTS = "constants.json"  # their names, before quantization replaces them
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
_RESHAPES = ("Convert", "Reshape", "Transpose", "Unsqueeze")
_REPEATS = 9  # of a timed run


def lacks() -> str:
    """Nothing but its packages."""
    return ""


def precisions() -> tuple[Precision, ...]:
    """What this processor computes in."""
    return precisions_of("CPU")


def precisions_of(device: str) -> tuple[Precision, ...]:
    """What one of OpenVINO's devices computes in."""
    import openvino as ov

    here = ov.Core().get_property(device, "OPTIMIZATION_CAPABILITIES")
    return tuple(name for name, capability in _CAPABILITIES.items() if capability in here)


def build(
    model: "keras.Model", precision: Precision, calibration: Sequence[Arrays], folder: Path
) -> None:
    """Write OpenVINO's IR; for int8 after NNCF's post-training quantization."""
    import nncf

    graph = _exported(model, folder)
    if precision == "int8":
        with _silent(model):
            graph = nncf.quantize(
                graph, nncf.Dataset(list(calibration), _as_input), subset_size=len(calibration)
            )
    _save(graph, folder)


def build_mixed(
    model: "keras.Model",
    calibration: Sequence[Arrays],
    examples: Arrays,
    score: Score,
    max_drop: float,
    folder: Path,
) -> None:
    """As NNCF's quantization with accuracy control: the layers that cost most go back first."""
    import nncf

    def single(place: int) -> Any:
        return _as_input([each[place : place + 1] for each in examples])

    def judged(compiled: Any, places: Any) -> tuple[float, None]:
        chosen = list(places)
        answers = [list(compiled(single(place)).values()) for place in chosen]
        return score([np.concatenate(each) for each in zip(*answers, strict=True)], chosen), None

    # NNCF hands the items of the second data set to `judged`, and what `single` makes of them to
    # the network.
    with _silent(model):
        graph = nncf.quantize_with_accuracy_control(
            _exported(model, folder),
            nncf.Dataset(list(calibration), _as_input),
            nncf.Dataset(range(len(examples[0])), single),
            judged,
            max_drop=max_drop,
            drop_type=nncf.DropType.RELATIVE,
            subset_size=len(calibration),
        )
    _save(graph, folder)


def open(folder: Path, precision: Precision, settings: Settings) -> "OpenVinoSession":  # noqa: A001
    """Compile the IR for batches of one size."""
    return OpenVinoSession(
        folder, "CPU", precision, settings, {"INFERENCE_NUM_THREADS": settings.threads}
    )


def _exported(model: "keras.Model", folder: Path) -> Any:
    import openvino as ov

    graph = ov.Core().read_model(to_onnx(model))
    (folder / _CONSTANTS).write_text(json.dumps(_constants(graph)))
    return graph


def _save(graph: Any, folder: Path) -> None:
    import openvino as ov

    ov.save_model(graph, folder / FILE, compress_to_fp16=False)


def _as_input(example: Arrays) -> Any:
    return example[0] if len(example) == 1 else tuple(example)


@contextmanager
def _silent(model: "keras.Model") -> Iterator[None]:
    """Without NNCF's progress bars, and with a sentence of ours for what it raises."""
    console = rich.get_console()  # NNCF draws on it; in a notebook as a widget
    before = console.quiet, console.is_jupyter
    console.quiet, console.is_jupyter = True, False
    try:
        with exporting(model, "int8"):
            yield
    finally:
        console.quiet, console.is_jupyter = before


class OpenVinoSession:
    """A graph compiled by OpenVINO.

    Args:
        folder: What `build` wrote.
        device: OpenVINO's name of it.
        precision: Everything that is not quantized computes in.
        settings: How it uses the device.
        config: More of OpenVINO's properties.
    """

    def __init__(
        self,
        folder: Path,
        device: str,
        precision: Precision,
        settings: Settings,
        config: dict[str, Any],
    ) -> None:
        import openvino as ov

        self._core, self._device = ov.Core(), device
        self._graph = self._core.read_model(folder / FILE)
        self._constants = folder / _CONSTANTS
        self._graph.reshape(
            {each: [settings.batch, *each.partial_shape[1:]] for each in self._graph.inputs}
        )
        self._config = {
            "INFERENCE_PRECISION_HINT": _HINTS[precision],
            "NUM_STREAMS": settings.streams,
            **config,
        }
        self._compiled = self._core.compile_model(self._graph, device, self._config)

    def lane(self) -> Lane:
        """A request of its own."""
        import openvino as ov

        request = self._compiled.create_infer_request()
        places = range(len(self._compiled.outputs))

        def run(inputs: Arrays) -> Arrays:
            # Given to `infer`, they would be looked at for 40 µs. Only what may be written may be
            # shared.
            shared = [each if each.flags.writeable else each.copy() for each in inputs]
            for place, array in enumerate(shared):
                request.set_input_tensor(place, ov.Tensor(array, shared_memory=True))
            request.infer(share_outputs=True)
            return [request.get_output_tensor(place).data for place in places]

        return run

    def operations(self, inputs: Arrays) -> list[Operation]:
        """What OpenVINO's profile says was executed; what it does in place is not among it."""
        config = self._config | {"PERF_COUNT": True}
        compiled = self._core.compile_model(self._graph, self._device, config)
        request = compiled.create_infer_request()
        times: dict[str, list[float]] = {}
        for _ in range(_REPEATS):
            request.infer(inputs)
            for each in request.get_profiling_info():
                if each.status == each.Status.EXECUTED:
                    times.setdefault(each.node_name, []).append(each.real_time.total_seconds())
        constants = json.loads(self._constants.read_text())
        found = []
        for node in compiled.get_runtime_model().get_ordered_ops():
            name = node.get_friendly_name()
            if name not in times:
                continue
            about = {key: value.astype(str) for key, value in node.get_rt_info().items()}
            precision = about["runtimePrecision"]
            originals = [each for each in about["originalLayersNames"].split(",") if each]
            found.append(
                Operation(
                    name=name,
                    kind=about["layerType"],
                    precision=_NAMES.get(precision, precision),
                    sources=(*originals, *(c for o in originals for c in constants.get(o, ()))),
                    seconds=float(np.median(times[name])),
                )
            )
        return found


def _constants(graph: Any) -> dict[str, list[str]]:
    """The names of the constants that go into each operation, through whatever reshapes them.

    An exporter may have folded a layer into the weights of its neighbor: these keep its name.
    """
    found: dict[str, list[str]] = {}
    constant: set[str] = set()
    for node in graph.get_ordered_ops():
        name, kind = node.get_friendly_name(), node.get_type_name()
        parents = [each.get_node().get_friendly_name() for each in node.input_values()]
        if kind == "Constant" or (kind in _RESHAPES and parents[0] in constant):
            constant.add(name)
        found[name] = [name] if kind == "Constant" else []
        found[name] += [each for parent in parents if parent in constant for each in found[parent]]
    return found
