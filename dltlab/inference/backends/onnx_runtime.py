"""ONNX Runtime on the processor."""

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from dltlab.inference.backends import Arrays, Lane, Operation, Precision, Settings
from dltlab.inference.export import exporting, to_onnx

if TYPE_CHECKING:
    import keras

PACKAGES = ("onnxruntime", "onnx", "tf2onnx")
FILE = "model.onnx"
_REPEATS = 9  # of a timed run
_LAYOUT = ("ReorderInput", "ReorderOutput", "Transpose")
_CASTS = ("QuantizeLinear", "DequantizeLinear")
_SCALES = ("_scale", "_zero_point")  # they have the names of the tensors that they scale
_NUMBERED = re.compile(r"_token_\d+$")  # put at the end of a name when the layout changes


def lacks() -> str:
    """Nothing but its packages."""
    return ""


def precisions() -> tuple[Precision, ...]:
    """What it computes in on a processor."""
    return ("float32", "int8")


def build(
    model: "keras.Model", precision: Precision, calibration: Sequence[Arrays], folder: Path
) -> None:
    """Write ONNX; for int8 after ONNX Runtime's own static quantization."""
    (folder / FILE).write_bytes(to_onnx(model))
    if precision == "int8":
        # Its kernels for x86 processors take unsigned activations.
        with exporting(model, "int8"):
            quantize(folder / FILE, calibration, activations="QUInt8")


def open(folder: Path, precision: Precision, settings: Settings) -> "OnnxSession":  # noqa: A001
    """Let ONNX Runtime optimize the graph."""
    return OnnxSession(folder / FILE, settings, ["CPUExecutionProvider"])


def quantize(path: Path, calibration: Sequence[Arrays], activations: str, **options: bool) -> None:
    """Put a quantized graph, with QuantizeLinear and DequantizeLinear in it, in a graph's place.

    Args:
        path: Of the graph.
        calibration: Single examples, each with an array for every input.
        activations: Their `QuantType`; weights are QInt8, with a scale for each channel.
        options: ONNX Runtime's `extra_options`.
    """
    from onnxruntime import quantization as quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = path.with_name("prepared.onnx")
    quant_pre_process(str(path), str(prepared), skip_symbolic_shape=True)
    quantization.quantize_static(
        str(prepared), str(path), _reader(prepared, calibration), per_channel=True,
        quant_format=quantization.QuantFormat.QDQ,
        activation_type=quantization.QuantType[activations],
        weight_type=quantization.QuantType.QInt8, extra_options=options,
    )  # fmt: skip
    prepared.unlink()


def _reader(path: Path, calibration: Sequence[Arrays]) -> Any:
    """The examples, as ONNX Runtime asks for them."""
    from onnxruntime.quantization import CalibrationDataReader

    names = _input_names(path)

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._left: Iterator[Arrays] = iter(calibration)

        def get_next(self) -> dict[str, np.ndarray] | None:
            example = next(self._left, None)
            return None if example is None else dict(zip(names, example, strict=True))

    return Reader()


def _input_names(path: Path) -> list[str]:
    import onnx

    return [each.name for each in onnx.load(path, load_external_data=False).graph.input]


class OnnxSession:
    """A graph in ONNX Runtime.

    Args:
        path: Of the graph.
        settings: How it uses the processor.
        providers: ONNX Runtime's execution providers, the best one first.
    """

    def __init__(self, path: Path, settings: Settings, providers: Sequence[Any]) -> None:
        self._path, self._settings, self._providers = path, settings, list(providers)
        self._session = self._opened()
        self._names = [each.name for each in self._session.get_inputs()]

    def _opened(self, **more: Any) -> Any:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = self._settings.threads_per_stream
        options.log_severity_level = 3
        for name, value in more.items():
            setattr(options, name, value)
        return ort.InferenceSession(str(self._path), options, providers=self._providers)

    def providers(self) -> list[str]:
        """Those that it runs on."""
        return list(self._session.get_providers())

    def lane(self) -> Lane:
        """A session of its own, so that streams do not share threads."""
        session = self._session if self._settings.streams == 1 else self._opened()

        def run(inputs: Arrays) -> Arrays:
            return list(session.run(None, dict(zip(self._names, inputs, strict=True))))

        return run

    def operations(self, inputs: Arrays) -> list[Operation]:
        """The nodes of the optimized graph, with their times by ONNX Runtime's profiler."""
        import onnx

        with TemporaryDirectory() as folder:
            optimized = str(Path(folder, "optimized.onnx"))
            session = self._opened(
                enable_profiling=True,
                profile_file_prefix=str(Path(folder, "profile")),
                optimized_model_filepath=optimized,
            )
            feed = dict(zip(self._names, inputs, strict=True))
            for _ in range(_REPEATS):
                session.run(None, feed)
            events = json.loads(Path(session.end_profiling()).read_text())
            graph = onnx.load(optimized).graph
        sources = _sources(onnx.load(self._path).graph, graph)
        times: dict[str, list[float]] = {}
        for event in events:
            name, _, what = event["name"].rpartition("_kernel_time")
            if event.get("cat") == "Node" and name and not what:
                times.setdefault(name, []).append(event["dur"] / 1e6)
        return [
            Operation(
                name=node.name,
                kind=node.op_type,
                precision="int8" if node.op_type.startswith("Q") else "float32",
                sources=sources[node.name],
                seconds=float(np.median(times[node.name])) if node.name in times else None,
            )
            for node in graph.node
        ]


def _sources(graph: Any, optimized: Any) -> dict[str, tuple[str, ...]]:
    """What each node of the optimized graph does of the original one, by its name.

    That is the node of the same name; its constants, into which a neighbor may have been folded;
    and all that lies between its outputs and its inputs. A change of layout has put a tensor of its
    own in the place of an original one, which counts in its stead. Where the layout changes from
    beginning to end, only the names are left.
    """
    makers = {name: node for node in graph.node for name in node.output}
    outputs = {node.name: list(node.output) for node in graph.node}
    constants = {each.name for each in graph.initializer}
    known = {*makers, *constants, *(each.name for each in graph.input)}
    stands_for = _stand_ins(optimized.node, known)
    no_data = {"", *(each.name for each in optimized.initializer)}
    found = {}
    for node in optimized.node:
        name = _NUMBERED.sub("", node.name)
        inside = [name, *outputs.get(name, ())]
        inside += [each for each in node.input if each in constants]
        ends = {stands_for.get(each, each) for each in node.input} - no_data
        left = [stands_for.get(each, each) for each in node.output] if ends <= known else []
        while left:
            tensor = left.pop()
            if tensor in constants:
                inside.append(tensor)
            elif tensor in makers and tensor not in ends:
                maker = makers[tensor]
                inside += [] if maker.op_type in _CASTS else [maker.name, tensor]
                left += maker.input
        found[node.name] = tuple(each for each in inside if not each.endswith(_SCALES))
    return found


def _stand_ins(nodes: Any, known: set[str]) -> dict[str, str]:
    """The original tensor for each one that is the same in another layout."""
    found: dict[str, str] = {}
    for node in nodes:
        if node.op_type in _LAYOUT:
            (before, *_), (after,) = node.input, node.output
            old, new = (before, after) if before in known else (after, before)
            found |= {} if new in known else {new: old}
    return found
