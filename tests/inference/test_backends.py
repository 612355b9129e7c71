"""Every backend computes what the model computes, in the requested precision."""

import importlib.metadata
import os
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from keras import layers

from dltlab.errors import Invalid, Unavailable
from dltlab.inference import BACKENDS, Engine, optimize
from dltlab.inference.backends import auto_backends, get_backend, openvino_gpu
from dltlab.inference.backends.base import Backend, Settings
from dltlab.inference.backends.openvino_runtime import OpenVino
from dltlab.inference.backends.tensorrt import TensorRt
from dltlab.models import char_rnn
from tests.deadlines import HANG_SECONDS

PRECISIONS = {  # float16 once only: Keras converts to it as to bfloat16
    "keras": ("float32", "bfloat16", "float16"),
    "tf.function": ("float32", "bfloat16"),
    "xla": ("float32", "bfloat16"),
    "litert": ("float32", "int8"),
    "onnxruntime": ("float32", "int8"),
    "openvino": ("float32", "int8"),  # bfloat16 and float16 depend on the processor
}
MAX_ERROR = {"float32": 1e-5, "float16": 0.02, "bfloat16": 0.05, "int8": 0.1}
PAIRS = [(name, precision) for name in PRECISIONS for precision in PRECISIONS[name]]


@pytest.fixture(scope="module")
def engine(model, calibration, validation):
    def build(name: str, precision: str, batch_size: int = 4) -> Engine:
        return optimize(
            model,
            backend=name,
            precision=precision,
            calibration=calibration,
            validation=validation,
            batch_size=batch_size,
            max_accuracy_drop=0.05,
        )

    return build


def relative_error(actual: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(actual - expected) / np.linalg.norm(expected))


def operation_precisions(engine: Engine) -> Counter:
    """The number of operations that multiply, by precision."""
    kinds = ("Conv", "FullyConnected", "MatMul", "QLinearConv", "QLinearMatMul", "Gemm", "QGemm")
    return Counter(
        operation.precision for operation in engine.operations() if operation.kind.startswith(kinds)
    )


@pytest.mark.parametrize(("name", "precision"), PAIRS)
def test_an_engine_computes_what_the_model_computes(engine, model, validation, name, precision):
    built = engine(name, precision)
    assert (built.manifest.backend, built.manifest.precision) == (name, precision)
    outputs = built(validation[0])
    assert outputs.dtype == np.float32
    error = relative_error(outputs, model.predict(validation[0], verbose=0))
    assert error < MAX_ERROR[precision]
    assert (error > 1e-5) == (precision != "float32")


@pytest.mark.parametrize("name", PRECISIONS)
def test_any_number_of_examples_gets_as_many_outputs(engine, model, validation, name):
    built = engine(name, "float32")
    expected = model.predict(validation[0][:9], verbose=0)
    for count in (1, 4, 9):
        outputs = built(validation[0][:count])
        assert outputs.shape == (count, 4)
        np.testing.assert_allclose(outputs, expected[:count], atol=1e-5)


@pytest.mark.parametrize("name", PRECISIONS)
def test_read_only_arrays_are_accepted(engine, validation, name):
    built = engine(name, "float32")
    array = validation[0][:4].copy()
    expected = built(array)
    array.flags.writeable = False
    np.testing.assert_array_equal(built(array), expected)


@pytest.mark.parametrize("name", PRECISIONS)
def test_several_inputs_and_outputs_keep_their_order(name):
    z, a = keras.Input((3,), name="z"), keras.Input((2,), name="a")
    total = layers.Dense(2, name="b_total")(layers.Concatenate()([z, a]))
    model = keras.Model([z, a], [total, layers.Dense(3, name="a_first")(z)], name="two")
    inputs = [np.random.default_rng(0).random((5, n), dtype=np.float32) for n in (3, 2)]
    engine = optimize(model, backend=name, precision="float32", validation=inputs, batch_size=2)
    for actual, expected in zip(engine(*inputs), model.predict(inputs, verbose=0), strict=True):
        np.testing.assert_allclose(actual, expected, atol=1e-5)


@keras.saving.register_keras_serializable()
class Table(layers.Layer):
    """Adds a table that is computed once, as positions often are."""

    def build(self, shape):
        self.table = keras.ops.sin(keras.ops.arange(shape[-1], dtype=self.compute_dtype))

    def call(self, x):
        return x + self.table


@pytest.fixture(scope="module")
def named() -> tuple[keras.Model, dict[str, np.ndarray]]:
    """A network with dicts and with layers that need care, and an example of each of its inputs.

    The keys are in another order than the alphabet's. Some layers differ in training, and train
    unless they are told otherwise. Others hold tensors that are not weights: a graph captures those
    with more than 128 numbers.
    """
    random = np.random.default_rng(0)
    examples = {
        "photo": random.random((4, 8, 8, 3), dtype=np.float32),
        "numbers": random.normal(3, 2, (4, 200)).astype(np.float32),
    }
    normalization = layers.Normalization()
    normalization.adapt(examples["numbers"])
    inputs = {
        "photo": keras.Input((8, 8, 3), name="photo"),
        "numbers": keras.Input((200,), name="numbers"),
    }
    x = layers.RandomFlip(seed=1)(inputs["photo"])
    x = layers.Dropout(0.5, seed=2)(layers.Flatten()(layers.GaussianNoise(1.0, seed=3)(x)))
    y = Table()(normalization(inputs["numbers"]))
    outputs = {"first": layers.Dense(3)(x), "both": layers.Dense(2)(layers.Concatenate()([x, y]))}
    return keras.Model(inputs, outputs, name="named"), examples


@pytest.mark.parametrize("name", PRECISIONS)
def test_two_calls_of_an_engine_return_what_the_model_returns(name, named):
    model, examples = named
    engine = optimize(model, backend=name, precision="float32", validation=examples, batch_size=4)
    expected = model.predict(examples, verbose=0)
    first, second = engine(examples), engine(dict(reversed(examples.items())))
    assert first.keys() == second.keys() == {"first", "both"}
    for key in first:
        np.testing.assert_array_equal(first[key], second[key])
        np.testing.assert_allclose(first[key], expected[key], atol=1e-4)


def test_bfloat16_keeps_what_a_layer_has_adapted_to(named):
    model, examples = named
    engine = optimize(
        model, backend="keras", precision="bfloat16", validation=examples, max_accuracy_drop=1
    )
    expected = model.predict(examples, verbose=0)["both"]
    assert relative_error(engine(examples)["both"], expected) < MAX_ERROR["bfloat16"]


def test_litert_calibrates_each_input_with_its_own_examples():
    z, a = keras.Input((4,), name="z"), keras.Input((4,), name="a")
    total = layers.Dense(8)(layers.Concatenate()([layers.Dense(4)(z), layers.Dense(4)(a)]))
    model = keras.Model([z, a], total, name="scales")
    random = np.random.default_rng(0).random
    inputs = [random((32, 4), np.float32), 1000 * random((32, 4), np.float32)]
    engine = optimize(
        model,
        backend="litert",
        precision="int8",
        calibration=inputs,
        validation=inputs,
        max_accuracy_drop=1,
    )
    assert relative_error(engine(*inputs), model.predict(inputs, verbose=0)) < MAX_ERROR["int8"]


@pytest.mark.parametrize("name", ["keras", "tf.function"])
def test_integer_outputs_stay_integers(name):
    inputs = keras.Input((6,))
    model = keras.Model(inputs, keras.ops.argmax(layers.Dense(3)(inputs), axis=-1), name="best")
    x = np.random.default_rng(0).random((5, 6), dtype=np.float32)
    engine = optimize(model, backend=name, precision="float32", validation=x)
    expected = model.predict(x, verbose=0)
    assert engine(x).dtype == expected.dtype
    np.testing.assert_array_equal(engine(x), expected)


def test_texts_of_many_lengths_are_traced_a_few_times_only(monkeypatch):
    traced = []
    model = char_rnn(7, units=8, embedding=4)
    texts = np.zeros((1, 40), np.int32)
    engine = optimize(model, backend="tf.function", precision="float32", validation=texts)
    import tensorflow as tf

    function_class = type(tf.function(lambda x: x))
    call = function_class.__call__

    def counted(self, *args, **kwargs):
        outputs = call(self, *args, **kwargs)
        traced.append(self.experimental_get_tracing_count())
        return outputs

    monkeypatch.setattr(function_class, "__call__", counted)
    for length in range(1, 40):
        engine(texts[:, :length])
    assert len(traced) >= 39
    assert max(traced) < 4


@pytest.mark.parametrize("name", PRECISIONS)
def test_runners_do_not_overwrite_each_others_outputs(engine, validation, name):
    built = engine(name, "float32").configured(streams=2)
    first, second = built.runner(), built.runner()
    expected = [output.copy() for output in first([validation[0][:4]])]
    outputs = first([validation[0][:4]])
    second([validation[0][4:8]])
    np.testing.assert_array_equal(outputs[0], expected[0])


def test_calls_of_a_tensorflow_graph_do_not_overlap(engine, validation, monkeypatch):
    """Two at once fail in TensorFlow where large arrays are summed, as in AlexNet."""
    import tensorflow as tf

    built = engine("tf.function", "float32").configured(streams=2)
    runners = [built.runner(), built.runner()]
    batch = [validation[0][:4]]
    runners[0](batch)  # traces the graph
    function_class = type(tf.function(lambda x: x))
    call, running, most = function_class.__call__, [], []

    def watched(self, *args, **kwargs):
        running.append(self)
        most.append(len(running))
        outputs = call(self, *args, **kwargs)
        running.clear()
        return outputs

    monkeypatch.setattr(function_class, "__call__", watched)
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda index: runners[index % 2](batch), range(50)))
    assert most == [1] * 50


@pytest.mark.parametrize("name", ["keras", "tf.function", "onnxruntime", "openvino"])
def test_a_recurrent_network_takes_texts_of_any_length(name):
    model = char_rnn(7, units=8, embedding=4)
    texts = np.random.default_rng(0).integers(7, size=(3, 12), dtype=np.int32)
    engine = optimize(model, backend=name, precision="float32", validation=texts)
    for length in (12, 5):
        expected = model.predict(texts[:, :length], verbose=0)
        np.testing.assert_allclose(engine(texts[:, :length]), expected, atol=1e-5)


def test_openvino_runs_float32_when_asked_for_it_also_where_bfloat16_is_its_default(engine):
    assert operation_precisions(engine("openvino", "float32")) == {"float32": 5}


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_openvino_runs_the_precisions_of_the_processor_and_refuses_others(engine, precision):
    if precision in get_backend("openvino").precisions():
        assert operation_precisions(engine("openvino", precision)) == {precision: 5}
    else:
        with pytest.raises(Unavailable, match=f"openvino has no {precision} on this machine"):
            engine("openvino", precision)


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_int8_runs_in_int8(engine, name):
    assert operation_precisions(engine(name, "int8")) == {"int8": 5}


def test_onnxruntime_runs_float32_when_asked_for_it(engine):
    assert operation_precisions(engine("onnxruntime", "float32")) == {"float32": 5}


def test_litert_stores_int8_weights(engine):
    from ai_edge_litert.interpreter import Interpreter

    def dtypes(precision: str) -> set:
        folder = engine("litert", precision).folder
        tensors = Interpreter(str(folder / "model.tflite")).get_tensor_details()
        return {tensor["dtype"] for tensor in tensors if len(tensor["shape"]) == 4}

    assert np.int8 in dtypes("int8")
    assert np.int8 not in dtypes("float32")


def test_a_lambda_layer_is_refused_by_keras_and_named(empty_cache):
    inputs = keras.Input((4,))
    doubled = layers.Lambda(lambda x: 2 * x, name="double")(inputs)
    model = keras.Model(inputs, layers.Dense(2)(doubled), name="coded")
    with pytest.raises(Unavailable, match="keras cannot run coded: The layer double contains Py"):
        optimize(model, backend="keras", precision="float32")


def test_each_module_of_the_folder_defines_a_backend():
    assert set(BACKENDS) == {*PRECISIONS, "openvino-gpu", "tensorrt"}
    for name in PRECISIONS:
        assert get_backend(name).name == name


def test_an_unknown_backend_is_refused_with_the_list_of_backends():
    with pytest.raises(Invalid, match=r"backend is 'tpu'; it must be auto or one of keras, .*"):
        get_backend("tpu")


@pytest.mark.parametrize(
    ("name", "package"),
    [("litert", "ai-edge-litert"), ("onnxruntime", "onnxruntime"), ("openvino", "openvino")],
)
def test_a_missing_package_is_named_with_how_to_install_it(monkeypatch, name, package):
    version = importlib.metadata.version

    def without_package(distribution: str) -> str:
        if distribution == package:
            raise importlib.metadata.PackageNotFoundError(distribution)
        return version(distribution)

    monkeypatch.setattr(importlib.metadata, "version", without_package)
    with pytest.raises(Unavailable) as caught:
        get_backend(name)
    assert str(caught.value) == (
        f"The backend {name} cannot run here: {package} not installed. "
        "Run: pip install 'dltlab[inference]'"
    )


def test_the_build_of_tensorflow_without_cuda_is_enough(monkeypatch):
    version = importlib.metadata.version

    def without_cuda(distribution: str) -> str:
        if distribution == "tensorflow":
            raise importlib.metadata.PackageNotFoundError(distribution)
        return "1.2" if distribution == "tensorflow-cpu" else version(distribution)

    monkeypatch.setattr(importlib.metadata, "version", without_cuda)
    for name in ("keras", "tf.function", "litert"):
        assert get_backend(name).versions()["tensorflow-cpu"] == "1.2"


def test_onnxruntime_for_gpus_replaces_the_package_for_processors(monkeypatch):
    version = importlib.metadata.version

    def for_gpus(distribution: str) -> str:
        if distribution == "onnxruntime":
            raise importlib.metadata.PackageNotFoundError(distribution)
        return "1.2" if distribution == "onnxruntime-gpu" else version(distribution)

    monkeypatch.setattr(importlib.metadata, "version", for_gpus)
    assert get_backend("onnxruntime").versions()["onnxruntime-gpu"] == "1.2"


@pytest.mark.parametrize(
    ("name", "fix"),
    [("tensorrt", "pip install onnxruntime-gpu tensorrt"), ("openvino-gpu", "intel-opencl-icd")],
)
def test_a_backend_without_its_gpu_names_what_is_missing(monkeypatch, name, fix):
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    monkeypatch.setattr(openvino_gpu, "core", lambda: SimpleNamespace(available_devices=["CPU"]))
    with pytest.raises(Unavailable, match=f"The backend {name} cannot run here: ") as caught:
        get_backend(name)
    assert fix in str(caught.value)


def test_openvino_gpu_is_available_where_openvino_sees_one(monkeypatch):
    gpu = SimpleNamespace(available_devices=["CPU", "GPU.0"])
    monkeypatch.setattr(openvino_gpu, "core", lambda: gpu)
    assert getattr(get_backend("openvino-gpu"), "device", None) == "GPU"


def test_auto_prefers_openvino_and_on_an_nvidia_gpu_tensorrt(monkeypatch):
    processors = ["openvino", "onnxruntime", "litert", "tf.function"]
    monkeypatch.setattr("dltlab.inference.backends.tensorrt.list_gpus", lambda: ())
    assert auto_backends() == processors
    monkeypatch.setattr("dltlab.inference.backends.tensorrt.list_gpus", lambda: ("GPU",))
    assert auto_backends() == ["tensorrt", *processors]


def test_auto_takes_the_next_backend_and_notes_what_was_missing(model, monkeypatch, validation):
    monkeypatch.setattr(OpenVino, "unavailable_reason", lambda self: "its library is broken.")
    engine = optimize(model, precision="float32", validation=validation)
    assert engine.manifest.backend in ("tensorrt", "onnxruntime")
    assert "The backend openvino cannot run here: its library is broken." in engine.notes


def test_auto_without_any_backend_lists_what_is_missing(model, monkeypatch):
    monkeypatch.setattr(Backend, "unavailable_reason", lambda self: f"no {self.name}.")
    with pytest.raises(Unavailable, match=r"No backend can run tiny here: .*no openvino\."):
        optimize(model)


def test_the_graph_for_tensorrt_has_the_requested_dtypes(model, calibration, tmp_path):
    import onnx

    dtypes = {}
    for precision in ("float32", "float16", "int8"):
        folder = tmp_path / precision
        folder.mkdir()
        examples = [[image[None]] for image in calibration[:4]]
        TensorRt().build(model, precision, examples, folder)
        graph = onnx.load(folder / "model.onnx").graph
        dtypes[precision] = {
            onnx.TensorProto.DataType.Name(tensor.data_type) for tensor in graph.initializer
        }
    assert "FLOAT16" in dtypes["float16"]
    assert "INT8" in dtypes["int8"]
    assert not {"FLOAT16", "INT8"} & dtypes["float32"]


def test_tensorrt_that_does_not_start_is_refused(model, tmp_path):
    TensorRt().build(model, "float32", [], tmp_path)
    with (
        pytest.warns(UserWarning, match="is not in available provider names"),
        pytest.raises(Unavailable, match="TensorRT does not start on this machine"),
    ):
        TensorRt().open(tmp_path, "float32", Settings(1, 1, 1))


def test_every_stream_has_at_least_one_thread():
    assert Settings(1, 4, 2).threads_per_stream == 1
    assert Settings(1, 2, 8).threads_per_stream == 4


# Quantizes, releases what is left of it in another thread, and is interrupted.
INTERRUPTED = """
import ctypes, gc, signal, threading
import keras
import numpy as np
from dltlab.inference import optimize

layers = [keras.Input((8,)), keras.layers.Dense(16, "relu"), keras.layers.Dense(4)]
examples = np.random.rand(64, 8).astype(np.float32)
gc.disable()
engine = optimize(
    keras.Sequential(layers), backend="openvino", precision="int8", calibration=examples
)
collector = threading.Thread(target=gc.collect)
collector.start()
collector.join()
stack = (ctypes.c_size_t * 3)()
ctypes.CDLL(None).sigaltstack(None, stack)
with open("/proc/self/maps") as file:
    areas = [[int(end, 16) for end in line.split()[0].split("-")] for line in file]
assert stack[0] == 0 or any(start <= stack[0] < stop for start, stop in areas), "no such memory"
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_an_interrupt_after_quantization_is_no_segmentation_fault(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED],
        env=os.environ | {"DLTLAB_ENGINE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
    )

    assert (done.returncode, done.stdout) == (0, "interrupted\n"), done.stderr
