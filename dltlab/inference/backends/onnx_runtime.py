"""ONNX Runtime on the processor."""

import json
import re
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from dltlab.devices import cpu_info
from dltlab.inference.backends.base import (
    Arrays,
    Backend,
    Operation,
    Precision,
    Runner,
    Session,
    Settings,
)
from dltlab.inference.export import exporting, to_onnx

if TYPE_CHECKING:
    import keras
    import numpy as np

FILE = "model.onnx"
_PROFILED_RUNS = 9
_LAYOUT_CHANGES = ("ReorderInput", "ReorderOutput", "Transpose")
_CASTS = ("QuantizeLinear", "DequantizeLinear")
_SCALE_SUFFIXES = ("_scale", "_zero_point")  # added to the name of the tensor that they scale
_NCHWC_SUFFIX = "_nchwc"  # of the name of a node whose tensors are in blocks of channels
_SUM_INPUT = 3  # the place of the input that such a convolution adds to its result
_SUMS = ("Add", "Sum")
_LAYOUT_SUFFIX = re.compile(r"_token_\d+$")  # added to a name when the layout changes


class OnnxRuntime(Backend):
    """Runs an ONNX graph on the processor."""

    name = "onnxruntime"
    packages = ("onnxruntime", "onnx", "tf2onnx")
    substitutes = {"onnxruntime": "onnxruntime-gpu"}  # noqa: RUF012 - a ClassVar of the base class

    def auto_rank(self) -> int | None:
        """Return its place among those that "auto" tries."""
        return 3

    def precisions(self) -> tuple[Precision, ...]:
        """Return those that it computes in on a processor."""
        return ("float32", "int8")

    def build(
        self,
        model: "keras.Model",
        precision: Precision,
        calibration: Sequence[Arrays],
        folder: Path,
    ) -> None:
        """Write ONNX; for int8 after ONNX Runtime's static quantization."""
        (folder / FILE).write_bytes(to_onnx(model))
        if precision == "int8":
            # Its kernels for x86 processors take unsigned activations. Where sums saturate, weights
            # of 7 bits keep them small (onnxruntime.ai, "Quantize ONNX models", reduce_range).
            with exporting(model, "quantized"):
                quantize(
                    folder / FILE,
                    calibration,
                    activations="QUInt8",
                    reduce_range=not cpu_info().sums_int8_exactly,
                )

    def open(self, folder: Path, precision: Precision, settings: Settings) -> Session:
        """Let ONNX Runtime optimize the graph."""
        return OnnxSession(folder / FILE, settings, ["CPUExecutionProvider"])


def quantize(
    path: Path,
    calibration: Sequence[Arrays],
    activations: str,
    reduce_range: bool = False,
    **options: bool,
) -> None:
    """Replace a graph by a quantized one, with QuantizeLinear and DequantizeLinear nodes.

    Args:
        path: The ONNX file.
        calibration: Single examples, each with an array for every input.
        activations: The `QuantType` of activations; weights are QInt8, with a scale per channel.
        reduce_range: Whether weights have 7 bits instead of 8.
        options: ONNX Runtime's `extra_options`.
    """
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = path.with_name("prepared.onnx")
    quant_pre_process(str(path), str(prepared), skip_symbolic_shape=True)
    quantization.quantize_static(
        str(prepared),
        str(path),
        _calibration_reader(prepared, calibration),
        per_channel=True,
        quant_format=quantization.QuantFormat.QDQ,
        activation_type=quantization.QuantType[activations],
        weight_type=quantization.QuantType.QInt8,
        reduce_range=reduce_range,
        extra_options=options,
    )
    prepared.unlink()


def _calibration_reader(path: Path, calibration: Sequence[Arrays]) -> Any:
    """Return the examples as ONNX Runtime reads them."""
    import onnx
    from onnxruntime.quantization import CalibrationDataReader

    inputs = onnx.load(path, load_external_data=False).graph.input
    names = [tensor.name for tensor in inputs]

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._examples: Iterator[Arrays] = iter(calibration)

        def get_next(self) -> "dict[str, np.ndarray] | None":
            example = next(self._examples, None)
            return None if example is None else dict(zip(names, example, strict=True))

    return Reader()


class OnnxSession(Session):
    """A graph in ONNX Runtime.

    Args:
        path: The ONNX file.
        settings: How it uses the processor.
        providers: ONNX Runtime's execution providers, the preferred one first.
    """

    def __init__(self, path: Path, settings: Settings, providers: Sequence[Any]) -> None:
        self._path, self._settings, self._providers = path, settings, list(providers)
        self._session = self._open()
        self._names = [tensor.name for tensor in self._session.get_inputs()]

    def _open(self, **session_options: Any) -> Any:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = self._settings.threads_per_stream
        options.log_severity_level = 4  # errors are raised
        for name, value in session_options.items():
            setattr(options, name, value)
        try:
            return ort.InferenceSession(str(self._path), options, providers=self._providers)
        except Exception as error:  # not all messages name the node
            raise RuntimeError(f"{error}\n{' '.join(self._names_in(str(error)))}") from error

    def _names_in(self, message: str) -> list[str]:
        """Return the names of the nodes whose type is in a message, and of those that follow."""
        import onnx

        words = set(re.findall(r"\w+", message))
        nodes = onnx.load(self._path, load_external_data=False).graph.node
        refused = [node for node in nodes if node.op_type in words]
        outputs = {name for node in refused for name in node.output}
        following = [node for node in nodes if outputs & {*node.input}]
        return [node.name for node in (*refused, *following)]

    def providers(self) -> list[str]:
        """Return the execution providers that it runs on."""
        return list(self._session.get_providers())

    def runner(self) -> Runner:
        """Return a function; with several streams each has a session with threads of its own."""
        session = self._session if self._settings.streams == 1 else self._open()

        def run(inputs: Arrays) -> Arrays:
            return list(session.run(None, dict(zip(self._names, inputs, strict=True))))

        return run

    def operations(self, inputs: Arrays) -> list[Operation]:
        """Return the nodes of the optimized graph, with times from ONNX Runtime's profiler."""
        import onnx

        with TemporaryDirectory() as folder:
            optimized_path = str(Path(folder, "optimized.onnx"))
            session = self._open(
                enable_profiling=True,
                profile_file_prefix=str(Path(folder, "profile")),
                optimized_model_filepath=optimized_path,
            )
            feed = dict(zip(self._names, inputs, strict=True))
            for _ in range(_PROFILED_RUNS):
                session.run(None, feed)
            events = json.loads(Path(session.end_profiling()).read_text())
            optimized = onnx.load(optimized_path).graph
        sources = sources_of(onnx.load(self._path).graph, optimized)
        seconds = _kernel_seconds(events)
        return [
            Operation(
                name=node.name,
                kind=node.op_type,
                precision="int8" if node.op_type.startswith("Q") else "float32",
                sources=sources[node.name],
                seconds=statistics.median(seconds[node.name]) if node.name in seconds else None,
            )
            for node in optimized.node
        ]


def _kernel_seconds(events: list[dict[str, Any]]) -> dict[str, list[float]]:
    """Return the times of each node's kernel, one for each run, by the node's name."""
    seconds: dict[str, list[float]] = {}
    for event in events:
        name, _, suffix = event["name"].rpartition("_kernel_time")
        if event.get("cat") == "Node" and name and not suffix:
            seconds.setdefault(name, []).append(event["dur"] / 1e6)
    return seconds


def sources_of(graph: Any, optimized: Any) -> dict[str, tuple[str, ...]]:
    """Return the names of the original nodes and tensors that each optimized node replaces.

    They are the original node of the same name, its constants (a neighbor may have been folded into
    them), and all nodes between its outputs and its inputs. A tensor that differs from an original
    one only in its layout counts as the original one. Where all tensors of a node have another
    layout, only the names are known.
    """
    producers = {name: node for node in graph.node for name in node.output}
    outputs = {node.name: list(node.output) for node in graph.node}
    constants = {tensor.name for tensor in graph.initializer}
    originals = {*producers, *constants, *(tensor.name for tensor in graph.input)}
    original_of = _originals(graph.node, optimized.node, originals)
    no_data = {"", *(tensor.name for tensor in optimized.initializer)}
    sources = {}
    for node in optimized.node:
        name = _LAYOUT_SUFFIX.sub("", node.name)
        names = [name, *outputs.get(name, ())]
        names += [tensor for tensor in node.input if tensor in constants]
        ends = {original_of.get(tensor, tensor) for tensor in node.input} - no_data
        # Walk from the outputs back to the inputs.
        pending = (
            [original_of.get(tensor, tensor) for tensor in node.output] if ends <= originals else []
        )
        while pending:
            tensor = pending.pop()
            if tensor in constants:
                names.append(tensor)
            elif tensor in producers and tensor not in ends:
                producer = producers[tensor]
                names += [] if producer.op_type in _CASTS else [producer.name, tensor]
                pending += producer.input
        sources[node.name] = tuple(name for name in names if not name.endswith(_SCALE_SUFFIXES))
    return sources


def _originals(nodes: Any, optimized: Any, originals: set[str]) -> dict[str, str]:
    """Return the original tensor for each tensor that is the same in another layout."""
    consumers: dict[str, list[Any]] = {}
    for node in nodes:
        for name in node.input:
            consumers.setdefault(name, []).append(node)
    outputs = {node.name: node.output[0] for node in nodes if node.output}
    original_of: dict[str, str] = {}
    for node in optimized:
        if node.op_type in _LAYOUT_CHANGES:
            (before, *_), (after,) = node.input, node.output
            original, copy = (before, after) if before in originals else (after, before)
        else:
            original, copy = _computed(node, outputs, consumers), node.output[0]
        if original in originals and copy not in originals:
            original_of.setdefault(copy, original)
    return original_of


def _computed(node: Any, outputs: dict[str, str], consumers: dict[str, list[Any]]) -> str:
    """Return the original tensor that an optimized node computes, or "" if its name does not tell.

    A node in the layout NCHWc, in blocks of channels, is named after the tensor that it computed
    when it was made. ONNX Runtime may fuse a sum and then its activation into a convolution later
    (onnxruntime/core/optimizer/nchwc_transformer.cc).
    """
    if not node.name.endswith(_NCHWC_SUFFIX):
        return outputs.get(node.name, "")
    tensor = str(node.name.removesuffix(_NCHWC_SUFFIX))
    if len(node.input) > _SUM_INPUT and node.input[_SUM_INPUT]:
        activations = {a.s.decode() for a in node.attribute if a.name == "activation"}
        for kinds in (_SUMS, activations):
            following = [n.output[0] for n in consumers.get(tensor, ()) if n.op_type in kinds]
            tensor = following[0] if following else tensor
    return tensor
